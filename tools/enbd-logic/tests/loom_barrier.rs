// SPDX-License-Identifier: GPL-2.0

//! Models of the region barrier: a write against a window, and against a change of the view.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p enbd-logic --release --test 'loom*'
//! ```
//!
//! What was also changed by hand to see these fail: `Claim::publish()` and `Window::raise()` with a
//! release store instead of the swap, and `Word` without its fences, let a write and a copy go on at
//! once, and marks come late; a relaxed `Word::load()` lets the mirrors differ.
//!
//! Limits: loom has no loads that are carried out late, and overlooks some orders of a load that
//! comes before another thread's load and change of the same word. The models of this file and of
//! `loom_parked.rs` and `loom_view.rs` also hold with `Word::load()` as a `fetch_add(0)`, where it
//! overlooks none but reads nothing old.

#![cfg(loom)]

mod loom_common;

use enbd_logic::logic::{
    barrier::Span,
    group::{
        GroupEvent::{self, *},
        GroupSet,
    },
    ids::GroupId,
};
use loom::{
    sync::{
        atomic::{AtomicBool, Ordering::Relaxed},
        Arc,
    },
    thread,
};
use loom_common::{chunk, explore, Block, Mirror, Slip, SOURCE, TARGET};

const FAULTY: [(GroupId, GroupEvent); 2] = [(SOURCE, JoinWhole), (TARGET, JoinStale)];
const RESYNCING: [(GroupId, GroupEvent); 3] =
    [(SOURCE, JoinWhole), (TARGET, JoinStale), (TARGET, HotAdd)];
const IN_SYNC: [(GroupId, GroupEvent); 2] = [(SOURCE, JoinWhole), (TARGET, JoinWhole)];

/// One write, as `Mirror::route_write()` sends it and `released()` ends it.
fn write(mirror: &Mirror, block: &Block, tag: usize, at: u64, value: u64) {
    let view = mirror.claim_patiently(tag, chunk(at));
    let late = mirror.slip == Slip::MarkAfterWithdraw;
    if view.faulty().has(TARGET) && !late {
        block.mark();
    }
    block.write(value, view.writable());
    mirror.withdraw(tag);
    if view.faulty().has(TARGET) && late {
        block.mark();
    }
}

/// A write and the window that copies its block: never both at once, and equal mirrors at the end.
fn write_against_window(slip: Slip) {
    explore(None, move || {
        let mirror = Arc::new(Mirror::new(&RESYNCING, slip));
        let block = Arc::new(Block::stale(true));
        let writer = {
            let (mirror, block) = (mirror.clone(), block.clone());
            thread::spawn(move || write(&mirror, &block, 0, 0, 2))
        };
        mirror.copy_window(TARGET, chunk(0), &[&block]);
        writer.join().unwrap();
        block.check(2);
    });
}

#[test]
fn a_write_and_a_window_exclude_each_other() {
    write_against_window(Slip::None);
}

#[test]
#[should_panic(expected = "a write and a copy at once")]
fn not_if_the_claim_comes_after_the_look_at_the_windows() {
    write_against_window(Slip::ClaimAfterWindows);
}

#[test]
#[should_panic(expected = "a write and a copy at once")]
fn not_if_the_window_is_raised_after_the_wait_for_claims() {
    write_against_window(Slip::RaiseAfterWait);
}

/// Two writers in the two chunks of one window: both slots are waited for.
#[test]
fn a_window_waits_for_all_slots() {
    explore(Some(1), || {
        let mirror = Arc::new(Mirror::new(&RESYNCING, Slip::None));
        let blocks = Arc::new([Block::stale(true), Block::stale(true)]);
        let writers = [0, 1].map(|i| {
            let (mirror, blocks) = (mirror.clone(), blocks.clone());
            thread::spawn(move || write(&mirror, &blocks[i], i, i as u64, 2))
        });
        let both = Span::new(0, 9);
        mirror.copy_window(TARGET, both, &[&blocks[0], &blocks[1]]);
        for writer in writers {
            writer.join().unwrap();
        }
        blocks[0].check(2);
        blocks[1].check(2);
    });
}

/// A write while the group is made resyncing: if it went by the view in which the group is faulty,
/// its mark is in the map when that is read for the first time.
fn write_against_hot_add(slip: Slip) {
    explore(None, move || {
        let mirror = Arc::new(Mirror::new(&FAULTY, slip));
        let block = Arc::new(Block::equal());
        let missed = Arc::new(AtomicBool::new(false));
        let writer = {
            let (mirror, block, missed) = (mirror.clone(), block.clone(), missed.clone());
            thread::spawn(move || {
                let view = mirror.claim_patiently(0, chunk(0));
                let (faulty, late) = (
                    view.faulty().has(TARGET),
                    mirror.slip == Slip::MarkAfterWithdraw,
                );
                missed.store(faulty, Relaxed);
                if faulty && !late {
                    block.mark();
                }
                mirror.withdraw(0);
                if faulty && late {
                    block.mark();
                }
            })
        };
        let epoch = mirror.change(TARGET, HotAdd).unwrap().epoch();
        mirror.settle(epoch);
        let seen = block.is_dirty();
        writer.join().unwrap();
        assert_eq!(seen, missed.load(Relaxed), "a mark came late");
    });
}

