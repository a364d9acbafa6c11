// SPDX-License-Identifier: GPL-2.0

//! The device's metadata: `create`, `attach`, `forget`, and its end. What is recorded of an enabled device
//! is decided in `crate::logic::mirror::record`.
//!
//! Locks: all of it runs under `control`, but the recorder, which never takes that.

use super::{Control, Device, Failure};
use crate::channel::Spec;
use crate::kapi::{is_killed, scope::noreclaim};
use crate::logic::{
    command::{Address, Name},
    group::{GroupFault, GroupSet, GroupState},
    ids::GroupId,
    meta::{Bad, Generation, Layout, Record, Refusal, Superblock, Uuid},
    mirror::{
        adopt::NotAdopted,
        decide::joined,
        member::{Failed, Members, Which},
        memory::Owned,
        Adopts, Memories, Memory, NotStarted, Starter, States, World,
    },
    MAX_GROUPS,
};
use kernel::{prelude::*, sync::atomic::ordering::Relaxed};

impl From<Failed> for Failure {
    fn from(failed: Failed) -> Self {
        Self::of(failed.errno(), failed.as_str())
    }
}

impl From<NotAdopted> for Failure {
    fn from(why: NotAdopted) -> Self {
        Self::of(why.errno(), why.as_str())
    }
}

/// The thread that records who is in sync.
pub(super) fn record(device: &Device, ended: &dyn Fn() -> bool) {
    // The writes that it holds up may be what would free memory.
    noreclaim(|| device.mirror.keep_records(ended));
}

impl Device {
    /// Connects to a server, to the group that its metadata says.
    #[inline(never)] // The way to all commands would be as deep as this.
    pub(super) fn attach(
        &self,
        control: &mut Control,
        addr: Address<'_>,
        name: Name<'_>,
        count: u8,
    ) -> Result<(), Failure> {
        let view = self.mirror.view();
        let is_free = |&group: &GroupId| view.state(group) == GroupState::Absent;
        let free = GroupId::all().find(is_free);
        let free = free.ok_or(Failure::new(ENOSPC, "too many groups"))?;
        let member = self.member_at(control, Spec::here(free, addr, name)?)?;
        if !is_free(&member) {
            let reason = "the group of this member is there already";
            return Err(Failure::new(EEXIST, reason));
        }
        self.connect(control, Spec::here(member, addr, name)?, count, false, true)
    }

    /// Which member a server has, by a channel that ends again.
    fn member_at(&self, control: &mut Control, spec: Spec) -> Result<GroupId, Failure> {
        let group = spec.group;
        let found = self.with_channel(control, spec, || {
            self.in_time(|ended| self.mirror.read_member(group, ended))
        })?;
        match found {
            Ok(()) => {
                let member = |superblock: &Superblock| superblock.member;
                self.mirror
                    .with_notes(|notes| group.pick(notes.found).as_ref().map(member))
                    .ok_or(NotStarted::Refused(Refusal::NoMember).into())
            }
            Err(Failed::Bad(Bad::Blank)) => {
                Err(Failure::new(ENOENT, "the export is no member of a mirror"))
            }
            Err(failed) => Err(failed.into()),
        }
    }

    /// Makes a mirror of the groups that are connected.
    #[inline(never)] // The way to all commands would be as deep as this.
    pub(super) fn create(
        &self,
        control: &Control,
        source: GroupId,
        equal: bool,
        force: bool,
    ) -> Result<(), Failure> {
        let mirror = &self.mirror;
        if control.disk.is_some() || mirror.core().last_sectors() > 0 {
            return Err(Failure::new(EBUSY, "the device was enabled already"));
        }
        let groups = joined(&**mirror);
        if !groups.has(source) {
            return Err(Failure::new(ENOENT, "no such group"));
        }
        if mirror.has_memory() && !force {
            let reason = "a group is a member of a mirror already; 'force' makes a new one";
            return Err(Failure::new(EEXIST, reason));
        }
        self.draft_mirror(groups, source, equal)?;
        // From here on their metadata says what they are, and nothing that hangs is waited for.
        for group in groups.iter() {
            mirror.wait_for_start(group);
            mirror.group(group).set_unread(false);
        }
        for group in groups.iter() {
            if force {
                self.in_time(|ended| mirror.wipe_member(group, ended))?;
            } else if !self.in_time(|ended| mirror.has_blank_end(group, ended))? {
                self.leave_as_they_are(groups);
                let reason = "the end of a group's export is in use; 'force' overwrites it";
                return Err(Failure::new(EEXIST, reason));
            }
        }
        // The source first: one that is not written to yet is blank, and gets all.
        self.in_time(|ended| {
            mirror.write_member(source, Which::Draft, ended)?;
            mirror.record_draft(groups.without(GroupSet::of(source)), ended)
        })?;
        pr_info!(
            "[{}] made a mirror of {} groups\n",
            self.id.letter(),
            groups.len()
        );
        Ok(())
    }

