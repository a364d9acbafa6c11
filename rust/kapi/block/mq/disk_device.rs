// SPDX-License-Identifier: GPL-2.0

//! The device of a disk, as programs know it in sysfs and by its events.
//!
//! C header: [`include/linux/kobject.h`](srctree/include/linux/kobject.h)

use crate::kapi::bindings;
use kernel::{error::to_result, prelude::*};

/// The device of a disk that was added. It keeps the device, but not what its disk needs; so it is
/// dropped before the disk.
///
/// # Invariants
///
/// `0` is the device of a disk that was added; we have a reference to it.
pub(crate) struct DiskDevice(*mut bindings::device);

// SAFETY: Devices may be used from and given up on any thread.
unsafe impl Send for DiskDevice {}
// SAFETY: Events may be told from several threads at once.
unsafe impl Sync for DiskDevice {}

impl DiskDevice {
    /// # Safety
    ///
    /// `disk` was added.
    pub(super) unsafe fn of(disk: *mut bindings::gendisk) -> Self {
        // SAFETY: By the safety requirements of this function. INVARIANT: It takes a reference.
        Self(unsafe { bindings::enbd_disk_get_device(disk) })
    }

    /// Tells programs that the disk has changed: a uevent `change` with these words, up to 16, each
    /// `KEY=value` and a NUL. May sleep. EINVAL: the last one has no NUL, or there are too many.
    /// ENOMEM.
    pub(crate) fn changed(&self, words: &[u8]) -> Result {
        if words.last() != Some(&0) {
            return Err(EINVAL);
        }
        // SAFETY: By the type invariant; the last word ends with the slice, of which the kernel copies
        // what it needs.
        to_result(unsafe {
            bindings::enbd_device_changed(self.0, words.as_ptr().cast(), words.len())
        })
    }
}

impl Drop for DiskDevice {
    fn drop(&mut self) {
        // SAFETY: Gives back the reference of the type invariant.
        unsafe { bindings::enbd_device_put(self.0) };
    }
}
