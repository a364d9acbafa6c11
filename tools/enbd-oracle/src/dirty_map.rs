// SPDX-License-Identifier: GPL-2.0

//! A naive dirty map, and the real one beside it: any sequence of operations, with and without memory
//! for its pages, does to both the same.
//!
//! The naive one has the dirty runs in a list, and for each leaf whether it has a page. A leaf
//! without one is all dirty or all clean in each of its halves. It is a list, and not a flag a block,
//! so that a run of the fuzzer does not spend its time on memory.

use crate::pages::{map, Map, Page};
use enbd_logic::logic::bitmap::{Made, Marked, Run, LEAF_BLOCKS};
use std::ops::Range;

/// What is done to a map. Numbers are of blocks, and may lie beyond the map.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    /// The bits of `memory` say which of the pages asked for are there.
    Mark {
        /// From this block on,
        first: u64,
        /// so many.
        len: u64,
        /// Lowest bit first, and again from there after eight.
        memory: u8,
    },
    /// The mark of each is taken away, where that is possible.
    Clear {
        /// From this block on,
        first: u64,
        /// so many.
        len: u64,
    },
    /// A coarse leaf gets a page.
    Refine {
        /// Any block of it.
        block: u64,
    },
    /// A run is looked for.
    Next {
        /// Not before this block,
        from: u64,
        /// and no longer than this.
        max_len: u64,
    },
    /// All blocks are dirty.
    MarkAll,
    /// None is.
    ClearAll,
}

/// A map and its oracle.
pub struct Pair {
    map: Map,
    oracle: Oracle,
}

impl Pair {
    /// Two clean maps of so many blocks, at least one.
    pub fn new(blocks: u64) -> Self {
        Self {
            map: map(blocks),
            oracle: Oracle::new(blocks),
        }
    }

    /// Does it to both.
    ///
    /// # Panics
    ///
    /// Where they give different answers, or count differently then.
    pub fn step(&mut self, op: Op) {
        let Self { map, oracle } = self;
        let mut freed = 0;
        let mut free = |_: Page| freed += 1;
        match op {
            Op::Mark { first, len, memory } => self.mark(first, len, memory),
            Op::Clear { first, len } => {
                let cleared = map.clear(first, len, &mut free);
                assert_eq!((cleared, freed), oracle.clear(first, len));
            }
            Op::Refine { block } => {
                assert_eq!(map.is_coarse(block), oracle.is_coarse(block));
                let refined = map.refine(block, Page::dusty()).is_ok();
                assert_eq!(refined, oracle.refine(block));
            }
            Op::Next { from, max_len } => {
                let run = map.next_dirty(from, max_len);
                assert_eq!(run, oracle.next_dirty(from, max_len));
            }
            Op::MarkAll => {
                map.mark_all(&mut free);
                assert_eq!(freed, oracle.all(true));
            }
            Op::ClearAll => {
                map.clear_all(&mut free);
                assert_eq!(freed, oracle.all(false));
            }
        }
        let Self { map, oracle } = self;
        assert_eq!(map.dirty(), oracle.dirty());
        assert_eq!(map.is_clean(), oracle.dirty() == 0);
        assert_eq!(map.pages(), oracle.pages());
    }

    fn mark(&mut self, first: u64, len: u64, memory: u8) {
        let Self { map, oracle } = self;
        let wanted = map.wants_page(first, len);
        let mut asked = 0;
        let got = map.mark(first, len, &mut || {
            asked += 1;
            (memory >> ((asked - 1) % 8) & 1 == 1).then(Page::dusty)
        });
        assert_eq!(asked, wanted);
        let mut asked = 0;
        let want = oracle.mark(first, len, &mut || {
            asked += 1;
            memory >> ((asked - 1) % 8) & 1 == 1
        });
        assert_eq!(asked, wanted);
        assert_eq!(got, want);
        assert!(got.over < LEAF_BLOCKS);
    }

    /// Compares every block.
    ///
    /// # Panics
    ///
    /// Where the two differ, or the map is not in order.
    pub fn compare(&self) {
        let Self { map, oracle } = self;
        assert_eq!(map.self_check(), Ok(()));
        let mut at = 0;
        loop {
            let run = map.next_dirty(at, u64::MAX);
            assert_eq!(run, oracle.next_dirty(at, u64::MAX));
            match run {
                Some(run) => at = run.end(),
                None => break,
            }
        }
    }
}

struct Oracle {
    blocks: u64,
    /// Ascending, not empty, and with a gap between any two.
    runs: Vec<Range<u64>>,
    paged: Vec<bool>,
}

fn common(a: &Range<u64>, b: &Range<u64>) -> Range<u64> {
    let start = a.start.max(b.start);
    start..a.end.min(b.end).max(start)
}

fn len(range: &Range<u64>) -> u64 {
    range.end - range.start
}

impl Oracle {
    fn new(blocks: u64) -> Self {
        Self {
            blocks,
            runs: Vec::new(),
            paged: vec![false; blocks.div_ceil(LEAF_BLOCKS) as usize],
        }
    }

