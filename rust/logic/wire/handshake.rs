// SPDX-License-Identifier: GPL-2.0

//! The handshake phase: from a connected socket to an open export.
//!
//! Shape: a state machine without I/O. [`Handshake::next`] says what to do on the socket,
//! [`Handshake::sent`] and [`Handshake::received`] say that it was done:
//!
//! ```text
//! S: NBDMAGIC IHAVEOPT flags             C: flags NBD_OPT_GO(name, block size)
//! S: any number of NBD_REP_INFO          S: NBD_REP_ACK, or an error
//! ```
//!
//! Units: bytes. Errors: [`HandshakeReason`]; a machine that failed stays failed.
//! Bounds: it never asks for more than [`SCRATCH`] bytes at once, skips at most [`MAX_REPLY`] bytes
//! of a reply, and reads at most [`MAX_REPLIES`] of them. It has no clock: the caller's time limit
//! is what ends a handshake with a server that says nothing.
//! Source: proto.md, "Newstyle negotiation", "Fixed newstyle negotiation", "Option types" and
//! "Option reply types".

use super::export::{StatedBlockSizes, StatedExport};

pub use super::export::{BlockSizes, Export, TransmissionFlags};
pub use super::reason::HandshakeReason;

/// Most bytes that [`Step::Recv`] asks for.
pub const SCRATCH: usize = 512;
/// Longest reply to the option that is read or skipped, in bytes after its header.
pub const MAX_REPLY: u32 = 64 << 10;
/// Most replies to the option, the last one included.
pub const MAX_REPLIES: u32 = 64;
/// Longest export name, in bytes: the protocol's limit for a string.
pub const MAX_NAME: usize = 4096;

const INIT_MAGIC: [u8; 8] = *b"NBDMAGIC";
const OLDSTYLE_MAGIC: [u8; 8] = 0x0000_4202_8186_1253_u64.to_be_bytes();
const NEWSTYLE_MAGIC: [u8; 8] = *b"IHAVEOPT";
const OPTION_REPLY_MAGIC: [u8; 8] = 0x0003_e889_0455_65a9_u64.to_be_bytes();

// Handshake flags of the server; the client's have the same places in a 32-bit field.
const FLAG_FIXED_NEWSTYLE: u16 = 1 << 0;
const FLAG_NO_ZEROES: u16 = 1 << 1;

const OPT_GO: u32 = 7;
const INFO_EXPORT: u16 = 0;
const INFO_BLOCK_SIZE: u16 = 3;
const REP_ACK: u32 = 1;
const REP_INFO: u32 = 3;
const REP_ERROR_BIT: u32 = 1 << 31;

/// What follows the name in NBD_OPT_GO: a count of one, and the information asked for. The export's
/// description comes unasked.
const INFO_REQUESTS: [u8; 4] = [0, 1, 0, 3];

/// Client flags (4), option header (16) and the length of the name (4).
const OPTION_LEN: usize = 24;
const REPLY_HEADER_LEN: usize = 20;
/// An information reply begins with its type.
const INFO_TYPE_LEN: u32 = 2;
/// Payloads of the two information types that we read, without the type.
const EXPORT_INFO_LEN: usize = 10;
const BLOCK_SIZE_INFO_LEN: usize = 12;

/// What to do next on the socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step<'a> {
    /// Send all of these bytes, then call [`Handshake::sent`].
    Send(&'a [u8]),
    /// Receive exactly this many bytes, 1 to [`SCRATCH`], and pass them to [`Handshake::received`].
    Recv(usize),
    /// The export is open, and the next byte either way belongs to the transmission phase.
    Done(Export),
    /// The handshake failed; [`HandshakeReason::farewell`] says what to send before closing.
    Failed(HandshakeReason),
}

/// Where the handshake stands. The states that receive are named after what comes.
#[derive(Clone, Copy, Debug)]
enum State {
    InitMagic,
    StyleMagic,
    SendOption,
    SendName,
    SendRequests,
    ReplyHeader,
    /// `rest` bytes of the reply follow the type.
    InfoType {
        rest: u32,
    },
    ExportInfo,
    BlockSizeInfo,
    /// `left` bytes, never 0, that mean nothing to us.
    Skip {
        left: u32,
        then: Then,
    },
    Done(Export),
    Failed(HandshakeReason),
}

/// What the end of skipped bytes leads to.
#[derive(Clone, Copy, Debug)]
enum Then {
    NextReply,
    Fail(HandshakeReason),
}

impl Then {
    const fn state(self) -> State {
        match self {
            Self::NextReply => State::ReplyHeader,
            Self::Fail(reason) => State::Failed(reason),
        }
    }
}

/// One handshake on one fresh connection.
#[derive(Debug)]
pub struct Handshake<'a> {
    name: &'a [u8],
    state: State,
    /// What [`State::SendOption`] sends; complete once the server's flags are known.
    option: [u8; OPTION_LEN],
    /// Reply headers so far.
    replies: u32,
    /// The last description of the export, and the last block sizes, in whatever order they came.
    export: Option<StatedExport>,
    block: Option<StatedBlockSizes>,
}

