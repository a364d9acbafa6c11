// SPDX-License-Identifier: GPL-2.0

//! What the driver is to the walk of a resync.

use super::{Page, World};
use crate::logic::{
    bitmap::Run,
    evidence::CHUNK_BYTES,
    ids::GroupId,
    resync::{Bounds, Compare, Site, Users},
};
use crate::request::{Buffer, Pages, BLOCK_SECTORS};
use std::sync::atomic::Ordering::Relaxed;

impl Site for World {
    type Pages = Pages;
    type Spare = Option<Page>;

    fn buffer(&self, pages: &Pages) -> Buffer {
        Buffer::Pages(pages.clone())
    }

    fn renew(&self, pages: &mut Pages, may_wait: bool) -> bool {
        let can = may_wait || !self.lacks_page();
        if can {
            *pages = Pages::default();
        }
        can
    }

    fn is_same(&self, a: &Pages, b: &Pages, _len: usize) -> bool {
        a.values() == b.values()
    }

    fn is_zeroes(&self, pages: &Pages, len: usize) -> bool {
        let blocks = len / CHUNK_BYTES as usize;
        pages.values().iter().take(blocks).all(|&value| value == 0)
    }

    fn now_ns(&self) -> u64 {
        self.clock.now_ms() * 1_000_000
    }

    fn wait_resync(&self, ms: u32, holds: impl FnMut() -> bool) -> bool {
        self.clock.wait(u64::from(ms), holds)
    }

    fn bounds(&self) -> Bounds {
        Bounds { min: 0, max: 0 }
    }

    fn compare(&self) -> Compare {
        self.scale.compare
    }

    fn enough(&self) -> u64 {
        // So that some walks give it up.
        6
    }

    fn users(&self) -> Users {
        if self.load.load(Relaxed) > 0 {
            Users::Busy
        } else {
            Users::Quiet
        }
    }

    fn max_bytes(&self) -> u64 {
        // Windows of a few blocks, so that there are several.
        4 * BLOCK_SECTORS * 512
    }

    fn dirty(&self, group: GroupId) -> u64 {
        self.maps[group].lock().unwrap().dirty()
    }

    fn next_dirty(&self, group: GroupId, from: u64, max: u64) -> Option<Run> {
        self.maps[group].lock().unwrap().next_dirty(from, max)
    }

    fn clear_blocks(&self, group: GroupId, run: Run, still: impl FnOnce() -> bool) {
        let mut map = self.maps[group].lock().unwrap();
        if still() {
            crate::trace!(self, "group {group} got blocks {}+{}", run.first, run.len);
            map.clear(run.first, run.len, &mut drop);
        }
    }

    fn refill(&self, spare: &mut Option<Page>, may_wait: bool) -> bool {
        if spare.is_none() && (may_wait || !self.lacks_page()) {
            *spare = Some(Page::new());
        }
        spare.is_some()
    }

    fn refine(&self, group: GroupId, block: u64, spare: &mut Option<Page>) -> bool {
        let mut map = self.maps[group].lock().unwrap();
        if !map.is_coarse(block) {
            return true;
        }
        let Some(page) = spare.take() else {
            return false;
        };
        *spare = map.refine(block, page).err();
        true
    }
}
