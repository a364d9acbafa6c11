// SPDX-License-Identifier: GPL-2.0

//! The threads that an enabled device has for itself: the [`clock`](super::clock), the
//! [`keeper`](super::keeper) and the [`scout`](super::scout).
//!
//! Locks: none.

use super::Device;
use crate::kapi::{
    kthread::{KThread, Main},
    scope::noio,
};
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

/// What such a thread does, until it is told that it is over. Waits of the mirror are ended then.
pub(super) type Work = fn(&Device, &dyn Fn() -> bool);

/// A thread of a device. Dropping it ends it.
pub(super) struct Companion {
    device: Arc<Device>,
    stop: Arc<Atomic<bool>>,
    thread: Option<KThread<Errand>>,
}

impl Companion {
    /// Starts the thread `enbd-LETTER-NAME`.
    pub(super) fn start(device: Arc<Device>, name: &str, work: Work) -> Result<Self> {
        let stop = Arc::new(Atomic::new(false), GFP_KERNEL)?;
        let errand = Errand {
            device: device.clone(),
            stop: stop.clone(),
            work,
        };
        let name = CString::try_from_fmt(fmt!("enbd-{}-{name}", device.id.letter()))?;
        let thread = Some(KThread::spawn(&name, errand)?);
        Ok(Self {
            device,
            stop,
            thread,
        })
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        self.stop.store(true, Release);
        self.device.mirror.waiters.wake_all();
        drop(self.thread.take());
    }
}

struct Errand {
    device: Arc<Device>,
    stop: Arc<Atomic<bool>>,
    work: Work,
}

impl Main for Errand {
    fn main(self) {
        // Memory that we wait for must not wait for us.
        noio(|| (self.work)(&self.device, &|| self.stop.load(Acquire)));
    }
}
