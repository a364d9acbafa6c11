// SPDX-License-Identifier: GPL-2.0

//! Any bytes from a server in the transmission phase, cut in any way.
//!
//! What `rust/channel/receive.rs` does around the parser is retold with a table of requests that are
//! on their way: cookies 1 to 16, of which the odd ones are reads.

use enbd_logic::logic::wire::reply::{self, NbdError, Reply, ReplyReason, REPLY_LEN};

/// Cookies of requests that are on their way go from 1 to this.
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
    assert!(whole.0.len() as u64 <= REQUESTS);
    whole
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
    let index = cookie.checked_sub(1).ok_or(End::UnknownCookie)?;
    let slot = usize::try_from(index).ok().and_then(|i| open.get_mut(i));
    // A reply that comes twice is one to a request that was not asked.
    if !slot.is_some_and(std::mem::take) {
        return Err(End::UnknownCookie);
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
