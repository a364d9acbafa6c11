// SPDX-License-Identifier: GPL-2.0

//! Pages of our own that transfers are received into and sent from.
//!
//! The network takes them as they are: it keeps references to them, and must not see them change. So
//! what wants to use them needs a handle that says for what, and there are never handles of both
//! kinds at a time:
//!
//! - [`Filling`], to receive into them. There is none once they were given to the network, until
//!   [`Pages::reclaim`] has found that nobody else has references any more.
//! - [`Sending`], to send from them.

use super::{
    bindings,
    bounce::{describe, is_exclusive},
};
use kernel::{
    alloc::Flags,
    page::{Page, PAGE_SIZE},
    prelude::*,
    sync::{
        atomic::{
            ordering::{Acquire, Relaxed, Release},
            Atomic,
        },
        Arc,
    },
};

/// Pages for our own transfers.
///
/// # Invariants
///
/// `users` is the number of [`Filling`]s, or minus that of [`Sending`]s. While `given` is false
/// nobody else has references to the pages; it is written to only by who has a handle.
pub(crate) struct Pages {
    pages: KVec<Page>,
    users: Atomic<i32>,
    given: Atomic<bool>,
}

impl Pages {
    /// Pages for `bytes` bytes.
    pub(crate) fn new(bytes: usize, flags: Flags) -> Result<Self> {
        let count = bytes.div_ceil(PAGE_SIZE);
        let mut pages = KVec::with_capacity(count, flags)?;
        for _ in 0..count {
            pages.push(Page::alloc_page(flags)?, flags)?;
        }
        // INVARIANT: There are no handles yet, and nobody has seen the pages.
        Ok(Self {
            pages,
            users: Atomic::new(0),
            given: Atomic::new(false),
        })
    }

    /// Pages that hold `bytes`.
    pub(crate) fn holding(bytes: &[u8], flags: Flags) -> Result<Self> {
        let pages = Self::new(bytes.len(), flags)?;
        for (page, part) in pages.pages.iter().zip(bytes.chunks(PAGE_SIZE)) {
            // SAFETY: The page is ours, nobody else has a reference to it yet, and `part` is valid
            // for reading and not larger than a page.
            unsafe { bindings::enbd_copy_to_page(page.as_ptr(), part.as_ptr(), part.len()) };
        }
        Ok(pages)
    }

    /// Copies the bytes from `from` on to `to`; false if there are fewer, or they are in two pages. If
    /// a transfer writes to them meanwhile they mean nothing.
    pub(crate) fn copy_to(&self, from: usize, to: &mut [u8]) -> bool {
        let (page, offset) = (self.pages.get(from / PAGE_SIZE), from % PAGE_SIZE);
        match page {
            Some(page) if to.len() <= PAGE_SIZE - offset => {
                // SAFETY: The page is ours, the range lies in it, and `to` is valid for writing so
                // many bytes. C may read what others write.
                unsafe {
                    bindings::enbd_copy_from_page(page.as_ptr(), offset, to.as_mut_ptr(), to.len());
                }
                true
            }
            _ => false,
        }
    }

    /// Bytes that there is room for.
    pub(crate) fn size(&self) -> usize {
        self.pages.len().saturating_mul(PAGE_SIZE)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Page> {
        self.pages.iter()
    }

    /// Takes the pages back from the network. False if somebody sends from them, or the network has
    /// references to them still.
    pub(crate) fn reclaim(&self) -> bool {
        let Some(filling) = Filling::begin(self) else {
            return false;
        };
        let exclusive = !self.given.load(Relaxed) || self.pages.iter().all(is_exclusive);
        if exclusive {
            // INVARIANT: Nobody has references, and nobody can get any while we have `filling`.
            self.given.store(false, Relaxed);
        }
        drop(filling);
        exclusive
    }

    /// Counts a handle, one up for a [`Filling`] and one down for a [`Sending`]; false if there are
    /// handles of the other kind.
    fn enter(&self, step: i32) -> bool {
        let mut users = self.users.load(Relaxed);
        loop {
            let Some(next) = users.checked_add(step) else {
                return false;
            };
            if users.signum() == -step {
                return false;
            }
            // Who comes sees what those of the other kind have done.
            match self.users.cmpxchg(users, next, Acquire) {
                Ok(_) => return true,
                Err(now) => users = now,
            }
        }
    }

    /// Whether the first `len` bytes are zeroes; as [`Pages::is_same`].
    pub(crate) fn is_zeroes(&self, len: usize) -> bool {
        let mut left = len;
        self.pages.iter().all(|page| {
            let part = left.min(PAGE_SIZE);
            left -= part;
            // SAFETY: The page is ours, and C may read what others write.
            unsafe { bindings::enbd_is_zeroes(page.as_ptr(), part) }
        })
    }

    /// Whether the first `len` bytes are those of `other`. If a transfer writes to either meanwhile
    /// the answer means nothing.
    pub(crate) fn is_same(&self, other: &Self, len: usize) -> bool {
        let mut left = len;
        for (ours, theirs) in self.pages.iter().zip(other.pages.iter()) {
            let part = left.min(PAGE_SIZE);
            // SAFETY: Both are pages of ours, and C's memcmp() may read what others write.
            if !unsafe { bindings::enbd_is_same(ours.as_ptr(), theirs.as_ptr(), part) } {
                return false;
            }
            left -= part;
        }
        left == 0
    }
}

/// While it lives the pages are not sent from.
///
/// # Invariants
///
/// It is one of the pages' `users`.
pub(super) struct Filling<'a>(&'a Pages);

impl<'a> Filling<'a> {
    fn begin(pages: &'a Pages) -> Option<Self> {
        // INVARIANT: Counted just now.
        pages.enter(1).then(|| Self(pages))
    }

    /// For who receives into the pages; nothing if somebody sends from them, or they were given to
    /// the network.
    pub(super) fn new(pages: &'a Pages) -> Option<Self> {
        Self::begin(pages).filter(|filling| !filling.0.given.load(Relaxed))
    }

    /// Describes the bytes from `from` on, as [`describe`].
    pub(super) fn segments(
        &self,
        from: usize,
        limit: usize,
        out: &mut KVec<bindings::bio_vec>,
    ) -> usize {
        describe(self.0.iter(), from, limit, out)
    }
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        self.0.users.fetch_sub(1, Release);
    }
}

/// While it lives the pages are not received into, and keep their content.
///
/// # Invariants
///
/// It is one of the pages' `users`, counted downwards, and they are `given`.
pub(super) struct Sending(Arc<Pages>);

impl Sending {
    /// For who sends from the pages; nothing if somebody receives into them.
    pub(super) fn new(pages: Arc<Pages>) -> Option<Self> {
        if !pages.enter(-1) {
            return None;
        }
        pages.given.store(true, Relaxed);
        // INVARIANT: Counted and given just now.
        Some(Self(pages))
    }

    /// Describes the bytes from `from` on, as [`describe`].
    pub(super) fn segments(
        &self,
        from: usize,
        limit: usize,
        out: &mut KVec<bindings::bio_vec>,
    ) -> usize {
        describe(self.0.iter(), from, limit, out)
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.users.fetch_add(1, Release);
    }
}