impl<'a> Handshake<'a> {
    /// A handshake that will ask for the export `name`; the empty name is the server's default.
    pub fn new(name: &'a [u8]) -> Result<Self, HandshakeReason> {
        if name.len() > MAX_NAME {
            return Err(HandshakeReason::NameTooLong);
        }
        if name.contains(&0) {
            return Err(HandshakeReason::NameHasNul);
        }
        Ok(Self {
            name,
            state: State::InitMagic,
            option: [0; OPTION_LEN],
            replies: 0,
            export: None,
            block: None,
        })
    }

    /// What to do now. Asking again without doing it gives the same answer.
    pub fn next(&self) -> Step<'_> {
        match self.state {
            State::SendOption => Step::Send(&self.option),
            State::SendName => Step::Send(self.name),
            State::SendRequests => Step::Send(&INFO_REQUESTS),
            State::InitMagic => Step::Recv(INIT_MAGIC.len()),
            State::StyleMagic => Step::Recv(NEWSTYLE_MAGIC.len() + size_of::<u16>()),
            State::ReplyHeader => Step::Recv(REPLY_HEADER_LEN),
            State::InfoType { .. } => Step::Recv(INFO_TYPE_LEN as usize),
            State::ExportInfo => Step::Recv(EXPORT_INFO_LEN),
            State::BlockSizeInfo => Step::Recv(BLOCK_SIZE_INFO_LEN),
            State::Skip { left, .. } => Step::Recv(SCRATCH.min(left as usize)),
            State::Done(export) => Step::Done(export),
            State::Failed(reason) => Step::Failed(reason),
        }
    }

    /// All bytes of the last [`Step::Send`] went out. Does nothing at any other step.
    pub fn sent(&mut self) {
        self.state = match self.state {
            State::SendOption if self.name.is_empty() => State::SendRequests,
            State::SendOption => State::SendName,
            State::SendName => State::SendRequests,
            State::SendRequests => State::ReplyHeader,
            other => other,
        }
    }

    /// `bytes` came, exactly as many as the last [`Step::Recv`] asked for.
    ///
    /// An error is final, and is what [`Handshake::next`] answers from now on.
    pub fn received(&mut self, bytes: &[u8]) -> Result<(), HandshakeReason> {
        let state = match self.advance(bytes) {
            Ok(state) => state,
            Err(reason) => State::Failed(reason),
        };
        self.state = state;
        match state {
            State::Failed(reason) => Err(reason),
            _ => Ok(()),
        }
    }

    /// The state after `bytes`.
    fn advance(&mut self, bytes: &[u8]) -> Result<State, HandshakeReason> {
        match self.state {
            State::InitMagic if exactly(bytes)? == INIT_MAGIC => Ok(State::StyleMagic),
            State::InitMagic => Err(HandshakeReason::NotNbd),
            State::StyleMagic => self.style_magic(exactly(bytes)?),
            State::ReplyHeader => self.reply_header(exactly(bytes)?),
            State::InfoType { rest } => info_type(exactly(bytes)?, rest),
            State::ExportInfo => {
                let [size @ .., f0, f1] = exactly::<EXPORT_INFO_LEN>(bytes)?;
                self.export = Some(StatedExport {
                    size: u64::from_be_bytes(size),
                    flags: TransmissionFlags::from_bits(u16::from_be_bytes([f0, f1])),
                });
                Ok(State::ReplyHeader)
            }
            State::BlockSizeInfo => {
                let [n0, n1, n2, n3, p0, p1, p2, p3, max @ ..] =
                    exactly::<BLOCK_SIZE_INFO_LEN>(bytes)?;
                self.block = Some(StatedBlockSizes {
                    min: u32::from_be_bytes([n0, n1, n2, n3]),
                    preferred: u32::from_be_bytes([p0, p1, p2, p3]),
                    max: u32::from_be_bytes(max),
                });
                Ok(State::ReplyHeader)
            }
            State::Skip { left, then } if bytes.len() == SCRATCH.min(left as usize) => {
                Ok(skip(left.saturating_sub(SCRATCH as u32), then))
            }
            State::Failed(reason) => Err(reason),
            State::Skip { .. }
            | State::SendOption
            | State::SendName
            | State::SendRequests
            | State::Done(_) => Err(HandshakeReason::OutOfTurn),
        }
    }

    /// The second magic, which tells the style, and with newstyle the server's flags.
    fn style_magic(&mut self, bytes: [u8; 10]) -> Result<State, HandshakeReason> {
        let [magic @ .., f0, f1] = bytes;
        match magic {
            NEWSTYLE_MAGIC => {}
            OLDSTYLE_MAGIC => return Err(HandshakeReason::Oldstyle),
            _ => return Err(HandshakeReason::UnknownStyle),
        }
        let flags = u16::from_be_bytes([f0, f1]);
        if flags & FLAG_FIXED_NEWSTYLE == 0 {
            return Err(HandshakeReason::NotFixedNewstyle);
        }
        // A server must hang up on flags that it did not offer, and future ones are not ours.
        let client_flags = u32::from(flags & (FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES));
        self.option = encode_option(client_flags, self.name.len())?;
        Ok(State::SendOption)
    }

    /// The header of a reply, whose type decides how the rest is read.
    fn reply_header(&mut self, bytes: [u8; REPLY_HEADER_LEN]) -> Result<State, HandshakeReason> {
        let [magic @ .., o0, o1, o2, o3, t0, t1, t2, t3, l0, l1, l2, l3] = bytes;
        if magic != OPTION_REPLY_MAGIC {
            return Err(HandshakeReason::ReplyMagic);
        }
        if u32::from_be_bytes([o0, o1, o2, o3]) != OPT_GO {
            return Err(HandshakeReason::WrongOption);
        }
        let reply = u32::from_be_bytes([t0, t1, t2, t3]);
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        // Checked ahead of the length and the count: a refusal says more than either.
        let refusal = refusal(reply);
        if length > MAX_REPLY {
            return Err(refusal.unwrap_or(HandshakeReason::ReplyTooLong));
        }
        self.replies = self.replies.saturating_add(1);
        match (reply, refusal) {
            // The message for a human is skipped: it may hold anything, and belongs in no log.
            (_, Some(reason)) => Ok(skip(length, Then::Fail(reason))),
            (REP_ACK, _) if length != 0 => Err(HandshakeReason::ReplyLength),
            (REP_ACK, _) => Export::check(self.export, self.block).map(State::Done),
            (REP_INFO, _) if self.replies >= MAX_REPLIES => Err(HandshakeReason::TooManyReplies),
            (REP_INFO, _) => match length.checked_sub(INFO_TYPE_LEN) {
                Some(rest) => Ok(State::InfoType { rest }),
                None => Err(HandshakeReason::ReplyLength),
            },
            _ => Err(HandshakeReason::UnexpectedReply),
        }
    }
}

