// SPDX-License-Identifier: GPL-2.0

//! The dirty map against a naive one: a bool a block, and the rule for coarse slots spelled out.

mod bitmap_common;

use bitmap_common::{map, Map, Page};
use enbd_logic::logic::bitmap::{Made, Marked, Run, LEAF_BLOCKS};
use proptest::prelude::*;
use std::ops::Range;

/// A bool a block, and a bool a leaf: whether it has a page. A leaf without one is all dirty or
/// all clean in each of its halves.
struct Oracle {
    dirty: Vec<bool>,
    paged: Vec<bool>,
}

impl Oracle {
    fn new(blocks: u64) -> Self {
        Self {
            dirty: vec![false; blocks as usize],
            paged: vec![false; blocks.div_ceil(LEAF_BLOCKS) as usize],
        }
    }

    /// The part of the range that exists.
    fn cut(&self, first: u64, len: u64) -> Range<usize> {
        let blocks = self.dirty.len() as u64;
        let end = first.saturating_add(len).min(blocks) as usize;
        (first.min(blocks) as usize).min(end)..end
    }

    fn halves(&self, leaf: usize) -> [Range<usize>; 2] {
        let size = LEAF_BLOCKS as usize;
        let (base, blocks) = (leaf * size, self.dirty.len());
        let cut = |at: usize| at.min(blocks);
        [
            base..cut(base + size / 2),
            cut(base + size / 2)..cut(base + size),
        ]
    }

    fn leaves(&self, range: &Range<usize>) -> Range<usize> {
        let size = LEAF_BLOCKS as usize;
        if range.is_empty() {
            return 0..0;
        }
        range.start / size..(range.end - 1) / size + 1
    }

    fn wants(&self, leaf: usize, range: &Range<usize>) -> bool {
        !self.paged[leaf]
            && self.halves(leaf).into_iter().any(|half| {
                let hit = half.clone().filter(|block| range.contains(block)).count();
                hit > 0 && hit < half.len() && !self.dirty[half.start]
            })
    }

    fn wants_page(&self, first: u64, len: u64) -> usize {
        let range = self.cut(first, len);
        self.leaves(&range)
            .filter(|leaf| self.wants(*leaf, &range))
            .count()
    }

    fn mark(&mut self, first: u64, len: u64, alloc: &mut impl FnMut() -> bool) -> Marked {
        let range = self.cut(first, len);
        let mut marked = Marked::default();
        for leaf in self.leaves(&range) {
            if self.wants(leaf, &range) && alloc() {
                self.paged[leaf] = true;
                let made = marked.made.get_or_insert(Made {
                    first_page: leaf as u64,
                    pages: 0,
                });
                made.pages += 1;
            }
            for half in self.halves(leaf) {
                let touched = half.clone().any(|block| range.contains(&block));
                for block in half {
                    let asked = range.contains(&block);
                    let set = asked || (touched && !self.paged[leaf]);
                    if set && !self.dirty[block] {
                        self.dirty[block] = true;
                        marked.newly += 1;
                        marked.over += u64::from(!asked);
                    }
                }
            }
        }
        marked
    }

    /// The blocks cleared and the pages freed.
    fn clear(&mut self, first: u64, len: u64) -> (u64, usize) {
        let range = self.cut(first, len);
        let (mut cleared, mut freed) = (0, 0);
        for leaf in self.leaves(&range) {
            for half in self.halves(leaf) {
                let covered = half.clone().all(|block| range.contains(&block));
                for block in half {
                    let clear = range.contains(&block) && (self.paged[leaf] || covered);
                    if clear && self.dirty[block] {
                        self.dirty[block] = false;
                        cleared += 1;
                    }
                }
            }
            if self.paged[leaf] && self.is_clean(leaf) {
                self.paged[leaf] = false;
                freed += 1;
            }
        }
        (cleared, freed)
    }

    fn is_clean(&self, leaf: usize) -> bool {
        let [lo, hi] = self.halves(leaf);
        lo.chain(hi).all(|block| !self.dirty[block])
    }

    fn is_coarse(&self, block: u64) -> bool {
        let leaf = (block / LEAF_BLOCKS) as usize;
        block < self.dirty.len() as u64 && !self.paged[leaf] && !self.is_clean(leaf)
    }

