// SPDX-License-Identifier: GPL-2.0

//! Any bytes from a server in the transmission phase, cut in any way.
//!
//! What `rust/channel/receive.rs` does around the parser is retold with a table of requests that are
//! on their way: cookies 1 to 16, of which the odd ones are reads. The input: how the stream is cut,
//! and the stream.

#![no_main]

use enbd_logic::logic::wire::reply::{self, ReplyReason, REPLY_LEN};
use libfuzzer_sys::fuzz_target;

const REQUESTS: u64 = 16;
const READ: usize = 32;

/// Why no more is read.
#[derive(Debug, Eq, PartialEq)]
enum End {
    /// The stream ended between replies.
    Closed,
    /// The stream ended in the middle of one.
    Cut,
    Reply(ReplyReason),
    UnknownCookie,
}

/// What came of the requests: the cookie, the errno or 0, and the sum of the data.
type Log = Vec<(u64, i32, u64)>;

/// Takes bytes from the stream in pieces of at most `cut`.
fn fill(stream: &mut &[u8], want: usize, cut: usize) -> Result<Vec<u8>, End> {
    let mut got = Vec::new();
    while got.len() < want {
        let more = (want - got.len()).min(cut).min(stream.len());
        if more == 0 {
            return Err(End::Cut);
        }
        let (bytes, rest) = stream.split_at(more);
        got.extend_from_slice(bytes);
        *stream = rest;
    }
    Ok(got)
}

fn serve(mut stream: &[u8], cut: usize) -> (Log, End) {
    let mut open = [true; REQUESTS as usize];
    let mut log = Log::new();
    loop {
        if stream.is_empty() {
            return (log, End::Closed);
        }
        match one(&mut stream, cut, &mut open) {
            Ok(entry) => log.push(entry),
            Err(end) => return (log, end),
        }
    }
}

fn one(stream: &mut &[u8], cut: usize, open: &mut [bool]) -> Result<(u64, i32, u64), End> {
    let header = fill(stream, REPLY_LEN, cut)?;
    let header: [u8; REPLY_LEN] = header.try_into().expect("as many as asked for");
    let reply = reply::parse(&header).map_err(|reason| {
        assert!(!reason.as_str().is_empty() && reason.errno() > 0);
        End::Reply(reason)
    })?;
    // The second reading.
    assert_eq!(header[..4], [0x67, 0x44, 0x66, 0x98]);
    assert_eq!(header[4..8] != [0; 4], reply.error.is_some());
    assert_eq!(header[8..], reply.cookie.to_be_bytes());
    let index = reply.cookie.checked_sub(1).ok_or(End::UnknownCookie)?;
    let slot = usize::try_from(index).ok().and_then(|i| open.get_mut(i));
    // A reply that comes twice is one to a request that was not asked.
    if !slot.is_some_and(std::mem::take) {
        return Err(End::UnknownCookie);
    }
    let errno = reply.error.map_or(0, |error| {
        assert!(!error.as_str().is_empty() && (1..4096).contains(&error.errno()));
        error.errno()
    });
    let is_read = reply.cookie % 2 == 1;
    let data = match reply.error {
        None if is_read => fill(stream, READ, cut)?,
        _ => Vec::new(),
    };
    Ok((
        reply.cookie,
        errno,
        data.iter().map(|byte| u64::from(*byte)).sum(),
    ))
}

fuzz_target!(|data: &[u8]| {
    let [cut, stream @ ..] = data else { return };
    let whole = serve(stream, usize::MAX);
    assert_eq!(whole, serve(stream, usize::from(*cut) + 1));
    assert!(whole.0.len() as u64 <= REQUESTS);
});
