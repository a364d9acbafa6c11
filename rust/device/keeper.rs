// SPDX-License-Identifier: GPL-2.0

//! The keeper: the thread of an enabled device that brings back the groups which enbd itself
//! faulted, and tells programs what happens.
//!
//! A group that returns and fails again is tried less and less often.
//!
//! Locks: it never waits for `control`, whose holder may wait for it.

use super::{Control, Device, Failure};
use crate::logic::{
    command::HotAddMode,
    group::{GroupFault, GroupState},
    ids::GroupId,
    mirror::{Asker, World},
    session::retry::backoff_ms,
    MAX_GROUPS,
};
use kernel::{
    prelude::*,
    sync::atomic::ordering::Relaxed,
    time::{Instant, Monotonic},
};

/// How often the keeper looks after the groups, in milliseconds.
const LOOK_MS: u32 = 500;
/// Blocks that no group in sync can read are tried again after so long, in milliseconds.
const UNREADABLE_MS: i64 = 60_000;
/// A resync that follows another one within that time, in milliseconds, is not told but for its result.
const QUIET_MS: i64 = 60_000;
/// A group that stays in sync for so long, in milliseconds, starts over with its patience.
const FORGIVE_MS: i64 = 60_000;

/// The work of the thread.
pub(super) fn keep(device: &Device, ended: &dyn Fn() -> bool) {
    let mirror = &device.mirror;
    let mut tries = [const { None }; MAX_GROUPS];
    let mut teller = device.teller();
    let mut due_ms = mirror.now_ms();
    while !ended() {
        // Before all looks: what changes from now on ends the wait.
        let seen = mirror.changes.now();
        let now_ms = mirror.now_ms();
        if now_ms >= due_ms {
            due_ms = now_ms.saturating_add(u64::from(LOOK_MS));
            for (group, tries) in GroupId::all().zip(&mut tries) {
                look_after(device, group, tries);
            }
        }
        let held_back_ms = device.tell(&mut teller);
        let left_ms = due_ms.saturating_sub(mirror.now_ms());
        let ms = left_ms.min(held_back_ms.unwrap_or(left_ms));
        // While events are held back nothing that changes is told sooner.
        let has_news = || held_back_ms.is_none() && mirror.changes.now() != seen;
        let _ = mirror.wait(u32::try_from(ms).unwrap_or(LOOK_MS), || {
            ended() || has_news()
        });
    }
}

/// How often a group was brought back lately, and when last.
struct Tries {
    count: u32,
    last: Instant<Monotonic>,
    /// When one was told.
    told: Instant<Monotonic>,
}

impl Tries {
    /// Whether the next one is worth all its lines: a server that comes and goes must not fill the log.
    fn is_news(tries: Option<&Self>) -> bool {
        tries.is_none_or(|t| t.told.elapsed().as_millis() >= QUIET_MS)
    }
}

fn look_after(device: &Device, group: GroupId, tries: &mut Option<Tries>) {
    let waited_ms = tries.as_ref().map(|t| t.last.elapsed().as_millis());
    if !device.wants_back(group) {
        if waited_ms.is_some_and(|ms| ms > FORGIVE_MS) {
            *tries = None;
        }
        return;
    }
    let count = tries.as_ref().map_or(0, |t| t.count);
    let is_unreadable = device.mirror.core().group(group).fault() == Some(GroupFault::Unreadable);
    if is_unreadable && waited_ms.is_none() {
        // The administrator has just tried.
        let (last, told) = (Instant::now(), Instant::now());
        *tries = Some(Tries { count, last, told });
        return;
    }
    let least_ms = if is_unreadable {
        UNREADABLE_MS
    } else {
        i64::from(backoff_ms(count, 0))
    };
    if waited_ms.is_some_and(|ms| ms < least_ms) {
        return;
    }
    let now = Instant::now();
    let is_news = Tries::is_news(tries.as_ref());
    let told = tries.as_ref().filter(|_| !is_news).map_or(now, |t| t.told);
    *tries = Some(Tries {
        count: count.saturating_add(1),
        last: now,
        told,
    });
    if let Some(Err(failure)) = device.try_hot_add(group, is_news) {
        pr_info!(
            "[{}] group {} is not added yet: {}\n",
            device.id.letter(),
            group.index(),
            failure.reason
        );
    }
}

impl Device {
    /// Whether enbd itself faulted the group, and could bring it back now.
    fn wants_back(&self, group: GroupId) -> bool {
        let g = self.mirror.core().group(group);
        self.mirror.view().state(group) == GroupState::Faulty
            && !g.up().is_empty()
            && !g.is_suspect(self.mirror.now_ms())
            && !g.health().is_unmarked()
            && !self.mirror.core().named().has(group)
            // It has none for a moment when it is faulted just as a resync has ended.
            && g.fault().is_none_or(|fault| fault.is_own())
    }

    /// Adds the group, unless a command is being carried out or the administrator does not want
    /// that.
    fn try_hot_add(&self, group: GroupId, is_news: bool) -> Option<Result<(), Failure>> {
        let add = |control: &mut Control| {
            // The administrator may have said something else before we got the lock.
            let wanted = self.autoadd.load(Relaxed) && self.wants_back(group);
            wanted.then(|| self.hot_add(control, group, HotAddMode::Dirty, Asker::Keeper, is_news))
        };
        self.if_idle(add)?
    }
}
