// SPDX-License-Identifier: GPL-2.0

//! The device's lines in /proc/nbdinfo.
//!
//! Everything is read without stopping anything, so the figures of one text may be of slightly
//! different moments.

use super::Device;
use crate::channel::{Link, Spec};
use crate::logic::{
    group::GroupState,
    ids::{ChannelId, GroupId},
    mirror::World,
    resync::Compare,
    session::{ChannelState, DownReason},
    status::{
        self, Bytes, ChannelStatus, DeviceStatus, DiskState, GroupStatus, IntentStatus, LastError,
        MirrorStatus, Reader, ResyncStatus, SettingsStatus, Traffic,
    },
    MAX_GROUPS,
};
use core::fmt::Write;
use kernel::{
    prelude::*,
    sync::{atomic::ordering::Relaxed, Arc},
};

/// What was copied out of a channel's link.
struct LinkCopy {
    id: ChannelId,
    state: ChannelState,
    since_s: u64,
    spec: Arc<Spec>,
    reason: Option<DownReason>,
    reconnects: u64,
}

fn copy_link(id: ChannelId, link: &Link) -> Option<LinkCopy> {
    Some(LinkCopy {
        id,
        state: link.state,
        since_s: u64::try_from(link.since.elapsed().as_millis() / 1000).unwrap_or(0),
        spec: link.spec.clone()?,
        reason: link.reason,
        reconnects: link.reconnects,
    })
}

impl Device {
    /// Writes the device's lines for `reader`.
    pub(crate) fn show(&self, out: &mut impl Write, reader: Reader) -> Result {
        let links = self.links()?;
        let mut channels = KVec::with_capacity(links.len(), GFP_KERNEL)?;
        let mut requested = Traffic::default();
        let mut despatched = Traffic::default();
        let waiting = self.mirror.waiting.get() >> 9;
        let (mut errored, mut pending) = (0u64, self.mirror.blocks_of(waiting));
        for link in &links {
            let one = self.channel_status(link, &mut requested, &mut despatched);
            errored = errored.saturating_add(one.errored);
            pending = pending.saturating_add(one.pending);
            channels.push(one, GFP_KERNEL)?;
        }
        let groups = self.group_statuses()?;
        let resyncs = self.resync_statuses()?;
        let mirror = &self.mirror;
        let sectors = mirror.core().sectors();
        let last_error = *self.last_error.lock();
        let text = DeviceStatus {
            device: self.id,
            disk: if sectors > 0 {
                DiskState::Enabled
            } else {
                DiskState::Idle
            },
            read_only: self.read_only.load(Relaxed),
            last_error: last_error.map(|(errno, reason)| LastError { errno, reason }),
            queued_current: mirror.load.now(),
            queued_real: pending,
            queued_max: mirror.load.max(),
            blocksize: mirror.settings.blocksize.load(Relaxed),
            size_kib: sectors / 2,
            blocks: mirror.blocks_of(sectors),
            groups: &groups,
            channels: &channels,
            resyncs: &resyncs,
            requested,
            despatched,
            errored,
            pending,
            md5: mirror.core().same_blocks(),
            name: self.name(),
            events: self.events.get(),
            settings: self.settings_status(),
            mirror: self.mirror_status(),
        };
        status::write_device(out, &text, reader).map_err(|_| ENOMEM)
    }

    fn links(&self) -> Result<KVec<LinkCopy>> {
        let mut links = KVec::new();
        for id in ChannelId::all() {
            let channel = self.mirror.channel(id);
            if let Some(link) = channel.with_link(|link| copy_link(id, link)) {
                links.push(link, GFP_KERNEL)?;
            }
        }
        Ok(links)
    }

