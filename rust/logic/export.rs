// SPDX-License-Identifier: GPL-2.0

//! Which exports a group may have, one after the other and side by side.
//!
//! A server that comes back may be another version, or have been set up anew. What can do all that
//! users rely on is taken; what can do less is refused, with what it lacks. On what they rely: on the
//! [`Promise`] of the device while that is enabled; before, on what the group's first channel
//! found.
//!
//! A group notes what all of its channels can do ([`may_replace`] gives it), so that old and new
//! connections work side by side. That never becomes more while the group has channels: on a
//! connection that was made before, nothing new can be relied on.
//!
//! Units: bytes. Errors: [`Lack`].

use super::wire::handshake::{BlockSizes, Export};

/// What users of a device rely on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Promise {
    /// The size.
    pub bytes: u64,
    /// FLUSH makes writes durable.
    pub flush: bool,
    /// Writes can be made durable one by one.
    pub fua: bool,
    /// There is a command to write zeroes.
    pub zeroes: bool,
    /// The disk can be written.
    pub write: bool,
    /// Bytes of the smallest request.
    pub block: u32,
    /// Bytes of the largest request.
    pub max_bytes: u32,
}

impl Promise {
    /// What a device over this export alone promises.
    pub fn of(export: &Export) -> Self {
        let flags = export.flags;
        Self {
            bytes: export.size,
            flush: flags.flush(),
            fua: flags.flush() && flags.fua(),
            zeroes: flags.write_zeroes(),
            write: !flags.read_only(),
            block: export.block.min,
            max_bytes: export.block.max_payload,
        }
    }

    /// What a device over both promises.
    #[must_use]
    pub fn stack(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.min(other.bytes),
            flush: self.flush && other.flush,
            fua: self.fua && other.fua,
            zeroes: self.zeroes && other.zeroes,
            write: self.write && other.write,
            block: self.block.max(other.block),
            max_bytes: self.max_bytes.min(other.max_bytes),
        }
    }

    /// Whether `export` can do all of it, or what it lacks.
    fn is_kept_by(&self, export: &Export) -> Result<(), Lack> {
        let flags = export.flags;
        // What is never written needs no way to make it durable.
        let lacks = [
            (export.size < self.bytes, Lack::Size),
            (self.write && flags.read_only(), Lack::Write),
            (self.write && self.flush && !flags.flush(), Lack::Flush),
            (self.write && self.fua && !flags.fua(), Lack::Fua),
            (
                self.write && self.zeroes && !flags.write_zeroes(),
                Lack::WriteZeroes,
            ),
            (export.block.min > self.block, Lack::SmallBlocks),
            (
                export.block.max_payload < self.max_bytes,
                Lack::LargeRequests,
            ),
        ];
        match lacks.into_iter().find(|(lacks, _)| *lacks) {
            Some((_, lack)) => Err(lack),
            None => Ok(()),
        }
    }
}

/// What an export lacks that users rely on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lack {
    /// Bytes.
    Size,
    /// It takes no writes.
    Write,
    /// The command to flush.
    Flush,
    /// Writes that are durable when they are answered.
    Fua,
    /// The command to write zeroes.
    WriteZeroes,
    /// It wants larger blocks.
    SmallBlocks,
    /// It takes no requests as large.
    LargeRequests,
    /// A flush that covers all connections, beside others of the group that have it.
    MultiConn,
    /// The same, on the connection that the group has already.
    OneConnection,
}

impl Lack {
    /// What is wrong, and what to do.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Size => {
                "the export is smaller than the device, or than it was: serve it in its old size"
            }
            Self::Write => "the export is read-only, the device is not: serve it writable",
            Self::Flush => "the export has no FLUSH, which users rely on: serve it with FLUSH",
            Self::Fua => "the export has no FUA, which users rely on: serve it with FUA",
            Self::WriteZeroes => {
                "the export has no WRITE_ZEROES, which users rely on: serve it with that"
            }
            Self::SmallBlocks => {
                "the export needs larger blocks than the device has: lower its minimum block size"
            }
            Self::LargeRequests => {
                "the export takes no requests as large as the device's: raise its maximum block size"
            }
            Self::MultiConn => {
                "the export has no CAN_MULTI_CONN, unlike that of the channels that are up: \
                 disconnect those, or serve it with CAN_MULTI_CONN"
            }
            Self::OneConnection => {
                "the server takes one connection at a time, and the group has one: \
                 connect one channel, or serve the export with CAN_MULTI_CONN"
            }
        }
    }

    /// The positive Linux errno for the writer of a command.
    pub const fn errno(self) -> i32 {
        match self {
            Self::Size => 27, // EFBIG
            _ => 95,          // EOPNOTSUPP
        }
    }
}

