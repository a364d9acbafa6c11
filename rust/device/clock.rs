// SPDX-License-Identifier: GPL-2.0

//! The clock: the thread of an enabled device that looks twice a second whether a group was without
//! channels for `timeout`.
//!
//! It does nothing else, and waits for nothing but its next look: not for a server, as a channel
//! does while it connects, nor for memory or a resync, as the keeper does. What all of those wait
//! for may be a write that is held until this thread faults the group.
//!
//! Locks: none.

use crate::kapi::{
    kthread::{KThread, Main},
    scope::NoIo,
};
use crate::logic::{mirror::Losses, MAX_GROUPS};
use crate::mirror::Mirror;
use kernel::{
    prelude::*,
    str::CString,
    sync::{
        atomic::{
            ordering::{Acquire, Release},
            Atomic,
        },
        Arc,
    },
};

/// How often it looks, in milliseconds.
const LOOK_MS: u32 = 500;

/// A clock that runs. Dropping it stops it.
pub(super) struct Clock {
    mirror: Arc<Mirror>,
    stop: Arc<Atomic<bool>>,
    thread: Option<KThread<Ticking>>,
}

impl Clock {
    pub(super) fn start(mirror: Arc<Mirror>) -> Result<Self> {
        let stop = Arc::new(Atomic::new(false), GFP_KERNEL)?;
        let ticking = Ticking {
            mirror: mirror.clone(),
            stop: stop.clone(),
        };
        let name = CString::try_from_fmt(fmt!("enbd-{}-clock", mirror.letter()))?;
        let thread = Some(KThread::spawn(&name, ticking)?);
        Ok(Self {
            mirror,
            stop,
            thread,
        })
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.stop.store(true, Release);
        self.mirror.waiters.wake_all();
        drop(self.thread.take());
    }
}

struct Ticking {
    mirror: Arc<Mirror>,
    stop: Arc<Atomic<bool>>,
}

impl Main for Ticking {
    fn main(self) {
        // Memory that we wait for must not wait for us.
        let _scope = NoIo::enter();
        while !self.stop.load(Acquire) {
            for group in 0..MAX_GROUPS {
                self.mirror.expire_if_down(group);
            }
            // Woken up only to stop.
            let _ = self.mirror.wait(LOOK_MS, || self.stop.load(Acquire));
        }
    }
}
