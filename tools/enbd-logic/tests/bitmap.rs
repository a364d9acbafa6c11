// SPDX-License-Identifier: GPL-2.0

//! The dirty map, example by example: refusals, borders, coarse slots, memory.

use enbd_logic::logic::bitmap::*;
use enbd_oracle::pages::{map, none, plenty, runs, table, Map, Page};

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;
const LAST: u64 = LEAF_BLOCKS - 1;

fn check(map: &Map) {
    assert_eq!(map.self_check(), Ok(()));
}

#[test]
fn a_slot_costs_16_bytes() {
    assert_eq!(size_of::<Slot<Page>>(), 16);
}

#[test]
fn new_refuses_with_a_reason() {
    fn made(slots: Vec<Slot<Page>>, blocks: u64) -> Result<(), MapReason> {
        DirtyMap::new(slots, blocks).map(drop)
    }
    assert_eq!(made(table(0), 0), Err(MapReason::NoBlocks));
    assert_eq!(made(table(0), 1), Err(MapReason::WrongSlots));
    assert_eq!(made(table(1), LEAF_BLOCKS + 1), Err(MapReason::WrongSlots));
    assert_eq!(made(table(2), LEAF_BLOCKS), Err(MapReason::WrongSlots));
    let used = vec![Slot::Coarse {
        lo: true,
        hi: false,
    }];
    assert_eq!(made(used, 5), Err(MapReason::SlotInUse));
    assert_eq!(made(table(2), LEAF_BLOCKS + 1), Ok(()));
    assert!(!MapReason::WrongSlots.as_str().is_empty());
}

#[test]
fn slots_for_every_size() {
    assert_eq!(slots_for(0), 0);
    assert_eq!(slots_for(1), 1);
    assert_eq!(slots_for(LEAF_BLOCKS), 1);
    assert_eq!(slots_for(LEAF_BLOCKS + 1), 2);
    assert_eq!(slots_for(u64::MAX), 1 << 49);
}

#[test]
fn a_map_may_borrow_its_table() {
    let mut slots = table(1);
    let mut map = DirtyMap::new(&mut slots[..], 10).unwrap();
    assert_eq!(map.mark(9, 1, &mut plenty).newly, 1);
    assert_eq!(map.next_dirty(0, 1), Some(Run { first: 9, len: 1 }));
}

#[test]
fn the_device_of_2003() {
    let mut map = map(4096);
    assert_eq!(map.wants_page(1, 3), 1);
    let marked = map.mark(1, 3, &mut plenty);
    assert_eq!(
        marked,
        Marked {
            newly: 3,
            over: 0,
            made: Some(Made {
                first_page: 0,
                pages: 1
            }),
        }
    );
    assert_eq!(map.wants_page(6, 1), 0);
    assert_eq!(map.mark(6, 1, &mut none).made, None);
    assert_eq!(map.mark(146, 1029, &mut none).newly, 1029);
    assert_eq!(map.mark(146, 1029, &mut none).newly, 0);
    assert_eq!((map.dirty(), map.pages()), (1033, 1));
    assert_eq!(runs(&map), [(1, 3), (6, 6), (146, 1174)]);
    check(&map);

    let mut freed = 0;
    assert_eq!(map.clear(0, 146, &mut |_| freed += 1), 4);
    check(&map);
    assert_eq!(freed, 0);
    assert_eq!(map.clear(0, u64::MAX, &mut |_| freed += 1), 1029);
    assert_eq!((freed, map.pages(), map.is_clean()), (1, 0, true));
    check(&map);
}

#[test]
fn ranges_beyond_the_device_are_cut() {
    let mut map = map(LEAF_BLOCKS + 10);
    for (first, len) in [
        (LEAF_BLOCKS + 10, 1),
        (u64::MAX, 1),
        (u64::MAX, u64::MAX),
        (3, 0),
        (LEAF_BLOCKS + 10, u64::MAX),
    ] {
        assert_eq!(map.wants_page(first, len), 0);
        assert_eq!(map.mark(first, len, &mut plenty), Marked::default());
        assert_eq!(map.clear(first, len, &mut drop), 0);
    }
    assert_eq!(map.mark(LEAF_BLOCKS + 9, u64::MAX, &mut plenty).newly, 1);
    assert!(map.next_dirty(LEAF_BLOCKS + 10, 1).is_none());
    assert!(map.next_dirty(u64::MAX, u64::MAX).is_none());
    assert!(!map.is_coarse(u64::MAX));
    assert!(map.refine(u64::MAX, Page::dusty()).is_err());
    assert!(map.refine(0, Page::dusty()).is_err());
    assert!(map.refine(LEAF_BLOCKS, Page::dusty()).is_err());
    check(&map);
}

#[test]
fn without_memory_halves_are_marked() {
    // The last leaf has 10 blocks, all in its lower half.
    let mut map = map(2 * LEAF_BLOCKS + 10);
    let marked = map.mark(5, 1, &mut none);
    assert_eq!((marked.newly, marked.over), (16384, 16383));
    assert_eq!(runs(&map), [(0, 16383)]);
    assert!(map.is_coarse(20000));
    assert!(!map.is_coarse(LEAF_BLOCKS));
    let marked = map.mark(2 * LEAF_BLOCKS + 3, 1, &mut none);
    assert_eq!((marked.newly, marked.over), (10, 9));
    assert_eq!(
        runs(&map),
        [(0, 16383), (2 * LEAF_BLOCKS, 2 * LEAF_BLOCKS + 9)]
    );
    assert_eq!(map.pages(), 0);
    check(&map);

    // Half a half is not enough to clear it, all that the device has of it is.
    assert_eq!(map.clear(0, 16383, &mut drop), 0);
    assert_eq!(map.clear(1, 16383, &mut drop), 0);
    assert_eq!(map.clear(0, 16384, &mut drop), 16384);
    assert_eq!(map.clear(2 * LEAF_BLOCKS, 9, &mut drop), 0);
    assert_eq!(map.clear(2 * LEAF_BLOCKS, 10, &mut drop), 10);
    assert!(map.is_clean());
    check(&map);
}

