// SPDX-License-Identifier: GPL-2.0

//! The end of a connection whose server is late, and what was not answered before it.

use super::*;

/// A connection with one write that is not answered before [`TIMEOUT_MS`], and what happened since
/// the server was found to be late.
fn hangs(bed: Bed) -> Vec<(u64, Did)> {
    bed.send(0, Command::Write, 512);
    let did = bed.run();
    let is_there = |d: &(u64, Did)| d.1 != Left && d.1 != Down && !matches!(d.1, Closed(_));
    let since = |(at, did): (u64, Did)| (at - TIMEOUT_MS, did);
    did.into_iter().filter(is_there).map(since).collect()
}

fn late(bed: &Bed, at_ms: u64) {
    let cookie = 1 << 32;
    bed.comes(TIMEOUT_MS + at_ms, &reply(cookie, 0));
}

#[test]
fn with_another_group_the_answer_is_waited_for_long_after_users_have_gone_on() {
    let bed = Bed {
        spare: true,
        ..Bed::new()
    };
    late(&bed, 100_000);
    let expected = [(0, Suspect), (0, Ended(0, LOST_OPEN)), (100_000, Cleared)];
    assert_eq!(hangs(bed), expected);
}

#[test]
fn a_write_that_the_server_has_forgotten_does_not_keep_its_group_out_for_ever() {
    let bed = Bed {
        spare: true,
        ..Bed::new()
    };
    let hours_ms = 6 * 60 * 60 * 1000;
    let expected = [
        (0, Suspect),
        (0, Ended(0, LOST_OPEN)),
        (hours_ms, Aborted),
        (hours_ms + 5000, Cleared),
    ];
    assert_eq!(hangs(bed), expected);
}

#[test]
fn in_the_last_group_a_late_answer_ends_the_wait() {
    let bed = Bed::new();
    late(&bed, 3000);
    let expected = [(0, Suspect), (3000, Ended(0, LOST_FENCED)), (3000, Cleared)];
    assert_eq!(hangs(bed), expected);
}

#[test]
fn what_is_answered_too_late_was_lost_as_what_is_never_answered() {
    for answered in [true, false] {
        let bed = Bed::new();
        bed.send(0, Command::WriteZeroes, 512);
        if answered {
            late(&bed, 3000);
        }
        bed.play();
        assert_eq!(bed.losses.get(), 1, "answered: {answered}");
    }
}

#[test]
fn in_the_last_group_the_reset_comes_long_before_the_writes_are_given_back() {
    let expected = [
        (0, Suspect),
        (6000, Aborted),
        (11_000, Ended(0, LOST_FENCED)),
        (11_000, Cleared),
    ];
    assert_eq!(hangs(Bed::new()), expected);
}

#[test]
fn after_the_servers_end_some_time_has_to_do() {
    let bed = Bed {
        spare: true,
        closes_ms: Some(TIMEOUT_MS + 50_000),
        ..Bed::new()
    };
    let expected = [
        (0, Suspect),
        (0, Ended(0, LOST_OPEN)),
        (50_000, Aborted),
        (55_000, Cleared),
    ];
    assert_eq!(hangs(bed), expected);
}

#[test]
fn a_channel_that_is_to_stop_leaves_the_rest_of_the_time_to_a_group_that_was_given_up() {
    let bed = Bed {
        spare: true,
        stops_ms: Some(TIMEOUT_MS + 2000),
        ..Bed::new()
    };
    let expected = [
        (0, Suspect),
        (0, Ended(0, LOST_OPEN)),
        (2000, Aborted),
        (2000, SuspectFor(TIMEOUT_MS as u32)),
        (2000, Cleared),
    ];
    assert_eq!(hangs(bed), expected);
}

#[test]
fn a_channel_that_is_to_stop_waits_where_the_group_goes_on() {
    let bed = Bed {
        stops_ms: Some(TIMEOUT_MS + 2000),
        ..Bed::new()
    };
    let expected = [
        (0, Suspect),
        (2000, Aborted),
        (8000, Ended(0, LOST_FENCED)),
        (8000, Cleared),
    ];
    assert_eq!(hangs(bed), expected);
}

#[test]
fn a_channel_that_is_to_stop_with_its_device_does_not_wait() {
    let bed = Bed {
        stops_ms: Some(TIMEOUT_MS + 2000),
        failing: true,
        ..Bed::new()
    };
    let expected = [
        (0, Suspect),
        (2000, Aborted),
        (2000, SuspectFor(TIMEOUT_MS as u32)),
        (2000, Ended(0, LOST_OPEN)),
        (2000, Cleared),
    ];
    assert_eq!(hangs(bed), expected);
}

#[test]
fn the_data_of_a_read_that_was_given_back_is_thrown_away() {
    let bed = Bed {
        spare: true,
        ..Bed::new()
    };
    bed.send(1, Command::Read, 3000);
    late(&bed, 8000);
    // Out of order: the read's reply, with its data, comes before the write's.
    let read = 1 << 32 | 1;
    let mut bytes = reply(read, 0).to_vec();
    bytes.resize(REPLY_LEN + 3000, 3);
    bed.comes.borrow_mut().insert(0, (TIMEOUT_MS + 4000, bytes));
    let did = hangs(bed);
    assert_eq!(did.last(), Some(&(8000, Cleared)), "{did:?}");
    assert!(!did.iter().any(|d| d.1 == Aborted));
}
