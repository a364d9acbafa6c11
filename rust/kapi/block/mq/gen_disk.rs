// SPDX-License-Identifier: GPL-2.0

//! Disks.
//!
//! C header: [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)

use super::attributes::Files;
use super::operations::Callbacks;
use super::{DiskDevice, Limits, Operations, TagSet};
use crate::kapi::bindings;
use core::fmt::Write;
use kernel::{
    error::{from_err_ptr, to_result},
    prelude::*,
    static_lock_class,
    str::NullTerminatedFormatter,
    sync::Arc,
    types::{ForeignOwnable, ScopeGuard},
};

/// A disk that users see. Dropping it takes it away: that waits for its requests.
///
/// # Invariants
///
/// `disk` was added, its queue uses `tags`, and its `queuedata` came from
/// `Arc::<T::Data>::into_foreign`.
pub(crate) struct GenDisk<T: Operations> {
    disk: *mut bindings::gendisk,
    tags: Arc<TagSet<T>>,
    /// As long as the disk is there.
    _files: Files<T>,
}

// SAFETY: Disks may be used from and taken away on any thread.
unsafe impl<T: Operations> Send for GenDisk<T> {}
// SAFETY: All methods with `&self` use functions that are internally synchronised.
unsafe impl<T: Operations> Sync for GenDisk<T> {}

impl<T: Operations> GenDisk<T> {
    /// Adds a disk called `name` of `sectors` sectors of 512 bytes. Its partitions are looked for
    /// before this returns, so requests may come at once. To be called in a kernel thread: in
    /// another task the disk counts as open until that returns to userspace. EINVAL: `name` has 32
    /// bytes or more, or is no text.
    pub(crate) fn add(
        name: &CStr,
        tags: Arc<TagSet<T>>,
        limits: Limits,
        sectors: u64,
        read_only: bool,
        data: Arc<T::Data>,
    ) -> Result<Self> {
        let mut raw = limits.to_raw();
        let mut files = Files::new()?;
        let data = data.into_foreign();
        // SAFETY: Runs only where no disk uses the data any more.
        let free_data = ScopeGuard::new(|| drop(unsafe { Arc::<T::Data>::from_foreign(data) }));
        // SAFETY: The tag set is allocated, and the disk keeps it.
        let disk = from_err_ptr(unsafe {
            bindings::__blk_mq_alloc_disk(
                tags.as_ptr(),
                &mut raw,
                data,
                static_lock_class!().as_ptr(),
            )
        })?;
        // SAFETY: The disk was not added, so we own it.
        let put_disk = ScopeGuard::new(move || unsafe { bindings::put_disk(disk) });
        // SAFETY: The disk is ours alone until it is added. `DISK` is constant and lives in the
        // module, which the disk pins while it is open.
        unsafe {
            (*disk).fops = Callbacks::<T>::DISK;
            let disk_name = &mut (*disk).disk_name;
            NullTerminatedFormatter::new(disk_name)
                .ok_or(EINVAL)?
                .write_str(name.to_str().map_err(|_| EINVAL)?)
                .map_err(|_| EINVAL)?;
            bindings::set_capacity(disk, sectors);
            if read_only {
                bindings::set_disk_ro(disk, true);
            }
        }
        // SAFETY: As above. The files are there until the disk is not any more, and its queue has the
        // data of `T`; should the disk not be added they are gone when this returns.
        to_result(unsafe {
            bindings::device_add_disk(core::ptr::null_mut(), disk, files.as_groups())
        })?;
        // A kernel thread's files are closed later by themselves, or by this.
        // SAFETY: May be called in any process context.
        unsafe { bindings::flush_delayed_fput() };
        put_disk.dismiss();
        free_data.dismiss();
        // INVARIANT: As made above.
        Ok(Self {
            disk,
            tags,
            _files: files,
        })
    }

    /// Its device, for who tells of it; to be dropped before the disk.
    pub(crate) fn device(&self) -> DiskDevice {
        // SAFETY: By the type invariant.
        unsafe { DiskDevice::of(self.disk) }
    }

    /// Sends a flush and waits for it.
    pub(crate) fn flush(&self) -> Result {
        // SAFETY: By the type invariant the disk was added, and its whole-disk device lives as long
        // as it.
        to_result(unsafe { bindings::blkdev_issue_flush((*self.disk).part0) })
    }

    /// Runs `f` while nobody has the disk open and nobody can open it; EBUSY if somebody has.
    pub(crate) fn unless_open<R>(&self, f: impl FnOnce() -> R) -> Result<R> {
        // SAFETY: By the type invariant.
        to_result(unsafe { bindings::enbd_disk_lock_unless_open(self.disk) })?;
        let result = f();
        // SAFETY: Locked just above.
        unsafe { bindings::enbd_disk_unlock(self.disk) };
        Ok(result)
    }
}

impl<T: Operations> Drop for GenDisk<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        let data = unsafe { (*(*self.disk).queue).queuedata };
        // SAFETY: By the type invariant the disk was added.
        unsafe { bindings::del_gendisk(self.disk) };
        // The queue has no requests any more, but `queue_rq` and `commit_rqs` may still run, as the
        // last request may have ended before they return. They do so under the tag set's SRCU.
        // SAFETY: The tag set is allocated.
        unsafe { bindings::blk_mq_wait_quiesce_done(self.tags.as_ptr()) };
        // SAFETY: Ours to give back.
        unsafe { bindings::put_disk(self.disk) };
        // SAFETY: By the type invariant; no callback can run any more.
        drop(unsafe { Arc::<T::Data>::from_foreign(data) });
    }
}
