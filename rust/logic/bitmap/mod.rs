// SPDX-License-Identifier: GPL-2.0

//! The dirty map: which blocks a faulty mirror group has missed.
//!
//! Two levels, one bit a block of the device's blocksize. The upper level is a table with one
//! [`Slot`] of 16 bytes for every [`LEAF_BLOCKS`] blocks; the lower level are leaf pages of
//! [`LEAF_BYTES`] bytes, made on the first mark and given back when they are clean again. A slot
//! that can get no page becomes two coarse bits, each for half of the leaf's blocks, so that
//! marking never fails and never marks too little.
//!
//! ```text
//!   slots:   Clean | Page, 3 dirty | Coarse lo | Clean | ...       16 bytes each
//!                        |
//!                  0000011010000...                                4096 bytes, 32768 bits
//! ```
//!
//! All positions and lengths are in blocks. A range that reaches beyond the device is cut at its
//! end: there are no blocks there that could be forgotten. Bits beyond the last block are never
//! set, and a coarse half counts for as many blocks as the device has there.
//!
//! Nothing is allocated or freed here, since the caller holds a spinlock: pages are handed in by
//! a closure, and handed out by another. The pattern for a writer is
//!
//! 1. without the lock: [`DirtyMap::wants_page`] says how many pages to allocate;
//! 2. with the lock: [`DirtyMap::mark`] takes from them what it needs. If another writer changed
//!    the map in between, the pages may be too few; then it marks coarsely, which is correct but
//!    costs a longer resync. A caller that cares asks `wants_page` again under the lock.
//! 3. without the lock: pages left over are freed.
//!
//! A resync makes [partial progress](DirtyMap::clear) only where the map is fine, so it turns
//! coarse slots into pages first, with [`DirtyMap::refine`].
//!
//! Memory: 4112 bytes for a leaf in use, which is 33 bytes a MiB of dirt in blocks of 4 KiB where
//! the dirt fills its leaves, and 32.125 MiB a TiB at worst; 16 bytes a leaf for what is clean.

mod slot;

use core::marker::PhantomData;
use core::ops::DerefMut;

pub use slot::{Leaf, Slot};
use slot::{Part, Want};

/// Words in one leaf page.
pub const LEAF_WORDS: usize = 512;
/// Bytes in one leaf page.
pub const LEAF_BYTES: usize = LEAF_WORDS * 8;
/// Blocks that one leaf page, and so one slot, stands for.
pub const LEAF_BLOCKS: u64 = 32768;

const _: () = assert!(LEAF_BLOCKS == (LEAF_BYTES as u64) * 8);

/// A run of consecutive blocks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Run {
    /// The first block.
    pub first: u64,
    /// How many blocks; at least one.
    pub len: u64,
}

impl Run {
    /// The block after the last one.
    pub const fn end(&self) -> u64 {
        self.first.saturating_add(self.len)
    }

    /// The last block.
    pub const fn last(&self) -> u64 {
        self.end().saturating_sub(1)
    }
}

/// Why a table of slots cannot become a dirty map.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MapReason {
    /// The device has no blocks.
    NoBlocks,
    /// The table has not exactly [`slots_for`] slots.
    WrongSlots,
    /// A slot of the table is in use.
    SlotInUse,
}

impl MapReason {
    /// The reason in words, for the kernel log.
    pub const fn as_str(self) -> &'static str {
        match self {
            MapReason::NoBlocks => "the device has no blocks",
            MapReason::WrongSlots => "wrong number of slots for the dirty map",
            MapReason::SlotInUse => "the dirty map's slots are not clean",
        }
    }
}

/// What [`DirtyMap::self_check`] found wrong. Each is a bug of this module.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MapFault {
    /// A page's count is not the number of its bits.
    PageCount,
    /// A page without a bit was kept.
    EmptyPage,
    /// A bit or a half is set where the device has no blocks.
    BeyondEnd,
    /// A coarse slot has neither half set.
    EmptyCoarse,
    /// The number of dirty blocks is wrong.
    DirtyCount,
    /// The number of pages is wrong.
    PageTotal,
    /// The table has lost or gained slots.
    SlotTotal,
}

/// The leaf pages that one [`DirtyMap::mark`] made. There may be others of older date between.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Made {
    /// The number of the first page made: its first block divided by [`LEAF_BLOCKS`].
    pub first_page: u64,
    /// How many pages were made; at least one.
    pub pages: u64,
}

/// What one [`DirtyMap::mark`] did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Marked {
    /// Blocks that were clean and are dirty now, with those of `over`.
    pub newly: u64,
    /// Blocks that were clean, were not asked for, and are dirty now, because no page was to be
    /// had. Always less than [`LEAF_BLOCKS`]: only the leaves at the two ends of a range are
    /// covered in part, and each of the two costs less than one half too much.
    pub over: u64,
    /// The pages taken from the caller.
    pub made: Option<Made>,
}

