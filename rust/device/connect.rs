// SPDX-License-Identifier: GPL-2.0

//! `connect` and `disconnect`.

use super::{Control, Device, Failure};
use crate::channel::{ChannelThreads, Spec};
use crate::logic::{
    command::Address,
    group::{GroupFault, GroupState},
    ids::{ChannelId, GroupId},
    mirror::{Decides, States, World},
    session::{ChannelState, DownReason},
    MAX_CHANNELS,
};
use crate::wait::Woken;
use kernel::{
    prelude::*,
    sync::{atomic::ordering::Relaxed, Arc},
};

/// What a connection may take beyond `connect_timeout`, for the threads to start and to report.
const GRACE_MS: u32 = 2000;

impl Device {
    /// Adds channels to a group, which may be new; waits until all of them are negotiated. If one
    /// is not, none is added. With `force` another group may have the export already; without `metadata` that of a
    /// new group is not looked at.
    #[inline(never)] // The way to all commands would be as deep as this.
    pub(super) fn connect(
        &self,
        control: &mut Control,
        spec: Spec,
        count: u8,
        force: bool,
        metadata: bool,
    ) -> Result<(), Failure> {
        let group = spec.group;
        let g = self.mirror.group(group);
        if control.channels.len() + usize::from(count) > MAX_CHANNELS {
            return Err(Failure::new(ENOSPC, "too many channels"));
        }
        if !force && self.is_taken(control, &spec) {
            let reason = "another group has this export; 'force' takes it all the same";
            return Err(Failure::new(EEXIST, reason));
        }
        g.prepare()?;
        let spec = Arc::new(spec, GFP_KERNEL)?;
        let mut added = KVec::with_capacity(usize::from(count), GFP_KERNEL)?;
        control.channels.reserve(usize::from(count), GFP_KERNEL)?;
        let is_new = self.mirror.view().state(group) == GroupState::Absent;
        let result = self
            .start_channels(control, &spec, count, &mut added)
            .and_then(|()| self.await_channels(&added))
            .and_then(|()| {
                if is_new {
                    self.join(group, metadata)
                } else {
                    Ok(())
                }
            });
        match result {
            Ok(()) => {
                for threads in added.drain_all() {
                    // Room was reserved above.
                    let _ = control.channels.push_within_capacity(threads);
                }
                Ok(())
            }
            Err(failure) => {
                stop_all(&added);
                drop(added);
                self.forget_export(control, group);
                Err(failure)
            }
        }
    }

    /// Whether another group of the device has a channel to the same export.
    fn is_taken(&self, control: &Control, spec: &Spec) -> bool {
        let target = spec.target();
        let mut known = control.channels.iter().filter_map(|t| self.spec_of(t));
        known.any(|theirs| target.is_shared_with(&theirs.target()))
    }

    fn start_channels(
        &self,
        control: &Control,
        spec: &Arc<Spec>,
        count: u8,
        added: &mut KVec<ChannelThreads<crate::mirror::Mirror>>,
    ) -> Result<(), Failure> {
        for _ in 0..count {
            let is_used = |id: &ChannelId| {
                let is_it = |threads: &ChannelThreads<_>| threads.id() == *id;
                control.channels.iter().any(is_it) || added.iter().any(is_it)
            };
            let id = ChannelId::all()
                .find(|id| !is_used(id))
                .ok_or(Failure::new(ENOSPC, "too many channels"))?;
            let threads = ChannelThreads::start(self.mirror.clone(), id, spec.clone())?;
            added.push(threads, GFP_KERNEL)?;
        }
        Ok(())
    }

    /// Waits until the channels are up, or one of them is not going to be.
    fn await_channels(
        &self,
        added: &[ChannelThreads<crate::mirror::Mirror>],
    ) -> Result<(), Failure> {
        let mut failed = None;
        let all = || {
            let mut up = 0;
            for threads in added {
                let channel = self.mirror.channel(threads.id());
                match channel.with_link(|link| (link.state, link.reason)) {
                    (ChannelState::Up, _) => up += 1,
                    (_, Some(reason)) => failed = Some(reason),
                    _ => {}
                }
            }
            up == added.len() || failed.is_some()
        };
        let seconds = self.mirror.settings.connect_timeout.load(Relaxed);
        let ms = seconds.saturating_mul(1000).saturating_add(GRACE_MS);
        let woken = self.mirror.wait(ms, all);
        match (failed, woken) {
            (Some(reason), _) => Err(reason.into()),
            (None, Woken::Holds) => Ok(()),
            (None, Woken::TimedOut) => Err(DownReason::ConnectTimeout.into()),
            (None, Woken::Signal) => Err(Failure::new(EINTR, "interrupted")),
        }
    }