    fn next_dirty(&self, from: u64, max_len: u64) -> Option<Run> {
        let from = self.cut(from, u64::MAX).start;
        let first = from + self.dirty[from..].iter().position(|dirty| *dirty)?;
        let len = self.dirty[first..]
            .iter()
            .take_while(|dirty| **dirty)
            .count() as u64;
        Some(Run {
            first: first as u64,
            len: len.min(max_len.max(1)),
        })
    }

    fn all(&mut self, dirty: bool) -> usize {
        let freed = self.paged.iter().filter(|paged| **paged).count();
        self.dirty.fill(dirty);
        self.paged.fill(false);
        freed
    }
}

#[derive(Clone, Debug)]
enum Op {
    /// The bits of `memory` say which of the pages asked for are there.
    Mark {
        first: u64,
        len: u64,
        memory: u8,
    },
    Clear {
        first: u64,
        len: u64,
    },
    Refine {
        block: u64,
    },
    Next {
        from: u64,
        max_len: u64,
    },
    MarkAll,
    ClearAll,
}

/// Positions and lengths near the borders of words, halves and leaves, and any others.
fn number() -> impl Strategy<Value = u64> {
    let near = (
        prop::sample::select(vec![0u64, 64, 128, 16384, 32768, 49152, 65536, 98304]),
        0u64..4,
    )
        .prop_map(|(border, off)| (border + off).saturating_sub(2));
    prop_oneof![
        6 => near,
        4 => 0u64..100_000,
        2 => 0u64..200,
        1 => Just(u64::MAX),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (number(), number(), any::<u8>())
            .prop_map(|(first, len, memory)| Op::Mark { first, len, memory }),
        6 => (number(), number()).prop_map(|(first, len)| Op::Clear { first, len }),
        3 => number().prop_map(|block| Op::Refine { block }),
        4 => (number(), number()).prop_map(|(from, max_len)| Op::Next { from, max_len }),
        1 => Just(Op::MarkAll),
        1 => Just(Op::ClearAll),
    ]
}

fn blocks() -> impl Strategy<Value = u64> {
    prop_oneof![number(), 1u64..100_000].prop_map(|blocks| blocks.clamp(1, 98_400))
}

fn step(map: &mut Map, oracle: &mut Oracle, op: Op) {
    let mut freed = 0;
    let mut free = |_: Page| freed += 1;
    match op {
        Op::Mark { first, len, memory } => {
            let wanted = map.wants_page(first, len);
            assert_eq!(wanted, oracle.wants_page(first, len));
            let mut asked = 0u32;
            let got = map.mark(first, len, &mut || {
                asked += 1;
                (memory >> ((asked - 1) % 8) & 1 == 1).then(Page::dusty)
            });
            assert_eq!(asked as usize, wanted);
            let mut asked = 0u32;
            let want = oracle.mark(first, len, &mut || {
                asked += 1;
                memory >> ((asked - 1) % 8) & 1 == 1
            });
            assert_eq!(got, want);
            assert!(got.over < LEAF_BLOCKS);
        }
        Op::Clear { first, len } => {
            let got = map.clear(first, len, &mut free);
            assert_eq!((got, freed), oracle.clear(first, len));
        }
        Op::Refine { block } => {
            let coarse = oracle.is_coarse(block);
            assert_eq!(map.is_coarse(block), coarse);
            assert_eq!(map.refine(block, Page::dusty()).is_ok(), coarse);
            if coarse {
                oracle.paged[(block / LEAF_BLOCKS) as usize] = true;
            }
        }
        Op::Next { from, max_len } => {
            assert_eq!(
                map.next_dirty(from, max_len),
                oracle.next_dirty(from, max_len)
            );
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
}

/// Every block, every count.
fn compare(map: &Map, oracle: &Oracle) {
    assert_eq!(map.self_check(), Ok(()));
    let dirty = oracle.dirty.iter().filter(|dirty| **dirty).count() as u64;
    assert_eq!(map.dirty(), dirty);
    assert_eq!(map.is_clean(), dirty == 0);
    assert_eq!(
        map.pages(),
        oracle.paged.iter().filter(|paged| **paged).count()
    );
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn does_what_the_naive_map_does(blocks in blocks(), ops in prop::collection::vec(op(), 1..30)) {
        let mut map = map(blocks);
        let mut oracle = Oracle::new(blocks);
        for op in ops {
            step(&mut map, &mut oracle, op);
            compare(&map, &oracle);
        }
    }
}
