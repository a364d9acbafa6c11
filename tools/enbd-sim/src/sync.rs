// SPDX-License-Identifier: GPL-2.0

//! `crate::sync` for `rust/logic`: words whose every use is a point where another thread may go on.

use shuttle::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// A shared word.
pub struct Word(AtomicU64);

impl Word {
    /// A word that holds `value`.
    pub fn new(value: u64) -> Self {
        Self(AtomicU64::new(value))
    }

    /// Loads.
    pub fn load(&self) -> u64 {
        self.0.load(SeqCst)
    }

    /// Stores.
    pub fn store(&self, value: u64) {
        self.0.store(value, SeqCst);
    }

    /// Adds, wrapping; gives what stood there.
    pub fn fetch_add(&self, value: u64) -> u64 {
        self.0.fetch_add(value, SeqCst)
    }

    /// Swaps.
    pub fn swap(&self, value: u64) -> u64 {
        self.0.swap(value, SeqCst)
    }

    /// Compares and swaps; gives the value that stood there as an error otherwise.
    pub fn compare_exchange(&self, old: u64, new: u64) -> Result<u64, u64> {
        self.0.compare_exchange(old, new, SeqCst, SeqCst)
    }
}
