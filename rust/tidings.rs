// SPDX-License-Identifier: GPL-2.0

//! That something has changed, for programs that wait for it with poll(2).
//!
//! Locks: none of its own; it may be told with mutexes held.

use crate::kapi::poll::PollQueue;
use crate::logic::tell::Changes;
use kernel::prelude::*;

/// What has changed in any device since the module was loaded, and who waits for more.
#[pin_data]
pub(crate) struct Tidings {
    changes: Changes,
    #[pin]
    pollers: PollQueue,
}

impl Tidings {
    /// Nothing has changed, and nobody waits.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            changes: Changes::default(),
            pollers <- PollQueue::new(),
        })
    }

    /// Something that the status shows has changed. To be called afterwards.
    pub(crate) fn tell(&self) {
        self.changes.note();
        self.pollers.wake();
    }

    /// See [`Changes::now`].
    pub(crate) fn changes(&self) -> u64 {
        self.changes.now()
    }

    /// Who waits.
    pub(crate) fn pollers(&self) -> &PollQueue {
        &self.pollers
    }
}
