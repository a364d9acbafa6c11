// SPDX-License-Identifier: GPL-2.0

//! What comes, what does not, and what comes too late.

use super::*;

#[test]
fn each_reply_ends_its_transfer() {
    let bed = Bed {
        closes_ms: Some(2000),
        ..Bed::new()
    };
    bed.send(5, Command::Write, 4096);
    bed.send(7, Command::Read, 4096);
    bed.send(9, Command::Read, 1 << 20);
    bed.send(2, Command::Flush, 0);
    bed.reply(100, 1, 0, 4096);
    bed.reply(100, 0, 28, 0);
    bed.reply(1000, 2, 0, 1 << 20);
    bed.reply(1200, 3, 0, 0);
    let expected = [
        Ended(7, Outcome::Done),
        Ended(5, Outcome::Refused(NbdError::NoSpc)),
        Ended(9, Outcome::Done),
        Ended(2, Outcome::Done),
        Closed(DownReason::Closed),
    ];
    assert_eq!(bed.run_untimed(), expected);
}

#[test]
fn the_servers_own_end_is_a_fence_between_replies_and_within() {
    for data in [0, 100, 4000] {
        let bed = Bed {
            closes_ms: Some(0),
            ..Bed::new()
        };
        bed.send(0, Command::Read, 4096);
        bed.send(1, Command::Write, 4096);
        let mut expected = vec![
            Closed(DownReason::Closed),
            Ended(0, LOST_FENCED),
            Ended(1, LOST_FENCED),
        ];
        if data > 0 {
            bed.reply(0, 0, 0, data);
            expected[0] = Ended(0, LOST_FENCED);
            expected[1] = Closed(DownReason::Cut);
        }
        assert_eq!(bed.run_untimed(), expected);
    }
}

#[test]
fn an_end_after_our_own_is_no_fence() {
    for (broken, closes_itself) in [(true, true), (false, false)] {
        let bed = Bed {
            broken,
            closes_itself,
            closes_ms: Some(0),
            ..Bed::new()
        };
        bed.send(1, Command::Write, 4096);
        let did = bed.run();
        assert!(did.contains(&(0, Suspect)), "{did:?}");
        assert!(
            did.contains(&(TIMEOUT_MS, Ended(1, LOST_FENCED))),
            "{did:?}"
        );
    }
}

#[test]
fn after_nonsense_the_servers_end_tells_when_it_is_through() {
    let nonsense: [(&[u8], DownReason); 3] = [
        (&[9; 40], DownReason::Reply(ReplyReason::BadMagic)),
        (&reply(77, 0), DownReason::UnknownCookie),
        (&reply(1 << 32 | 1, 108), DownReason::ServerShutdown),
    ];
    for (bytes, reason) in nonsense {
        for closes_ms in [3000, 9000] {
            let bed = Bed {
                closes_ms: Some(closes_ms),
                ..Bed::new()
            };
            bed.send(0, Command::Write, 512);
            bed.send(1, Command::Write, 512);
            bed.comes(0, bytes);
            let did = bed.run();
            // It takes nothing more while it waits.
            assert_eq!(
                did[usize::from(reason == DownReason::ServerShutdown)],
                (0, Drained)
            );
            if closes_ms == 3000 {
                assert!(did.contains(&(3000, Closed(reason))));
                assert!(did.contains(&(3000, Ended(0, LOST_FENCED))));
                assert!(!did.iter().any(|d| d.1 == Suspect));
            } else {
                assert!(did.contains(&(5000, Closed(reason))));
                assert!(did.contains(&(5000, Suspect)));
            }
        }
    }
}

#[test]
fn a_request_that_is_not_answered_ends_the_connection() {
    let bed = Bed::new();
    bed.send(0, Command::Read, 512);
    let expected = [Closed(DownReason::RequestTimeout), Ended(0, LOST_FENCED)];
    assert_eq!(bed.run_untimed(), expected);
}

#[test]
fn a_slow_server_is_not_a_silent_one() {
    let bed = Bed {
        closes_ms: Some(40_000),
        ..Bed::new()
    };
    for slot in 0..60 {
        bed.send(slot, Command::Read, 512);
    }
    // The last one is answered after five times the time limit.
    (0..60).for_each(|n| bed.reply(500 * (n as u64 + 1), n, 0, 512));
    let did = bed.run_untimed();
    let done = |slot| Ended(slot, Outcome::Done);
    assert!((0..60).all(|slot| did.contains(&done(slot))), "{did:?}");
}

