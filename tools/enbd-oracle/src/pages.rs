// SPDX-License-Identifier: GPL-2.0

//! Pages and maps for the tests of the dirty map and of the resync.

use enbd_logic::logic::bitmap::{slots_for, DirtyMap, Leaf, Slot, LEAF_WORDS};

/// A leaf page on the host.
#[derive(Debug)]
pub struct Page(Box<[u64; LEAF_WORDS]>);

impl Page {
    /// A page full of somebody else's bits, as a used one may be.
    pub fn dusty() -> Self {
        Page(Box::new([u64::MAX; LEAF_WORDS]))
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

/// A map of pages on the host.
pub type Map = DirtyMap<Page, Vec<Slot<Page>>>;

/// A table of clean slots.
pub fn table(slots: usize) -> Vec<Slot<Page>> {
    (0..slots).map(|_| Slot::Clean).collect()
}

/// A clean map.
pub fn map(blocks: u64) -> Map {
    DirtyMap::new(table(slots_for(blocks)), blocks).expect("a clean table of the right size")
}

/// Memory that is always there.
pub fn plenty() -> Option<Page> {
    Some(Page::dusty())
}

/// Memory that is never there.
pub fn none() -> Option<Page> {
    None
}

/// All dirty runs of the map, as `(first, last)`.
pub fn runs(map: &Map) -> Vec<(u64, u64)> {
    let mut runs = Vec::new();
    let mut at = 0;
    while let Some(run) = map.next_dirty(at, u64::MAX) {
        runs.push((run.first, run.last()));
        at = run.end();
    }
    runs
}
