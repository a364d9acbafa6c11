// SPDX-License-Identifier: GPL-2.0

//! One slot of the dirty map: a leaf's worth of blocks, and the bits of a leaf page.
//!
//! Positions are bits within the leaf, 0 to [`LEAF_BLOCKS`](super::LEAF_BLOCKS). The leaf at the
//! device's end may stand for fewer blocks; every function is told how many there are (`extent`).

use super::{MapFault, LEAF_WORDS};

const WORD_BITS: u32 = u64::BITS;
/// Blocks of the lower half of a leaf.
const HALF_BLOCKS: u32 = (LEAF_WORDS as u32) * WORD_BITS / 2;

/// A leaf page: 4096 bytes that the caller allocates and frees.
pub trait Leaf {
    /// The page's words. Bit `b` of the leaf is bit `b % 64` of word `b / 64`.
    fn words(&self) -> &[u64; LEAF_WORDS];
    /// The page's words, to be changed.
    fn words_mut(&mut self) -> &mut [u64; LEAF_WORDS];
}

/// What the map knows of one leaf's blocks.
///
/// # Invariants
///
/// - A page has as many bits set as `count` says, at least one, none beyond the device's end.
/// - A coarse slot has a half set, and no half that has no blocks.
#[derive(Debug, Default)]
pub enum Slot<P> {
    /// No block is dirty.
    #[default]
    Clean,
    /// One bit a block.
    Page {
        /// The bits.
        page: P,
        /// How many of them are set.
        count: u32,
    },
    /// One bit for each half of the leaf: blocks 0 to 16383, and 16384 to 32767.
    Coarse {
        /// The lower half is dirty.
        lo: bool,
        /// The upper half is dirty.
        hi: bool,
    },
}

// The table costs 16 bytes a leaf as long as the page is one pointer.
const _: () = assert!(core::mem::size_of::<Slot<&u8>>() == 16);

/// A range of bits `from..to`; empty if `to <= from`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Span {
    from: u32,
    to: u32,
}

impl Span {
    fn len(self) -> u32 {
        self.to.saturating_sub(self.from)
    }

    fn is_empty(self) -> bool {
        self.len() == 0
    }

    fn overlap(self, other: Span) -> Span {
        Span {
            from: self.from.max(other.from),
            to: self.to.min(other.to),
        }
    }

    /// Whether `part` is all of `self`, which must not be empty.
    fn is_covered_by(self, part: Span) -> bool {
        !self.is_empty() && self.overlap(part) == self
    }

    /// The bits of word number `word` that are in the span.
    fn mask(self, word: usize) -> u64 {
        let base = (word as u32).saturating_mul(WORD_BITS);
        let within = self.overlap(Span {
            from: base,
            to: base.saturating_add(WORD_BITS),
        });
        if within.is_empty() {
            return 0;
        }
        let low = within.from.saturating_sub(base);
        let above = WORD_BITS.saturating_sub(within.to.saturating_sub(base));
        (u64::MAX << low) & (u64::MAX >> above)
    }

    /// The words that have a bit in the span, as `(how many to skip, how many to take)`.
    fn words(self) -> (usize, usize) {
        let first = self.from / WORD_BITS;
        let end = self.to.div_ceil(WORD_BITS);
        (first as usize, end.saturating_sub(first) as usize)
    }
}

/// The two halves of a leaf of `extent` blocks; the upper one may be empty.
fn halves(extent: u32) -> [Span; 2] {
    [
        Span {
            from: 0,
            to: extent.min(HALF_BLOCKS),
        },
        Span {
            from: HALF_BLOCKS,
            to: extent,
        },
    ]
}

/// The part of a range that falls into one leaf.
pub(super) struct Part {
    span: Span,
    /// How many blocks the device has in this leaf.
    pub(super) extent: u32,
}

impl Part {
    /// The bits `from..to` of a leaf of `extent` blocks; `from < to <= extent`.
    pub(super) fn new(from: u32, to: u32, extent: u32) -> Self {
        Self {
            span: Span { from, to },
            extent,
        }
    }
}

/// What a search looks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Want {
    Dirty,
    Clean,
}

