// SPDX-License-Identifier: GPL-2.0

//! The host's side of `crate::sync`: `core`'s atomics, or loom's under `--cfg loom`.

#[cfg(not(loom))]
use core::sync::atomic::{fence, AtomicU64, Ordering};
#[cfg(loom)]
use loom::sync::atomic::{fence, AtomicU64, Ordering};

/// A shared word.
pub struct Word(AtomicU64);

impl Word {
    /// A word that holds `value`.
    pub fn new(value: u64) -> Self {
        Self(AtomicU64::new(value))
    }

    /// Loads, with acquire ordering.
    pub fn load(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Stores, with release ordering.
    pub fn store(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }

    /// Adds, wrapping, with a full barrier before and after; gives what stood there.
    pub fn fetch_add(&self, value: u64) -> u64 {
        fence(Ordering::SeqCst);
        let old = self.0.fetch_add(value, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        old
    }

    /// Swaps, with a full barrier before and after, as the kernel's `xchg()` has.
    pub fn swap(&self, value: u64) -> u64 {
        fence(Ordering::SeqCst);
        let old = self.0.swap(value, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        old
    }

    /// Compares and swaps, with a full barrier where it succeeds; gives the value that stood there
    /// as an error otherwise.
    pub fn compare_exchange(&self, old: u64, new: u64) -> Result<u64, u64> {
        fence(Ordering::SeqCst);
        let result = self
            .0
            .compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire);
        fence(Ordering::SeqCst);
        result
    }
}
