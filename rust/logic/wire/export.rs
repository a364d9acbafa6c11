// SPDX-License-Identifier: GPL-2.0

//! What a handshake learns about an export, checked.
//!
//! Shape: [`Export::check`] is the one door from numbers that a server sent to numbers that the
//! device may use. Units: bytes. Errors: [`HandshakeReason`].
//! Source: proto.md, "Transmission flags" and "Block size constraints".

use super::reason::HandshakeReason;

/// Smallest request of ours, whatever smaller ones a server allows: the logical block.
const MIN_BLOCK: u32 = 512;
/// Largest minimum block size that the protocol allows a server to ask for.
const MAX_MIN_BLOCK: u32 = 65536;
/// Preferred block size of a server that states none.
const DEFAULT_PREFERRED: u32 = 4096;
/// Largest payload that proto.md tells clients to send, and servers not to take for an attack.
const MAX_PAYLOAD: u32 = 32 << 20;
/// A maximum block size of "no limit".
const UNLIMITED: u32 = u32::MAX;

/// What the server can do with an export, as it said so.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TransmissionFlags(u16);

impl TransmissionFlags {
    /// The flags with the wire's number `bits`; unknown bits are kept and mean nothing.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// The flags as they stood on the wire.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// What both servers can do: each flag that both have. Of those that forbid or warn, each that
    /// one has.
    #[must_use]
    pub const fn in_common(self, other: Self) -> Self {
        const READ_ONLY_AND_ROTATIONAL: u16 = 1 << 1 | 1 << 4;
        let either = (self.0 | other.0) & READ_ONLY_AND_ROTATIONAL;
        Self(self.0 & other.0 | either)
    }

    const fn has(self, mask: u16) -> bool {
        self.0 & mask != 0
    }

    /// NBD_FLAG_HAS_FLAGS: always set in an [`Export`].
    pub const fn has_flags(self) -> bool {
        self.has(1 << 0)
    }

    /// NBD_FLAG_READ_ONLY: writes will be refused.
    pub const fn read_only(self) -> bool {
        self.has(1 << 1)
    }

    /// NBD_FLAG_SEND_FLUSH: `Command::Flush` may be sent.
    pub const fn flush(self) -> bool {
        self.has(1 << 2)
    }

    /// NBD_FLAG_SEND_FUA: `CommandFlags::FUA` may be sent.
    pub const fn fua(self) -> bool {
        self.has(1 << 3)
    }

    /// NBD_FLAG_ROTATIONAL: the export lies on a rotating disk.
    pub const fn rotational(self) -> bool {
        self.has(1 << 4)
    }

    /// NBD_FLAG_SEND_TRIM: `Command::Trim` may be sent.
    pub const fn trim(self) -> bool {
        self.has(1 << 5)
    }

    /// NBD_FLAG_SEND_WRITE_ZEROES: `Command::WriteZeroes` and `CommandFlags::NO_HOLE` may be sent.
    pub const fn write_zeroes(self) -> bool {
        self.has(1 << 6)
    }

    /// Whether a flush may cover nothing but what was written on its own connection: where there is
    /// something to flush, and nothing else is promised.
    pub const fn flushes_apart(self) -> bool {
        !self.can_multi_conn() && !self.read_only()
    }

    /// NBD_FLAG_CAN_MULTI_CONN: a flush on any connection covers the writes answered on all.
    pub const fn can_multi_conn(self) -> bool {
        self.has(1 << 8)
    }

    /// NBD_FLAG_SEND_FAST_ZERO: `CommandFlags::FAST_ZERO` may be sent.
    pub const fn fast_zero(self) -> bool {
        self.has(1 << 11)
    }
}

/// Limits on the requests to an export, in bytes.
///
/// `min` and `preferred` are powers of two, `max_payload` is a multiple of `min`, and
/// 512 <= `min` <= `preferred` <= `max_payload` <= 32 MiB.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BlockSizes {
    /// Offsets and lengths are multiples of this; at most 64 KiB.
    pub min: u32,
    /// Requests of a multiple of this need no read-modify-write in the server.
    pub preferred: u32,
    /// Longest read, write or write zeroes.
    pub max_payload: u32,
}

