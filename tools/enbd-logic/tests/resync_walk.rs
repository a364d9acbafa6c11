// SPDX-License-Identifier: GPL-2.0

//! Walks of a cursor with several copies in flight that end in any order, and writes in between.

use enbd_logic::logic::bitmap::{Run, LEAF_BLOCKS};
use enbd_logic::logic::resync::*;
use enbd_oracle::pages::{map, none, plenty, Map, Page};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    /// Take the next step with this window.
    Next { max_len: u64 },
    /// One of the copies in flight ends.
    End { which: prop::sample::Index },
    /// A write that only the good side gets, with or without memory for a page.
    Write { first: u64, len: u64, memory: bool },
}

/// Two mirrors as a version a block, and the copies between them.
struct Model {
    map: Map,
    cursor: Cursor,
    good: Vec<u32>,
    returning: Vec<u32>,
    /// The windows with what was read when they began.
    flight: Vec<(Run, Vec<u32>)>,
    copies: Vec<u32>,
    shown: Progress,
}

fn range(run: Run) -> std::ops::Range<usize> {
    run.first as usize..run.end() as usize
}

impl Model {
    fn new(blocks: u64) -> Self {
        Self {
            map: map(blocks),
            cursor: Cursor::new(blocks),
            good: vec![0; blocks as usize],
            returning: vec![0; blocks as usize],
            flight: Vec::new(),
            copies: vec![0; blocks as usize],
            shown: Progress::new(0, blocks, 0),
        }
    }

    fn write(&mut self, first: u64, len: u64, memory: bool) {
        let end = first.saturating_add(len).min(self.map.blocks());
        if first >= end {
            return;
        }
        let run = Run {
            first,
            len: end - first,
        };
        // The barrier holds writes into a window until its copy has ended.
        let held = |(window, _): &(Run, Vec<u32>)| window.first < end && first < window.end();
        if self.flight.iter().any(held) {
            return;
        }
        self.good[range(run)]
            .iter_mut()
            .for_each(|block| *block += 1);
        let mut memory: fn() -> Option<Page> = if memory { plenty } else { none };
        self.map.mark(first, len, &mut memory);
    }

    fn next(&mut self, max_len: u64) -> Step {
        let map = &self.map;
        let step = self
            .cursor
            .next(max_len, |from, max_len| map.next_dirty(from, max_len));
        if let Step::Window(window) = step {
            self.start(window, max_len);
        }
        assert_eq!(self.cursor.in_flight(), self.flight.len());
        let before = self.shown.pos();
        let (pos, dirty) = (self.cursor.pos(), self.map.dirty());
        assert!(pos <= self.map.blocks());
        self.shown.update(0, pos, 0, dirty);
        assert!(self.shown.pos() >= before);
        step
    }

    fn start(&mut self, window: Window, max_len: u64) {
        let run = window.run;
        assert!(run.len >= 1 && run.len <= max_len.max(1));
        assert!(run.end() <= self.map.blocks());
        assert_eq!(run.first / LEAF_BLOCKS, run.last() / LEAF_BLOCKS);
        for (other, _) in &self.flight {
            assert!(run.end() <= other.first || other.end() <= run.first);
        }
        assert_eq!(self.map.next_dirty(run.first, run.len), Some(run));
        if let Some(skipped) = window.skipped {
            assert_eq!(window.pass > 1, skipped.first >= run.first);
            let dirty = self.map.next_dirty(skipped.first, 1);
            assert!(dirty.is_none_or(|dirty| dirty.first >= skipped.end()));
        }
        if self.map.is_coarse(run.first) {
            self.map.refine(run.first, Page::dusty()).unwrap();
        }
        self.flight.push((run, self.good[range(run)].to_vec()));
    }

    fn end(&mut self, which: usize) {
        let (run, data) = self.flight.swap_remove(which);
        self.returning[range(run)].copy_from_slice(&data);
        self.copies[range(run)]
            .iter_mut()
            .for_each(|copies| *copies += 1);
        assert_eq!(self.map.clear(run.first, run.len, &mut drop), run.len);
        self.cursor.ended(run, CopyEnd::Copied).unwrap();
        assert_eq!(self.map.self_check(), Ok(()));
    }

    /// No block differs that is neither dirty nor in flight.
    fn check(&self) {
        let mut at = 0;
        for block in 0..self.good.len() {
            if self.good[block] != self.returning[block] {
                let next = self.map.next_dirty(block as u64, 1).expect("a dirty block");
                assert_eq!(next.first, block as u64);
                at += 1;
            }
        }
        assert!(at <= self.map.dirty());
    }

    fn finish(&mut self, max_len: u64) {
        // Every step takes a window or ends one, so that this is more than enough.
        for turn in 0..1_000_000usize {
            match self.next(max_len) {
                Step::Window(_) => {}
                Step::Wait => {
                    let which = turn % self.flight.len();
                    self.end(which);
                }
                Step::Done { .. } => {
                    assert!(self.map.is_clean() && self.flight.is_empty());
                    assert_eq!(self.map.pages(), 0);
                    assert_eq!(self.good, self.returning);
                    assert_eq!(self.cursor.pos(), self.map.blocks());
                    return;
                }
                Step::Failed | Step::Unreadable => unreachable!(),
            }
        }
        panic!("the walk does not end");
    }
}

fn writes() -> impl Strategy<Value = (u64, u64)> {
    let first = prop_oneof![0u64..400, 32_700u64..32_900, 0u64..70_000];
    let len = prop_oneof![4 => 1u64..40, 2 => 1u64..2000, 1 => Just(40_000u64)];
    (first, len)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => prop_oneof![1u64..64, Just(0), Just(256), Just(u64::MAX)]
            .prop_map(|max_len| Op::Next { max_len }),
        4 => any::<prop::sample::Index>().prop_map(|which| Op::End { which }),
        2 => (writes(), prop::bool::weighted(0.7))
            .prop_map(|((first, len), memory)| Op::Write { first, len, memory }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever happens in between, the mirrors are equal when the walk is done, and at no time
    /// does a block differ that is not marked.
    #[test]
    fn mirrors_end_equal(
        blocks in prop_oneof![1u64..500, 32_760u64..70_000],
        before in prop::collection::vec(writes(), 0..8),
        ops in prop::collection::vec(op(), 0..120),
        max_len in prop_oneof![Just(64u64), Just(256), Just(1 << 20)],
    ) {
        let mut model = Model::new(blocks);
        for (first, len) in before {
            model.write(first, len, true);
        }
        for op in ops {
            match op {
                Op::Next { max_len } => drop(model.next(max_len)),
                Op::End { which } if !model.flight.is_empty() => {
                    let which = which.index(model.flight.len());
                    model.end(which);
                }
                Op::End { .. } => {}
                Op::Write { first, len, memory } => model.write(first, len, memory),
            }
        }
        model.check();
        model.finish(max_len);
    }

    /// Without writes in between, each marked block is copied once and no other.
    #[test]
    fn copies_what_is_marked_once(
        blocks in prop_oneof![1u64..500, 32_760u64..70_000],
        before in prop::collection::vec(writes(), 0..8),
        max_len in 1u64..3000,
    ) {
        let mut model = Model::new(blocks);
        for (first, len) in before {
            model.write(first, len, true);
        }
        let want: Vec<_> = model.good.iter().map(|version| u32::from(*version > 0)).collect();
        model.finish(max_len);
        prop_assert_eq!(model.copies, want);
    }
}
