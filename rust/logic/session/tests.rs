// SPDX-License-Identifier: GPL-2.0

//! Sessions with a server that answers, falls silent and closes at given times.

use super::*;
use crate::logic::{
    ids::{ChannelId, SlotId, SLOTS},
    wire::{
        reply::{NbdError, ReplyReason, REPLY_LEN},
        request::{Command, CommandFlags},
    },
};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Mutex;

const TIMEOUT_MS: u64 = 6000;

struct HostSlots(Vec<Mutex<Slot<()>>>);

impl Slots for HostSlots {
    type Buffer = ();

    fn with<R>(&self, number: SlotId, f: impl FnOnce(&mut Slot<()>) -> R) -> R {
        f(&mut self.0[number.index()].lock().unwrap())
    }
}

fn table() -> Table<HostSlots> {
    Table::new(HostSlots(
        (0..SLOTS).map(|_| Mutex::new(Slot::default())).collect(),
    ))
}

/// What a session did.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Did {
    Ended(u32, Outcome),
    Left,
    Down,
    Suspect,
    Cleared,
    SuspectFor(u32),
    Drained,
    Closed(DownReason),
    Aborted,
}
use Did::*;

const LOST_OPEN: Outcome = Outcome::Lost(Fence::Open);
const LOST_FENCED: Outcome = Outcome::Lost(Fence::Fenced);

/// A connection, its mirror and its server.
struct Bed {
    table: Table<HostSlots>,
    now_ms: Cell<u64>,
    /// Another group is in sync.
    spare: bool,
    failing: bool,
    broken: bool,
    /// Bytes that are on their way all the time.
    load: u64,
    bounds: RefCell<Vec<u64>>,
    /// The server closes at its own end.
    closes_itself: bool,
    stops_ms: Option<u64>,
    closes_ms: Option<u64>,
    /// What comes, and when.
    comes: RefCell<VecDeque<(u64, Vec<u8>)>>,
    cookies: RefCell<Vec<u64>>,
    did: RefCell<Vec<(u64, Did)>>,
}

impl Bed {
    fn new() -> Self {
        Self {
            table: table(),
            now_ms: Cell::new(0),
            spare: false,
            failing: false,
            broken: false,
            load: 0,
            bounds: RefCell::default(),
            closes_itself: true,
            stops_ms: None,
            closes_ms: None,
            comes: RefCell::default(),
            cookies: RefCell::default(),
            did: RefCell::default(),
        }
    }

    fn channel() -> ChannelId {
        ChannelId::new(3).unwrap()
    }

    /// The transfer of the request with this tag is sent.
    fn send(&self, tag: u32, command: Command, len: u32) {
        let slot = SlotId::of_request(tag);
        let transfer = Transfer::new(command, CommandFlags::NONE, 0, len, ());
        let put = self.table.put(slot, transfer, Some(Self::channel()));
        assert!(put.is_ok());
        let sent = self.table.start(slot, Self::channel(), self.now_ms.get());
        self.cookies.borrow_mut().push(sent.unwrap().cookie);
    }

    /// Bytes come.
    fn comes(&self, at_ms: u64, bytes: &[u8]) {
        self.comes.borrow_mut().push_back((at_ms, bytes.to_vec()));
    }

    /// The reply to what was sent as number `nth` comes, with so much data.
    fn reply(&self, at_ms: u64, nth: usize, error: u32, data: usize) {
        let cookie = self.cookies.borrow()[nth];
        let mut bytes = reply(cookie, error).to_vec();
        bytes.resize(REPLY_LEN + data, 7);
        self.comes(at_ms, &bytes);
    }

    fn has_come(&self, when_ms: Option<u64>) -> bool {
        when_ms.is_some_and(|when| when <= self.now_ms.get())
    }