impl BlockSizes {
    /// The limits of a server that states none.
    pub const DEFAULT: Self = Self {
        min: MIN_BLOCK,
        preferred: DEFAULT_PREFERRED,
        max_payload: MAX_PAYLOAD,
    };

    /// The limits that satisfy both the server, whose own are `stated`, and us.
    fn check(stated: StatedBlockSizes, export_size: u64) -> Result<Self, HandshakeReason> {
        let StatedBlockSizes {
            min,
            preferred,
            max,
        } = stated;
        let min_fits = min.is_power_of_two() && min <= MAX_MIN_BLOCK;
        let preferred_fits = preferred.is_power_of_two() && preferred >= min.max(MIN_BLOCK);
        // Powers of two divide each other, so a remainder is a mask; `min` is not zero here.
        let max_fits = min_fits
            && (max == UNLIMITED || max & min.saturating_sub(1) == 0)
            && u64::from(max) >= export_size.min(u64::from(preferred));
        if !(min_fits && preferred_fits && max_fits) {
            return Err(HandshakeReason::BlockSizesInvalid);
        }
        let min = min.max(MIN_BLOCK);
        if export_size < u64::from(min) {
            return Err(HandshakeReason::ExportTooSmall);
        }
        // `max` reaches the smaller of `preferred` and the export's size, and both reach `min`, so
        // rounding down to our own `min` leaves at least one block.
        let max_payload = max.min(MAX_PAYLOAD) & !min.saturating_sub(1);
        let preferred = match max_payload.checked_ilog2() {
            Some(log2) => preferred.min(1 << log2),
            None => return Err(HandshakeReason::BlockSizesInvalid),
        };
        Ok(Self {
            min,
            preferred,
            max_payload,
        })
    }
}

/// The payload of NBD_INFO_BLOCK_SIZE as it came, unchecked.
#[derive(Clone, Copy, Debug)]
pub(super) struct StatedBlockSizes {
    pub(super) min: u32,
    pub(super) preferred: u32,
    pub(super) max: u32,
}

/// The payload of NBD_INFO_EXPORT as it came, unchecked.
#[derive(Clone, Copy, Debug)]
pub(super) struct StatedExport {
    pub(super) size: u64,
    pub(super) flags: TransmissionFlags,
}

/// An export that the server has opened for us.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Export {
    /// Bytes; at least `block.min`, at most `i64::MAX`, and not necessarily whole blocks.
    pub size: u64,
    /// What the server can do.
    pub flags: TransmissionFlags,
    /// What the requests must keep to.
    pub block: BlockSizes,
}

