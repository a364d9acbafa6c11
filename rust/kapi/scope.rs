// SPDX-License-Identifier: GPL-2.0

//! Scopes that change how the current task allocates memory.
//!
//! Each is a function that runs a closure, so that a scope cannot be forgotten, and ends before the
//! one that it lies in. They are those that are offered to the kernel crate as `alloc::scope`
//! (Documentation/upstream.rst).
//!
//! C header: [`include/linux/sched/mm.h`](srctree/include/linux/sched/mm.h)

use super::bindings;
use kernel::types::NotThreadSafe;

/// Runs `f`, in which allocations of this task may use the reserves and never wait for memory to be
/// freed. For code that has to run so that memory can be freed: sending and receiving block I/O.
pub(crate) fn noreclaim<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: Only changes flags of the current task.
    let flags = unsafe { bindings::enbd_noreclaim_save() };
    let result = f();
    // SAFETY: The value came from the matching save, in the same task, and all scopes that `f`
    // entered have ended.
    unsafe { bindings::enbd_noreclaim_restore(flags) };
    result
}

/// Runs `f`, in which allocations of this task do not start I/O to get memory: it might come back to
/// us.
pub(crate) fn noio<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: Only changes flags of the current task.
    let flags = unsafe { bindings::enbd_noio_save() };
    let result = f();
    // SAFETY: As in `noreclaim`.
    unsafe { bindings::enbd_noio_restore(flags) };
    result
}

/// [`noreclaim`] as a guard. Of two the one that was entered last must be dropped first.
pub(crate) struct NoReclaim(u32, NotThreadSafe);

impl NoReclaim {
    pub(crate) fn enter() -> Self {
        // SAFETY: Only changes flags of the current task.
        Self(unsafe { bindings::enbd_noreclaim_save() }, NotThreadSafe)
    }
}

impl Drop for NoReclaim {
    fn drop(&mut self) {
        // SAFETY: The value came from the matching save, in the same task, since `Self` is not
        // `Send`.
        unsafe { bindings::enbd_noreclaim_restore(self.0) };
    }
}

/// [`noio`] as a guard. Of two the one that was entered last must be dropped first.
pub(crate) struct NoIo(u32, NotThreadSafe);

impl NoIo {
    pub(crate) fn enter() -> Self {
        // SAFETY: Only changes flags of the current task.
        Self(unsafe { bindings::enbd_noio_save() }, NotThreadSafe)
    }
}

impl Drop for NoIo {
    fn drop(&mut self) {
        // SAFETY: The value came from the matching save, in the same task, since `Self` is not
        // `Send`.
        unsafe { bindings::enbd_noio_restore(self.0) };
    }
}
