// SPDX-License-Identifier: GPL-2.0

//! Why a handshake failed.
//!
//! Shape: one enum, with a phrase for the log, an error number for the caller, and the goodbye that
//! the protocol asks for. Errors: numbers are positive, see [`errno`](super::errno).
//! Source: proto.md, "Option reply types" and "Termination of the session during option haggling".

use super::errno;
use super::request::{self, Command, CommandFlags, REQUEST_LEN};

/// The option header of NBD_OPT_ABORT (2), which carries no data.
const OPT_ABORT: [u8; 16] = *b"IHAVEOPT\0\0\0\x02\0\0\0\0";

/// The request that ends a transmission phase into which nothing was sent.
const DISCONNECT: [u8; REQUEST_LEN] =
    request::encode(Command::Disconnect, CommandFlags::NONE, 0, 0, 0);

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HandshakeReason {
    /// The export's name is longer than a string of the protocol may be.
    NameTooLong,
    /// The export's name contains a NUL, which no string of the protocol may.
    NameHasNul,
    /// The first eight bytes are not NBD's.
    NotNbd,
    /// A server of before 2010, which knows neither names nor options.
    Oldstyle,
    /// NBD's first magic is followed by neither style's second.
    UnknownStyle,
    /// A newstyle server without the fix that makes options answerable.
    NotFixedNewstyle,
    /// An option reply without the magic of option replies.
    ReplyMagic,
    /// A reply to an option that was not sent.
    WrongOption,
    /// A reply type that is not an answer to NBD_OPT_GO.
    UnexpectedReply,
    /// A reply whose length cannot be that of its type.
    ReplyLength,
    /// A reply longer than we are willing to skip.
    ReplyTooLong,
    /// More replies to one option than we are willing to read.
    TooManyReplies,
    /// NBD_REP_ERR_UNSUP: the server does not know NBD_OPT_GO.
    Unsupported,
    /// NBD_REP_ERR_POLICY: the server's configuration forbids it.
    Policy,
    /// NBD_REP_ERR_INVALID: the server took our option for malformed.
    Invalid,
    /// NBD_REP_ERR_PLATFORM: the server's platform or build cannot do it.
    Platform,
    /// NBD_REP_ERR_TLS_REQD: the export is served over TLS only.
    TlsRequired,
    /// NBD_REP_ERR_UNKNOWN: there is no export of that name.
    UnknownExport,
    /// NBD_REP_ERR_SHUTDOWN: the server is going away.
    ServerShutdown,
    /// NBD_REP_ERR_BLOCK_SIZE_REQD, although we do ask for the block sizes.
    BlockSizeRequired,
    /// NBD_REP_ERR_TOO_BIG: the server found the option or its reply too large.
    TooBig,
    /// NBD_REP_ERR_EXT_HEADER_REQD: the export is served over extended headers only.
    ExtendedHeadersRequired,
    /// An error reply with a number that the protocol does not define.
    UnknownError(u32),
    /// The server agreed without ever describing the export.
    NoExportInfo,
    /// The transmission flags lack the bit that is always set.
    FlagsMissing,
    /// The export has no bytes.
    ExportEmpty,
    /// The export is smaller than one block.
    ExportTooSmall,
    /// The export has more bytes than the kernel can count.
    ExportTooLarge,
    /// The block sizes contradict each other or the protocol.
    BlockSizesInvalid,
    /// The caller delivered bytes that were not asked for.
    OutOfTurn,
}

