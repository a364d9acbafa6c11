// SPDX-License-Identifier: GPL-2.0

//! The pages for the copies of writes. Who gets them is decided in `crate::logic::room`.
//!
//! Lock: `pages` is a spin lock and a leaf. Data is copied outside of it.

use super::Driver;
use crate::kapi::{
    block::mq::Owned,
    bounce::{Bounce, PageList},
};
use crate::logic::room::{Lease, Room};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::{new_spinlock, SpinLock},
};

/// The largest write, in bytes: the largest that the block layer makes if nobody asks for more.
pub(crate) const LARGEST: u32 = 4 << 20;
/// Pages of the largest write.
const RESERVE: usize = LARGEST as usize / PAGE_SIZE;
/// Pages of a device.
const PAGES: usize = 2 * RESERVE;

struct Pages {
    room: Room,
    clean: PageList,
    /// Pages that the network may have, latest first.
    lent: PageList,
    /// The same, oldest first; those before all of `lent`.
    oldest: PageList,
}

/// The pages of a device; none while it is not enabled.
#[pin_data]
pub(crate) struct BouncePool {
    #[pin]
    pages: SpinLock<Option<Pages>>,
}

impl Pages {
    fn new() -> Result<Self> {
        Ok(Self {
            room: Room::new(PAGES as u32, RESERVE as u32),
            clean: PageList::alloc(PAGES, GFP_KERNEL)?,
            lent: PageList::default(),
            oldest: PageList::default(),
        })
    }

    /// Looks which of the pages that were lent first are nobody else's any more.
    fn look_at(&mut self, count: u32) {
        for _ in 0..count {
            if self.oldest.len() == 0 {
                self.lent.move_all(&mut self.oldest);
            }
            if self.oldest.is_first_exclusive() {
                self.oldest.move_first(&mut self.clean);
                self.room.regain();
            } else {
                self.oldest.move_first(&mut self.lent);
            }
        }
    }

    fn take(&mut self, count: u32) -> Option<(PageList, Lease)> {
        self.look_at(self.room.worth_a_look(count));
        let lease = self.room.take(count)?;
        let mut taken = PageList::default();
        for _ in 0..count {
            self.clean.move_first(&mut taken);
        }
        Some((taken, lease))
    }

    fn give_back(&mut self, mut pages: PageList, lease: Lease) {
        self.room.give_back(lease, pages.len() as u32);
        match lease {
            Lease::Lent => pages.move_all(&mut self.lent),
            Lease::Kept => pages.move_all(&mut self.clean),
        }
    }
}

fn pages_of(bytes: u32) -> u32 {
    bytes.div_ceil(PAGE_SIZE as u32)
}

impl BouncePool {
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            pages <- new_spinlock!(None, "enbd::BouncePool::pages"),
        })
    }

    /// Gets the pages.
    pub(crate) fn fill(&self) -> Result {
        let pages = Pages::new()?;
        let old = self.pages.lock().replace(pages);
        drop(old);
        Ok(())
    }

    /// Gives the pages up, when no request can come any more.
    pub(crate) fn drain(&self) {
        let old = self.pages.lock().take();
        drop(old);
    }

    /// Whether there is room for a copy of so many bytes.
    pub(super) fn has_room(&self, bytes: u32) -> bool {
        let pages = self.pages.lock();
        pages
            .as_ref()
            .is_some_and(|pages| pages.room.has(pages_of(bytes)))
    }

    /// Copies a write's data, if there is room.
    pub(super) fn copy(&self, rq: &Owned<Driver>) -> Option<Bounce> {
        let count = pages_of(rq.bytes());
        let taken = match &mut *self.pages.lock() {
            Some(pages) => pages.take(count),
            None => None,
        };
        let (pages, lease) = taken?;
        match Bounce::copy(pages, rq, lease == Lease::Lent) {
            Ok(bounce) => Some(bounce),
            Err(pages) => {
                self.take_back(pages, lease);
                None
            }
        }
    }

    /// Takes the pages of a copy back.
    pub(super) fn give_back(&self, bounce: Bounce) {
        let lease = if bounce.takes_pages() {
            Lease::Lent
        } else {
            Lease::Kept
        };
        self.take_back(bounce.into_pages(), lease);
    }

    fn take_back(&self, pages: PageList, lease: Lease) {
        let left = match &mut *self.pages.lock() {
            Some(all) => {
                all.give_back(pages, lease);
                None
            }
            None => Some(pages),
        };
        drop(left);
    }
}
