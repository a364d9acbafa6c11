// SPDX-License-Identifier: GPL-2.0

//! The request header that opens every command of the transmission phase.
//!
//! Shape: 28 bytes, followed by `len` bytes of payload for a write and by nothing otherwise.
//! Units: offset and length in bytes. Errors: none, encoding cannot fail.
//! Source: proto.md, "Request message", "Command flags" and "Request types".

/// Bytes in a request header.
pub const REQUEST_LEN: usize = 28;

/// NBD_REQUEST_MAGIC.
const REQUEST_MAGIC: u32 = 0x2560_9513;

/// What the server is asked to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Command {
    /// NBD_CMD_READ: a successful reply is followed by the data.
    Read,
    /// NBD_CMD_WRITE: the request header is followed by the data.
    Write,
    /// NBD_CMD_DISC: ends the session; the server sends no reply.
    Disconnect,
    /// NBD_CMD_FLUSH: makes every write that was answered before it durable.
    Flush,
    /// NBD_CMD_TRIM: a hint; what a later read of the range returns is undefined.
    Trim,
    /// NBD_CMD_WRITE_ZEROES: a write of zeroes that needs no payload.
    WriteZeroes,
}

impl Command {
    /// The command's number on the wire.
    pub const fn code(self) -> u16 {
        match self {
            Self::Read => 0,
            Self::Write => 1,
            Self::Disconnect => 2,
            Self::Flush => 3,
            Self::Trim => 4,
            Self::WriteZeroes => 6,
        }
    }

    /// A short name for a log line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Disconnect => "disconnect",
            Self::Flush => "flush",
            Self::Trim => "trim",
            Self::WriteZeroes => "write zeroes",
        }
    }
}

/// Command flags, sent with every request; a server refuses flags that it did not offer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CommandFlags(u16);

impl CommandFlags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// NBD_CMD_FLAG_FUA: answer only when the data is durable. Needs `TransmissionFlags::fua`.
    pub const FUA: Self = Self(1 << 0);
    /// NBD_CMD_FLAG_NO_HOLE, for write zeroes: the range stays allocated.
    pub const NO_HOLE: Self = Self(1 << 1);
    /// NBD_CMD_FLAG_FAST_ZERO, for write zeroes: fail with NBD_ENOTSUP rather than be slow. Needs
    /// `TransmissionFlags::fast_zero`.
    pub const FAST_ZERO: Self = Self(1 << 4);

    /// These flags and `other`'s.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The flags as they stand on the wire.
    pub const fn bits(self) -> u16 {
        self.0
    }
}

/// The header of one request. `cookie` comes back in the reply as it was sent.
///
/// A flush and a disconnect have no range, and the fields are reserved: they are sent as zero
/// whatever the caller passes, since the block layer's flush requests have no meaningful sector.
pub const fn encode(
    command: Command,
    flags: CommandFlags,
    cookie: u64,
    offset: u64,
    len: u32,
) -> [u8; REQUEST_LEN] {
    let (offset, len) = match command {
        Command::Flush | Command::Disconnect => (0, 0),
        Command::Read | Command::Write | Command::Trim | Command::WriteZeroes => (offset, len),
    };
    let [m0, m1, m2, m3] = REQUEST_MAGIC.to_be_bytes();
    let [f0, f1] = flags.bits().to_be_bytes();
    let [t0, t1] = command.code().to_be_bytes();
    let [c0, c1, c2, c3, c4, c5, c6, c7] = cookie.to_be_bytes();
    let [o0, o1, o2, o3, o4, o5, o6, o7] = offset.to_be_bytes();
    let [l0, l1, l2, l3] = len.to_be_bytes();
    [
        m0, m1, m2, m3, f0, f1, t0, t1, c0, c1, c2, c3, c4, c5, c6, c7, o0, o1, o2, o3, o4, o5, o6,
        o7, l0, l1, l2, l3,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_stands_on_the_wire_field_by_field() {
        let flags = CommandFlags::FUA.with(CommandFlags::NO_HOLE);
        let bytes = encode(
            Command::Write,
            flags,
            0x0102_0304_0506_0708,
            0x1112_1314_1516_1718,
            0x2122_2324,
        );
        #[rustfmt::skip]
        let expected = [
            0x25, 0x60, 0x95, 0x13,
            0x00, 0x03, 0x00, 0x01,
            0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08,
            0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18,
            0x21, 0x22, 0x23, 0x24,
        ];
        assert_eq!(bytes, expected);
    }

    #[test]
    fn commands_have_the_numbers_of_the_protocol() {
        let table = [
            (Command::Read, 0, "read"),
            (Command::Write, 1, "write"),
            (Command::Disconnect, 2, "disconnect"),
            (Command::Flush, 3, "flush"),
            (Command::Trim, 4, "trim"),
            (Command::WriteZeroes, 6, "write zeroes"),
        ];
        for (command, code, name) in table {
            assert_eq!(command.code(), code);
            assert_eq!(command.as_str(), name);
            let bytes = encode(command, CommandFlags::NONE, 0, 0, 0);
            assert_eq!(u16::from_be_bytes([bytes[6], bytes[7]]), code);
        }
    }

    #[test]
    fn commands_without_a_range_are_sent_with_reserved_fields_zero() {
        for command in [Command::Flush, Command::Disconnect] {
            let bytes = encode(command, CommandFlags::NONE, 7, u64::MAX, u32::MAX);
            assert_eq!(bytes[8..16], 7u64.to_be_bytes());
            assert_eq!(bytes[16..], [0; 12]);
        }
    }

    #[test]
    fn flags_are_bits() {
        assert_eq!(CommandFlags::NONE.bits(), 0);
        assert_eq!(CommandFlags::FUA.bits(), 1);
        assert_eq!(CommandFlags::NO_HOLE.bits(), 2);
        assert_eq!(CommandFlags::FAST_ZERO.bits(), 16);
        assert_eq!(CommandFlags::FUA.with(CommandFlags::FAST_ZERO).bits(), 0x11);
    }
}
