// SPDX-License-Identifier: GPL-2.0

//! The scout: a thread that looks what a device that was just enabled stands on, and ends. It reads
//! some places, to have something to ask servers for when they return, and tries the first writes,
//! to see whether each group has a store of its own (`crate::logic::mirror`).
//!
//! Locks: none. It may hold a request, so it ends before the disk goes.

use crate::kapi::{
    kthread::{KThread, Main},
    scope::NoIo,
};
use crate::logic::mirror::scout;
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

/// A scout at work. Dropping it ends it.
pub(super) struct Scout {
    mirror: Arc<Mirror>,
    stop: Arc<Atomic<bool>>,
    thread: Option<KThread<Errand>>,
}

impl Scout {
    pub(super) fn start(mirror: Arc<Mirror>) -> Result<Self> {
        let stop = Arc::new(Atomic::new(false), GFP_KERNEL)?;
        let letter = mirror.letter();
        let errand = Errand {
            mirror: mirror.clone(),
            stop: stop.clone(),
        };
        let name = CString::try_from_fmt(fmt!("enbd-{letter}-look"))?;
        let thread = Some(KThread::spawn(&name, errand)?);
        Ok(Self {
            mirror,
            stop,
            thread,
        })
    }
}

impl Drop for Scout {
    fn drop(&mut self) {
        self.stop.store(true, Release);
        self.mirror.waiters.wake_all();
        drop(self.thread.take());
    }
}

struct Errand {
    mirror: Arc<Mirror>,
    stop: Arc<Atomic<bool>>,
}

impl Main for Errand {
    fn main(self) {
        // Memory that we wait for must not wait for us.
        let _scope = NoIo::enter();
        scout(&*self.mirror, &|| self.stop.load(Acquire));
    }
}
