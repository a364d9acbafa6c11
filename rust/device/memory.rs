// SPDX-License-Identifier: GPL-2.0

//! The device's metadata: `create`, `attach`, `forget`, and what it says when the device is enabled.
//! What it may say is decided in `crate::logic::meta`, and what is recorded of an enabled device in
//! `crate::logic::mirror::record`.
//!
//! Locks: all of it runs under `control`, but the recorder, which never takes that.

use super::{Control, Device, Failure};
use crate::channel::Spec;
use crate::kapi::{epoch_s, host_name, scope::noreclaim};
use crate::logic::{
    command::{Address, Name},
    group::{GroupFault, GroupSet, GroupState},
    ids::GroupId,
    meta::{
        assemble, Ask, Bad, Cause, Generation, Layout, Name as HostName, Owner, Plan, Record,
        Refusal, Superblock, Uuid,
    },
    mirror::{
        adopt::NotAdopted,
        member::{Failed, Members, Which},
        memory::Owned,
        Adopts, Memories, Memory, States, World,
    },
    MAX_GROUPS,
};
use crate::mirror::Mirror;
use core::cell::Cell;
use kernel::{prelude::*, sync::atomic::ordering::Relaxed};

impl From<Failed> for Failure {
    fn from(failed: Failed) -> Self {
        let error = Error::from_errno(failed.errno().saturating_neg());
        Self::new(error, failed.as_str())
    }
}

impl From<NotAdopted> for Failure {
    fn from(why: NotAdopted) -> Self {
        let error = Error::from_errno(why.errno().saturating_neg());
        Self::new(error, why.as_str())
    }
}

fn refused(refusal: Refusal) -> Failure {
    let error = Error::from_errno(refusal.errno().saturating_neg());
    Failure::new(error, refusal.as_str())
}

/// The thread that records who is in sync.
pub(super) fn record(device: &Device, ended: &dyn Fn() -> bool) {
    // The writes that it holds up may be what would free memory.
    noreclaim(|| device.mirror.keep_records(ended));
}

/// How a device starts. What is recorded before is the draft.
pub(super) struct Start {
    /// The groups that are in sync.
    sources: GroupSet,
    /// Other groups, and why they are out of service.
    others: [Option<GroupFault>; MAX_GROUPS],
    /// Sizes that go with the metadata.
    pub(super) layout: Layout,
    /// Bytes of a block.
    pub(super) block: u32,
}

/// A new life of the device.
#[inline(never)]
fn owner(mirror: &Mirror) -> Owner {
    let mut name = [0; 64];
    host_name(&mut name);
    Owner {
        nonce: [mirror.random().max(1), mirror.random()],
        name: HostName::from_bytes(name),
        since: epoch_s(),
    }
}

impl Device {
    /// Calls `f` with what says when a command has waited for metadata for too long: when nothing was
    /// answered for `connect_timeout`.
    pub(super) fn in_time<R>(&self, f: impl FnOnce(&dyn Fn() -> bool) -> R) -> R {
        let seconds = self.mirror.settings.connect_timeout.load(Relaxed);
        let ms = u64::from(seconds).saturating_mul(1000);
        let core = self.mirror.core();
        let look = || (core.metadata_answers(), World::now_ms(&*self.mirror));
        let last = Cell::new(look());
        f(&|| {
            let (now, (answers, since_ms)) = (look(), last.get());
            if now.0 != answers {
                last.set(now);
            }
            now.0 == answers && now.1.saturating_sub(since_ms) >= ms
        })
    }

