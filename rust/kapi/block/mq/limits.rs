// SPDX-License-Identifier: GPL-2.0

//! What requests a disk takes.
//!
//! C header: [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)

use crate::kapi::bindings;

/// The limits of a disk. Sizes are in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The unit of addressing: a power of two from 512.
    pub(crate) logical_block: u32,
    /// The unit that the other side can write without reading.
    pub(crate) physical_block: u32,
    /// The largest read or write.
    pub(crate) max_bytes: u32,
    /// The most pieces of memory in one request.
    pub(crate) max_segments: u16,
    /// The largest request to write zeroes; 0 if there is none.
    pub(crate) max_zeroes_bytes: u32,
    /// The largest request to discard; 0 if there is none.
    pub(crate) max_discard_bytes: u32,
    /// There is a cache that FLUSH empties.
    pub(crate) write_cache: bool,
    /// Writes can be made durable one by one.
    pub(crate) fua: bool,
    /// Access is not equally fast everywhere.
    pub(crate) rotational: bool,
}

const SECTOR: u32 = 512;

impl Limits {
    pub(super) fn to_raw(self) -> bindings::queue_limits {
        let mut raw: bindings::queue_limits = pin_init::zeroed();
        raw.logical_block_size = self.logical_block;
        raw.physical_block_size = self.physical_block;
        raw.io_min = self.physical_block;
        raw.max_hw_sectors = self.max_bytes / SECTOR;
        raw.max_segments = self.max_segments;
        raw.max_segment_size = u32::MAX;
        raw.max_write_zeroes_sectors = self.max_zeroes_bytes / SECTOR;
        raw.max_hw_wzeroes_unmap_sectors = self.max_zeroes_bytes / SECTOR;
        raw.max_hw_discard_sectors = self.max_discard_bytes / SECTOR;
        raw.max_discard_segments = 1;
        if self.max_discard_bytes > 0 {
            raw.discard_granularity = self.physical_block;
        }
        // Not for the data, which is copied before it is sent. Who waits until a page is written
        // back, instead of changing others meanwhile, needs no memory when there is none.
        raw.features = bindings::ENBD_FEAT_STABLE_WRITES;
        if self.write_cache {
            raw.features |= bindings::ENBD_FEAT_WRITE_CACHE;
        }
        if self.write_cache && self.fua {
            raw.features |= bindings::ENBD_FEAT_FUA;
        }
        if self.rotational {
            raw.features |= bindings::ENBD_FEAT_ROTATIONAL;
        }
        raw
    }
}