impl HandshakeReason {
    /// A short phrase for a log line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NameTooLong => "export name longer than 4096 bytes",
            Self::NameHasNul => "export name with a NUL byte",
            Self::NotNbd => "not an NBD server (wrong magic)",
            Self::Oldstyle => "oldstyle NBD server",
            Self::UnknownStyle => "unknown style of NBD negotiation (wrong second magic)",
            Self::NotFixedNewstyle => "not a fixed newstyle NBD server",
            Self::ReplyMagic => "option reply with a wrong magic",
            Self::WrongOption => "reply to an option that was not sent",
            Self::UnexpectedReply => "unexpected type of option reply",
            Self::ReplyLength => "option reply with a wrong length",
            Self::ReplyTooLong => "option reply too long",
            Self::TooManyReplies => "too many option replies",
            Self::Unsupported => "the server does not support NBD_OPT_GO",
            Self::Policy => "refused by the server's policy",
            Self::Invalid => "the server found the option invalid",
            Self::Platform => "not supported on the server's platform",
            Self::TlsRequired => "the export needs TLS",
            Self::UnknownExport => "unknown export",
            Self::ServerShutdown => "the server is shutting down",
            Self::BlockSizeRequired => "the server insists on block sizes that were asked for",
            Self::TooBig => "the server found the option too big",
            Self::ExtendedHeadersRequired => "the export needs extended headers",
            Self::UnknownError(_) => "unknown error reply",
            Self::NoExportInfo => "the server did not describe the export",
            Self::FlagsMissing => "transmission flags without NBD_FLAG_HAS_FLAGS",
            Self::ExportEmpty => "the export is empty",
            Self::ExportTooSmall => "the export is smaller than a block",
            Self::ExportTooLarge => "the export is too large",
            Self::BlockSizesInvalid => "invalid block sizes",
            Self::OutOfTurn => "bytes received out of turn",
        }
    }

    /// The positive Linux error number.
    pub const fn errno(self) -> i32 {
        match self {
            Self::NameTooLong => errno::ENAMETOOLONG,
            Self::UnknownExport => errno::ENOENT,
            Self::Policy | Self::TlsRequired => errno::EACCES,
            Self::Platform => errno::EOPNOTSUPP,
            Self::ServerShutdown => errno::ESHUTDOWN,
            Self::TooBig => errno::EMSGSIZE,
            Self::UnknownError(_) => errno::EIO,
            Self::ExportTooLarge => errno::EFBIG,
            Self::Oldstyle
            | Self::NotFixedNewstyle
            | Self::Unsupported
            | Self::ExtendedHeadersRequired => errno::EPROTONOSUPPORT,
            Self::NameHasNul
            | Self::Invalid
            | Self::ExportEmpty
            | Self::ExportTooSmall
            | Self::OutOfTurn => errno::EINVAL,
            Self::NotNbd
            | Self::UnknownStyle
            | Self::ReplyMagic
            | Self::WrongOption
            | Self::UnexpectedReply
            | Self::ReplyLength
            | Self::ReplyTooLong
            | Self::TooManyReplies
            | Self::BlockSizeRequired
            | Self::NoExportInfo
            | Self::FlagsMissing
            | Self::BlockSizesInvalid => errno::EPROTO,
        }
    }

    /// What to send before the socket is closed, without waiting for an answer.
    ///
    /// A client that merely does not want to go on owes the server an orderly end: NBD_OPT_ABORT
    /// while the options are open, NBD_CMD_DISC once the server has agreed. A server that broke the
    /// protocol is owed nothing.
    pub const fn farewell(self) -> Option<&'static [u8]> {
        match self {
            Self::Unsupported
            | Self::Policy
            | Self::Invalid
            | Self::Platform
            | Self::TlsRequired
            | Self::UnknownExport
            | Self::ServerShutdown
            | Self::BlockSizeRequired
            | Self::TooBig
            | Self::ExtendedHeadersRequired
            | Self::UnknownError(_) => Some(&OPT_ABORT),
            Self::ExportEmpty | Self::ExportTooSmall | Self::ExportTooLarge => Some(&DISCONNECT),
            Self::NameTooLong
            | Self::NameHasNul
            | Self::NotNbd
            | Self::Oldstyle
            | Self::UnknownStyle
            | Self::NotFixedNewstyle
            | Self::ReplyMagic
            | Self::WrongOption
            | Self::UnexpectedReply
            | Self::ReplyLength
            | Self::ReplyTooLong
            | Self::TooManyReplies
            | Self::NoExportInfo
            | Self::FlagsMissing
            | Self::BlockSizesInvalid
            | Self::OutOfTurn => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::HandshakeReason as Reason;

    #[test]
    fn reasons_have_a_phrase_a_number_and_a_goodbye() {
        const NONE: usize = 0;
        const ABORT: usize = 16;
        const DISCONNECT: usize = 28;
        #[rustfmt::skip]
        let table = [
            (Reason::NameTooLong, 36, NONE),
            (Reason::NameHasNul, 22, NONE),
            (Reason::NotNbd, 71, NONE),
            (Reason::Oldstyle, 93, NONE),
            (Reason::UnknownStyle, 71, NONE),
            (Reason::NotFixedNewstyle, 93, NONE),
            (Reason::ReplyMagic, 71, NONE),
            (Reason::WrongOption, 71, NONE),
            (Reason::UnexpectedReply, 71, NONE),
            (Reason::ReplyLength, 71, NONE),
            (Reason::ReplyTooLong, 71, NONE),
            (Reason::TooManyReplies, 71, NONE),
            (Reason::Unsupported, 93, ABORT),
            (Reason::Policy, 13, ABORT),
            (Reason::Invalid, 22, ABORT),
            (Reason::Platform, 95, ABORT),
            (Reason::TlsRequired, 13, ABORT),
            (Reason::UnknownExport, 2, ABORT),
            (Reason::ServerShutdown, 108, ABORT),
            (Reason::BlockSizeRequired, 71, ABORT),
            (Reason::TooBig, 90, ABORT),
            (Reason::ExtendedHeadersRequired, 93, ABORT),
            (Reason::UnknownError(99), 5, ABORT),
            (Reason::NoExportInfo, 71, NONE),
            (Reason::FlagsMissing, 71, NONE),
            (Reason::ExportEmpty, 22, DISCONNECT),
            (Reason::ExportTooSmall, 22, DISCONNECT),
            (Reason::ExportTooLarge, 27, DISCONNECT),
            (Reason::BlockSizesInvalid, 71, NONE),
            (Reason::OutOfTurn, 22, NONE),
        ];
        for (index, (reason, errno, farewell)) in table.into_iter().enumerate() {
            assert_eq!(reason.errno(), errno, "{reason:?}");
            assert_eq!(
                reason.farewell().map_or(NONE, <[u8]>::len),
                farewell,
                "{reason:?}"
            );
            assert!((1..=60).contains(&reason.as_str().len()), "{reason:?}");
            let others = table[..index].iter();
            assert!(others
                .clone()
                .all(|(other, ..)| other.as_str() != reason.as_str()));
        }
    }
}