#[test]
fn over_marking_stays_below_one_leaf() {
    // The worst cases: the two blocks in the middle of a leaf, and one block into each end.
    for (first, len) in [
        (16383, 2),
        (LAST, 2),
        (LAST, LEAF_BLOCKS + 2),
        (LAST, 16386),
    ] {
        let mut map = map(4 * LEAF_BLOCKS);
        let marked = map.mark(first, len, &mut none);
        assert_eq!(marked.newly, len + marked.over);
        assert!(marked.over < LEAF_BLOCKS, "{first}+{len}: {}", marked.over);
        check(&map);
    }
}

#[test]
fn whole_halves_take_no_page() {
    let mut map = map(2 * LEAF_BLOCKS);
    assert_eq!(map.wants_page(0, 2 * LEAF_BLOCKS), 0);
    assert_eq!(map.wants_page(1, 2 * LEAF_BLOCKS), 1);
    let marked = map.mark(16384, LEAF_BLOCKS, &mut plenty);
    assert_eq!((marked.newly, marked.over, marked.made), (32768, 0, None));
    assert_eq!(runs(&map), [(16384, 49151)]);
    // What is coarse already needs nothing either; the other half of it does.
    assert_eq!(map.wants_page(20000, 5), 0);
    assert_eq!(map.wants_page(16383, 2), 1);
    let marked = map.mark(16383, 2, &mut plenty);
    assert_eq!((marked.newly, marked.over), (1, 0));
    assert_eq!(runs(&map), [(16383, 49151)]);
    assert!(!map.is_coarse(0));
    check(&map);
}

#[test]
fn refine_changes_no_block() {
    let mut map = map(LEAF_BLOCKS + 20000);
    map.mark(LEAF_BLOCKS + 19999, 1, &mut none);
    let before = runs(&map);
    assert_eq!(before, [(LEAF_BLOCKS + 16384, LEAF_BLOCKS + 19999)]);
    assert!(map.refine(LEAF_BLOCKS, Page::dusty()).is_ok());
    assert_eq!(runs(&map), before);
    assert_eq!(map.pages(), 1);
    check(&map);
    assert_eq!(map.clear(LEAF_BLOCKS + 16384, 1, &mut drop), 1);
    assert!(map.refine(LEAF_BLOCKS, Page::dusty()).is_err());
    check(&map);
}

#[test]
fn all_at_once() {
    for blocks in [1, 16384, 16385, LEAF_BLOCKS, LEAF_BLOCKS + 1, 70000] {
        let mut map = map(blocks);
        map.mark(blocks - 1, 1, &mut plenty);
        let mut freed = 0;
        map.mark_all(&mut |_| freed += 1);
        assert_eq!((map.dirty(), map.pages()), (blocks, 0));
        assert_eq!(runs(&map), [(0, blocks - 1)]);
        check(&map);
        map.refine(0, Page::dusty()).unwrap();
        map.clear_all(&mut |_| freed += 1);
        assert!(map.is_clean() && map.next_dirty(0, 1).is_none());
        assert!(freed >= 1);
        check(&map);
    }
}

#[test]
fn runs_cross_leaves_and_are_cut() {
    let mut map = map(4 * LEAF_BLOCKS);
    map.mark(LAST, 2, &mut plenty);
    map.mark(LEAF_BLOCKS + 1, 2 * LEAF_BLOCKS, &mut none);
    let end = 3 * LEAF_BLOCKS + 16384;
    assert_eq!(runs(&map), [(LAST, end - 1)]);
    assert_eq!(
        map.next_dirty(40000, 7),
        Some(Run {
            first: 40000,
            len: 7
        })
    );
    assert_eq!(
        map.next_dirty(end - 3, 7),
        Some(Run {
            first: end - 3,
            len: 3
        })
    );
    // A cut of nothing would look like a clean map.
    assert_eq!(
        map.next_dirty(0, 0),
        Some(Run {
            first: LAST,
            len: 1
        })
    );
    assert_eq!(map.next_dirty(end, 7), None);
}

#[test]
fn memory_of_clustered_dirt() {
    // Every alignment of 1 GiB of writes of 256 KiB on a disk of 1 TiB, in blocks of 4 KiB.
    let (blocks, gib, step) = (TIB / 4096, (1 << 30) / 4096, 64);
    for first in [0, 1, 16384, LAST, 12_345_678] {
        let mut map = map(blocks);
        let table = map.memory();
        for at in (first..first + gib).step_by(step) {
            map.mark(at, step as u64, &mut plenty);
        }
        assert_eq!(map.dirty(), gib);
        let used = map.memory() - table + map.pages() * size_of::<Slot<Page>>();
        assert!(used <= 40 * 1024, "{used} bytes for 1024 MiB of dirt");
    }
}

#[test]
fn memory_at_worst_for_a_tib() {
    let mut map = map(TIB / 4096);
    assert!(map.memory() as u64 <= MIB / 8);
    for leaf in 0..TIB / 4096 / LEAF_BLOCKS {
        map.mark(leaf * LEAF_BLOCKS + leaf % 7, 1, &mut plenty);
    }
    assert_eq!(map.pages(), 8192);
    assert!(map.memory() as u64 <= 33 * MIB, "{} bytes", map.memory());
    // All of it, the cheap way.
    map.mark_all(&mut drop);
    assert!(map.memory() as u64 <= MIB / 8);
}
