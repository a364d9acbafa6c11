// SPDX-License-Identifier: GPL-2.0

//! The simple reply that ends every command but a disconnect.
//!
//! Shape: 16 bytes, followed by the data of a read that did not fail.
//! Errors: a header that cannot be one of ours is a [`ReplyReason`], after which the stream has no
//! known frame and the channel must be dropped. An [`NbdError`] is the server's answer to one
//! request and leaves the channel usable.
//! Source: proto.md, "Simple reply message", "Structured reply chunk message", "Error values".

use super::errno;

/// Bytes in a simple reply header.
pub const REPLY_LEN: usize = 16;

/// NBD_SIMPLE_REPLY_MAGIC.
const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// NBD_STRUCTURED_REPLY_MAGIC.
const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;

/// One reply header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reply {
    /// The request's cookie. Foreign: it need not be one that was sent.
    pub cookie: u64,
    /// Why the server did not do it; `None` on success.
    pub error: Option<NbdError>,
}

/// Why 16 bytes are not a reply to us.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReplyReason {
    /// No magic of the protocol: the two sides disagree where a reply begins.
    BadMagic,
    /// A structured reply, which was never negotiated.
    Structured,
}

impl ReplyReason {
    /// A short phrase for a log line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadMagic => "reply with a wrong magic",
            Self::Structured => "structured reply that was not negotiated",
        }
    }

    /// The positive Linux error number.
    pub const fn errno(self) -> i32 {
        errno::EPROTO
    }
}

/// The error field of a reply, when it is not zero.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NbdError {
    /// NBD_EPERM: the export is read-only.
    Perm,
    /// NBD_EIO: the server's storage failed.
    Io,
    /// NBD_ENOMEM: the server is out of memory.
    NoMem,
    /// NBD_EINVAL: the server took the request for malformed, or out of the export's range.
    Inval,
    /// NBD_ENOSPC: the server's storage is full, or the write is beyond the export's end.
    NoSpc,
    /// NBD_EOVERFLOW: only for reads that must not be fragmented, which we never ask for.
    Overflow,
    /// NBD_ENOTSUP: a fast zero that would have been slow.
    NotSup,
    /// NBD_ESHUTDOWN: the server is going away; no further request will be served.
    Shutdown,
    /// A number that the protocol does not define.
    Other(u32),
}

impl NbdError {
    /// The error of a reply's error field, where zero is success.
    const fn from_wire(number: u32) -> Option<Self> {
        match number {
            0 => None,
            1 => Some(Self::Perm),
            5 => Some(Self::Io),
            12 => Some(Self::NoMem),
            22 => Some(Self::Inval),
            28 => Some(Self::NoSpc),
            75 => Some(Self::Overflow),
            95 => Some(Self::NotSup),
            108 => Some(Self::Shutdown),
            other => Some(Self::Other(other)),
        }
    }

    /// The positive Linux error number.
    ///
    /// proto.md advises clients to take an undefined number for NBD_EINVAL, so as not to
    /// disconnect. We do not disconnect, but report EIO: above the block layer EINVAL means that
    /// the caller's request was wrong, and nobody would try another mirror for it.
    pub const fn errno(self) -> i32 {
        match self {
            Self::Perm => errno::EPERM,
            Self::Io | Self::Other(_) => errno::EIO,
            Self::NoMem => errno::ENOMEM,
            Self::Inval => errno::EINVAL,
            Self::NoSpc => errno::ENOSPC,
            Self::Overflow => errno::EOVERFLOW,
            Self::NotSup => errno::EOPNOTSUPP,
            Self::Shutdown => errno::ESHUTDOWN,
        }
    }

    /// A short phrase for a log line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Perm => "not permitted",
            Self::Io => "I/O error",
            Self::NoMem => "server out of memory",
            Self::Inval => "invalid request",
            Self::NoSpc => "no space left",
            Self::Overflow => "value too large",
            Self::NotSup => "not supported",
            Self::Shutdown => "server shutting down",
            Self::Other(_) => "unknown error number",
        }
    }
}

/// The reply in `bytes`.
pub const fn parse(bytes: &[u8; REPLY_LEN]) -> Result<Reply, ReplyReason> {
    let [m0, m1, m2, m3, e0, e1, e2, e3, cookie @ ..] = *bytes;
    match u32::from_be_bytes([m0, m1, m2, m3]) {
        SIMPLE_REPLY_MAGIC => Ok(Reply {
            cookie: u64::from_be_bytes(cookie),
            error: NbdError::from_wire(u32::from_be_bytes([e0, e1, e2, e3])),
        }),
        STRUCTURED_REPLY_MAGIC => Err(ReplyReason::Structured),
        _ => Err(ReplyReason::BadMagic),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(magic: u32, error: u32, cookie: u64) -> [u8; REPLY_LEN] {
        let mut bytes = [0; REPLY_LEN];
        bytes[..4].copy_from_slice(&magic.to_be_bytes());
        bytes[4..8].copy_from_slice(&error.to_be_bytes());
        bytes[8..].copy_from_slice(&cookie.to_be_bytes());
        bytes
    }

    #[test]
    fn success_has_no_error() {
        let cookie = 0x0102_0304_0506_0708;
        let expected = Reply {
            cookie,
            error: None,
        };
        assert_eq!(parse(&reply(0x6744_6698, 0, cookie)), Ok(expected));
    }

    #[test]
    fn error_numbers_of_the_protocol() {
        let table = [
            (1, NbdError::Perm, 1, "not permitted"),
            (5, NbdError::Io, 5, "I/O error"),
            (12, NbdError::NoMem, 12, "server out of memory"),
            (22, NbdError::Inval, 22, "invalid request"),
            (28, NbdError::NoSpc, 28, "no space left"),
            (75, NbdError::Overflow, 75, "value too large"),
            (95, NbdError::NotSup, 95, "not supported"),
            (108, NbdError::Shutdown, 108, "server shutting down"),
            (2, NbdError::Other(2), 5, "unknown error number"),
            (
                u32::MAX,
                NbdError::Other(u32::MAX),
                5,
                "unknown error number",
            ),
        ];
        for (number, error, errno, text) in table {
            let parsed = parse(&reply(0x6744_6698, number, 9)).unwrap();
            assert_eq!(parsed.cookie, 9);
            assert_eq!(parsed.error, Some(error));
            assert_eq!(error.errno(), errno);
            assert_eq!(error.as_str(), text);
        }
    }

    #[test]
    fn foreign_magics_have_reasons() {
        let table = [
            (0x668e_33ef, ReplyReason::Structured),
            (0x6e8a_278c, ReplyReason::BadMagic), // the extended headers' magic
            (0x2560_9513, ReplyReason::BadMagic), // the request's magic
            (0, ReplyReason::BadMagic),
        ];
        for (magic, reason) in table {
            assert_eq!(parse(&reply(magic, 0, 1)), Err(reason));
            assert_eq!(reason.errno(), 71);
        }
        assert_eq!(ReplyReason::BadMagic.as_str(), "reply with a wrong magic");
        assert_eq!(
            ReplyReason::Structured.as_str(),
            "structured reply that was not negotiated"
        );
    }
}
