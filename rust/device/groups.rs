// SPDX-License-Identifier: GPL-2.0

//! `setfaulty`, `hotadd`, `hotremove`.

use super::{Control, Device, Failure};
use crate::logic::{
    command::HotAddMode,
    group::{GroupFault, GroupState, Refusal},
    ids::GroupId,
    mirror::{Adopts, Asker, Memories, Starter, States, World},
};
use crate::resync::Resync;
use crate::wait::Woken;
use kernel::prelude::*;

/// How long `hotadd` waits for the end of the resync before, in milliseconds.
const ENDING_MS: u32 = 10_000;

impl Device {
    /// At once, whatever else is being carried out.
    pub(super) fn set_faulty(&self, group: GroupId) -> Result<(), Failure> {
        self.mirror.set_faulty(group)?;
        Ok(())
    }

    pub(super) fn hot_add(
        &self,
        control: &Control,
        group: GroupId,
        mode: HotAddMode,
        asker: Asker,
        is_news: bool,
    ) -> Result<(), Failure> {
        let mirror = &self.mirror;
        let g = mirror.core().group(group);
        if mirror.view().state(group) == GroupState::Faulty && g.up().is_empty() {
            return Err(Refusal::NoChannel.into());
        }
        if mirror.holds_old_write() {
            return Err(Failure::new(
                EBUSY,
                "a write is held since many changes ago",
            ));
        }
        if control.disk.is_none() {
            return self.hot_add_disabled(group, mode);
        }
        self.await_last_resync(group)?;
        if mirror.has_memory() && mirror.view().state(group) == GroupState::Faulty {
            self.adopt(group, mode)?;
        }
        let mut resyncs = self.resyncs.lock();
        let slot = group.pick_mut(&mut resyncs);
        if slot.as_ref().is_some_and(|r| !r.track().has_ended()) {
            return Err(Refusal::IsResyncing.into());
        }
        // Joins the thread.
        drop(slot.take());
        if mode == HotAddMode::Full && mirror.view().state(group) == GroupState::Faulty {
            mirror.mark_all(group);
        }
        let epoch = mirror.hot_add(group, asker)?;
        match Resync::start(mirror.clone(), group, epoch, is_news) {
            Ok(resync) => {
                *slot = Some(resync);
                Ok(())
            }
            Err(e) => {
                // Back to what it was; nothing was copied, and the map is as it was.
                let reason = g.fault().unwrap_or(GroupFault::Resync);
                let _ = mirror.fault(group, reason);
                Err(e.into())
            }
        }
    }

    /// Makes a member of a group that is to be copied to.
    fn adopt(&self, group: GroupId, mode: HotAddMode) -> Result<(), Failure> {
        let mirror = &self.mirror;
        if mirror.core().named().has(group) {
            return Err(Refusal::Unrecorded.into());
        }
        if mirror.group(group).is_unread() {
            let reason = "the group was connected with 'meta=none'";
            return Err(Failure::new(EINVAL, reason));
        }
        self.in_time(|ended| mirror.adopt(group, mode == HotAddMode::Full, ended))?;
        Ok(())
    }

    /// Waits until the last resync of a group that is faulty again has ended: its copies that are
    /// still on their way have to end first.
    fn await_last_resync(&self, group: GroupId) -> Result<(), Failure> {
        let track = {
            let resyncs = self.resyncs.lock();
            let resync = group.pick(&resyncs).as_ref();
            resync.map(|r| r.track().clone())
        };
        let Some(track) = track else { return Ok(()) };
        if self.mirror.view().state(group) != GroupState::Faulty {
            // The change of the state says why not.
            return Ok(());
        }
        let ended = || track.has_ended();
        match self.mirror.resync_waiters.wait(Some(ENDING_MS), ended) {
            Woken::Holds => Ok(()),
            Woken::Signal => Err(Failure::new(EINTR, "interrupted")),
            Woken::TimedOut => Err(Failure::new(
                EBUSY,
                "the last resync of the group is still ending",
            )),
        }
    }

    /// Before the device was ever enabled it is the administrator's word that all groups are equal.
    /// Afterwards a clean map is not enough: what both have may not be durable in this one, and
    /// whether it is still the same server is found by reading.
    fn hot_add_disabled(&self, group: GroupId, mode: HotAddMode) -> Result<(), Failure> {
        if self.mirror.core().last_sectors() > 0
            || mode == HotAddMode::Full
            || self.mirror.has_memory()
        {
            return Err(Failure::new(
                ENODEV,
                "groups are compared and copied only while the device is enabled",
            ));
        }
        self.mirror.hot_add(group, Asker::Administrator)?;
        self.mirror.synced(group)?;
        Ok(())
    }

    pub(super) fn hot_remove(&self, control: &mut Control, group: GroupId) -> Result<(), Failure> {
        let mut resyncs = self.resyncs.lock();
        let slot = group.pick_mut(&mut resyncs);
        if slot.as_ref().is_some_and(|r| !r.track().has_ended()) {
            return Err(Failure::new(
                EBUSY,
                "a resync of the group is running or ending",
            ));
        }
        drop(slot.take());
        drop(resyncs);
        if self.mirror.view().state(group) != GroupState::Faulty {
            // Says why not.
            self.mirror.remove(group)?;
            self.mirror.forget(group);
            return Ok(());
        }
        // The channels first: what they were still asked is given back while the map takes marks.
        match self.disconnect(control, group, &None) {
            Err(failure) if failure.error != ENOENT => return Err(failure),
            _ => {}
        }
        // Without a device that is enabled the group went with its last channel.
        match self.mirror.remove(group) {
            Ok(()) | Err(Refusal::NoGroup) => {
                self.mirror.forget(group);
                Ok(())
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Tells all resyncs to end, and waits until they have; each does once its copies that are on their
    /// way are answered, or their channels lost.
    pub(super) fn stop_resyncs(&self) -> Woken {
        let tracks = {
            let resyncs = self.resyncs.lock();
            let stop = |resync: &Resync| {
                resync.stop();
                resync.track().clone()
            };
            resyncs.each_ref().map(|resync| resync.as_ref().map(stop))
        };
        // A condition must not wait for the lock of the resyncs.
        let ended = || tracks.iter().flatten().all(|track| track.has_ended());
        self.mirror.resync_waiters.wait(None, ended)
    }

    /// Ends all resyncs and waits for them.
    pub(super) fn end_resyncs(&self) {
        for group in GroupId::all() {
            // Waited for without the lock, so that the status can be read meanwhile.
            let resync = group.pick_mut(&mut self.resyncs.lock()).take();
            drop(resync);
        }
    }
}
