// SPDX-License-Identifier: GPL-2.0

//! Numbers for the status text.

use crate::logic::wire::request::Command;
use kernel::sync::atomic::{
    ordering::{Full, Relaxed},
    Atomic,
};

/// What was sent and answered, in bytes. Only for the status text.
#[derive(Default)]
pub(crate) struct Counters {
    /// Bytes of reads that were given to the channel.
    pub(crate) read_requested: Count,
    /// Bytes of writes that were given to the channel.
    pub(crate) write_requested: Count,
    /// Bytes of reads that were answered.
    pub(crate) read_done: Count,
    /// Bytes of writes that were answered.
    pub(crate) write_done: Count,
    /// Bytes of requests that were refused or lost.
    pub(crate) errored: Count,
}

impl Counters {
    pub(super) fn requested(&self, side: Command) -> &Count {
        match side {
            Command::Read => &self.read_requested,
            _ => &self.write_requested,
        }
    }
}

/// A number that only grows, for the status text.
pub(crate) struct Count(Atomic<u64>);

impl Default for Count {
    fn default() -> Self {
        Self(Atomic::new(0))
    }
}

impl Count {
    /// Adds.
    pub(crate) fn add(&self, n: u64) {
        self.0.add(n, Relaxed);
    }

    /// Adds one and gives the sum.
    pub(crate) fn increment(&self) -> u64 {
        self.0.fetch_add(1, Relaxed).wrapping_add(1)
    }

    /// Sets it.
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// Subtracts.
    pub(crate) fn sub(&self, n: u64) {
        self.0.add(n.wrapping_neg(), Relaxed);
    }

    /// Subtracts. Full barrier.
    pub(crate) fn sub_fully(&self, n: u64) {
        self.0.fetch_add(n.wrapping_neg(), Full);
    }

    /// The number now.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
