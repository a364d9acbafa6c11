// SPDX-License-Identifier: GPL-2.0

//! Any bytes from a server in the transmission phase, cut in any way.
//!
//! The session of a connection takes them, with requests on their way in the slots 1 to 16, of which
//! the odd ones are reads. What it has to make of them is told a second time, in the plainest way.

use enbd_logic::logic::{
    ids::{ChannelId, SlotId, SLOTS},
    session::{
        Around, Debt, DownReason, Event, Limits, Outcome, Received, Session, Slot, Slots, Step,
        Table, Transfer, INBOX_LEN,
    },
    wire::{
        reply::{self, NbdError, Reply, ReplyReason, REPLY_LEN},
        request::{Command, CommandFlags},
    },
};
use std::cell::{Cell, RefCell};

/// Slots of requests that are on their way go from 1 to this.
pub const REQUESTS: u64 = 16;
/// Bytes that each read asks for.
pub const READ: usize = 32;

/// Why no more is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// The stream ended between replies.
    Closed,
    /// The stream ended in the middle of one.
    Cut,
    /// A header that is none.
    Reply(ReplyReason),
    /// A reply to a request that was not made, or was answered already.
    UnknownCookie,
    /// The server says that it is shutting down.
    Shutdown,
}

/// What came of a request.
#[derive(Debug, Eq, PartialEq)]
pub struct Answer {
    /// Which one.
    pub cookie: u64,
    /// The positive error number, or 0.
    pub errno: i32,
    /// What was read.
    pub data: Vec<u8>,
}

/// Reads a stream, whole and in pieces of `cut` bytes, and looks at all that must hold; gives the
/// requests that were answered, and why no more were.
///
/// # Panics
///
/// Where the parser is wrong.
pub fn check(stream: &[u8], cut: usize) -> (Vec<Answer>, End) {
    let whole = serve(stream, usize::MAX);
    assert_eq!(whole, serve(stream, cut));
    assert_eq!(whole, sit(stream, usize::MAX));
    assert_eq!(whole, sit(stream, cut));
    assert!(whole.0.len() as u64 <= REQUESTS);
    whole
}

/// The cookie of the request in a slot that was used once.
pub fn cookie(slot: u64) -> u64 {
    1 << 32 | slot
}

/// Parses a header, and reads it a second time.
///
/// # Panics
///
/// Where the two differ.
pub fn header(bytes: &[u8; REPLY_LEN]) -> Result<Reply, ReplyReason> {
    let parsed = reply::parse(bytes);
    let error = number(&bytes[4..8]) as u32;
    match (number(&bytes[..4]), parsed) {
        (0x6744_6698, Ok(reply)) => {
            assert_eq!(reply.cookie, number(&bytes[8..]));
            check_error(error, reply.error);
        }
        (0x668e_33ef, Err(reason)) => assert_eq!(reason, ReplyReason::Structured),
        (_, Err(reason)) => assert_eq!(reason, ReplyReason::BadMagic),
        (magic, Ok(_)) => panic!("{magic:#x} is no magic of a simple reply"),
    }
    if let Err(reason) = parsed {
        assert!(!reason.as_str().is_empty() && reason.errno() > 0);
    }
    parsed
}

/// The numbers that the protocol defines are Linux's own; others are told, and are EIO.
fn check_error(number: u32, error: Option<NbdError>) {
    const EIO: i32 = 5;
    let Some(error) = error else {
        assert_eq!(number, 0);
        return;
    };
    let is_known = [1, 5, 12, 22, 28, 75, 95, 108].contains(&number);
    assert!(number != 0 && !error.as_str().is_empty());
    assert_eq!(error.errno(), if is_known { number as i32 } else { EIO });
    let is_told = matches!(error, NbdError::Other(told) if told == number);
    assert_eq!(is_told, !is_known, "{error:?} for {number}");
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

fn serve(mut stream: &[u8], cut: usize) -> (Vec<Answer>, End) {
    let mut open = [true; REQUESTS as usize];
    let mut answers = Vec::new();
    loop {
        if stream.is_empty() {
            return (answers, End::Closed);
        }
        match one(&mut stream, cut, &mut open) {
            Ok(answer) => answers.push(answer),
            Err(end) => return (answers, end),
        }
    }
}

fn one(stream: &mut &[u8], cut: usize, open: &mut [bool]) -> Result<Answer, End> {
    let mut bytes = [0; REPLY_LEN];
    fill(stream, &mut bytes, cut)?;
    let Reply { cookie, error } = header(&bytes).map_err(End::Reply)?;
    let index = cookie
        .checked_sub(self::cookie(1))
        .ok_or(End::UnknownCookie)?;
    let slot = usize::try_from(index).ok().and_then(|i| open.get_mut(i));
    // A reply that comes twice is one to a request that was not asked.
    if !slot.is_some_and(std::mem::take) {
        return Err(End::UnknownCookie);
    }
    if error == Some(NbdError::Shutdown) {
        return Err(End::Shutdown);
    }
    let is_read = cookie % 2 == 1;
    let mut data = vec![0; if is_read && error.is_none() { READ } else { 0 }];
    fill(stream, &mut data, cut)?;
    Ok(Answer {
        cookie,
        errno: error.map_or(0, NbdError::errno),
        data,
    })
}

/// Takes bytes from the stream in pieces of at most `cut`.
fn fill(stream: &mut &[u8], mut buffer: &mut [u8], cut: usize) -> Result<(), End> {
    while !buffer.is_empty() {
        let more = buffer.len().min(cut).min(stream.len());
        if more == 0 {
            return Err(End::Cut);
        }
        let (bytes, rest) = stream.split_at(more);
        let (now, later) = buffer.split_at_mut(more);
        now.copy_from_slice(bytes);
        (*stream, buffer) = (rest, later);
    }
    Ok(())
}

struct OwnSlots(Vec<RefCell<Slot<()>>>);

impl Slots for OwnSlots {
    type Buffer = ();

    fn with<R>(&self, slot: SlotId, f: impl FnOnce(&mut Slot<()>) -> R) -> R {
        f(&mut self.0[slot.index()].borrow_mut())
    }
}

/// A connection whose server closes at the end of the stream, in no time.
struct Line {
    now_ms: Cell<u64>,
}

impl Around for Line {
    fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }
    fn is_stopping(&self) -> bool {
        false
    }
    fn is_broken(&self) -> bool {
        false
    }
    fn has_peer_closed(&self) -> bool {
        true
    }
    fn patience_ms(&self) -> u64 {
        u64::MAX
    }
    fn timeout_ms(&self) -> u64 {
        u64::MAX
    }
    fn load(&self) -> u64 {
        0
    }
    fn set_bound(&self, _bytes: u64) {}
    fn is_failing(&self) -> bool {
        false
    }
    fn give_up_group(&self) -> bool {
        unreachable!("the server closes by itself")
    }
}

