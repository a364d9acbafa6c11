// SPDX-License-Identifier: GPL-2.0

//! The clock: the thread of an enabled device that looks twice a second whether a group was without
//! channels for `timeout`.
//!
//! It does nothing else, and waits for nothing but its next look: not for a server, as a channel
//! does while it connects, nor for memory or a resync, as the keeper does. What all of those wait
//! for may be a write that is held until this thread faults the group.
//!
//! Locks: none.

use super::Device;
use crate::logic::{ids::GroupId, mirror::Losses};

/// How often it looks, in milliseconds.
const LOOK_MS: u32 = 500;

/// The work of the thread.
pub(super) fn tick(device: &Device, ended: &dyn Fn() -> bool) {
    while !ended() {
        for group in GroupId::all() {
            device.mirror.expire_if_down(group);
        }
        // Woken up only to stop.
        let _ = device.mirror.wait(LOOK_MS, ended);
    }
}