/// How many slots the map of a device of `blocks` blocks has; `usize::MAX` if there can be no such
/// table.
pub fn slots_for(blocks: u64) -> usize {
    usize::try_from(blocks.div_ceil(LEAF_BLOCKS)).unwrap_or(usize::MAX)
}

/// A dirty map over pages `P` and a table of slots `S`.
///
/// `S` is `KVVec<Slot<P>>` in the kernel and `Vec<Slot<P>>` on the host: the kernel's vectors are
/// `Deref` to a slice, but not `AsRef`. It must always give the same slice.
///
/// # Invariants
///
/// - `slots` has exactly [`slots_for`]`(blocks)` slots, each of which keeps the invariants of
///   [`Slot`] for the number of blocks that the device has there.
/// - `dirty` is the number of blocks that the slots call dirty, `pages` the number of pages in
///   them.
#[derive(Debug)]
pub struct DirtyMap<P, S> {
    slots: S,
    blocks: u64,
    dirty: u64,
    pages: usize,
    page: PhantomData<P>,
}

impl<P: Leaf, S: DerefMut<Target = [Slot<P>]>> DirtyMap<P, S> {
    /// Makes a clean map for a device of `blocks` blocks out of `slots`, all of them `Clean`.
    pub fn new(slots: S, blocks: u64) -> Result<Self, MapReason> {
        if blocks == 0 {
            return Err(MapReason::NoBlocks);
        }
        if slots.len() != slots_for(blocks) {
            return Err(MapReason::WrongSlots);
        }
        if !slots.iter().all(|slot| matches!(slot, Slot::Clean)) {
            return Err(MapReason::SlotInUse);
        }
        Ok(Self {
            slots,
            blocks,
            dirty: 0,
            pages: 0,
            page: PhantomData,
        })
    }

    /// The number of blocks of the device.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// The number of dirty blocks.
    pub fn dirty(&self) -> u64 {
        self.dirty
    }

    /// Whether no block is dirty.
    pub fn is_clean(&self) -> bool {
        self.dirty == 0
    }

    /// The number of leaf pages in use.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// The memory of slots and pages, in bytes.
    pub fn memory(&self) -> usize {
        core::mem::size_of_val::<[Slot<P>]>(&self.slots)
            .saturating_add(self.pages.saturating_mul(LEAF_BYTES))
    }

    /// How many pages a [`mark`](Self::mark) of the range would take now to be exact.
    ///
    /// Leaves and halves of leaves that the range covers whole take none: a coarse bit says the
    /// same.
    pub fn wants_page(&self, first: u64, len: u64) -> usize {
        parts(first, len, self.blocks)
            .filter(|(index, part)| {
                self.slots
                    .get(*index)
                    .is_some_and(|slot| slot.wants_page(part))
            })
            .count()
    }

    /// Marks the range dirty. Calls `spare` for each page that it would like to have; where that
    /// gives `None`, it marks the halves of the leaf that the range touches.
    pub fn mark(&mut self, first: u64, len: u64, spare: &mut impl FnMut() -> Option<P>) -> Marked {
        let mut marked = Marked::default();
        for (index, part) in parts(first, len, self.blocks) {
            let Some(slot) = self.slots.get_mut(index) else {
                break;
            };
            let done = slot.mark(&part, spare);
            marked.newly = marked.newly.saturating_add(u64::from(done.newly));
            marked.over = marked.over.saturating_add(u64::from(done.over));
            if done.made_page {
                self.pages = self.pages.saturating_add(1);
                let made = marked.made.get_or_insert(Made {
                    first_page: index as u64,
                    pages: 0,
                });
                made.pages = made.pages.saturating_add(1);
            }
        }
        self.dirty = self.dirty.saturating_add(marked.newly);
        marked
    }

    /// Clears the range and says how many blocks were dirty and are clean now. Pages that are
    /// clean go to `freed`.
    ///
    /// A coarse half is cleared only if the range covers all its blocks: its bit cannot say which
    /// part was copied. Smaller clears of it do nothing; [`refine`](Self::refine) first.
    pub fn clear(&mut self, first: u64, len: u64, freed: &mut impl FnMut(P)) -> u64 {
        let mut cleared: u64 = 0;
        for (index, part) in parts(first, len, self.blocks) {
            let Some(slot) = self.slots.get_mut(index) else {
                break;
            };
            let (count, page) = slot.clear(&part);
            cleared = cleared.saturating_add(u64::from(count));
            if let Some(page) = page {
                self.pages = self.pages.saturating_sub(1);
                freed(page);
            }
        }
        self.dirty = self.dirty.saturating_sub(cleared);
        cleared
    }

