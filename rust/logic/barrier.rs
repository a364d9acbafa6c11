// SPDX-License-Identifier: GPL-2.0

//! The region barrier: writes against state changes and against the windows of a resync.
//!
//! # What would go wrong without it
//!
//! 1. *Stale copy.* The resync reads block 5 (old) from the source; a user's write of block 5 goes
//!    to both groups; the resync then writes the old block 5 to the returning group. The mirrors
//!    differ and the map says they do not.
//! 2. *Late write.* A write sees group 1 faulty, marks its map and goes to group 0 only. Before it
//!    is carried out there, group 1 is hot-added, the resync reads the old block from group 0,
//!    copies it and clears the mark.
//! 3. *Late mark.* A write sees group 1 faulty; before it has marked the map, a resync finds the
//!    map empty.
//! 4. *Two orders.* Two writes of block 5 at once reach two groups in different order; the mirrors
//!    differ and no map says so.
//!
//! # The rules
//!
//! Each request slot has one *claim* word, each resync a few *window* words; both hold a range of
//! chunks ([`CHUNK_SECTORS`]), a claim also the epoch of the [`View`](super::group::View) under
//! which the write was sent.
//!
//! - A write stores its claim (full barrier), and only then looks at the view and the windows. If
//!   the view has changed it claims anew; if a window overlaps it withdraws the claim and waits for
//!   that window.
//! - A resync stores its window (full barrier), then waits until no claim overlaps it, then copies.
//! - Who makes a faulty group resyncing stores the view (full barrier), then waits until no claim
//!   is of an older epoch; only then may the map be read.
//! - The claim is withdrawn when the last clone of the write has ended and the map has been marked.
//! - A write that goes to several groups looks at the claims of the others, too, unless the count of
//!   those in its region ([`Crowd`]) says that there are none. If one overlaps it withdraws its own
//!   and waits for the end of a write.
//!
//! Of two stores, each followed by a full barrier and a load of what the other stored, at least one
//! side sees the other: so a write and a window never both go ahead, nor do two writes. This answers
//! 1 and 4; the wait for older epochs answers 2 and 3.

use crate::sync::Word;

/// The unit of claims and windows, in sectors of 512 bytes: 4 KiB.
pub const CHUNK_SECTORS: u64 = 8;
/// The largest device that claims can describe, in sectors (256 TiB).
pub const MAX_SECTORS: u64 = CHUNK_SECTORS << START_BITS;

/// Changes of the view that a write may see before groups are not brought back any more until it
/// has ended. The rest of half the epoch's range is for changes that cannot be refused: each group
/// can be faulted once more.
pub const MAX_AGE: u32 = 32;

const START_BITS: u32 = 36;
const LEN_BITS: u32 = 20;
const EPOCH_BITS: u32 = 7;
const ACTIVE: u64 = 1 << 63;
const START_MASK: u64 = (1 << START_BITS) - 1;
const LEN_MASK: u64 = (1 << LEN_BITS) - 1;
const EPOCH_MASK: u64 = (1 << EPOCH_BITS) - 1;

/// A range of sectors, rounded out to chunks: what a claim or a window covers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Span {
    start: u64,
    len: u64,
}

impl Span {
    /// The chunks that `sectors` sectors from `first` touch. A range that no word can hold becomes
    /// one that covers everything after its start, which makes others wait but never lets them
    /// pass.
    pub fn new(first: u64, sectors: u64) -> Self {
        let start = (first / CHUNK_SECTORS).min(START_MASK);
        let end = first
            .saturating_add(sectors)
            .saturating_add(CHUNK_SECTORS - 1)
            / CHUNK_SECTORS;
        Self {
            start,
            len: end.saturating_sub(start).min(LEN_MASK),
        }
    }

    fn from_word(word: u64) -> Option<Self> {
        (word & ACTIVE != 0).then_some(Self {
            start: word & START_MASK,
            len: (word >> START_BITS) & LEN_MASK,
        })
    }

    fn to_word(self, epoch: u32) -> u64 {
        ACTIVE
            | (u64::from(epoch) & EPOCH_MASK) << (START_BITS + LEN_BITS)
            | self.len << START_BITS
            | self.start
    }

    /// The end, exclusive; a length that did not fit counts as without end.
    fn end(self) -> u64 {
        if self.len == LEN_MASK {
            u64::MAX
        } else {
            self.start.wrapping_add(self.len)
        }
    }

    /// The first and the last chunk; nothing if there is none.
    pub fn chunks(self) -> Option<(u64, u64)> {
        (self.len > 0).then(|| (self.start, self.end().saturating_sub(1)))
    }

    /// Whether the two have a chunk in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.start < other.end() && other.start < self.end()
    }
}

