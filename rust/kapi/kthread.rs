// SPDX-License-Identifier: GPL-2.0

//! Kernel threads that run a function of a value and are joined when their handle is dropped.
//!
//! C header: [`include/linux/kthread.h`](srctree/include/linux/kthread.h)

use super::bindings;
use core::marker::PhantomData;
use kernel::{
    error::from_err_ptr,
    ffi,
    prelude::*,
    sync::{Arc, Completion},
};

/// What a thread does with the value that it is given.
pub(crate) trait Main: Send + 'static {
    /// Runs in the thread, which ends when this returns.
    fn main(self);
}

/// A running kernel thread. Dropping the handle waits until it has returned, so the owner must
/// first make whatever the thread waits for happen, and must not be the thread itself.
///
/// The wait is for a completion, and `kthread_stop()` is called only afterwards: it makes every
/// interruptible wait of the thread end as if by a signal.
///
/// # Invariants
///
/// `task` is a kthread that runs [`trampoline::<M>`] and that we have a reference to.
pub(crate) struct KThread<M: Main> {
    task: *mut bindings::task_struct,
    done: Arc<Completion>,
    _main: PhantomData<fn(M)>,
}

// SAFETY: A task may be stopped from any thread.
unsafe impl<M: Main> Send for KThread<M> {}
// SAFETY: `&KThread` gives access to nothing but the pid, which does not change.
unsafe impl<M: Main> Sync for KThread<M> {}

/// What a new thread is given.
struct Start<M: Main> {
    value: M,
    done: Arc<Completion>,
}

impl<M: Main> KThread<M> {
    /// Starts a thread called `name` (at most 15 bytes are kept).
    pub(crate) fn spawn(name: &CStr, value: M) -> Result<Self> {
        Self::spawn_with(name, value, false)
    }

    /// Like [`KThread::spawn`]; when it wakes up, the thread waits until the task that its CPU runs
    /// sleeps, or has had its slice of time. So what wakes it up can pile up, and is then done in
    /// one go.
    pub(crate) fn spawn_batch(name: &CStr, value: M) -> Result<Self> {
        Self::spawn_with(name, value, true)
    }

    fn spawn_with(name: &CStr, value: M, batch: bool) -> Result<Self> {
        let done = Arc::pin_init(Completion::new(), GFP_KERNEL)?;
        let start = Start {
            value,
            done: done.clone(),
        };
        let start = KBox::into_raw(KBox::new(start, GFP_KERNEL)?);
        // SAFETY: The format takes one string, and both strings live longer than the call. The
        // trampoline takes the value that is given along.
        let task = from_err_ptr(unsafe {
            bindings::kthread_create_on_node(
                Some(trampoline::<M>),
                start.cast(),
                bindings::NUMA_NO_NODE,
                c"%s".as_char_ptr(),
                name.as_char_ptr(),
            )
        })
        .inspect_err(|_| {
            // SAFETY: No thread was made, so the value still belongs to us.
            drop(unsafe { KBox::from_raw(start) });
        })?;
        // SAFETY: A new kthread stays alive until it has been woken up, which it has not yet been.
        unsafe { bindings::get_task_struct(task) };
        if batch {
            // SAFETY: We hold a reference.
            unsafe { bindings::enbd_task_set_batch(task) };
        }
        // SAFETY: We hold a reference.
        unsafe { bindings::wake_up_process(task) };
        // INVARIANT: As made above.
        Ok(Self {
            task,
            done,
            _main: PhantomData,
        })
    }

    /// The number that the system knows the thread by.
    pub(crate) fn pid(&self) -> i32 {
        // SAFETY: By the type invariant; `pid` never changes.
        unsafe { (*self.task).pid }
    }
}

impl<M: Main> Drop for KThread<M> {
    fn drop(&mut self) {
        self.done.wait_for_completion();
        // Waits until the thread has left the module's code too.
        // SAFETY: By the type invariant.
        unsafe { bindings::kthread_stop(self.task) };
        // SAFETY: Gives back the reference of the type invariant.
        unsafe { bindings::put_task_struct(self.task) };
    }
}

/// # Safety
///
/// `data` must be a `KBox<Start<M>>` as a raw pointer, and nobody else may take it.
unsafe extern "C" fn trampoline<M: Main>(data: *mut ffi::c_void) -> ffi::c_int {
    // SAFETY: By the safety requirements of this function.
    let start = unsafe { KBox::from_raw(data.cast::<Start<M>>()) };
    let Start { value, done } = KBox::into_inner(start);
    value.main();
    done.complete_all();
    0
}