    /// At most `room` bytes, or what there is instead.
    fn receive(&self, room: usize) -> (Received, Vec<u8>) {
        assert!(room > 0);
        let mut comes = self.comes.borrow_mut();
        if let Some((_, bytes)) = comes.front_mut().filter(|(at, _)| *at <= self.now_ms.get()) {
            let taken: Vec<_> = bytes.drain(..room.min(bytes.len())).collect();
            if bytes.is_empty() {
                comes.pop_front();
            }
            return (Received::Bytes(taken.len()), taken);
        }
        drop(comes);
        if self.has_come(self.closes_ms) {
            return (Received::End, Vec::new());
        }
        self.now_ms.set(self.now_ms.get() + 500);
        (Received::Nothing, Vec::new())
    }

    fn note(&self, did: Did) {
        self.did.borrow_mut().push((self.now_ms.get(), did));
    }

    /// Runs the session until it is over, and tells what it did and when.
    fn run(self) -> Vec<(u64, Did)> {
        self.play();
        self.did.into_inner()
    }

    /// Runs the session until it is over.
    fn play(&self) {
        let inbox = vec![0u8; INBOX_LEN];
        let debts = vec![Debt::NONE; SLOTS];
        let mut session =
            Session::new(&self.table, Self::channel(), inbox, debts, Limits::USUAL, 0);
        loop {
            match session.next(self) {
                Step::Recv => {
                    let room = session.room();
                    let (got, bytes) = self.receive(room.len());
                    room[..bytes.len()].copy_from_slice(&bytes);
                    session.received(self, got);
                }
                Step::Fill(from, to) => {
                    let (got, _) = self.receive(to - from);
                    session.received(self, got);
                }
                Step::Copy => session.copy(|(), _| true),
                Step::Drain => self.note(Drained),
                Step::Tell(event) => self.note(match event {
                    Event::Ended { slot, outcome, .. } => Ended(slot.index() as u32, outcome),
                    Event::Left => Left,
                    Event::Down => Down,
                    Event::Suspect => Suspect,
                    Event::Cleared => Cleared,
                    Event::SuspectFor(ms) => SuspectFor(ms),
                }),
                Step::Close(reason, _) => self.note(Closed(reason)),
                Step::Abort => self.note(Aborted),
                Step::Pause(ms, heeds_stop) => {
                    assert!(!(heeds_stop && self.is_stopping()));
                    self.now_ms.set(self.now_ms.get() + u64::from(ms.min(500)));
                }
                Step::Over => break,
            }
        }
        assert!(!self.table.has_any(Self::channel()));
    }

    /// The same, without when, and without what each lost connection does.
    fn run_untimed(self) -> Vec<Did> {
        let all = self.run().into_iter().map(|(_, did)| did);
        all.filter(|did| !matches!(did, Left | Down)).collect()
    }
}

impl Around for Bed {
    fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }
    fn is_stopping(&self) -> bool {
        self.has_come(self.stops_ms)
    }
    fn is_broken(&self) -> bool {
        self.broken
    }
    fn has_peer_closed(&self) -> bool {
        self.closes_itself
    }
    fn patience_ms(&self) -> u64 {
        TIMEOUT_MS
    }
    fn timeout_ms(&self) -> u64 {
        TIMEOUT_MS
    }
    fn load(&self) -> u64 {
        self.load
    }
    fn set_bound(&self, bytes: u64) {
        self.bounds.borrow_mut().push(bytes);
    }
    fn is_failing(&self) -> bool {
        self.failing
    }
    fn give_up_group(&self) -> bool {
        self.spare
    }
}

fn reply(cookie: u64, error: u32) -> [u8; REPLY_LEN] {
    let mut bytes = [0; REPLY_LEN];
    bytes[..4].copy_from_slice(&0x6744_6698u32.to_be_bytes());
    bytes[4..8].copy_from_slice(&error.to_be_bytes());
    bytes[8..].copy_from_slice(&cookie.to_be_bytes());
    bytes
}

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