/// What marking a part of a slot did.
pub(super) struct SlotMarked {
    /// Blocks newly dirty.
    pub(super) newly: u32,
    /// Those of them that were not asked for.
    pub(super) over: u32,
    /// Whether a page was taken.
    pub(super) made_page: bool,
}

impl<P: Leaf> Slot<P> {
    /// Whether a mark of the part needs a page to be exact: it covers some of a half that is not
    /// dirty yet, but not all of it.
    pub(super) fn wants_page(&self, part: &Part) -> bool {
        let set = match self {
            Slot::Page { .. } => return false,
            Slot::Clean => [false; 2],
            Slot::Coarse { lo, hi } => [*lo, *hi],
        };
        halves(part.extent)
            .iter()
            .zip(set)
            .any(|(half, set)| !set && touches(*half, part.span) && !half.is_covered_by(part.span))
    }

    pub(super) fn mark(
        &mut self,
        part: &Part,
        spare: &mut impl FnMut() -> Option<P>,
    ) -> SlotMarked {
        let mut made_page = false;
        if self.wants_page(part) {
            if let Some(page) = spare() {
                self.adopt(page, part.extent);
                made_page = true;
            }
        }
        let (newly, over) = match self {
            Slot::Page { page, count } => {
                let newly = set_bits(page.words_mut(), part.span);
                *count = count.saturating_add(newly);
                (newly, 0)
            }
            Slot::Clean => self.mark_coarse([false; 2], part),
            Slot::Coarse { lo, hi } => {
                let set = [*lo, *hi];
                self.mark_coarse(set, part)
            }
        };
        SlotMarked {
            newly,
            over,
            made_page,
        }
    }

    /// Sets the coarse bit of each half that the part touches. Gives the blocks newly dirty and,
    /// of them, those outside the part.
    fn mark_coarse(&mut self, set: [bool; 2], part: &Part) -> (u32, u32) {
        let mut newly: u32 = 0;
        let mut over: u32 = 0;
        let mut now = set;
        for (half, bit) in halves(part.extent).iter().zip(now.iter_mut()) {
            if !*bit && touches(*half, part.span) {
                let asked = half.overlap(part.span).len();
                newly = newly.saturating_add(half.len());
                over = over.saturating_add(half.len().saturating_sub(asked));
                *bit = true;
            }
        }
        *self = Slot::coarse(now);
        (newly, over)
    }

    /// Clears the part. Gives the number of blocks cleared, and the page if it is clean now.
    pub(super) fn clear(&mut self, part: &Part) -> (u32, Option<P>) {
        match self {
            Slot::Clean => (0, None),
            Slot::Page { page, count } => {
                let cleared = clear_bits(page.words_mut(), part.span);
                *count = count.saturating_sub(cleared);
                if *count > 0 {
                    return (cleared, None);
                }
                (cleared, self.clear_all())
            }
            Slot::Coarse { lo, hi } => {
                let mut set = [*lo, *hi];
                let mut cleared: u32 = 0;
                for (half, bit) in halves(part.extent).iter().zip(set.iter_mut()) {
                    if *bit && half.is_covered_by(part.span) {
                        cleared = cleared.saturating_add(half.len());
                        *bit = false;
                    }
                }
                *self = Slot::coarse(set);
                (cleared, None)
            }
        }
    }

    /// Makes the slot clean and gives its page.
    pub(super) fn clear_all(&mut self) -> Option<P> {
        match core::mem::take(self) {
            Slot::Page { page, .. } => Some(page),
            Slot::Clean | Slot::Coarse { .. } => None,
        }
    }

    /// Marks every block by coarse bits and gives the page.
    pub(super) fn mark_all(&mut self, extent: u32) -> Option<P> {
        let page = self.clear_all();
        *self = Slot::coarse(halves(extent).map(|half| !half.is_empty()));
        page
    }

    /// Turns coarse bits into those of a page; gives the page back if there are none.
    pub(super) fn refine(&mut self, extent: u32, page: P) -> Result<(), P> {
        if !matches!(self, Slot::Coarse { .. }) {
            return Err(page);
        }
        self.adopt(page, extent);
        Ok(())
    }