impl Export {
    /// The export of a server's statements, which came in any order before its ACK.
    pub(super) fn check(
        export: Option<StatedExport>,
        block: Option<StatedBlockSizes>,
    ) -> Result<Self, HandshakeReason> {
        let StatedExport { size, flags } = export.ok_or(HandshakeReason::NoExportInfo)?;
        if !flags.has_flags() {
            return Err(HandshakeReason::FlagsMissing);
        }
        if size == 0 {
            return Err(HandshakeReason::ExportEmpty);
        }
        // The kernel counts a device's bytes in a signed 64-bit number.
        if i64::try_from(size).is_err() {
            return Err(HandshakeReason::ExportTooLarge);
        }
        let block = match block {
            Some(stated) => BlockSizes::check(stated, size)?,
            None if size < u64::from(BlockSizes::DEFAULT.min) => {
                return Err(HandshakeReason::ExportTooSmall)
            }
            None => BlockSizes::DEFAULT,
        };
        Ok(Self { size, flags, block })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u32 = 1 << 20;

    fn check(size: u64, min: u32, preferred: u32, max: u32) -> Result<BlockSizes, HandshakeReason> {
        let stated = StatedBlockSizes {
            min,
            preferred,
            max,
        };
        BlockSizes::check(stated, size)
    }

    #[test]
    fn each_flag_has_its_bit() {
        type Predicate = fn(TransmissionFlags) -> bool;
        let table: [(u32, Predicate); 9] = [
            (0, TransmissionFlags::has_flags),
            (1, TransmissionFlags::read_only),
            (2, TransmissionFlags::flush),
            (3, TransmissionFlags::fua),
            (4, TransmissionFlags::rotational),
            (5, TransmissionFlags::trim),
            (6, TransmissionFlags::write_zeroes),
            (8, TransmissionFlags::can_multi_conn),
            (11, TransmissionFlags::fast_zero),
        ];
        for (bit, predicate) in table {
            assert!(predicate(TransmissionFlags::from_bits(1 << bit)));
            assert!(!predicate(TransmissionFlags::from_bits(!(1 << bit))));
            assert_eq!(TransmissionFlags::from_bits(1 << bit).bits(), 1 << bit);
        }
    }

    #[test]
    fn flags_in_common() {
        let (a, b) = (0b0000_0001_0110_0111, 0b0000_1001_0111_0001);
        let flags = TransmissionFlags::from_bits;
        let both = flags(0b0000_0001_0111_0011);
        assert_eq!(flags(a).in_common(flags(b)), both);
        assert_eq!(flags(b).in_common(flags(a)), both);
    }

    #[test]
    fn block_sizes_that_fit_become_ours() {
        let whole = 1 << 30;
        let table = [
            // nbdkit memory, qemu-nbd, an export on a 4K disk, the largest minimum
            ((whole, 1, 32768, u32::MAX), (512, 32768, 32 * MIB)),
            ((whole, 1, 4096, 32 * MIB), (512, 4096, 32 * MIB)),
            ((whole, 4096, 4096, 64 * MIB), (4096, 4096, 32 * MIB)),
            ((whole, 65536, 65536, u32::MAX), (65536, 65536, 32 * MIB)),
            // a maximum that is no multiple of our own minimum
            ((whole, 1, 512, 1000), (512, 512, 512)),
            // a preference beyond our own maximum, and one beyond a small export's
            ((whole, 1, 1 << 31, u32::MAX), (512, 32 * MIB, 32 * MIB)),
            ((7000, 1, 65536, 7000), (512, 4096, 6656)),
            ((512, 512, 512, 512), (512, 512, 512)),
        ];
        for ((size, min, preferred, max), (our_min, our_preferred, our_max)) in table {
            let expected = BlockSizes {
                min: our_min,
                preferred: our_preferred,
                max_payload: our_max,
            };
            assert_eq!(check(size, min, preferred, max), Ok(expected));
        }
    }

    #[test]
    fn block_sizes_that_break_the_protocol_are_refused() {
        let whole = 1 << 30;
        let table = [
            (whole, 0, 4096, u32::MAX),
            (whole, 3, 4096, u32::MAX),
            (whole, 1 << 17, 1 << 17, u32::MAX),
            (whole, 4096, 2048, u32::MAX),
            (whole, 1, 256, u32::MAX),
            (whole, 1, 5000, u32::MAX),
            (whole, 1, 0, u32::MAX),
            (whole, 4096, 4096, 6000),
            (whole, 4096, 4096, 0),
            (whole, 1, 8192, 4096),
            (1000, 1, 4096, 999),
        ];
        for (size, min, preferred, max) in table {
            let reason = HandshakeReason::BlockSizesInvalid;
            assert_eq!(check(size, min, preferred, max), Err(reason));
        }
        let reason = HandshakeReason::ExportTooSmall;
        assert_eq!(check(511, 1, 512, 511), Err(reason));
        assert_eq!(check(4095, 4096, 4096, u32::MAX), Err(reason));
    }

    #[test]
    fn exports_are_checked_as_a_whole() {
        let flags = TransmissionFlags::from_bits(1);
        let table = [
            (None, Err(HandshakeReason::NoExportInfo)),
            (Some((4096, 0)), Err(HandshakeReason::FlagsMissing)),
            (Some((0, 1)), Err(HandshakeReason::ExportEmpty)),
            (Some((511, 1)), Err(HandshakeReason::ExportTooSmall)),
            (Some((1 << 63, 1)), Err(HandshakeReason::ExportTooLarge)),
            (Some((512, 1)), Ok(512)),
            (Some(((1 << 63) - 1, 1)), Ok((1 << 63) - 1)),
        ];
        for (stated, expected) in table {
            let stated = stated.map(|(size, bits)| StatedExport {
                size,
                flags: TransmissionFlags::from_bits(bits),
            });
            let expected = expected.map(|size| Export {
                size,
                flags,
                block: BlockSizes::DEFAULT,
            });
            assert_eq!(Export::check(stated, None), expected);
        }
    }
}
