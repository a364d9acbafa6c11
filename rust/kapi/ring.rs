// SPDX-License-Identifier: GPL-2.0

//! Pages of our own that messages are copied into, so that the network can take the pages instead
//! of copying into fresh ones.
//!
//! What the network has taken must not change until nobody needs it any more: it is sent again when
//! it was lost, and over loopback it lies in the receiver's queue as it is. Each of them holds a
//! reference to the page. So a page is written to again only when ours is the only one, and closing
//! a socket needs no care. Why the pages of a request are not given away instead:
//! Documentation/performance.rst.

use super::bindings;
use kernel::{
    page::{Page, PAGE_SIZE},
    prelude::*,
};

/// Pages of a ring.
const PAGES: usize = 128;

/// Pages that are written to in turn.
///
/// # Invariants
///
/// Bytes of page `at` from `used` on, and all bytes of the `fresh` pages after it, are described by
/// no vector that was made since [`Ring::begin`]. No reference but ours to page `at` was taken
/// for bytes from `used` on.
pub(super) struct Ring {
    pages: KVec<Page>,
    at: usize,
    used: usize,
    fresh: usize,
}

impl Ring {
    pub(super) fn new() -> Result<Self> {
        let mut pages = KVec::with_capacity(PAGES, GFP_KERNEL)?;
        for _ in 0..PAGES {
            pages.push(Page::alloc_page(GFP_KERNEL)?, GFP_KERNEL)?;
        }
        // INVARIANT: There are no vectors yet, and nobody has seen the pages.
        Ok(Self {
            pages,
            at: 0,
            used: 0,
            fresh: PAGES - 1,
        })
    }

    /// All that was described before was given to the network, or is forgotten.
    pub(super) fn begin(&mut self) {
        // INVARIANT: There are no vectors now.
        self.fresh = self.pages.len().saturating_sub(1);
        if self.is_ours(self.at) {
            self.used = 0;
        }
    }

    fn is_ours(&self, at: usize) -> bool {
        self.pages.get(at).is_some_and(is_exclusive)
    }

    fn after(&self) -> usize {
        (self.at + 1) % PAGES
    }

    fn can_advance(&self) -> bool {
        self.fresh > 0 && self.is_ours(self.after())
    }

    /// Whether `len` bytes, at most a page, have room.
    pub(super) fn has_room(&self, len: usize) -> bool {
        len <= PAGE_SIZE - self.used || self.can_advance()
    }

    /// Copies what `from` describes, at most as much as has room, and appends the vectors of the
    /// copy to `out` as far as its capacity goes; gives the number of bytes.
    ///
    /// # Safety
    ///
    /// `from` must describe memory that is valid for reading.
    pub(super) unsafe fn copy(
        &mut self,
        from: &mut bindings::iov_iter,
        mut left: usize,
        out: &mut KVec<bindings::bio_vec>,
    ) -> usize {
        let mut copied = 0;
        while left > 0 {
            if self.used == PAGE_SIZE {
                if !self.can_advance() {
                    break;
                }
                // INVARIANT: The page is one of the `fresh` ones, and nobody else has a reference.
                self.at = self.after();
                self.used = 0;
                self.fresh -= 1;
            }
            if out.len() == out.capacity() {
                break;
            }
            let Some(page) = self.pages.get(self.at) else {
                break;
            };
            let len = left.min(PAGE_SIZE - self.used);
            // SAFETY: By the safety requirements of this function; the page is ours, and by the
            // type invariant nobody looks at its bytes from `used` on.
            let n = unsafe { bindings::copy_page_from_iter(page.as_ptr(), self.used, len, from) };
            let n = n.min(len);
            append(out, page, self.used, n);
            self.used += n;
            copied += n;
            left -= n;
            if n < len {
                break;
            }
        }
        copied
    }
}

/// Whether nobody but its owner has a reference to the page.
pub(super) fn is_exclusive(page: &Page) -> bool {
    // SAFETY: The page is allocated.
    unsafe { bindings::enbd_page_is_exclusive(page.as_ptr()) }
}

/// Describes bytes of a page, together with those before them if these are described last. There is
/// room for a vector.
fn append(out: &mut KVec<bindings::bio_vec>, page: &Page, offset: usize, len: usize) {
    if let Some(last) = out.last_mut() {
        let end = last.bv_offset as usize + last.bv_len as usize;
        if last.bv_page == page.as_ptr() && end == offset {
            last.bv_len = last.bv_len.saturating_add(len as u32);
            return;
        }
    }
    let vec = bindings::bio_vec {
        bv_page: page.as_ptr(),
        bv_len: len as u32,
        bv_offset: offset as u32,
    };
    let _ = out.push_within_capacity(vec);
}