#[test]
fn the_map_is_complete_when_it_is_read() {
    write_against_hot_add(Slip::None);
}

#[test]
#[should_panic(expected = "a mark came late")]
fn not_if_older_writes_are_not_waited_for() {
    write_against_hot_add(Slip::NotSettled);
}

#[test]
#[should_panic(expected = "a mark came late")]
fn not_if_the_view_is_not_looked_at_after_the_claim() {
    write_against_hot_add(Slip::ViewBeforeClaim);
}

#[test]
#[should_panic(expected = "a mark came late")]
fn not_if_the_mark_comes_after_the_claim() {
    write_against_hot_add(Slip::MarkAfterWithdraw);
}

/// A write while the group returns, from the change of its state to the end of its resync.
fn write_against_resync(slip: Slip) {
    explore(Some(3), move || {
        let mirror = Arc::new(Mirror::new(&FAULTY, slip));
        let block = Arc::new(Block::equal());
        let writer = {
            let (mirror, block) = (mirror.clone(), block.clone());
            thread::spawn(move || write(&mirror, &block, 0, 0, 2))
        };
        let epoch = mirror.change(TARGET, HotAdd).unwrap().epoch();
        mirror.settle(epoch);
        mirror.walk(&block);
        writer.join().unwrap();
        assert!(mirror.view().readable().has(TARGET));
        block.check(2);
    });
}

#[test]
fn a_group_that_is_in_sync_has_every_write() {
    write_against_resync(Slip::None);
}

/// The last look, under the barrier over the whole device, waits for every claim: it alone would
/// find a late mark as well.
#[test]
fn the_last_look_finds_late_marks_too() {
    write_against_resync(Slip::NotSettled);
}

#[test]
#[should_panic]
fn not_if_the_mark_comes_after_the_claim_to_the_end() {
    write_against_resync(Slip::MarkAfterWithdraw);
}

/// The returning server is lost while a window is copied to it: what it forgot stays marked, as
/// `Mirror::fault()` marks it after it has changed the view.
fn loss_against_window(slip: Slip) {
    explore(None, move || {
        let mirror = Arc::new(Mirror::new(&RESYNCING, slip));
        let block = Arc::new(Block::stale(true));
        let loser = {
            let (mirror, block) = (mirror.clone(), block.clone());
            thread::spawn(move || {
                block.forget();
                mirror.change(TARGET, Fault).unwrap();
                block.mark();
            })
        };
        mirror.copy_window(TARGET, chunk(0), &[&block]);
        loser.join().unwrap();
        assert!(block.is_accounted_for(), "a loss is not marked");
    });
}

#[test]
fn a_loss_stays_marked() {
    loss_against_window(Slip::None);
}

#[test]
#[should_panic(expected = "a loss is not marked")]
fn not_if_a_window_clears_the_map_of_a_faulty_group() {
    loss_against_window(Slip::ClearBlindly);
}

/// A write that was sent to a group in sync, which does not take it, while the administrator takes
/// that group out and brings it back: the block is marked before the claim goes.
fn failed_write_against_hot_add(slip: Slip) {
    explore(Some(3), move || {
        let mirror = Arc::new(Mirror::new(&IN_SYNC, slip));
        let block = Arc::new(Block::equal());
        let writer = {
            let (mirror, block) = (mirror.clone(), block.clone());
            thread::spawn(move || {
                let view = mirror.claim_patiently(0, chunk(0));
                if !view.readable().has(TARGET) {
                    // Not this model's write.
                    mirror.withdraw(0);
                    return write(&mirror, &block, 0, 0, 2);
                }
                block.write(2, view.writable().without(GroupSet::of(TARGET)));
                // `Mirror::write_failed()`: refused if it is faulty already.
                let _ = mirror.change(TARGET, Fault);
                if mirror.slip == Slip::MarkAfterWithdraw {
                    mirror.withdraw(0);
                }
                block.mark();
                if mirror.slip != Slip::MarkAfterWithdraw {
                    mirror.withdraw(0);
                }
            })
        };
        let _ = mirror.change(TARGET, Fault);
        let resynced = mirror.change(TARGET, HotAdd).map(|view| {
            mirror.settle(view.epoch());
            mirror.walk(&block);
        });
        writer.join().unwrap();
        resynced.expect("it was faulty");
        // If the write's fault came later than the administrator's commands, he has to come again.
        if mirror.view().faulty().has(TARGET) {
            mirror.change(TARGET, HotAdd).unwrap();
            mirror.walk(&block);
        }
        block.check(2);
    });
}

#[test]
fn a_failed_write_is_marked_in_time() {
    failed_write_against_hot_add(Slip::None);
}

#[test]
#[should_panic]
fn a_failed_write_is_not_marked_in_time_if_its_claim_goes_first() {
    failed_write_against_hot_add(Slip::MarkAfterWithdraw);
}
