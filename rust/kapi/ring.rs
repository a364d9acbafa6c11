// SPDX-License-Identifier: GPL-2.0

//! Pages of our own that headers are written to, so that the network can take the pages instead of
//! copying into fresh ones.
//!
//! What the network has taken must not change until nobody needs it any more: it is sent again when
//! it was lost, and over loopback it lies in the receiver's queue as it is. Each of them holds a
//! reference to the page. So a page is written to again only when ours is the only one, and closing
//! a socket needs no care.

use super::{bindings, bounce::is_exclusive};
use kernel::{
    page::{Page, PAGE_SIZE},
    prelude::*,
};

/// Pages of a ring.
const PAGES: usize = 8;

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

    /// Whether `len` bytes, at most a page, have room.
    pub(super) fn has_room(&self, len: usize) -> bool {
        len <= PAGE_SIZE - self.used || self.fresh > 0 && self.is_ours(self.after())
    }

    /// Writes bytes, and appends the vector that describes them to `out`. ENOSPC where
    /// [`Ring::has_room`] says no, or `out` is full.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut KVec<bindings::bio_vec>) -> Result {
        if !self.has_room(bytes.len()) || bytes.len() > PAGE_SIZE {
            return Err(ENOSPC);
        }
        if bytes.len() > PAGE_SIZE - self.used {
            // INVARIANT: The page is one of the `fresh` ones, and nobody else has a reference.
            self.at = self.after();
            self.used = 0;
            self.fresh -= 1;
        }
        let page = self.pages.get(self.at).ok_or(ENOSPC)?;
        // SAFETY: `bytes` is valid for reading; the page is ours, and by the type invariant nobody
        // looks at its bytes from `used` on.
        unsafe { page.write_raw(bytes.as_ptr(), self.used, bytes.len()) }?;
        append(out, page, self.used, bytes.len())?;
        self.used += bytes.len();
        Ok(())
    }
}

/// Describes bytes of a page, together with those before them if these are described last. ENOSPC
/// if there is no room for a vector.
fn append(out: &mut KVec<bindings::bio_vec>, page: &Page, offset: usize, len: usize) -> Result {
    if let Some(last) = out.last_mut() {
        let end = last.bv_offset as usize + last.bv_len as usize;
        if last.bv_page == page.as_ptr() && end == offset {
            last.bv_len = last.bv_len.saturating_add(len as u32);
            return Ok(());
        }
    }
    let vec = bindings::bio_vec {
        bv_page: page.as_ptr(),
        bv_len: len as u32,
        bv_offset: offset as u32,
    };
    out.push_within_capacity(vec).map_err(|_| ENOSPC)
}