    /// The first bit of the part that is what is wanted.
    pub(super) fn seek(&self, part: &Part, want: Want) -> Option<u32> {
        match self {
            Slot::Clean => match want {
                Want::Dirty => None,
                Want::Clean => Some(part.span.from),
            },
            Slot::Page { page, .. } => seek_bit(page.words(), part.span, want),
            Slot::Coarse { lo, hi } => halves(part.extent)
                .iter()
                .zip([*lo, *hi])
                .find(|(half, set)| touches(**half, part.span) && *set == (want == Want::Dirty))
                .map(|(half, _)| half.overlap(part.span).from),
        }
    }

    /// Checks the invariants and counts the dirty blocks.
    pub(super) fn self_check(&self, extent: u32) -> Result<u32, MapFault> {
        match self {
            Slot::Clean => Ok(0),
            Slot::Page { page, count } => {
                let bits = page
                    .words()
                    .iter()
                    .fold(0u32, |bits, word| bits.saturating_add(word.count_ones()));
                let beyond = Span {
                    from: extent,
                    to: HALF_BLOCKS * 2,
                };
                if seek_bit(page.words(), beyond, Want::Dirty).is_some() {
                    Err(MapFault::BeyondEnd)
                } else if bits == 0 {
                    Err(MapFault::EmptyPage)
                } else if bits != *count {
                    Err(MapFault::PageCount)
                } else {
                    Ok(bits)
                }
            }
            Slot::Coarse { lo, hi } => {
                let mut dirty: u32 = 0;
                for (half, set) in halves(extent).iter().zip([*lo, *hi]) {
                    if set && half.is_empty() {
                        return Err(MapFault::BeyondEnd);
                    }
                    if set {
                        dirty = dirty.saturating_add(half.len());
                    }
                }
                if dirty == 0 {
                    return Err(MapFault::EmptyCoarse);
                }
                Ok(dirty)
            }
        }
    }

    /// Puts a page into a slot that has none, with the bits of the coarse halves set. For a clean
    /// slot the page is empty, and the caller sets a bit at once.
    fn adopt(&mut self, mut page: P, extent: u32) {
        let set = match self {
            Slot::Coarse { lo, hi } => [*lo, *hi],
            Slot::Clean | Slot::Page { .. } => [false; 2],
        };
        // The page may have been used before, and stale bits would be copied for nothing.
        page.words_mut().fill(0);
        let mut count: u32 = 0;
        for (half, set) in halves(extent).iter().zip(set) {
            if set {
                count = count.saturating_add(set_bits(page.words_mut(), *half));
            }
        }
        *self = Slot::Page { page, count };
    }

    /// The slot with these halves set.
    fn coarse(set: [bool; 2]) -> Self {
        match set {
            [false, false] => Slot::Clean,
            [lo, hi] => Slot::Coarse { lo, hi },
        }
    }
}

fn touches(half: Span, part: Span) -> bool {
    !half.overlap(part).is_empty()
}

/// Sets the bits of the span and says how many were not set before.
fn set_bits(words: &mut [u64; LEAF_WORDS], span: Span) -> u32 {
    let (skip, take) = span.words();
    let mut newly: u32 = 0;
    for (index, word) in words.iter_mut().enumerate().skip(skip).take(take) {
        let mask = span.mask(index);
        newly = newly.saturating_add((mask & !*word).count_ones());
        *word |= mask;
    }
    newly
}

/// Clears the bits of the span and says how many were set before.
fn clear_bits(words: &mut [u64; LEAF_WORDS], span: Span) -> u32 {
    let (skip, take) = span.words();
    let mut cleared: u32 = 0;
    for (index, word) in words.iter_mut().enumerate().skip(skip).take(take) {
        let mask = span.mask(index);
        cleared = cleared.saturating_add((mask & *word).count_ones());
        *word &= !mask;
    }
    cleared
}

/// The first bit of the span that is what is wanted.
fn seek_bit(words: &[u64; LEAF_WORDS], span: Span, want: Want) -> Option<u32> {
    let flip = match want {
        Want::Dirty => 0,
        Want::Clean => u64::MAX,
    };
    let (skip, take) = span.words();
    for (index, word) in words.iter().enumerate().skip(skip).take(take) {
        let hits = (*word ^ flip) & span.mask(index);
        if hits != 0 {
            let base = (index as u32).saturating_mul(WORD_BITS);
            return Some(base.saturating_add(hits.trailing_zeros()));
        }
    }
    None
}
