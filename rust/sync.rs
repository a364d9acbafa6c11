// SPDX-License-Identifier: GPL-2.0

//! The kernel's side of `crate::sync`, which `rust/logic` uses; the host's is
//! `tools/enbd-logic/src/sync.rs`.

use kernel::sync::atomic::{
    ordering::{Acquire, Full, Release},
    Atomic,
};

/// A shared word.
pub(crate) struct Word(Atomic<u64>);

impl Word {
    /// A word that holds `value`.
    pub(crate) fn new(value: u64) -> Self {
        Self(Atomic::new(value))
    }

    /// Loads, with acquire ordering.
    pub(crate) fn load(&self) -> u64 {
        self.0.load(Acquire)
    }

    /// Stores, with release ordering.
    pub(crate) fn store(&self, value: u64) {
        self.0.store(value, Release);
    }

    /// Adds, wrapping, with a full barrier before and after; gives what stood there.
    pub(crate) fn fetch_add(&self, value: u64) -> u64 {
        self.0.fetch_add(value, Full)
    }

    /// Swaps, with a full barrier before and after.
    pub(crate) fn swap(&self, value: u64) -> u64 {
        self.0.xchg(value, Full)
    }

    /// Compares and swaps, with a full barrier where it succeeds; gives the value that stood there
    /// as an error otherwise.
    pub(crate) fn compare_exchange(&self, old: u64, new: u64) -> Result<u64, u64> {
        self.0.cmpxchg(old, new, Full)
    }
}