/// Has a session take the stream.
fn sit(stream: &[u8], cut: usize) -> (Vec<Answer>, End) {
    let slots = (0..SLOTS).map(|_| RefCell::new(Slot::default()));
    let table = Table::new(OwnSlots(slots.collect()));
    let channel = ChannelId::new(0).expect("there are several");
    for slot in 1..=REQUESTS as u32 {
        let (command, len) = match slot % 2 {
            1 => (Command::Read, READ as u32),
            _ => (Command::Write, 512),
        };
        let transfer = Transfer::new(command, CommandFlags::NONE, 0, len, ());
        let slot = SlotId::of_request(slot);
        assert!(table.put(slot, transfer, Some(channel)).is_ok());
        assert!(table.start(slot, channel, 0).is_some());
    }
    let line = Line {
        now_ms: Cell::new(0),
    };
    let (inbox, debts) = (vec![0u8; INBOX_LEN], vec![Debt::NONE; SLOTS]);
    let mut session = Session::new(&table, channel, inbox, debts, Limits::USUAL, 0);
    let mut stream = stream;
    let mut receive = |most: usize| {
        let (now, later) = stream.split_at(most.min(cut).min(stream.len()));
        stream = later;
        let got = match now.len() {
            0 => Received::End,
            len => Received::Bytes(len),
        };
        (got, now)
    };
    let (mut answers, mut data, mut end) = (Vec::new(), Vec::new(), None);
    let mut open = [true; REQUESTS as usize];
    loop {
        match session.next(&line) {
            Step::Recv => {
                let room = session.room();
                let (got, bytes) = receive(room.len());
                room[..bytes.len()].copy_from_slice(bytes);
                session.received(&line, got);
            }
            Step::Fill(from, to) => {
                assert_eq!(from, data.len());
                let (got, bytes) = receive(to - from);
                data.extend_from_slice(bytes);
                session.received(&line, got);
            }
            Step::Copy => {
                data.clear();
                session.copy(|(), bytes| {
                    data.extend_from_slice(bytes);
                    true
                });
            }
            Step::Tell(Event::Ended { slot, outcome, .. }) => {
                let slot = slot.index();
                assert!(std::mem::take(&mut open[slot - 1]), "it ends twice");
                let errno = match outcome {
                    Outcome::Done => 0,
                    Outcome::Refused(error) => error.errno(),
                    Outcome::Lost(_) => continue,
                };
                let is_read = slot % 2 == 1 && errno == 0;
                answers.push(Answer {
                    cookie: cookie(slot as u64),
                    errno,
                    data: if is_read { data.clone() } else { Vec::new() },
                });
            }
            Step::Close(reason, _) => end = Some(end_of(reason)),
            Step::Tell(_) | Step::Drain => {}
            Step::Abort | Step::Pause(..) => unreachable!("the server closes by itself"),
            Step::Over => break,
        }
    }
    assert_eq!(open, [false; REQUESTS as usize], "all come back");
    (answers, end.expect("it says why it ends"))
}

fn end_of(reason: DownReason) -> End {
    match reason {
        DownReason::Closed => End::Closed,
        DownReason::Cut => End::Cut,
        DownReason::Reply(reason) => End::Reply(reason),
        DownReason::UnknownCookie => End::UnknownCookie,
        DownReason::ServerShutdown => End::Shutdown,
        other => panic!("{other:?}"),
    }
}
