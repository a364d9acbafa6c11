// SPDX-License-Identifier: GPL-2.0

//! Scopes that change how the current task allocates memory. Those of one kind are left in the
//! reverse order in which they were entered, as locals are; else the flag is wrong afterwards.
//!
//! C header: [`include/linux/sched/mm.h`](srctree/include/linux/sched/mm.h)

use super::bindings;
use kernel::types::NotThreadSafe;

/// While it lives, allocations of this task may use the reserves and never wait for memory to be
/// freed. For code that has to run so that memory can be freed: sending and receiving block I/O.
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

/// While it lives, allocations of this task do not start I/O to get memory: it might come back to
/// us.
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
