// SPDX-License-Identifier: GPL-2.0

//! The scout: a thread that looks what a device that was just enabled stands on, and ends. It reads
//! some places, to have something to ask servers for when they return, and tries the first writes,
//! to see whether each group has a store of its own (`crate::logic::mirror`).
//!
//! Locks: none. It may hold a request, so it ends before the disk goes.

use super::Device;
use crate::logic::mirror::scout;

/// The work of the thread.
pub(super) fn look(device: &Device, ended: &dyn Fn() -> bool) {
    scout(&*device.mirror, ended);
}
