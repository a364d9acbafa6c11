// SPDX-License-Identifier: GPL-2.0

//! Where the metadata is: at the end of each export, so that the data keeps its place.
//!
//! ```text
//! 0                     device                 E - area                                        E
//! |--------------------------------------------|- - - -| stale maps | intent | beat | superblocks |
//!                                                        8 x pages    48       1      8   of 4 KiB
//! ```
//!
//! `E` is the export's size, rounded down to 4 KiB. All places are distances from it, so they do not
//! depend on the size of the device, which is that of the smallest export. What is not written yet
//! has its place already, so that no export has to be grown for it later.

/// Bytes of each block.
pub const BLOCK: u64 = 4096;
/// Superblocks on a member: number `seq` has place `seq % SUPERBLOCKS`.
pub const SUPERBLOCKS: u64 = 8;
/// Intent pages on a member: number `seq` has place `seq % INTENT_PAGES`.
pub const INTENT_PAGES: u64 = 48;
/// Bytes of all superblocks.
pub const RING_BYTES: usize = (SUPERBLOCKS * BLOCK) as usize;
/// Bytes for all that is not a stale map.
const FIXED_BYTES: u64 = 256 << 10;
/// Bits in a page of a stale map.
const PAGE_BITS: u64 = 32256;
/// Pages of a stale map at most.
const MOST_PAGES: u64 = 2048;
/// The smallest granule of a stale map, 64 KiB, as a power of two.
const LEAST_SHIFT: u32 = 16;
/// The largest: no number of bytes needs more.
const MOST_SHIFT: u32 = 39;
/// The area is a multiple of this.
const AREA_UNIT: u64 = 1 << 20;
/// Stale maps on a member.
const MAPS: u64 = super::super::MAX_GROUPS as u64;
/// The smallest export that takes metadata.
pub const LEAST_EXPORT: u64 = 8 << 20;

/// The sizes of the metadata of a device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Layout {
    /// Bytes of the device.
    pub device_bytes: u64,
    /// Bytes of the area, which is behind it.
    pub area_bytes: u64,
    /// Bytes that a bit of a stale map stands for, as a power of two.
    pub stale_shift: u32,
    /// Pages of a stale map.
    pub stale_pages: u64,
}

impl Layout {
    /// That of a device of `device_bytes` bytes.
    pub fn of_device(device_bytes: u64) -> Self {
        let pages = |shift: u32| {
            (device_bytes >> shift)
                .saturating_add(1)
                .div_ceil(PAGE_BITS)
        };
        let stale_shift = (LEAST_SHIFT..=MOST_SHIFT)
            .find(|&shift| pages(shift) <= MOST_PAGES)
            .unwrap_or(MOST_SHIFT);
        let stale_pages = pages(stale_shift);
        let bytes = stale_pages
            .saturating_mul(MAPS * BLOCK)
            .saturating_add(FIXED_BYTES);
        Self {
            device_bytes,
            area_bytes: bytes.div_ceil(AREA_UNIT).saturating_mul(AREA_UNIT),
            stale_shift,
            stale_pages,
        }
    }

    /// That of the largest device in whole blocks of `block` bytes for which an export of
    /// `export_bytes` has room; nothing if that is too small for metadata.
    pub fn of_export(export_bytes: u64, block: u64) -> Option<Self> {
        let end = end_of(export_bytes);
        if end < LEAST_EXPORT {
            return None;
        }
        let mut area = Self::of_device(end).area_bytes;
        loop {
            let bytes = end.checked_sub(area)?;
            let blocks = bytes.checked_div(block).filter(|&blocks| blocks > 0)?;
            let layout = Self::of_device(blocks.saturating_mul(block));
            // Where a granule doubles the smaller device has the larger area.
            if layout.area_bytes <= area {
                return Some(layout);
            }
            area = layout.area_bytes;
        }
    }

    /// Whether an export of so many bytes has room for the device and its area.
    pub fn fits(&self, export_bytes: u64) -> bool {
        let needed = self.device_bytes.checked_add(self.area_bytes);
        needed.is_some_and(|bytes| bytes <= end_of(export_bytes))
    }

    /// Where the area begins on an export of so many bytes, to its end.
    pub fn area_at(&self, export_bytes: u64) -> u64 {
        end_of(export_bytes).saturating_sub(self.area_bytes)
    }
}

/// The smallest region that is marked as being written to, 1 MiB, as a power of two.
const LEAST_REGION_SHIFT: u32 = 20;
/// Regions that are marked each by itself at most.
pub const MOST_REGIONS: u64 = 1 << 20;

/// Bytes of a region that is marked as being written to, as a power of two.
pub fn region_shift(device_bytes: u64) -> u32 {
    let count = |shift: u32| device_bytes >> shift;
    let fits = |&shift: &u32| count(shift) < MOST_REGIONS;
    (LEAST_REGION_SHIFT..u64::BITS)
        .find(fits)
        .unwrap_or(u64::BITS - 1)
}

/// The end from which places are counted, in bytes.
pub fn end_of(export_bytes: u64) -> u64 {
    export_bytes / BLOCK * BLOCK
}