    /// Looks at the metadata of a group that was just connected, before it joins; whether it has some.
    pub(super) fn look_at_metadata(&self, group: GroupId) -> Result<bool, Failure> {
        let mirror = &self.mirror;
        match self.in_time(|ended| mirror.read_member(group, ended)) {
            Ok(()) => {}
            Err(Failed::Bad(Bad::Blank)) => return Ok(false),
            Err(failed) => return Err(failed.into()),
        }
        let (generation, event) = mirror.with_notes(|notes| {
            let superblock = group.pick(notes.found).as_ref();
            // It was just found.
            let superblock = superblock.ok_or(refused(Refusal::NoMember))?;
            let theirs = &superblock.record;
            let ours = notes.memory.record.as_ref().map(|ours| ours.mirror);
            if ours.is_some_and(|ours| ours != theirs.mirror) {
                return Err(refused(Refusal::Foreign(group)));
            }
            if superblock.member != group {
                return Err(refused(Refusal::Place(group)));
            }
            notes.memory.found(superblock);
            if notes.memory.record.is_none() {
                notes.memory.record = Some(*theirs);
            }
            Ok::<_, Failure>((theirs.generation, theirs.event))
        })?;
        pr_info!(
            "[{}] group {} is a member of a mirror, generation {:016x}, event {event}\n",
            self.id.letter(),
            group.index(),
            generation.bits()
        );
        Ok(true)
    }

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
                    .ok_or(refused(Refusal::NoMember))
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
        let groups = self.groups();
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
        if !force {
            for group in groups.iter() {
                let blank = self.in_time(|ended| mirror.has_blank_end(group, ended));
                if !blank? {
                    self.leave_as_they_are(groups);
                    let reason = "the end of a group's export is in use; 'force' overwrites it";
                    return Err(Failure::new(EEXIST, reason));
                }
            }
        }
        for group in groups.iter() {
            self.in_time(|ended| mirror.wipe_member(group, ended))?;
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

    /// The groups that there are.
    fn groups(&self) -> GroupSet {
        let view = self.mirror.view();
        GroupId::all()
            .filter(|&group| view.state(group) != GroupState::Absent)
            .collect()
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
        if self.groups().and(in_sync) != in_sync {
            let reason = "not all members that are in sync are there";
            return Err(Failure::new(EUCLEAN, reason));
        }
        self.in_time(|ended| mirror.record_draft(in_sync, ended))?;
        if !mirror.core().group(group).up().is_empty() {
            self.in_time(|ended| mirror.wipe_member(group, ended))?;
        }
        Ok(())
    }

    /// What the metadata says of a device that is to be enabled; nothing if there is none.
    pub(super) fn decide(&self, ask: Ask) -> Result<Option<Start>, Failure> {
        let mirror = &self.mirror;
        if !mirror.has_memory() {
            return match ask {
                Ask::Certain => Ok(None),
                _ => Err(Failure::new(EINVAL, "the device has no metadata")),
            };
        }
        let start = if mirror.core().last_sectors() > 0 {
            self.go_on()?
        } else {
            self.assemble(ask)?
        };
        for group in self.groups().iter() {
            if !start.layout.fits(mirror.export_sectors(group) << 9) {
                let reason = "a group is too small for the device and its metadata";
                return Err(Failure::new(EFBIG, reason));
            }
        }
        Ok(Some(start))
    }

    /// Looks for the newest superblocks of all groups that are there; gives those whose servers can make
    /// durable what they have.
    fn find_members(&self) -> Result<GroupSet, Failure> {
        let mirror = &self.mirror;
        let mut has_flush = GroupSet::default();
        for group in GroupId::all() {
            let is_there = !mirror.core().group(group).up().is_empty();
            mirror.with_notes(|notes| *group.pick_mut(notes.found) = None);
            if !is_there || mirror.group(group).is_unread() {
                continue;
            }
            match self.in_time(|ended| mirror.read_member(group, ended)) {
                Ok(()) => mirror.with_notes(|notes| {
                    if let Some(superblock) = group.pick(notes.found) {
                        notes.memory.found(superblock);
                    }
                }),
                Err(Failed::Bad(Bad::Blank)) => {}
                Err(failed) => return Err(failed.into()),
            }
            if !mirror.group(group).is_volatile() {
                has_flush = has_flush.with(group);
            }
        }
        Ok(has_flush)
    }

    /// The first start of a device in this life: what was found decides.
    fn assemble(&self, ask: Ask) -> Result<Start, Failure> {
        for group in self.groups().iter() {
            self.mirror.wait_for_start(group);
        }
        let mut plan = self.plan(ask)?;
        let had_it = self.mirror.with_notes(|notes| {
            let base = plan.base.pick(notes.found).as_ref()?;
            base.record.owner.map(|_| base.record.mirror)
        });
        if let Some(mirror) = had_it {
            self.await_owner(mirror)?;
            // What was on its way has arrived.
            plan = self.plan(ask)?;
        }
        let (layout, block) = self.draft_start(&plan)?;
        self.tell_plan(&plan);
        let others = core::array::from_fn(|index| {
            let group = GroupId::new(index).filter(|&group| plan.others.has(group))?;
            Some(match plan.drawn {
                Some(Cause::Forced) => GroupFault::Overridden,
                _ if plan.set_back.has(group) => GroupFault::SetBack,
                Some(Cause::Crashed) => GroupFault::Crashed,
                _ => GroupFault::Behind,
            })
        });
        Ok(Start {
            sources: plan.sources,
            others,
            layout,
            block,
        })
    }

    /// What is found now, and what it allows.
    fn plan(&self, ask: Ask) -> Result<Plan, Failure> {
        let has_flush = self.find_members()?;
        self.mirror
            .with_notes(|notes| assemble(notes.found, has_flush, ask))
            .map_err(refused)
    }

    /// Drafts the record of a start; gives the sizes that go with it.
    #[inline(never)] // It passes through this stack frame.
    fn draft_start(&self, plan: &Plan) -> Result<(Layout, u32), Failure> {
        let (fresh, owner) = (Generation::new(self.mirror.random()), owner(&self.mirror));
        let sizes = self.mirror.with_notes(|notes| {
            let base = plan.base.pick(notes.found).as_ref();
            notes.memory.draft = base.map(|superblock| superblock.record);
            let draft = notes.memory.draft.as_mut()?;
            plan.advance(draft, notes.found, fresh, owner);
            Some((draft.layout, draft.block))
        });
        // There is a base: it was taken from there.
        sizes.ok_or(refused(Refusal::NoMember))
    }

    /// Says what was decided, and why.
    fn tell_plan(&self, plan: &Plan) {
        let why = match plan.drawn {
            None => "all members are there and in sync",
            Some(Cause::Crashed) => "the device was not ended in order: one group is the source",
            Some(Cause::Degraded) => "not all members are in sync",
            Some(Cause::Forced) => "the administrator has chosen the source",
            Some(_) => "another generation begins",
        };
        let letter = self.id.letter();
        pr_info!("[{letter}] {why}\n");
        for group in GroupId::all() {
            let (is_member, is_found) = self.mirror.with_notes(|notes| {
                let draft = notes.memory.draft.as_ref();
                let is_member = draft.is_some_and(|draft| draft.member(group).is_some());
                (is_member, group.pick(notes.found).is_some())
            });
            let state = match (is_member, is_found) {
                (false, false) => continue,
                (true, false) => "is not there",
                _ if plan.sources.has(group) => "is current",
                _ if plan.others.has(group) => "gets what it misses",
                _ => "is no member any more",
            };
            pr_info!("[{letter}] group {} {state}\n", group.index());
        }
    }

    /// A later start in this life: what is known holds, if nobody else had the mirror meanwhile.
    fn go_on(&self) -> Result<Start, Failure> {
        let mirror = &self.mirror;
        let in_sync = mirror.view().readable();
        if !self.shows_last(in_sync)? {
            let reason = "another client had the mirror meanwhile: reset the device";
            return Err(Failure::new(EUCLEAN, reason));
        }
        let (layout, block) = self.draft_later(in_sync)?;
        Ok(Start {
            sources: in_sync,
            others: [None; MAX_GROUPS],
            layout,
            block,
        })
    }

    /// Whether each of these groups shows the superblock that it is known to have.
    pub(super) fn shows_last(&self, groups: GroupSet) -> Result<bool, Failure> {
        let mirror = &self.mirror;
        for group in groups.iter() {
            self.in_time(|ended| mirror.read_member(group, ended))?;
            let is_last = mirror.with_notes(|notes| {
                let found = group.pick(notes.found).as_ref();
                found.is_some_and(|found| notes.memory.is_last(found))
            });
            if !is_last {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Drafts the record of a later start, as [`Device::draft_start`].
    #[inline(never)]
    fn draft_later(&self, in_sync: GroupSet) -> Result<(Layout, u32), Failure> {
        let (fresh, owner) = (Generation::new(self.mirror.random()), owner(&self.mirror));
        let sizes = self.mirror.with_memory(|memory| {
            let nobody = GroupSet::default();
            let draft = memory.begin_draft(in_sync, nobody, fresh, Owned::By(owner))?;
            Some((draft.layout, draft.block))
        });
        sizes.ok_or(Failure::new(ENOENT, "the device has no metadata"))
    }

    /// Records the start, and lets the groups be what it says.
    pub(super) fn begin(&self, start: &Start) -> Result<(), Failure> {
        let mirror = &self.mirror;
        self.in_time(|ended| mirror.record_draft(start.sources, ended))?;
        self.settle(start.sources)?;
        for (group, fault) in GroupId::all().zip(start.others) {
            // One without metadata has joined beside members.
            let is_blank = mirror.core().group(group).fault() == Some(GroupFault::Waiting)
                && mirror.view().state(group) == GroupState::Faulty
                && !start.sources.has(group);
            if let Some(fault) = fault.or(is_blank.then_some(GroupFault::Joined)) {
                mirror.group(group).map.mark_all();
                mirror.wait_for_start_as(group, fault);
            }
        }
        for group in start.sources.iter() {
            // Refused for those that are in sync since the last time, and miss nothing.
            if mirror.assembled(group).is_ok() {
                mirror.group(group).map.clear_all();
            }
        }
        mirror.begin_records(start.sources);
        Ok(())
    }

    /// Records that nobody has the device any more, if it has metadata.
    pub(super) fn end(&self) {
        if !self.mirror.has_memory() {
            return;
        }
        if !self.in_time(|ended| self.mirror.end_records(ended)) {
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
