// SPDX-License-Identifier: GPL-2.0

//! A copy of a request's data, which does not change whatever becomes of the memory of its
//! submitter, so that whoever sends it, and however often, sends the same bytes.
//!
//! The network may take the pages of a copy as they are. It keeps a reference to each for as long
//! as it may have to send it again, and over loopback until the other side has read it; so pages
//! outlive the request that they were filled for, and are filled anew only when nobody else has a
//! reference to them any more.

use super::{
    bindings,
    block::mq::{Op, Operations, Owned},
    checksum::Crc32c,
};
use core::mem::ManuallyDrop;
use kernel::{
    alloc::Flags,
    page::{Page, PAGE_SIZE},
    prelude::*,
};

struct Link {
    page: Page,
    /// Not dropped with the link: a list of links that drop each other needs a stack as long as it is.
    /// Who takes a link out takes this before.
    next: ManuallyDrop<Option<KBox<Link>>>,
}

/// Pages of our own in a list, so that they change hands without memory for that.
#[derive(Default)]
pub(crate) struct PageList {
    first: Option<KBox<Link>>,
    len: usize,
}

impl PageList {
    /// A list of `count` new pages.
    pub(crate) fn alloc(count: usize, flags: Flags) -> Result<Self> {
        let mut list = Self::default();
        for _ in 0..count {
            let page = Page::alloc_page(flags)?;
            let next = ManuallyDrop::new(None);
            list.push(KBox::new(Link { page, next }, flags)?);
        }
        Ok(list)
    }

    /// How many pages there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody else has a reference to the first page; false if there is none.
    pub(crate) fn is_first_exclusive(&self) -> bool {
        self.first
            .as_ref()
            .is_some_and(|link| is_exclusive(&link.page))
    }

    /// Moves the first page to the front of `to`; false if there is none.
    pub(crate) fn move_first(&mut self, to: &mut Self) -> bool {
        let Some(link) = self.pop() else {
            return false;
        };
        to.push(link);
        true
    }

    /// Moves all pages to the front of `to`, the last one first.
    pub(crate) fn move_all(&mut self, to: &mut Self) {
        while self.move_first(to) {}
    }

    fn pop(&mut self) -> Option<KBox<Link>> {
        let mut link = self.first.take()?;
        self.first = link.next.take();
        self.len = self.len.saturating_sub(1);
        Some(link)
    }

    fn push(&mut self, mut link: KBox<Link>) {
        *link.next = self.first.take();
        self.first = Some(link);
        self.len = self.len.saturating_add(1);
    }

    fn iter(&self) -> impl Iterator<Item = &Page> {
        let mut next = self.first.as_deref();
        core::iter::from_fn(move || {
            let link = next?;
            next = link.next.as_deref();
            Some(&link.page)
        })
    }
}

impl Drop for PageList {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

/// Whether nobody but its owner has a reference to the page.
pub(super) fn is_exclusive(page: &Page) -> bool {
    // SAFETY: The page is allocated.
    unsafe { bindings::enbd_page_is_exclusive(page.as_ptr()) }
}

/// A copy of a request's data.
///
/// # Invariants
///
/// The pages hold `len` bytes, and are not written to while the value lives.
pub(crate) struct Bounce {
    pages: PageList,
    len: usize,
    takes_pages: bool,
}

impl Bounce {
    /// Copies the data of `rq` into `pages`. `takes_pages` says whether the network may take the
    /// pages themselves, instead of copying them again. The pages come back if there are too few of
    /// them, if somebody else has a reference to one, or if the request has no data to send.
    pub(crate) fn copy<T: Operations>(
        pages: PageList,
        rq: &Owned<T>,
        takes_pages: bool,
    ) -> Result<Self, PageList> {
        let len = rq.bytes() as usize;
        let enough = pages.len().saturating_mul(PAGE_SIZE) >= len;
        if rq.op() != Op::Write || !enough || !pages.iter().all(is_exclusive) {
            return Err(pages);
        }
        fill(&pages, rq);
        // INVARIANT: Filled just now.
        Ok(Self {
            pages,
            len,
            takes_pages,
        })
    }

    /// Whether the network may take the pages themselves.
    pub(crate) fn takes_pages(&self) -> bool {
        self.takes_pages
    }

    /// Gives the pages back, for another copy.
    pub(crate) fn into_pages(self) -> PageList {
        self.pages
    }

    /// The checksum of `len` bytes from `from` on; nothing if there are fewer.
    pub(super) fn checksum(&self, from: usize, len: usize) -> Option<Crc32c> {
        (from.checked_add(len)? <= self.len)
            .then(|| Crc32c::new().pages(self.pages.iter(), from, len))?
    }

    /// Appends the bytes from `from` on to `out`, as far as its capacity and `limit` bytes go; gives
    /// how many.
    pub(super) fn segments(
        &self,
        from: usize,
        limit: usize,
        out: &mut KVec<bindings::bio_vec>,
    ) -> usize {
        let limit = limit.min(self.len.saturating_sub(from));
        describe(self.pages.iter(), from, limit, out)
    }
}

/// Copies the data of `rq` into the pages.
fn fill<T: Operations>(pages: &PageList, rq: &Owned<T>) {
    let mut to = pages.iter();
    let mut page = to.next();
    let mut used = 0;
    rq.each_segment(|mut iter, mut left| {
        while left > 0 {
            let Some(here) = page else { return };
            let room = left.min(PAGE_SIZE - used);
            // SAFETY: `iter` describes `left` bytes of the request, which stay while we have
            // it. The page is ours, nobody else has a reference to it, and there is room for
            // `room` bytes behind the first `used` ones.
            unsafe { bindings::copy_page_from_iter(here.as_ptr(), used, room, &mut iter) };
            left -= room;
            used += room;
            if used == PAGE_SIZE {
                page = to.next();
                used = 0;
            }
        }
    });
}

/// Appends `limit` bytes of these pages from byte `from` on to `out`, as far as its capacity goes;
/// gives how many.
pub(super) fn describe<'a>(
    pages: impl Iterator<Item = &'a Page>,
    from: usize,
    limit: usize,
    out: &mut KVec<bindings::bio_vec>,
) -> usize {
    let mut added = 0usize;
    let mut skip = from % PAGE_SIZE;
    for page in pages.skip(from / PAGE_SIZE) {
        let len = (PAGE_SIZE - skip).min(limit - added);
        if len == 0 {
            break;
        }
        let vec = bindings::bio_vec {
            bv_page: page.as_ptr(),
            bv_len: len as u32,
            bv_offset: skip as u32,
        };
        if out.push_within_capacity(vec).is_err() {
            break;
        }
        added += len;
        skip = 0;
    }
    added
}
