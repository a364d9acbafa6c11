// SPDX-License-Identifier: GPL-2.0

//! The law that a server which is sick does not hold up those who use a mirror with a sound one.
//!
//! While a group is in sync and has a channel to a server that nothing is wrong with, no request is
//! on its way for longer than [`LATE_MS`]. That is far more than enbd needs: what is wrong with the
//! others it finds out within some time limits, and goes on without them. What waits *for ever* is
//! found, and with it what waits until somebody heals the server.

use crate::channel::TIMEOUT_MS;
use crate::logic::{ids::GroupId, mirror::World as _};
use crate::world::{World, QUEUE_DEPTH};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How long a request may take where there is a sound server, in milliseconds: some time limits of
/// the mirror, and as long as threads are held up (`World::submit`).
pub const LATE_MS: u64 = 15 * TIMEOUT_MS;
/// How often it is looked, in milliseconds.
const LOOK_MS: u64 = 500;
/// When a request began that is not there.
const NEVER: u64 = u64::MAX;

/// When the requests that are on their way began, by their tag.
pub struct Late([AtomicU64; QUEUE_DEPTH]);

impl Late {
    pub fn new() -> Self {
        Self([const { AtomicU64::new(NEVER) }; QUEUE_DEPTH])
    }

    pub fn begins(&self, tag: u32, now_ms: u64) {
        self.0[tag as usize].store(now_ms, Relaxed);
    }

    pub fn ends(&self, tag: u32) {
        self.0[tag as usize].store(NEVER, Relaxed);
    }
}

/// Looks whether the law holds, until the run ends.
pub fn watch(world: &World) {
    let mut sound_since = vec![None; world.scale.groups];
    let mut longest_ms = 0;
    while !world.is_closing() {
        let now_ms = world.clock.now_ms();
        for (group, since_ms) in world.scale.all_groups().zip(&mut sound_since) {
            *since_ms = is_sound(world, group).then(|| since_ms.unwrap_or(now_ms));
        }
        if let Some(since_ms) = sound_since.iter().copied().flatten().min() {
            for (tag, began_ms) in world.late.0.iter().enumerate() {
                let from_ms = began_ms.load(Relaxed).max(since_ms);
                let late_ms = now_ms.saturating_sub(from_ms);
                longest_ms = late_ms.max(longest_ms);
                assert!(
                    late_ms <= LATE_MS,
                    "the request with tag {tag} has been on its way for {late_ms} ms, while one of \
                     the groups was in sync with a sound server: sound since {sound_since:?}"
                );
            }
        }
        world.clock.wait(LOOK_MS, || world.is_closing());
    }
    crate::trace!(world, "the latest request took {longest_ms} ms");
}

/// Whether the group is in sync, and leads to a server that nothing is wrong with.
fn is_sound(world: &World, group: GroupId) -> bool {
    !world.core().group(group).up().is_empty()
        && world.core().view().readable().has(group)
        && world.hosts.servers[group].is_sound()
        && world.hosts.servers[group].knows_all()
        && !world.hosts.wiring[group].is_astray()
}