    /// `create` was refused: the groups are equal by the administrator's word, as before.
    fn leave_as_they_are(&self, groups: GroupSet) {
        for group in groups.iter() {
            // Never refused: they wait for the start.
            let _ = self.mirror.assembled(group);
        }
    }

    /// Drafts the record of a new mirror.
    #[inline(never)] // It passes through this stack frame.
    fn draft_mirror(&self, groups: GroupSet, source: GroupId, equal: bool) -> Result<(), Failure> {
        let mirror = &self.mirror;
        let block = mirror.settings.blocksize.load(Relaxed);
        let mut layout: Option<Layout> = None;
        for group in groups.iter() {
            let bytes = mirror.export_sectors(group) << 9;
            let one = Layout::of_export(bytes, u64::from(block))
                .ok_or(Failure::new(EFBIG, "an export is too small for metadata"))?;
            if mirror.smallest_read(group) > 4096 {
                let reason = "a server needs larger blocks than metadata has";
                return Err(Failure::new(EINVAL, reason));
            }
            if layout.is_none_or(|least| one.device_bytes < least.device_bytes) {
                layout = Some(one);
            }
        }
        let layout = layout.ok_or(Failure::new(ENOTCONN, "the device has no group"))?;
        let mut members = [None; MAX_GROUPS];
        for group in groups.iter() {
            *group.pick_mut(&mut members) = Some(Uuid::new([mirror.random(), mirror.random()]));
        }
        let in_sync = if equal { groups } else { GroupSet::of(source) };
        let ids = (
            Uuid::new([mirror.random(), mirror.random()]),
            Generation::new(mirror.random()),
        );
        mirror.with_memory(|memory| {
            memory.draft = Some(Record::create(ids, &members, in_sync, layout, block));
        });
        Ok(())
    }

    /// Takes a member out of the mirror.
    #[inline(never)] // The way to all commands would be as deep as this.
    pub(super) fn forget_member(&self, control: &Control, group: GroupId) -> Result<(), Failure> {
        let mirror = &self.mirror;
        if !mirror.is_member(group) {
            return Err(Failure::new(ENOENT, "the group is no member of a mirror"));
        }
        if control.disk.is_some() {
            let reason = "the device is enabled";
            return Err(Failure::new(EBUSY, reason));
        }
        let fresh = Generation::new(mirror.random());
        let in_sync = mirror.with_memory(|memory| {
            let last = memory.draft.as_ref().or(memory.record.as_ref())?;
            let in_sync = last.in_sync();
            let nobody = GroupSet::default();
            let draft = memory.begin_draft(in_sync, nobody, fresh, Owned::AsBefore)?;
            draft.drop_member(group);
            Some(draft.in_sync())
        });
        let in_sync = in_sync.unwrap_or_default();
        if in_sync.is_empty() {
            return Err(Failure::new(EBUSY, "no other member is in sync"));
        }
        if joined(&**mirror).and(in_sync) != in_sync {
            let reason = "not all members that are in sync are there";
            return Err(Failure::new(EUCLEAN, reason));
        }
        self.in_time(|ended| mirror.record_draft(in_sync, ended))?;
        // As one that has just joined: it is in sync with nobody.
        mirror.wait_for_start_as(group, GroupFault::Joined);
        mirror.mark_all(group);
        if !mirror.core().group(group).up().is_empty() {
            self.in_time(|ended| mirror.wipe_member(group, ended))?;
        }
        Ok(())
    }

    /// Records that nobody has the device any more, if it has metadata. The disk is gone by now, so nobody
    /// can go back: only a signal that kills ends this early.
    pub(super) fn end(&self) {
        if !self.mirror.has_memory() {
            return;
        }
        if !self.in_time_unless(&is_killed, |ended| self.mirror.end_records(ended)) {
            pr_warn!(
                "[{}] the end could not be recorded: the next start compares the groups\n",
                self.id.letter()
            );
        }
    }

    /// Forgets what is known of the metadata: the device goes, or has no group any more.
    pub(super) fn forget_memory(&self) {
        self.mirror.stop_records();
        self.mirror
            .with_memory(|memory| *memory = Memory::default());
    }
}
