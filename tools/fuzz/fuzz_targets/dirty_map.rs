// SPDX-License-Identifier: GPL-2.0

//! Any sequence of operations on a dirty map, with and without memory for its pages, against a naive
//! map.

#![no_main]

mod oracle;

use arbitrary::Arbitrary;
use enbd_logic::logic::bitmap::{slots_for, DirtyMap, Leaf, Slot, LEAF_BLOCKS, LEAF_WORDS};
use libfuzzer_sys::fuzz_target;
use oracle::Oracle;

struct Page(Box<[u64; LEAF_WORDS]>);

impl Page {
    /// A page full of somebody else's bits, as a used one may be.
    fn dusty() -> Self {
        Self(Box::new([u64::MAX; LEAF_WORDS]))
    }
}

impl Leaf for Page {
    fn words(&self) -> &[u64; LEAF_WORDS] {
        &self.0
    }

    fn words_mut(&mut self) -> &mut [u64; LEAF_WORDS] {
        &mut self.0
    }
}

type Map = DirtyMap<Page, Vec<Slot<Page>>>;

/// A position or a length, near the borders more often than not.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Number {
    /// So many words of the map, and some blocks more or less.
    Word(u16, i8),
    /// So many halves of a leaf, and some blocks more or less.
    Half(u8, i8),
    Small(u8),
    Any(u64),
}

impl Number {
    fn get(self) -> u64 {
        match self {
            Self::Word(words, off) => {
                (u64::from(words % 2048) * 64).saturating_add_signed(i64::from(off))
            }
            Self::Half(halves, off) => {
                let half = LEAF_BLOCKS / 2;
                (u64::from(halves % 9) * half).saturating_add_signed(i64::from(off))
            }
            Self::Small(n) => u64::from(n),
            Self::Any(n) => n,
        }
    }
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Op {
    /// The bits of `memory` say which of the pages asked for are there.
    Mark {
        first: Number,
        len: Number,
        memory: u8,
    },
    Clear {
        first: Number,
        len: Number,
    },
    Refine(Number),
    Next {
        from: Number,
        max: Number,
    },
    MarkAll,
    ClearAll,
}

#[derive(Arbitrary, Debug)]
struct Input {
    blocks: Number,
    ops: Vec<Op>,
}

fn step(map: &mut Map, oracle: &mut Oracle, op: Op) {
    let mut freed = 0;
    let mut free = |_: Page| freed += 1;
    match op {
        Op::Mark { first, len, memory } => {
            let (first, len) = (first.get(), len.get());
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
        }
        Op::Clear { first, len } => {
            let (first, len) = (first.get(), len.get());
            let cleared = map.clear(first, len, &mut free);
            assert_eq!((cleared, freed), oracle.clear(first, len));
        }
        Op::Refine(block) => {
            let block = block.get();
            assert_eq!(map.is_coarse(block), oracle.is_coarse(block));
            let refined = map.refine(block, Page::dusty()).is_ok();
            assert_eq!(refined, oracle.refine(block));
        }
        Op::Next { from, max } => {
            let (from, max) = (from.get(), max.get());
            assert_eq!(map.next_dirty(from, max), oracle.next_dirty(from, max));
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
    assert_eq!(map.dirty(), oracle.dirty());
    assert_eq!(map.pages(), oracle.pages());
}

fuzz_target!(|input: Input| {
    let blocks = input.blocks.get().clamp(1, 4 * LEAF_BLOCKS);
    let slots = (0..slots_for(blocks)).map(|_| Slot::Clean).collect();
    let mut map = DirtyMap::new(slots, blocks).expect("a clean table of the right size");
    let mut oracle = Oracle::new(blocks);
    for op in input.ops.into_iter().take(24) {
        step(&mut map, &mut oracle, op);
    }
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
});
