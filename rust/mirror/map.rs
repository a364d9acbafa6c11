// SPDX-License-Identifier: GPL-2.0

//! The dirty map of a group.
//!
//! Lock: a spin lock over the map. Pages are allocated before it is taken, without waiting, and a
//! page that cannot be had only makes the mark coarser: marking never fails.

use crate::logic::bitmap::{slots_for, DirtyMap, Leaf, Run, Slot, LEAF_WORDS};
use kernel::{
    alloc::Flags,
    prelude::*,
    sync::{new_spinlock, SpinLock},
};

/// One page of the map.
pub(crate) struct LeafPage(KBox<[u64; LEAF_WORDS]>);

impl LeafPage {
    /// A page of zeroes.
    pub(crate) fn new(flags: Flags) -> Option<Self> {
        KBox::zeroed(flags).ok().map(Self)
    }
}

impl Leaf for LeafPage {
    fn words(&self) -> &[u64; LEAF_WORDS] {
        &self.0
    }

    fn words_mut(&mut self) -> &mut [u64; LEAF_WORDS] {
        &mut self.0
    }
}

type Map = DirtyMap<LeafPage, KVVec<Slot<LeafPage>>>;

/// Pages that one mark brings along; a longer range gets coarse bits.
const SPARES: usize = 4;
/// Made pages that are told one by one before the map is clean again.
const TOLD: u32 = 8;

struct State {
    map: Option<Map>,
    /// Something was marked while there was no map, so all of the next one is dirty.
    missed: bool,
    told: u32,
}

/// The dirty map of a group; there is none until the size of the device and of its blocks is known.
#[pin_data]
pub(crate) struct GroupMap {
    #[pin]
    state: SpinLock<State>,
}

impl GroupMap {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            state <- new_spinlock!(State { map: None, missed: false, told: 0 }, "enbd::GroupMap::state"),
        })
    }

    /// Makes the map for `blocks` blocks. One that is there and has as many is kept; if it has not,
    /// and was not clean, or marks came while there was none, all of the new one is dirty.
    pub(crate) fn set_up(&self, blocks: u64) -> Result {
        let fits = |map: &Map| map.blocks() == blocks;
        if self.state.lock().map.as_ref().is_some_and(fits) {
            return Ok(());
        }
        let mut slots = KVVec::with_capacity(slots_for(blocks), GFP_KERNEL)?;
        for _ in 0..slots_for(blocks) {
            slots.push(Slot::Clean, GFP_KERNEL)?;
        }
        let mut map = DirtyMap::new(slots, blocks).map_err(|_| EINVAL)?;
        let mut state = self.state.lock();
        if state.missed || state.map.as_ref().is_some_and(|old| !old.is_clean()) {
            map.mark_all(&mut drop);
        }
        state.missed = false;
        let old = state.map.replace(map);
        drop(state);
        drop(old);
        Ok(())
    }

    /// Forgets the map, and whatever was marked: the group is gone.
    pub(crate) fn remove(&self) {
        let mut state = self.state.lock();
        state.missed = false;
        let old = state.map.take();
        drop(state);
        drop(old);
    }

    /// Forgets the map, since the blocks change in size; the next one is dirty if this one is.
    pub(crate) fn drop_units(&self) {
        let mut state = self.state.lock();
        let old = state.map.take();
        state.missed |= old.as_ref().is_some_and(|old| !old.is_clean());
        drop(state);
        drop(old);
    }

    /// Marks `len` blocks from `first` on as dirty.
    pub(crate) fn mark(&self, letter: char, first: u64, len: u64) {
        let wanted = self
            .state
            .lock()
            .map
            .as_ref()
            .map_or(0, |map| map.wants_page(first, len));
        let mut spares = [const { None }; SPARES];
        for spare in spares.iter_mut().take(wanted) {
            *spare = LeafPage::new(GFP_NOWAIT | __GFP_NOWARN);
        }
        let mut state = self.state.lock();
        let Some(map) = &mut state.map else {
            state.missed = true;
            return;
        };
        let marked = map.mark(first, len, &mut || {
            spares.iter_mut().find_map(|spare| spare.take())
        });
        let told = state.told;
        if marked.made.is_some() {
            state.told = told.saturating_add(1);
        }
        drop(state);
        if let (Some(made), true) = (marked.made, told < TOLD) {
            pr_info!(
                "[{letter}] bitmap_checkpage made page {} for bitmap\n",
                made.first_page
            );
        }
    }

    /// Marks everything as dirty.
    pub(crate) fn mark_all(&self) {
        let mut state = self.state.lock();
        match &mut state.map {
            Some(map) => map.mark_all(&mut drop),
            None => state.missed = true,
        }
    }

    /// Marks `run` as clean if `still`, asked under the map's lock, says so: who faults the group
    /// marks afterwards, and such marks must stay.
    pub(crate) fn clear(&self, run: Run, still: impl FnOnce() -> bool) {
        if let Some(map) = &mut self.state.lock().map {
            if still() {
                map.clear(run.first, run.len, &mut drop);
            }
        }
    }

    /// Marks everything as clean: it was marked before it was known what the group is.
    pub(crate) fn clear_all(&self) {
        if let Some(map) = &mut self.state.lock().map {
            map.clear(0, map.blocks(), &mut drop);
        }
    }

    /// Says that a resync has emptied the map.
    pub(crate) fn tell_removed(&self, letter: char) {
        self.state.lock().told = 0;
        pr_info!("[{letter}] bitmap_remove removed bitmap\n");
    }

    /// How many blocks are dirty.
    pub(crate) fn dirty(&self) -> u64 {
        self.state.lock().map.as_ref().map_or(0, Map::dirty)
    }

    /// The next dirty run at or after `from`, at most `max` blocks of it.
    pub(crate) fn next_dirty(&self, from: u64, max: u64) -> Option<Run> {
        self.state
            .lock()
            .map
            .as_ref()
            .and_then(|map| map.next_dirty(from, max))
    }

    /// Makes the bits around `block` fine with the page in `spare`, so that parts of the range can
    /// be cleared. ENOMEM if that takes a page and there is none.
    pub(crate) fn refine(&self, block: u64, spare: &mut Option<LeafPage>) -> Result {
        let mut state = self.state.lock();
        let Some(map) = &mut state.map else {
            return Ok(());
        };
        if !map.is_coarse(block) {
            return Ok(());
        }
        *spare = map.refine(block, spare.take().ok_or(ENOMEM)?).err();
        Ok(())
    }
}