#[test]
fn what_was_idle_before_does_not_count() {
    let bed = Bed {
        closes_ms: Some(50_000),
        ..Bed::new()
    };
    bed.now_ms.set(20_000);
    bed.send(0, Command::Read, 512);
    bed.now_ms.set(0);
    bed.reply(25_000, 0, 0, 512);
    assert!(bed.run().contains(&(25_000, Ended(0, Outcome::Done))));
}

#[test]
fn a_request_that_is_passed_over_ends_the_connection() {
    let bed = Bed::new();
    bed.send(0, Command::Write, 512);
    for n in 1..100 {
        bed.now_ms.set(500 * n);
        bed.send(n as u32, Command::Write, 512);
    }
    bed.now_ms.set(0);
    (1..100).for_each(|n| bed.reply(500 * n as u64 + 100, n, 0, 0));
    let did = bed.run();
    let closed = did.iter().find(|d| matches!(d.1, Closed(_)));
    let (at_ms, _) = *closed.unwrap();
    let longer_ms = 4 * TIMEOUT_MS;
    assert!((longer_ms..longer_ms + 1500).contains(&at_ms), "{did:?}");
}

#[test]
fn the_data_of_one_read_may_not_trickle_for_ever() {
    let bed = Bed::new();
    bed.send(0, Command::Read, 1 << 20);
    bed.reply(0, 0, 0, 0);
    (0..1000).for_each(|n| bed.comes(n * 300, &[1]));
    let timeout = Closed(DownReason::RequestTimeout);
    assert!(bed.run().contains(&(4 * TIMEOUT_MS, timeout)));
}

#[test]
fn a_channel_that_is_to_end_takes_no_more_before_it_looks_what_it_has() {
    let bed = Bed {
        stops_ms: Some(1000),
        ..Bed::new()
    };
    bed.send(4, Command::Write, 512);
    bed.reply(2000, 0, 0, 0);
    let expected = [
        (1000, Drained),
        (2000, Ended(4, Outcome::Done)),
        (2000, Left),
        (2000, Down),
        (2000, Closed(DownReason::Removed)),
    ];
    assert_eq!(bed.run(), expected);
}

#[test]
fn a_read_whose_data_comes_is_waited_for_by_a_channel_that_is_to_end() {
    let bed = Bed {
        stops_ms: Some(1000),
        ..Bed::new()
    };
    bed.send(4, Command::Read, 512);
    bed.reply(500, 0, 0, 100);
    bed.comes(2000, &[7; 412]);
    let did = bed.run_untimed();
    assert_eq!(did[1], Ended(4, Outcome::Done));
}

#[test]
fn the_bound_follows_what_comes() {
    let bed = Bed {
        load: 16 << 20,
        closes_ms: Some(2500),
        ..Bed::new()
    };
    bed.send(0, Command::Read, 1 << 20);
    bed.send(1, Command::Write, 1 << 20);
    bed.send(2, Command::Read, 1 << 20);
    bed.reply(0, 0, 0, 1 << 20);
    bed.reply(1500, 1, 0, 0);
    bed.reply(2000, 2, 0, 1 << 20);
    bed.play();
    let bounds = bed
        .bounds
        .borrow()
        .iter()
        .map(|bound| bound >> 20)
        .collect::<Vec<_>>();
    // A look each half second: what was asked for before the first one says nothing of the line.
    assert_eq!(bounds, [4, 2, 5]);
}

#[test]
fn what_was_not_sent_as_a_whole_is_given_back_with_a_fence() {
    let bed = Bed::new();
    bed.send(4, Command::Write, 512);
    let cookie = bed.cookies.borrow()[0];
    let session = Session::new(
        &bed.table,
        Bed::channel(),
        vec![0u8; INBOX_LEN],
        vec![Debt::NONE; SLOTS],
        Limits::USUAL,
        0,
    );
    let event = session.never_sent(cookie);
    assert!(matches!(
        event,
        Some(Event::Ended {
            slot,
            outcome: LOST_FENCED,
            ..
        }) if slot == SlotId::of_request(4)
    ));
    assert!(session.never_sent(cookie).is_none());
}
