// SPDX-License-Identifier: GPL-2.0

//! Waiting for conditions that others bring about, at no cost to them while nobody waits.
//!
//! The bad interleaving: the waiter finds its condition false; the other makes it true and, seeing
//! nobody wait, wakes nobody; the waiter goes to sleep for ever. So the waiter first counts itself
//! (full barrier), then looks; the other first acts, with a full barrier (or under a lock that the
//! condition takes too), then looks at the count. One of the two sees the other.
//!
//! Locks: `lock` protects nothing but the step from looking to sleeping. Conditions are looked at
//! under it, so they may take spin locks and must not wait.

use kernel::{
    prelude::*,
    sync::{
        atomic::{ordering::Full, Atomic},
        new_condvar, new_mutex, CondVar, CondVarTimeoutResult, Mutex,
    },
    time::msecs_to_jiffies,
};

/// Why a wait ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Woken {
    /// The condition holds.
    Holds,
    /// The time ran out.
    TimedOut,
    /// A signal came for the waiting task.
    Signal,
}

/// A place to wait.
#[pin_data]
pub(crate) struct Waiters {
    count: Atomic<u32>,
    #[pin]
    lock: Mutex<()>,
    #[pin]
    wake: CondVar,
}

impl Waiters {
    /// A place where nobody waits yet.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            count: Atomic::new(0),
            lock <- new_mutex!((), "enbd::Waiters::lock"),
            wake <- new_condvar!("enbd::Waiters::wake"),
        })
    }

    /// Waits until `holds`, at most `ms` milliseconds where given. Interruptible, so that a thread
    /// which waits counts neither as load nor as hung.
    pub(crate) fn wait(&self, ms: Option<u32>, mut holds: impl FnMut() -> bool) -> Woken {
        self.count.fetch_add(1, Full);
        let mut guard = self.lock.lock();
        let mut left = ms.map(msecs_to_jiffies);
        let woken = loop {
            if holds() {
                break Woken::Holds;
            }
            match &mut left {
                None => {
                    if self.wake.wait_interruptible(&mut guard) {
                        break Woken::Signal;
                    }
                }
                Some(left) => match self.wake.wait_interruptible_timeout(&mut guard, *left) {
                    CondVarTimeoutResult::Woken { jiffies } => *left = jiffies,
                    CondVarTimeoutResult::Signal { .. } => break Woken::Signal,
                    CondVarTimeoutResult::Timeout if holds() => break Woken::Holds,
                    CondVarTimeoutResult::Timeout => break Woken::TimedOut,
                },
            }
        };
        drop(guard);
        self.count.fetch_sub(1, Full);
        woken
    }

    /// Lets all who wait look again. To be called after the change that they may wait for; may
    /// sleep.
    pub(crate) fn wake_all(&self) {
        // The read-modify-write is a full barrier between the change and the look at the count.
        if self.count.fetch_add(0, Full) == 0 {
            return;
        }
        let guard = self.lock.lock();
        self.wake.notify_all();
        drop(guard);
    }
}