    fn join(&self, group: GroupId, metadata: bool) -> Result<(), Failure> {
        let g = self.mirror.group(group);
        g.set_unread(!metadata);
        let is_member = metadata && self.look_at_metadata(group)?;
        let sectors = self.mirror.core().last_sectors();
        if sectors > 0 {
            g.map.set_up(self.mirror.blocks_of(sectors))?;
        }
        self.mirror.join(group)?;
        if is_member && sectors == 0 {
            self.mirror.wait_for_start(group);
        } else if self.mirror.view().state(group) == GroupState::Faulty && sectors > 0 {
            pr_info!(
                "[{}] group {} joined a device that was in use: all is marked, hotadd copies it\n",
                self.id.letter(),
                group.index()
            );
        }
        if g.is_volatile() {
            pr_info!(
                "[{}] group {} is volatile: its server has no FLUSH\n",
                self.id.letter(),
                group.index()
            );
        }
        Ok(())
    }

    /// Calls `f` while a channel as `spec` says is up, which is none of the device's. Its group has no
    /// other one.
    pub(super) fn with_channel<R>(
        &self,
        control: &mut Control,
        spec: Spec,
        f: impl FnOnce() -> R,
    ) -> Result<R, Failure> {
        let group = spec.group;
        self.mirror.group(group).prepare()?;
        let spec = Arc::new(spec, GFP_KERNEL)?;
        let mut added = KVec::with_capacity(1, GFP_KERNEL)?;
        let result = self
            .start_channels(control, &spec, 1, &mut added)
            .and_then(|()| self.await_channels(&added))
            .map(|()| f());
        stop_all(&added);
        drop(added);
        self.forget_export(control, group);
        result
    }

    /// A group without channels has no export.
    fn forget_export(&self, control: &Control, group: GroupId) {
        let is_used = control
            .channels
            .iter()
            .any(|threads| self.group_of(threads) == Some(group));
        if !is_used {
            *self.mirror.group(group).export.lock() = None;
        }
    }

    fn spec_of(&self, threads: &ChannelThreads<crate::mirror::Mirror>) -> Option<Arc<Spec>> {
        let channel = self.mirror.channel(threads.id());
        channel.with_link(|link| link.spec.clone())
    }

    fn group_of(&self, threads: &ChannelThreads<crate::mirror::Mirror>) -> Option<GroupId> {
        self.spec_of(threads).map(|spec| spec.group)
    }

    /// Removes the channels of a group, or those of one address.
    pub(super) fn disconnect(
        &self,
        control: &mut Control,
        group: GroupId,
        addr: &Option<Address<'_>>,
    ) -> Result<(), Failure> {
        let is_meant = |threads: &ChannelThreads<_>| {
            self.mirror.channel(threads.id()).with_link(|link| {
                link.spec.as_ref().is_some_and(|spec| {
                    spec.group == group && addr.as_ref().is_none_or(|a| spec.leads_to(a))
                })
            })
        };
        let meant = control.channels.iter().filter(|t| is_meant(t)).count();
        let all = control
            .channels
            .iter()
            .filter(|t| self.group_of(t) == Some(group))
            .count();
        if meant == 0 {
            return Err(Failure::new(ENOENT, "no such channel"));
        }
        let enabled = control.disk.is_some();
        let view = self.mirror.view();
        if meant == all && enabled && view.state(group) != GroupState::Faulty {
            self.mirror.fault(group, GroupFault::Admin)?;
        }
        let mut gone = KVec::with_capacity(meant, GFP_KERNEL)?;
        for threads in control.channels.iter().filter(|t| is_meant(t)) {
            threads.stop();
        }
        let ended = || {
            control
                .channels
                .iter()
                .all(|t| !is_meant(t) || t.has_ended())
        };
        if self.mirror.wait(u32::MAX, ended) == Woken::Signal {
            return Err(STILL_ENDING);
        }
        let mut index = 0;
        while let Some(threads) = control.channels.get(index) {
            if is_meant(threads) {
                if let Ok(threads) = control.channels.remove(index) {
                    // Room for all that are meant.
                    let _ = gone.push_within_capacity(threads);
                }
            } else {
                index += 1;
            }
        }
        drop(gone);
        if meant == all {
            self.forget_export(control, group);
            if self.mirror.core().last_sectors() == 0 {
                self.mirror.clear(group);
                self.mirror.forget(group);
                if GroupId::all().all(|g| self.mirror.view().state(g) == GroupState::Absent) {
                    self.forget_memory();
                }
            } else if !enabled && self.mirror.view().state(group) == GroupState::InSync {
                // What is written without it from now on is marked. The last one stays what it is.
                let _ = self.mirror.fault(group, GroupFault::Admin);
            }
        }
        Ok(())
    }
}

/// A signal came for a `disconnect`, which can be asked for once more.
const STILL_ENDING: Failure = Failure {
    error: EINTR,
    reason: "interrupted; the channels end all the same",
};

/// Tells all channels to end, so that they do so at the same time, before one of them is waited
/// for.
pub(super) fn stop_all(channels: &[ChannelThreads<crate::mirror::Mirror>]) {
    for threads in channels {
        threads.stop();
    }
}