/// The claim of one request slot.
pub struct Claim(Word);

impl Default for Claim {
    fn default() -> Self {
        Self(Word::new(0))
    }
}

impl Claim {
    /// Publishes that a write of `span` goes on under `epoch`. Full barrier: what is loaded next is
    /// not older.
    pub fn publish(&self, span: Span, epoch: u32) {
        self.0.swap(span.to_word(epoch));
    }

    /// Withdraws the claim and gives what it covered. Full barrier, so that a following look for
    /// windows, and for those who wait, is not older.
    pub fn withdraw(&self) -> Option<Span> {
        Span::from_word(self.0.swap(0))
    }

    /// What the write in this slot covers, if there is one.
    pub fn span(&self) -> Option<Span> {
        Span::from_word(self.0.load())
    }

    /// Whether a write that overlaps `span` goes on in this slot.
    pub fn blocks(&self, span: Span) -> bool {
        Span::from_word(self.0.load()).is_some_and(|claim| claim.overlaps(span))
    }

    /// By how many changes of the view the write in this slot, if there is one, is older than
    /// `epoch`; 0 if it is not older.
    ///
    /// Seven bits of the epoch are kept, and half of their range is the past. Who lets the view
    /// change must see to it that no write gets older than [`MAX_AGE`].
    pub fn age(&self, epoch: u32) -> u32 {
        let word = self.0.load();
        if word & ACTIVE == 0 {
            return 0;
        }
        let claimed = word >> (START_BITS + LEN_BITS);
        let age = u64::from(epoch).wrapping_sub(claimed) & EPOCH_MASK;
        if age > EPOCH_MASK / 2 {
            // It was sent after `epoch`.
            0
        } else {
            age as u32
        }
    }
}

/// Chunks of a region, as a logarithm: 256 KiB.
const REGION_SHIFT: u32 = 6;
/// Bits of a counter: more than there are request slots.
const COUNT_BITS: u32 = 16;
/// Counters in a word.
const COUNTS: u64 = 4;
/// Words of counters. With 512 counters one write in 16 meets another one in its counter by mere
/// chance when 32 are on their way.
const WORDS: usize = 128;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
/// A write of more regions is counted as one that may be anywhere.
const NARROW: u64 = 4;

/// How many writes go on in which region, so that who looks for one that overlaps need not look at
/// all claims. Two that overlap have a region in common, or one of them is wide. Regions that are
/// far from each other share a counter.
pub struct Crowd {
    counts: [Word; WORDS],
    wide: Word,
}

impl Default for Crowd {
    fn default() -> Self {
        Self {
            counts: ::core::array::from_fn(|_| Word::new(0)),
            wide: Word::new(0),
        }
    }
}

impl Crowd {
    /// A write of `span`, which has published its claim, comes in. Whether another one that has
    /// come in before, and published its claim, may overlap it. Full barrier.
    pub fn enter(&self, span: Span) -> bool {
        let mut others = false;
        self.each(span, |word, shift| {
            others |= (word.fetch_add(1 << shift) >> shift) & COUNT_MASK != 0;
        });
        // A wide one sees at least itself there.
        span.len > 0 && (others || self.wide.load() != 0)
    }

    /// The write has ended, or goes away again.
    pub fn leave(&self, span: Span) {
        self.each(span, |word, shift| {
            // It was counted, so nothing is borrowed from the next counter.
            word.fetch_add((1u64 << shift).wrapping_neg());
        });
    }

    /// The first region and the last one; nothing if there are too many.
    fn regions_of(span: Span) -> Option<(u64, u64)> {
        let first = span.start >> REGION_SHIFT;
        let last = span.start.saturating_add(span.len.saturating_sub(1)) >> REGION_SHIFT;
        (last - first < NARROW).then_some((first, last))
    }

    /// Gives the counters of a span: a word, and by how many bits the counter is shifted in it.
    fn each(&self, span: Span, mut f: impl FnMut(&Word, u32)) {
        if span.len == 0 {
            return;
        }
        let Some((first, last)) = Self::regions_of(span) else {
            return f(&self.wide, 0);
        };
        for region in first..=last {
            let word = (region / COUNTS) as usize % WORDS;
            if let Some(word) = self.counts.get(word) {
                f(word, (region % COUNTS) as u32 * COUNT_BITS);
            }
        }
    }
}

/// A window of a resync: writes that overlap it wait.
pub struct Window(Word);

impl Default for Window {
    fn default() -> Self {
        Self(Word::new(0))
    }
}

impl Window {
    /// Raises the barrier over `span`. Full barrier: claims that are loaded next are not older.
    pub fn raise(&self, span: Span) {
        self.0.swap(span.to_word(0));
    }

