// SPDX-License-Identifier: GPL-2.0

//! Scopes that change how the current task allocates memory.
//!
//! Each is a function that runs a closure, so that a scope cannot be forgotten, and ends before the
//! one that it lies in. They are those that are offered to the kernel crate as `alloc::scope`
//! (Documentation/upstream.rst).
//!
//! C header: [`include/linux/sched/mm.h`](srctree/include/linux/sched/mm.h)

use super::bindings;

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