/// Whether a group may have a channel to the export `offered`; gives what the group has then.
///
/// `known` is what it has now, if it has channels. `promise` is that of the enabled device.
///
/// Which channels may be up beside each other is another matter:
/// [`GroupCore::may_serve`](super::mirror::GroupCore::may_serve).
///
/// # Errors
///
/// What `offered` lacks.
pub fn may_replace(
    known: Option<&Export>,
    offered: &Export,
    promise: Option<&Promise>,
) -> Result<Export, Lack> {
    let own = known.map(Promise::of);
    let relied_on = match (promise, own) {
        // That a group can flush is a promise of its own, even where another one is volatile.
        (Some(promise), Some(own)) => Promise {
            flush: promise.flush || own.flush,
            ..*promise
        },
        (Some(only), None) => *only,
        (None, Some(only)) => only,
        (None, None) => return Ok(*offered),
    };
    relied_on.is_kept_by(offered)?;
    let Some(known) = known else {
        return Ok(*offered);
    };
    Ok(Export {
        size: known.size.min(offered.size),
        flags: known.flags.in_common(offered.flags),
        block: in_common(known.block, offered.block).ok_or(Lack::LargeRequests)?,
    })
}

/// Whether `offered`, which the administrator adds to a group, looks like another export than those
/// of its channels that are up, `theirs`: none has its size. A server that was changed looks so to
/// its own group only until the old connections have ended.
pub fn is_another(offered: &Export, theirs: impl Iterator<Item = Export>) -> bool {
    let mut others = theirs.map(|export| export.size).peekable();
    others.peek().is_some() && !others.any(|size| size == offered.size)
}

