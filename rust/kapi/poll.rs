// SPDX-License-Identifier: GPL-2.0

//! Who waits for a file with poll(2), select(2) or epoll(7).
//!
//! The kernel crate has `PollCondVar`, which goes only when nobody is in its queue but epoll. The
//! files of procfs do not keep their module, so somebody may sleep in poll(2) when it goes, and has
//! to be out of the queue by then.
//!
//! C header: [`include/linux/poll.h`](srctree/include/linux/poll.h)

use super::bindings;
use kernel::{
    prelude::*,
    sync::{
        atomic::{ordering::Full, Atomic},
        rcu::synchronize_rcu,
    },
    time::{delay::fsleep, Delta},
    types::Opaque,
};

/// How long who was woken up has to leave the queue before it is looked at again, in milliseconds,
/// at first and at most.
const LEAVING_MS: (i64, i64) = (1, 64);

/// A queue of those who wait.
///
/// # Invariants
///
/// `head` is an initialised queue.
#[pin_data(PinnedDrop)]
pub(crate) struct PollQueue {
    #[pin]
    head: Opaque<bindings::wait_queue_head>,
    closed: Atomic<bool>,
}

// SAFETY: A queue of the kernel may be used and given up on any thread.
unsafe impl Send for PollQueue {}
// SAFETY: Its functions are internally synchronised.
unsafe impl Sync for PollQueue {}

impl PollQueue {
    /// An empty queue.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: Initialises the queue. INVARIANT: As is wanted.
            head <- Opaque::ffi_init(|head| unsafe { bindings::enbd_poll_init(head) }),
            closed: Atomic::new(false),
        })
    }

    /// Lets all who wait look again; to be called after the change that they may wait for. In any
    /// context.
    pub(crate) fn wake(&self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::enbd_poll_wake(self.head.get()) };
    }

    /// Puts who polls `file` into the queue, unless it is there, or does not want to wait. Afterwards
    /// there is to be looked at what it waits for. Whether the file is about to go.
    ///
    /// # Safety
    ///
    /// `file` is open, and polled with `table`. As long as it may be polled, the queue is there.
    pub(super) unsafe fn register(
        &self,
        file: *mut bindings::file,
        table: *mut bindings::poll_table_struct,
    ) -> bool {
        // SAFETY: By the type invariant, and by the safety requirements of this function; who is in
        // the queue is taken out before it goes.
        unsafe { bindings::enbd_poll_wait(file, self.head.get(), table) };
        self.closed.load(kernel::sync::atomic::ordering::Acquire)
    }

    /// The file is about to go: nobody waits for it any more. To be called while it can be polled
    /// still, since who sleeps in poll(2) leaves when it is told so there.
    pub(super) fn close(&self) {
        // A full barrier: who comes from now on, behind the lock of the queue, finds it.
        self.closed.xchg(true, Full);
        self.drain();
    }

    fn drain(&self) {
        let (mut ms, most) = LEAVING_MS;
        // SAFETY: By the type invariant.
        while unsafe { bindings::enbd_poll_drain(self.head.get()) } {
            // Nobody says that he has left.
            fsleep(Delta::from_millis(ms));
            ms = ms.saturating_mul(2).min(most);
        }
    }
}

#[pinned_drop]
impl PinnedDrop for PollQueue {
    fn drop(self: Pin<&mut Self>) {
        self.drain();
        // epoll may look at the queue until then (POLLFREE).
        synchronize_rcu();
    }
}