/// `bytes` as an array of the length that was asked for.
fn exactly<const N: usize>(bytes: &[u8]) -> Result<[u8; N], HandshakeReason> {
    <[u8; N]>::try_from(bytes).map_err(|_| HandshakeReason::OutOfTurn)
}

/// Skips `left` bytes, if there are any.
const fn skip(left: u32, then: Then) -> State {
    match left {
        0 => then.state(),
        left => State::Skip { left, then },
    }
}

/// What the type of an information reply says of the `rest` bytes that follow it.
fn info_type(bytes: [u8; 2], rest: u32) -> Result<State, HandshakeReason> {
    match (u16::from_be_bytes(bytes), rest as usize) {
        (INFO_EXPORT, EXPORT_INFO_LEN) => Ok(State::ExportInfo),
        (INFO_BLOCK_SIZE, BLOCK_SIZE_INFO_LEN) => Ok(State::BlockSizeInfo),
        (INFO_EXPORT | INFO_BLOCK_SIZE, _) => Err(HandshakeReason::ReplyLength),
        // A client must ignore the information types that it does not know.
        _ => Ok(skip(rest, Then::NextReply)),
    }
}

/// Why the server refused, if `reply` is an error type.
const fn refusal(reply: u32) -> Option<HandshakeReason> {
    if reply & REP_ERROR_BIT == 0 {
        return None;
    }
    Some(match reply & !REP_ERROR_BIT {
        1 => HandshakeReason::Unsupported,
        2 => HandshakeReason::Policy,
        3 => HandshakeReason::Invalid,
        4 => HandshakeReason::Platform,
        5 => HandshakeReason::TlsRequired,
        6 => HandshakeReason::UnknownExport,
        7 => HandshakeReason::ServerShutdown,
        8 => HandshakeReason::BlockSizeRequired,
        9 => HandshakeReason::TooBig,
        10 => HandshakeReason::ExtendedHeadersRequired,
        number => HandshakeReason::UnknownError(number),
    })
}

/// The client's flags and the beginning of NBD_OPT_GO, up to the name.
fn encode_option(flags: u32, name_len: usize) -> Result<[u8; OPTION_LEN], HandshakeReason> {
    let name_len = u32::try_from(name_len).map_err(|_| HandshakeReason::NameTooLong)?;
    // The name, its own length before it, and the information requests after it.
    let option_len = name_len
        .checked_add(4 + INFO_REQUESTS.len() as u32)
        .ok_or(HandshakeReason::NameTooLong)?;
    let [f0, f1, f2, f3] = flags.to_be_bytes();
    let [m0, m1, m2, m3, m4, m5, m6, m7] = NEWSTYLE_MAGIC;
    let [o0, o1, o2, o3] = OPT_GO.to_be_bytes();
    let [l0, l1, l2, l3] = option_len.to_be_bytes();
    let [n0, n1, n2, n3] = name_len.to_be_bytes();
    Ok([
        f0, f1, f2, f3, m0, m1, m2, m3, m4, m5, m6, m7, o0, o1, o2, o3, l0, l1, l2, l3, n0, n1, n2,
        n3,
    ])
}

#[cfg(test)]
mod tests;
