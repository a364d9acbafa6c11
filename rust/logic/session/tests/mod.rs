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

mod hang_up;
mod replies;

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
    /// How often the last transfer that has ended was lost.
    losses: Cell<u8>,
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
            losses: Cell::new(0),
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
                    Event::Ended {
                        slot,
                        outcome,
                        transfer,
                    } => {
                        self.losses.set(transfer.losses);
                        Ended(slot.index() as u32, outcome)
                    }
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