    fn dirty(&self) -> u64 {
        self.dirty_in(&(0..self.blocks))
    }

    fn pages(&self) -> usize {
        self.paged.iter().filter(|paged| **paged).count()
    }

    fn dirty_in(&self, range: &Range<u64>) -> u64 {
        self.runs.iter().map(|run| len(&common(run, range))).sum()
    }

    fn remove(&mut self, range: &Range<u64>) {
        if range.is_empty() {
            // It would cut the run that it lies in.
            return;
        }
        self.runs = self
            .runs
            .iter()
            .flat_map(|run| {
                let before = run.start..run.end.min(range.start);
                let after = run.start.max(range.end)..run.end;
                [before, after]
            })
            .filter(|run| !run.is_empty())
            .collect();
    }

    fn insert(&mut self, range: &Range<u64>) {
        if range.is_empty() {
            return;
        }
        self.remove(range);
        self.runs.push(range.clone());
        self.runs.sort_unstable_by_key(|run| run.start);
        self.runs.dedup_by(|next, run| {
            let touches = run.end == next.start;
            if touches {
                run.end = next.end;
            }
            touches
        });
    }

    /// The part of the range that exists.
    fn cut(&self, first: u64, len: u64) -> Range<u64> {
        let end = first.saturating_add(len).min(self.blocks);
        first.min(end)..end
    }

    fn leaf(&self, leaf: usize) -> Range<u64> {
        let base = leaf as u64 * LEAF_BLOCKS;
        self.cut(base, LEAF_BLOCKS)
    }

    fn halves(&self, leaf: usize) -> [Range<u64>; 2] {
        let (base, half) = (leaf as u64 * LEAF_BLOCKS, LEAF_BLOCKS / 2);
        [self.cut(base, half), self.cut(base + half, half)]
    }

    fn leaves(range: &Range<u64>) -> Range<usize> {
        if range.is_empty() {
            return 0..0;
        }
        let last = (range.end - 1) / LEAF_BLOCKS;
        (range.start / LEAF_BLOCKS) as usize..last as usize + 1
    }

    fn wants(&self, leaf: usize, range: &Range<u64>) -> bool {
        !self.paged[leaf]
            && self.halves(leaf).iter().any(|half| {
                let hit = len(&common(half, range));
                hit > 0 && hit < len(half) && self.dirty_in(half) == 0
            })
    }

    fn mark(&mut self, first: u64, n: u64, alloc: &mut impl FnMut() -> bool) -> Marked {
        let range = self.cut(first, n);
        let mut marked = Marked::default();
        for leaf in Self::leaves(&range) {
            if self.wants(leaf, &range) && alloc() {
                self.paged[leaf] = true;
                let made = marked.made.get_or_insert(Made {
                    first_page: leaf as u64,
                    pages: 0,
                });
                made.pages += 1;
            }
            for half in self.halves(leaf) {
                let asked = common(&half, &range);
                let set = match self.paged[leaf] || asked.is_empty() {
                    true => asked.clone(),
                    false => half,
                };
                let new = len(&set) - self.dirty_in(&set);
                marked.newly += new;
                marked.over += new - (len(&asked) - self.dirty_in(&asked));
                self.insert(&set);
            }
        }
        marked
    }

    /// The blocks cleared and the pages freed.
    fn clear(&mut self, first: u64, n: u64) -> (u64, usize) {
        let range = self.cut(first, n);
        let (mut cleared, mut freed) = (0, 0);
        for leaf in Self::leaves(&range) {
            for half in self.halves(leaf) {
                let asked = common(&half, &range);
                if self.paged[leaf] || asked == half {
                    cleared += self.dirty_in(&asked);
                    self.remove(&asked);
                }
            }
            if self.paged[leaf] && self.dirty_in(&self.leaf(leaf)) == 0 {
                self.paged[leaf] = false;
                freed += 1;
            }
        }
        (cleared, freed)
    }

    fn is_coarse(&self, block: u64) -> bool {
        let leaf = (block / LEAF_BLOCKS) as usize;
        block < self.blocks && !self.paged[leaf] && self.dirty_in(&self.leaf(leaf)) > 0
    }

    /// Whether there was something to refine.
    fn refine(&mut self, block: u64) -> bool {
        let coarse = self.is_coarse(block);
        if coarse {
            self.paged[(block / LEAF_BLOCKS) as usize] = true;
        }
        coarse
    }

    fn next_dirty(&self, from: u64, max: u64) -> Option<Run> {
        let run = self.runs.iter().find(|run| run.end > from)?;
        let first = run.start.max(from);
        Some(Run {
            first,
            len: (run.end - first).min(max.max(1)),
        })
    }

    /// The pages freed.
    fn all(&mut self, dirty: bool) -> usize {
        let freed = self.pages();
        self.paged.fill(false);
        self.runs.clear();
        if dirty {
            self.runs.push(0..self.blocks);
        }
        freed
    }
}
