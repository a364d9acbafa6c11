// SPDX-License-Identifier: GPL-2.0

//! The start of a device with metadata: what it says when the device is enabled. What it may say is
//! decided in `crate::logic::meta::assemble`, and what follows from it in `crate::logic::mirror::start`.
//!
//! Locks: all of it runs under `control`.

use super::{memory::refused, Device, Failure};
use crate::kapi::{epoch_s, host_name};
use crate::logic::{
    group::{GroupFault, GroupSet},
    ids::GroupId,
    meta::{
        assemble, assemble::Pages, Ask, Bad, Cause, Generation, Layout, Name as HostName, Owner,
        Plan, Refusal,
    },
    mirror::{
        self,
        member::{Failed, Members},
        memory::Owned,
        Intents, Memories, Starts, States, World,
    },
    MAX_GROUPS,
};
use crate::mirror::Mirror;
use kernel::{prelude::*, sync::atomic::ordering::Relaxed};

/// How a device starts. What is recorded before is the draft.
pub(super) struct Start {
    what: mirror::Start,
    /// Sizes that go with the metadata.
    pub(super) layout: Layout,
    /// Bytes of a block.
    pub(super) block: u32,
}

impl Start {
    /// Somebody had the device before, and did not end in order.
    pub(super) fn is_unclean(&self) -> bool {
        self.what.is_unclean
    }
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
        let (mut plan, mut has_flush) = self.plan(ask)?;
        let had_it = self.mirror.with_notes(|notes| {
            let base = plan.base.pick(notes.found).as_ref()?;
            base.record.owner.map(|_| base.record.mirror)
        });
        if let Some(mirror) = had_it {
            self.await_owner(mirror)?;
            // What was on its way has arrived.
            (plan, has_flush) = self.plan(ask)?;
        }
        let pages = self.find_pages(&plan)?;
        let (plan, marked) = self.plan_with(&plan, &pages, has_flush, ask)?;
        let (layout, block) = self.draft_start(&plan, &pages, marked)?;
        self.tell_plan(&plan, marked);
        let others = core::array::from_fn(|index| {
            let group = GroupId::new(index).filter(|&group| plan.others.has(group))?;
            Some(match plan.drawn {
                Some(Cause::Forced) => GroupFault::Overridden,
                _ if plan.set_back.has(group) => GroupFault::SetBack,
                Some(Cause::Crashed) => GroupFault::Crashed,
                _ => GroupFault::Behind,
            })
        });
        let what = mirror::Start {
            sources: plan.sources,
            others,
            marked,
            is_unclean: had_it.is_some(),
            sectors: layout.device_bytes >> 9,
        };
        Ok(Start {
            what,
            layout,
            block,
        })
    }

    /// What is found now, and what it allows; and the groups whose servers can make durable what they
    /// have.
    fn plan(&self, ask: Ask) -> Result<(Plan, GroupSet), Failure> {
        let has_flush = self.find_members()?;
        let plan = self
            .mirror
            .with_notes(|notes| assemble(notes.found, has_flush, ask));
        plan.map(|plan| (plan, has_flush)).map_err(refused)
    }

    /// Looks for the newest intent pages; gives their numbers. What they mark is wanted by the marks.
    #[inline(never)] // It passes through this stack frame.
    fn find_pages(&self, plan: &Plan) -> Result<Pages, Failure> {
        let mirror = &self.mirror;
        let base = mirror.with_notes(|notes| {
            let record = &plan.base.pick(notes.found).as_ref()?.record;
            let of = (record.mirror, record.layout.device_bytes);
            Some((of, record.full()))
        });
        let (of, full) = base.ok_or(refused(Refusal::NoMember))?;
        mirror.prepare_marks(of.1)?;
        let mut pages: Pages = [None; MAX_GROUPS];
        for group in plan.sources.union(plan.others).iter() {
            let mark = !full.has(group);
            *group.pick_mut(&mut pages) =
                self.in_time(|ended| mirror.read_intent(group, of, mark, ended))?;
        }
        mirror.with_memory(|memory| memory.found_pages(&pages));
        Ok(pages)
    }

    /// The same as [`Device::plan`], now that the intent pages are known; and the groups that miss nothing
    /// but what those mark.
    #[inline(never)]
    fn plan_with(
        &self,
        plan: &Plan,
        pages: &Pages,
        has_flush: GroupSet,
        ask: Ask,
    ) -> Result<(Plan, GroupSet), Failure> {
        self.mirror.with_notes(|notes| {
            let preferred = plan.preferred(notes.found, pages, has_flush);
            let plan = assemble(notes.found, preferred, ask).map_err(refused)?;
            let marked = plan.marked(notes.found, pages, has_flush);
            Ok((plan, marked))
        })
    }

    /// Drafts the record of a start; gives the sizes that go with it.
    #[inline(never)] // It passes through this stack frame.
    fn draft_start(
        &self,
        plan: &Plan,
        pages: &Pages,
        marked: GroupSet,
    ) -> Result<(Layout, u32), Failure> {
        let (fresh, owner) = (Generation::new(self.mirror.random()), owner(&self.mirror));
        let sizes = self.mirror.with_notes(|notes| {
            let base = plan.base.pick(notes.found).as_ref();
            notes.memory.draft = base.map(|superblock| superblock.record);
            let draft = notes.memory.draft.as_mut()?;
            plan.advance(draft, notes.found, (pages, marked), fresh, owner);
            draft.keep_intent(self.mirror.settings.intent.load(Relaxed));
            Some((draft.layout, draft.block))
        });
        // There is a base: it was taken from there.
        sizes.ok_or(refused(Refusal::NoMember))
    }

    /// Says what was decided, and why.
    fn tell_plan(&self, plan: &Plan, marked: GroupSet) {
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
                _ if marked.has(group) => "is compared where it is marked",
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
        mirror.keep_marks(layout.device_bytes)?;
        let what = mirror::Start {
            sources: in_sync,
            others: [None; MAX_GROUPS],
            marked: GroupSet::default(),
            is_unclean: false,
            sectors: layout.device_bytes >> 9,
        };
        Ok(Start {
            what,
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
            draft.keep_intent(self.mirror.settings.intent.load(Relaxed));
            Some((draft.layout, draft.block))
        });
        sizes.ok_or(Failure::new(ENOENT, "the device has no metadata"))
    }

    /// Records the start, and lets the groups be what it says.
    pub(super) fn begin(&self, start: &Start) -> Result<(), Failure> {
        let mirror = &self.mirror;
        self.in_time(|ended| mirror.record_draft(start.what.sources, ended))?;
        self.settle(start.what.sources)?;
        Starts::begin(&**mirror, &start.what);
        Ok(())
    }
}