    /// Lowers it. Full barrier, so that who waits is looked for afterwards.
    pub fn lower(&self) {
        self.0.swap(0);
    }

    /// Whether a write of `span` has to wait.
    pub fn holds(&self, span: Span) -> bool {
        Span::from_word(self.0.load()).is_some_and(|window| window.overlaps(span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::mirror::TAGS;

    #[test]
    fn spans_round_out() {
        let span = Span::new(7, 2);
        assert_eq!(span, Span { start: 0, len: 2 });
        assert_eq!(Span::new(8, 8), Span { start: 1, len: 1 });
        assert_eq!(Span::new(8, 0), Span { start: 1, len: 0 });
    }

    #[test]
    fn overlap_is_symmetric_and_exact() {
        for a in 0..6u64 {
            for la in 0..4u64 {
                for b in 0..6u64 {
                    for lb in 0..4u64 {
                        let x = Span::new(a * 8, la * 8);
                        let y = Span::new(b * 8, lb * 8);
                        let naive = (a..a + la).any(|c| (b..b + lb).contains(&c));
                        if la > 0 && lb > 0 {
                            assert_eq!(x.overlaps(y), naive);
                        }
                        assert_eq!(x.overlaps(y), y.overlaps(x));
                    }
                }
            }
        }
    }

    #[test]
    fn words_keep_spans() {
        let span = Span::new(MAX_SECTORS - 8, 8);
        assert_eq!(Span::from_word(span.to_word(127)), Some(span));
        let claim = Claim::default();
        assert!(!claim.blocks(span));
        claim.publish(span, 5);
        assert!(claim.blocks(span));
        assert_eq!(claim.age(5), 0);
        assert_eq!(claim.age(6), 1);
        assert_eq!(claim.age(4), 0);
        assert_eq!(claim.age(5 + 128 * 7 + 63), 63);
        claim.withdraw();
        assert!(!claim.blocks(span));
        assert_eq!(claim.age(6), 0);
    }

    #[test]
    fn writes_that_overlap_meet_in_the_crowd() {
        let lens = [1u64, 2, 63, 64, 65, 192, 193, 256, 257, 8192];
        let starts = [0u64, 1, 62, 63, 64, 127, 191, 192, 4096, 70_000];
        for (a, la) in starts.iter().flat_map(|a| lens.map(|l| (*a, l))) {
            for (b, lb) in starts.iter().flat_map(|b| lens.map(|l| (*b, l))) {
                let one = Span::new(a * CHUNK_SECTORS, la * CHUNK_SECTORS);
                let other = Span::new(b * CHUNK_SECTORS, lb * CHUNK_SECTORS);
                let crowd = Crowd::default();
                crowd.enter(one);
                assert!(
                    crowd.enter(other) || !one.overlaps(other),
                    "{one:?} {other:?}"
                );
                crowd.leave(other);
                crowd.leave(one);
                let counts = crowd.counts.iter().chain([&crowd.wide]);
                assert!(counts.into_iter().all(|word| word.load() == 0));
            }
        }
        let crowd = Crowd::default();
        let small = Span::new(0, CHUNK_SECTORS);
        assert!(!crowd.enter(small));
        let region = CHUNK_SECTORS << REGION_SHIFT;
        assert!(!crowd.enter(Span::new(region, CHUNK_SECTORS)));
        assert!(!crowd.enter(Span::new(0, 0)), "a flush is nowhere");
        assert!(crowd.enter(small));
    }

    #[test]
    fn a_full_counter_leaves_its_neighbours_alone() {
        let region = |number: u64| Span::new(number * (CHUNK_SECTORS << REGION_SHIFT), 1);
        let crowd = Crowd::default();
        assert!(!crowd.enter(region(1)));
        for _ in 1..TAGS {
            assert!(crowd.enter(region(1)));
        }
        assert!(!crowd.enter(region(0)) && !crowd.enter(region(2)));
        crowd.leave(region(2));
        for _ in 0..TAGS {
            crowd.leave(region(1));
        }
        assert!(!crowd.enter(region(1)) && !crowd.enter(region(2)));
        assert!(crowd.enter(region(0)));
    }

    #[test]
    fn too_long_a_range_covers_all_after_it() {
        let huge = Span::new(80, u64::MAX);
        assert!(huge.overlaps(Span::new(MAX_SECTORS - 8, 8)));
        assert!(!huge.overlaps(Span::new(0, 80)));
        let window = Window::default();
        window.raise(huge);
        assert!(window.holds(Span::new(1 << 40, 8)));
        window.lower();
        assert!(!window.holds(Span::new(1 << 40, 8)));
    }
}