    fn channel_status<'a>(
        &self,
        link: &'a LinkCopy,
        requested: &mut Traffic,
        despatched: &mut Traffic,
    ) -> ChannelStatus<'a> {
        let blocks = |bytes: u64| self.mirror.blocks_of(bytes >> 9);
        let mut one = ChannelStatus {
            group: link.spec.group,
            link: match link.state {
                ChannelState::Up if self.mirror.core().last_active() == Some(link.id) => {
                    status::Link::Active
                }
                ChannelState::Up => status::Link::Up,
                _ => status::Link::Down,
            },
            since_s: link.since_s,
            requested: 0,
            despatched: 0,
            errored: 0,
            pending: 0,
            bytes: Bytes::default(),
            transport: link.spec.transport(),
            addr: link.spec.addr_str(),
            export: link.spec.export_str(),
            reconnects: link.reconnects,
            last_error: link.reason.map(DownReason::as_str),
        };
        let channel = self.mirror.channel(link.id);
        let c = &channel.counters;
        let bytes = Bytes {
            requested_read: c.read_requested.get(),
            requested_written: c.write_requested.get(),
            despatched_read: c.read_done.get(),
            despatched_written: c.write_done.get(),
            errored: c.errored.get(),
            pending: channel.load(),
        };
        let (read_done, write_done) = (
            blocks(bytes.despatched_read),
            blocks(bytes.despatched_written),
        );
        let (read_asked, write_asked) = (
            blocks(bytes.requested_read),
            blocks(bytes.requested_written),
        );
        requested.read = requested.read.saturating_add(read_asked);
        requested.written = requested.written.saturating_add(write_asked);
        despatched.read = despatched.read.saturating_add(read_done);
        despatched.written = despatched.written.saturating_add(write_done);
        one.requested = read_asked.saturating_add(write_asked);
        one.despatched = read_done.saturating_add(write_done);
        one.errored = blocks(bytes.errored);
        one.pending = blocks(bytes.pending);
        one.bytes = bytes;
        one
    }

    /// What is recorded of the mirror, if it has metadata.
    fn mirror_status(&self) -> Option<MirrorStatus> {
        let mirror = &self.mirror;
        let unit = u64::from(mirror.settings.blocksize.load(Relaxed));
        let missed = |group| mirror.group(group).map.dirty().saturating_mul(unit);
        mirror.with_memory(|memory| {
            let record = memory.record.as_ref()?;
            let mut status = MirrorStatus::of(record, missed);
            let marks = World::marks(&**mirror).filter(|marks| marks.is_on());
            status.intent = marks.map(|marks| {
                let (rounds, waits) = marks.counts();
                IntentStatus {
                    regions: marks.count(),
                    bytes: marks.bytes(),
                    rounds,
                    waits,
                }
            });
            Some(status)
        })
    }

    fn settings_status(&self) -> SettingsStatus {
        let settings = &self.mirror.settings;
        SettingsStatus {
            timeout: settings.timeout.load(Relaxed),
            connect_timeout: settings.connect_timeout.load(Relaxed),
            show_errs: settings.show_errs.load(Relaxed),
            autoadd: self.autoadd.load(Relaxed),
            resync_min: settings.resync_min.load(Relaxed),
            resync_max: settings.resync_max.load(Relaxed),
            compare: Compare::from_bits(settings.compare.load(Relaxed)),
            owner_check: settings.owner_check.load(Relaxed),
            intent: settings.intent.load(Relaxed),
            intent_max: settings.intent_max.load(Relaxed),
            intent_idle: settings.intent_idle.load(Relaxed),
        }
    }

    fn group_statuses(&self) -> Result<KVec<GroupStatus<'static>>> {
        let mut groups = KVec::with_capacity(MAX_GROUPS, GFP_KERNEL)?;
        let view = self.mirror.view();
        let now_ms = self.mirror.now_ms();
        for group in GroupId::all() {
            let state = view.state(group);
            if state == GroupState::Absent {
                continue;
            }
            let g = self.mirror.group(group);
            let core = self.mirror.core().group(group);
            groups.push(
                GroupStatus {
                    group,
                    state,
                    dirty: g.map.dirty(),
                    volatile: g.is_volatile(),
                    suspect: core.is_suspect(now_ms),
                    reason: core.fault().map(|fault| fault.as_str()),
                },
                GFP_KERNEL,
            )?;
        }
        Ok(groups)
    }

    fn resync_statuses(&self) -> Result<KVec<ResyncStatus>> {
        let mut all = KVec::with_capacity(MAX_GROUPS, GFP_KERNEL)?;
        let now = self.mirror.age_ns();
        for (group, resync) in GroupId::all().zip(self.resyncs.lock().iter()) {
            let progress = resync.as_ref().and_then(|r| r.track().progress(now));
            if let Some((pos, max, finish_s)) = progress {
                all.push(
                    ResyncStatus {
                        group,
                        pos,
                        max,
                        finish_s,
                    },
                    GFP_KERNEL,
                )?;
            }
        }
        Ok(all)
    }
}
