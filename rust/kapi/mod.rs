// SPDX-License-Identifier: GPL-2.0

//! Safe bindings for what the kernel crate lacks, shaped so that they could move there.
//!
//! This is the only room with `unsafe` code. It knows nothing of enbd: it never imports
//! `crate::logic` or a driver room.
//!
//! - [`block::mq`]: requests that cannot be lost or ended twice, tag sets, disks, limits.
//! - [`net`]: kernel sockets and network namespaces; [`iovec`]: what is sent from and received
//!   into; [`bounce`]: copies of requests' data; [`pages`]: memory of our own; [`ring`]: pages for
//!   headers.
//! - [`checksum`], [`kthread`], [`poll`], [`proc_fs`], [`scope`].
//!
//! What nothing sees to, as in the kernel crate: a disk, a file or a thread that is forgotten
//! (`mem::forget`) is still there when the module is not.

#![allow(unsafe_code)]

pub(crate) mod bindings;
pub(crate) mod block;
pub(crate) mod bounce;
pub(crate) mod checksum;
pub(crate) mod iovec;
pub(crate) mod kthread;
pub(crate) mod net;
mod pages;
pub(crate) mod poll;
pub(crate) mod proc_fs;
mod ring;
pub(crate) mod scope;

/// A random number.
pub(crate) fn random() -> u32 {
    // SAFETY: May be called in any context.
    unsafe { bindings::get_random_u32() }
}

/// Seconds of the epoch.
pub(crate) fn epoch_s() -> u64 {
    // SAFETY: May be called in any context.
    let seconds = unsafe { bindings::ktime_get_real_seconds() };
    u64::try_from(seconds).unwrap_or(0)
}

/// Whether a signal is there that kills the task.
pub(crate) fn is_killed() -> bool {
    // SAFETY: May be called in the context of any task.
    unsafe { bindings::enbd_is_killed() }
}

/// Writes the host's name to `to`, with a zero behind it; cut if there is no room.
pub(crate) fn host_name(to: &mut [u8; 64]) {
    // SAFETY: `to` is valid for writing so many bytes.
    unsafe { bindings::enbd_host_name(to.as_mut_ptr(), to.len()) };
}