    /// Whether the block's slot is coarse, so that clearing a part of it would do nothing.
    pub fn is_coarse(&self, block: u64) -> bool {
        parts(block, 1, self.blocks)
            .next()
            .and_then(|(index, _)| self.slots.get(index))
            .is_some_and(|slot| matches!(slot, Slot::Coarse { .. }))
    }

    /// Turns the coarse slot of `block` into a page with the bits of its halves set, so that it
    /// can be cleared piece by piece. No block changes. Gives the page back if the slot is not
    /// coarse.
    pub fn refine(&mut self, block: u64, page: P) -> Result<(), P> {
        let Some((index, part)) = parts(block, 1, self.blocks).next() else {
            return Err(page);
        };
        let Some(slot) = self.slots.get_mut(index) else {
            return Err(page);
        };
        slot.refine(part.extent, page)?;
        self.pages = self.pages.saturating_add(1);
        Ok(())
    }

    /// The first run of dirty blocks at or after `from`, cut at `max_len` blocks (0 counts as 1).
    ///
    /// Goes over a clean slot in one step and over a page word by word. From the first block to
    /// the last of a map without a mark it looks at the counter only; the worst case, one mark at
    /// the end, reads the whole table, 128 KiB a TiB in blocks of 4 KiB.
    pub fn next_dirty(&self, from: u64, max_len: u64) -> Option<Run> {
        if self.is_clean() {
            return None;
        }
        let first = self.seek(from, self.blocks, Want::Dirty)?;
        let limit = first.saturating_add(max_len.max(1)).min(self.blocks);
        let end = self.seek(first, limit, Want::Clean).unwrap_or(limit);
        Some(Run {
            first,
            len: end.saturating_sub(first),
        })
    }

    /// Clears every block; all pages go to `freed`.
    pub fn clear_all(&mut self, freed: &mut impl FnMut(P)) {
        for slot in self.slots.iter_mut() {
            if let Some(page) = slot.clear_all() {
                freed(page);
            }
        }
        self.dirty = 0;
        self.pages = 0;
    }

    /// Marks every block, by coarse bits: it takes no page, and all pages go to `freed`.
    pub fn mark_all(&mut self, freed: &mut impl FnMut(P)) {
        for (index, part) in parts(0, self.blocks, self.blocks) {
            let Some(slot) = self.slots.get_mut(index) else {
                break;
            };
            if let Some(page) = slot.mark_all(part.extent) {
                freed(page);
            }
        }
        self.dirty = self.blocks;
        self.pages = 0;
    }

    /// Counts everything again and compares. It reads every page: for tests and debugging.
    pub fn self_check(&self) -> Result<(), MapFault> {
        if self.slots.len() != slots_for(self.blocks) {
            return Err(MapFault::SlotTotal);
        }
        let mut dirty: u64 = 0;
        let mut pages: usize = 0;
        for (slot, (_, part)) in self.slots.iter().zip(parts(0, self.blocks, self.blocks)) {
            dirty = dirty.saturating_add(u64::from(slot.self_check(part.extent)?));
            if matches!(slot, Slot::Page { .. }) {
                pages = pages.saturating_add(1);
            }
        }
        if dirty != self.dirty {
            return Err(MapFault::DirtyCount);
        }
        if pages != self.pages {
            return Err(MapFault::PageTotal);
        }
        Ok(())
    }

    /// The first block in `from..end` that is what is wanted.
    fn seek(&self, from: u64, end: u64, want: Want) -> Option<u64> {
        let len = end.saturating_sub(from);
        parts(from, len, self.blocks).find_map(|(index, part)| {
            let bit = self.slots.get(index)?.seek(&part, want)?;
            let base = (index as u64).saturating_mul(LEAF_BLOCKS);
            Some(base.saturating_add(u64::from(bit)))
        })
    }
}

/// Cuts a range of blocks into its parts, one a slot, after cutting it at the device's end.
fn parts(first: u64, len: u64, blocks: u64) -> impl Iterator<Item = (usize, Part)> {
    let end = first.saturating_add(len).min(blocks);
    let mut at = first;
    core::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let index = at / LEAF_BLOCKS;
        let base = index.saturating_mul(LEAF_BLOCKS);
        let within = |block: u64| block.saturating_sub(base).min(LEAF_BLOCKS);
        // All three are at most LEAF_BLOCKS, so that nothing is cut off.
        let part = Part::new(within(at) as u32, within(end) as u32, within(blocks) as u32);
        at = base.saturating_add(LEAF_BLOCKS);
        Some((index as usize, part))
    })
}