/// Where the superblocks begin on an export of so many bytes; nothing if it is too small.
pub fn ring_at(export_bytes: u64) -> Option<u64> {
    if export_bytes < LEAST_EXPORT {
        return None;
    }
    end_of(export_bytes).checked_sub(RING_BYTES as u64)
}

/// Bytes from the beat to the end.
const BEAT_BYTES: u64 = 36 << 10;

/// Where the beat is on an export of so many bytes; nothing if it is too small.
pub fn beat_at(export_bytes: u64) -> Option<u64> {
    ring_at(export_bytes)?;
    end_of(export_bytes).checked_sub(BEAT_BYTES)
}

/// Bytes from the end of the intent pages to the end.
const INTENT_END_BYTES: u64 = 64 << 10;

/// Where place `slot` of the intent pages is on an export of so many bytes; nothing if it is too small.
pub fn intent_at(export_bytes: u64, slot: u64) -> Option<u64> {
    ring_at(export_bytes)?;
    let end = end_of(export_bytes).checked_sub(INTENT_END_BYTES)?;
    let blocks = (slot < INTENT_PAGES).then(|| slot.saturating_add(1))?;
    end.checked_sub(blocks.saturating_mul(BLOCK))
}

/// The place of intent page number `seq`.
pub fn intent_slot_of(seq: u64) -> u64 {
    seq % INTENT_PAGES
}

/// The place of superblock number `seq`.
pub fn slot_of(seq: u64) -> u64 {
    seq % SUPERBLOCKS
}

/// Where place `slot` is on an export of so many bytes; nothing if that is too small.
pub fn slot_at(export_bytes: u64, slot: u64) -> Option<u64> {
    let place = SUPERBLOCKS.checked_sub(1)?.checked_sub(slot)?;
    ring_at(export_bytes)?.checked_add(place.saturating_mul(BLOCK))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    const TIB: u64 = 1 << 40;

    #[test]
    fn the_area_is_small() {
        for (device, area, shift, pages) in [
            (GIB, MIB, 16, 1),
            (16 * GIB, MIB, 16, 9),
            (100 * GIB, 2 * MIB, 16, 51),
            (TIB, 17 * MIB, 16, 521),
            (16 * TIB, 33 * MIB, 19, 1041),
            (128 * TIB, 33 * MIB, 22, 1041),
            // The most that the kernel's sizes hold, and the most that a block can say.
            (i64::MAX as u64, 33 * MIB, 38, 1041),
            (u64::MAX, 33 * MIB, 39, 1041),
        ] {
            let layout = Layout::of_device(device);
            let got = (layout.area_bytes, layout.stale_shift, layout.stale_pages);
            assert_eq!(got, (area, shift, pages), "{device}");
        }
    }

    #[test]
    fn a_device_and_its_area_fit_into_the_export() {
        let near = |bytes: u64| (0..200).map(move |step| bytes + step * 997 * 512);
        let sizes = [
            8 * MIB,
            GIB,
            8 * TIB - 70 * MIB,
            16 * TIB - 70 * MIB,
            u64::MAX >> 1,
        ];
        for export in sizes.into_iter().flat_map(near) {
            for block in [512, 4096, 65536] {
                let layout = Layout::of_export(export, block).unwrap();
                assert_eq!(layout, Layout::of_device(layout.device_bytes));
                assert!(layout.fits(export) && layout.device_bytes % block == 0);
                // Not more than a megabyte or two is wasted, but where a granule doubles.
                let left = end_of(export) - layout.device_bytes - layout.area_bytes;
                assert!(left <= 34 * MIB, "{export}: {left}");
            }
        }
        assert_eq!(Layout::of_export(8 * MIB - 1, 4096), None);
        assert_eq!(Layout::of_export(u64::MAX, 0), None);
    }

    #[test]
    fn regions_are_a_megabyte_until_there_are_too_many() {
        for (device, shift) in [
            (1, 20),
            (100 * GIB, 20),
            (TIB - 1, 20),
            (TIB, 21),
            (128 * TIB, 28),
            (u64::MAX, 44),
        ] {
            assert_eq!(region_shift(device), shift, "{device}");
            assert!(((device - 1) >> shift) < MOST_REGIONS);
        }
    }

    #[test]
    fn superblocks_end_with_the_export() {
        let export = 9 * MIB + 511;
        assert_eq!(slot_at(export, 0), Some(9 * MIB - 4096));
        assert_eq!(slot_at(export, 7), Some(9 * MIB - 8 * 4096));
        assert_eq!(ring_at(export), slot_at(export, 7));
        assert_eq!(beat_at(export), Some(9 * MIB - 9 * 4096));
        assert_eq!(intent_at(export, 0), Some(9 * MIB - 17 * 4096));
        assert_eq!(intent_at(export, 47), Some(9 * MIB - 64 * 4096));
        assert_eq!((slot_at(export, 8), ring_at(8 * MIB - 1)), (None, None));
        assert_eq!(
            (intent_at(export, 48), intent_at(8 * MIB - 1, 0)),
            (None, None)
        );
        assert_eq!((slot_of(7), slot_of(8), slot_of(u64::MAX)), (7, 0, 7));
    }
}