/// Limits that satisfy both; nothing if there are none.
fn in_common(a: BlockSizes, b: BlockSizes) -> Option<BlockSizes> {
    let min = a.min.max(b.min);
    // Both are powers of two, so that a remainder is a mask.
    let max_payload = a.max_payload.min(b.max_payload) & !min.saturating_sub(1);
    let largest = 1u32.checked_shl(max_payload.checked_ilog2()?)?;
    Some(BlockSizes {
        min,
        preferred: a.preferred.max(b.preferred).max(min).min(largest),
        max_payload,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::wire::handshake::TransmissionFlags;

    const READ_ONLY: u16 = 1 << 1;
    const FLUSH: u16 = 1 << 2;
    const FUA: u16 = 1 << 3;
    const ROTATIONAL: u16 = 1 << 4;
    const TRIM: u16 = 1 << 5;
    const ZEROES: u16 = 1 << 6;
    const MULTI_CONN: u16 = 1 << 8;
    const CACHE: u16 = 1 << 10;
    const USUAL: u16 = 1 | FLUSH | FUA | TRIM | ZEROES | MULTI_CONN;

    const BLOCK: BlockSizes = BlockSizes {
        min: 4096,
        preferred: 8192,
        max_payload: 1 << 20,
    };

    fn export(size: u64, bits: u16, block: BlockSizes) -> Export {
        Export {
            size,
            flags: TransmissionFlags::from_bits(bits),
            block,
        }
    }

    fn known() -> Export {
        export(1 << 20, USUAL, BLOCK)
    }

    fn with(bits: u16) -> Export {
        export(1 << 20, bits, BLOCK)
    }

    fn blocks(min: u32, max_payload: u32) -> Export {
        let preferred = min.max(8192);
        let block = BlockSizes {
            min,
            preferred,
            max_payload,
        };
        export(1 << 20, USUAL, block)
    }

    /// Against what the group has, before the device is enabled.
    fn offer(offered: Export) -> Result<Export, Lack> {
        may_replace(Some(&known()), &offered, None)
    }

    #[test]
    fn more_is_taken_and_not_relied_on() {
        for better in [
            known(),
            export(1 << 30, USUAL, BLOCK),
            export((1 << 20) + 512, USUAL, BLOCK),
            with(USUAL | CACHE),
            blocks(512, 1 << 20),
            blocks(4096, 32 << 20),
        ] {
            assert_eq!(offer(better), Ok(known()), "{better:?}");
            // Nor when the old one is there again.
            let noted = may_replace(Some(&better), &known(), None);
            let lacks = better.size > known().size
                || better.block.min < known().block.min
                || better.block.max_payload > known().block.max_payload;
            assert_eq!(noted.is_err(), lacks, "{better:?}");
        }
    }

    #[test]
    fn what_nobody_relies_on_may_go() {
        let noted = offer(with(USUAL & !TRIM | ROTATIONAL));
        assert_eq!(noted, Ok(with(USUAL & !TRIM | ROTATIONAL)));
    }

    #[test]
    fn less_is_refused_with_what_it_lacks() {
        for (worse, lack) in [
            (export((1 << 20) - 512, USUAL, BLOCK), Lack::Size),
            (with(USUAL | READ_ONLY), Lack::Write),
            (with(USUAL & !FLUSH), Lack::Flush),
            (with(USUAL & !FUA), Lack::Fua),
            (with(USUAL & !ZEROES), Lack::WriteZeroes),
            (blocks(8192, 1 << 20), Lack::SmallBlocks),
            (blocks(4096, 1 << 19), Lack::LargeRequests),
            (export(512, 1 | READ_ONLY, BLOCK), Lack::Size),
        ] {
            assert_eq!(offer(worse), Err(lack), "{worse:?}");
        }
    }

    #[test]
    fn multi_conn_that_is_gone_is_not_relied_on_again() {
        let offered = with(USUAL & !MULTI_CONN);
        assert!(offered.flags.flushes_apart() && !known().flags.flushes_apart());
        assert_eq!(offer(offered), Ok(offered));
        assert_eq!(may_replace(Some(&offered), &known(), None), Ok(offered));
        // Where nothing is written there is nothing to flush.
        assert!(!with(1 | READ_ONLY).flags.flushes_apart());
    }

    #[test]
    fn an_enabled_device_has_promised_less() {
        let promise = Promise {
            bytes: 1 << 19,
            flush: false,
            fua: false,
            zeroes: false,
            write: true,
            block: 8192,
            max_bytes: 1 << 19,
        };
        let offer = |offered| may_replace(Some(&known()), &offered, Some(&promise));
        let less = export(1 << 19, USUAL, BLOCK);
        assert_eq!(offer(less), Ok(less));
        let plain = with(USUAL & !FUA & !ZEROES);
        assert_eq!(offer(plain), Ok(plain));
        assert_eq!(offer(blocks(8192, 1 << 19)), Ok(blocks(8192, 1 << 19)));
        for (worse, lack) in [
            (export((1 << 19) - 512, USUAL, BLOCK), Lack::Size),
            (with(USUAL & !FLUSH), Lack::Flush),
            (blocks(16384, 1 << 19), Lack::SmallBlocks),
            (blocks(8192, 1 << 18), Lack::LargeRequests),
        ] {
            assert_eq!(offer(worse), Err(lack), "{worse:?}");
        }
        // A group that joins has no flush to keep.
        let volatile = with(USUAL & !FLUSH);
        let joins = may_replace(None, &volatile, Some(&promise));
        assert_eq!(joins, Ok(volatile));
    }

    #[test]
    fn a_read_only_device_needs_no_way_to_write() {
        let known = with(USUAL | READ_ONLY);
        let promise = Promise::of(&known);
        let plain = with(1 | READ_ONLY);
        for promise in [None, Some(&promise)] {
            assert_eq!(may_replace(Some(&known), &plain, promise), Ok(plain));
            let writable = may_replace(Some(&known), &with(USUAL), promise);
            assert_eq!(writable, Ok(known));
        }
    }

    #[test]
    fn the_first_channel_finds_anything() {
        let small = export(512, 1 | READ_ONLY, BLOCK);
        assert_eq!(may_replace(None, &small, None), Ok(small));
    }

    #[test]
    fn another_has_another_size() {
        let is = |sizes: &[u64]| {
            let theirs = sizes.iter().map(|&size| export(size, 1, BLOCK));
            is_another(&known(), theirs)
        };
        assert!(!is(&[]));
        assert!(!is(&[1 << 20]));
        assert!(!is(&[1 << 19, 1 << 20]));
        assert!(is(&[1 << 19]));
        assert!(is(&[1 << 21, 1 << 19]));
    }

    #[test]
    fn promises_stack() {
        let (a, b) = (Promise::of(&known()), Promise::of(&blocks(8192, 1 << 19)));
        let both = Promise {
            block: 8192,
            max_bytes: 1 << 19,
            ..a
        };
        assert_eq!((a.stack(b), b.stack(a)), (both, both));
        assert!(!a.stack(Promise::of(&with(1 | FUA))).fua);
        assert!(!Promise::of(&with(1 | FUA)).fua);
        assert!(!a.stack(Promise::of(&with(USUAL | READ_ONLY))).write);
    }

    #[test]
    fn each_lack_says_what_and_what_to_do() {
        let all = [
            Lack::Size,
            Lack::Write,
            Lack::Flush,
            Lack::Fua,
            Lack::WriteZeroes,
            Lack::SmallBlocks,
            Lack::LargeRequests,
            Lack::MultiConn,
            Lack::OneConnection,
        ];
        for (at, lack) in all.iter().enumerate() {
            assert!(lack.as_str().contains(": "), "{lack:?}");
            assert!(lack.errno() > 0);
            let others = all.iter().take(at);
            assert!(others.clone().all(|other| other.as_str() != lack.as_str()));
        }
    }
}
