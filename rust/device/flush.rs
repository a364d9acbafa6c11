// SPDX-License-Identifier: GPL-2.0

//! The flush of a disk that is to be taken away, in a thread of its own: the block layer waits for it
//! where no signal arrives, so whoever disables the device waits for the thread instead, and may give
//! up.
//!
//! The flush ends when the servers have answered, or when a channel of one that does not is lost:
//! after `timeout`, if not before. The thread ends with it.
//!
//! Locks: none.

use crate::kapi::{
    block::mq::GenDisk,
    kthread::{KThread, Main},
    scope::noio,
};
use crate::mirror::{Driver, Mirror};
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

/// No errno, but that there is none yet.
const GOING: i32 = 1;

/// A flush. Dropping it waits for its end, which [`Flush::has_ended`] tells before.
pub(super) struct Flush {
    /// [`GOING`], 0, or the negative errno.
    result: Arc<Atomic<i32>>,
    /// What became of the one before.
    before: Result,
    thread: KThread<Errand>,
}

impl Flush {
    /// Sends it. It counts as failed, too, if the one `before` has failed, of which nobody was told.
    pub(super) fn start(
        mirror: Arc<Mirror>,
        disk: Arc<GenDisk<Driver>>,
        before: Result,
    ) -> Result<Self> {
        let result = Arc::new(Atomic::new(GOING), GFP_KERNEL)?;
        let name = CString::try_from_fmt(fmt!("enbd-{}-flush", mirror.letter()))?;
        let errand = Errand {
            mirror,
            disk,
            result: result.clone(),
        };
        Ok(Self {
            result,
            before,
            thread: KThread::spawn(&name, errand)?,
        })
    }

    /// Whether it was answered, or has failed.
    pub(super) fn has_ended(&self) -> bool {
        self.result.load(Acquire) != GOING
    }

    /// Waits for its end; what became of it.
    pub(super) fn join(self) -> Result {
        drop(self.thread);
        match self.result.load(Acquire) {
            0 => self.before,
            errno => Err(Error::from_errno(errno)),
        }
    }
}

struct Errand {
    mirror: Arc<Mirror>,
    disk: Arc<GenDisk<Driver>>,
    result: Arc<Atomic<i32>>,
}

impl Main for Errand {
    fn main(self) {
        // Memory that we wait for must not wait for us.
        let flushed = noio(|| self.disk.flush());
        let errno = flushed.err().map_or(0, Error::to_errno);
        self.result.store(errno, Release);
        self.mirror.waiters.wake_all();
    }
}
