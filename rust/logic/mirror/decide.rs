// SPDX-License-Identifier: GPL-2.0

//! What the metadata says of a device that is to be enabled: it is looked for, and its record drafted.
//! Who is current is decided in [`crate::logic::meta::assemble`], and what follows from it in
//! [`super::start`]; whether somebody else has the mirror, in [`super::settle`].
//!
//! | step | what |
//! |---|---|
//! | a group is connected | its newest superblock is looked for: it waits for the start if there is one |
//! | the superblocks of all groups are read | they allow a start, or it is refused |
//! | somebody had the mirror, and did not end in order | it is waited whether that one has it still, and all is read again |
//! | the intent pages are read | which members miss nothing but what is marked |
//! | the record of the start is drafted, and made durable on all sources | a second client that starts at the same time is seen |
//! | the groups are what the record says | [`Starts::begin`] |

use super::{
    member::{Failed, Members},
    memory::Owned,
    settle::{await_owner, settle, shows_last},
    start::Start,
    world::Standing,
    Intents, Memories, News, Starts, States, World,
};
use crate::logic::{
    group::{GroupFault, GroupSet, GroupState},
    ids::GroupId,
    meta::{
        assemble, assemble::Pages, Ask, Bad, Cause, Generation, Layout, Owner, Plan, Record,
        Refusal, Superblock,
    },
    MAX_GROUPS,
};
use core::cell::Cell;

/// Why a device does not start.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotStarted {
    /// The device has no metadata, but something was asked for that needs it.
    NoMetadata,
    /// Nobody can know who is current, or it cannot be.
    Refused(Refusal),
    /// The metadata of a group could not be read or written.
    Failed(Failed),
    /// A group is too small for the device and its metadata.
    TooSmall,
    /// Another client has the mirror.
    InUse,
    /// Another client has started it at the same moment.
    Overtaken,
    /// Another client had the mirror since this one last had it.
    Meanwhile,
    /// The device was enabled before, so it is known who has everything, but another source is asked for.
    Known,
    /// Whoever asked for it does not wait any more.
    Interrupted,
    /// There is no memory for the marks.
    NoMemory,
}

impl NotStarted {
    /// What to tell the administrator.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoMetadata => "the device has no metadata",
            Self::Refused(refusal) => refusal.as_str(),
            Self::Failed(failed) => failed.as_str(),
            Self::TooSmall => "a group is too small for the device and its metadata",
            Self::InUse => "another client has the mirror: it is in use",
            Self::Overtaken => "another client has just started the mirror",
            Self::Meanwhile => "another client had the mirror meanwhile: reset the device",
            Self::Known => {
                "the device was enabled before, and other groups have everything: to take this one, reset it"
            }
            Self::Interrupted => "interrupted",
            Self::NoMemory => "no memory for the marks of the device",
        }
    }

    /// The positive Linux errno for the writer of the command.
    pub fn errno(self) -> i32 {
        match self {
            Self::NoMetadata => 22, // EINVAL
            Self::Refused(refusal) => refusal.errno(),
            Self::Failed(failed) => failed.errno(),
            Self::TooSmall => 27,                              // EFBIG
            Self::InUse | Self::Overtaken | Self::Known => 16, // EBUSY
            Self::Meanwhile => 117,                            // EUCLEAN
            Self::Interrupted => 4,                            // EINTR
            Self::NoMemory => 12,                              // ENOMEM
        }
    }
}

impl From<Failed> for NotStarted {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

impl From<Refusal> for NotStarted {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Who has a device started, and what that needs besides its mirror.
pub trait Starter {
    /// The mirror.
    type Mirror: World;

    /// The mirror.
    fn mirror(&self) -> &Self::Mirror;
    /// For how many milliseconds nothing may be answered.
    fn patience_ms(&self) -> u64;
    /// Whether whoever asked for the start does not wait any more, or the client is about to end, whatever
    /// is answered.
    fn is_ending(&self) -> bool;
    /// Waits so many milliseconds; false if whoever asked for the start does not wait any more.
    fn pause(&self, ms: u32) -> bool;
    /// Whether a group's metadata is not to be looked at: the administrator has said so.
    fn is_unread(&self, group: GroupId) -> bool;
    /// Forgets all marks, for a device of `bytes` bytes; false if there is no memory for so many.
    fn prepare_marks(&self, bytes: u64) -> bool;
    /// The same, but keeps the marks that there are: the device had this size before.
    fn keep_marks(&self, bytes: u64) -> bool;
    /// A new life of the device.
    fn owner(&self) -> Owner;
    /// Whether intent pages are to be kept.
    fn keeps_intent(&self) -> bool;

    /// Calls `f` with what says that nothing was answered for too long, or that nobody waits any more.
    fn in_time<R>(&self, f: impl FnOnce(&dyn Fn() -> bool) -> R) -> R {
        self.in_time_unless(&|| self.is_ending(), f)
    }

    /// The same, but for what says that nobody waits any more.
    fn in_time_unless<R>(
        &self,
        is_given_up: &dyn Fn() -> bool,
        f: impl FnOnce(&dyn Fn() -> bool) -> R,
    ) -> R {
        let (mirror, most_ms) = (self.mirror(), self.patience_ms());
        let look = || (mirror.core().metadata_answers(), mirror.now_ms());
        let last = Cell::new(look());
        f(&|| {
            let (now, (answers, since_ms)) = (look(), last.get());
            if now.0 != answers {
                last.set(now);
            }
            let is_late = now.0 == answers && now.1.saturating_sub(since_ms) >= most_ms;
            is_late || is_given_up()
        })
    }
}

/// Starts of a device by what its metadata says.
pub trait Decides: Starter {
    /// Looks at the metadata of a group that was just connected, before it joins; whether it has some.
    ///
    /// # Errors
    ///
    /// Why it cannot be known, or why the group does not belong here.
    fn look_at_metadata(&self, group: GroupId) -> Result<bool, NotStarted> {
        let mirror = self.mirror();
        match self.in_time(|ended| mirror.read_member(group, ended)) {
            Ok(()) => {}
            Err(Failed::Bad(Bad::Blank)) => return Ok(false),
            Err(failed) => return Err(failed.into()),
        }
        let news = mirror.with_notes(|notes| {
            // It was just found.
            let superblock = group.pick(notes.found).as_ref().ok_or(Refusal::NoMember)?;
            let theirs = &superblock.record;
            let ours = notes.memory.record.as_ref().map(|ours| ours.mirror);
            if ours.is_some_and(|ours| ours != theirs.mirror) {
                return Err(Refusal::Foreign(group));
            }
            if superblock.member != group {
                return Err(Refusal::Place(group));
            }
            notes.memory.found(superblock);
            if notes.memory.record.is_none() {
                notes.memory.record = Some(*theirs);
            }
            let (generation, event) = (theirs.generation, theirs.event);
            Ok(News::Member {
                group,
                generation,
                event,
            })
        })?;
        mirror.tell(news);
        Ok(true)
    }

    /// What the metadata says of a device that is to be enabled; nothing if there is none.
    ///
    /// # Errors
    ///
    /// Why the device does not start.
    fn decide(&self, ask: Ask) -> Result<Option<Start>, NotStarted> {
        let mirror = self.mirror();
        if !mirror.has_memory() {
            return match ask {
                Ask::Certain => Ok(None),
                _ => Err(NotStarted::NoMetadata),
            };
        }
        let start = if mirror.core().last_sectors() > 0 {
            go_on(self, ask)?
        } else {
            first(self, ask)?
        };
        // One that has no server now is looked at when it is brought back.
        let has_server = |group: &GroupId| !mirror.core().group(*group).up().is_empty();
        for group in joined(mirror).iter().filter(has_server) {
            if !start.layout.fits(mirror.export_sectors(group) << 9) {
                return Err(NotStarted::TooSmall);
            }
        }
        Ok(Some(start))
    }

    /// Records the start that was decided, and lets the groups be what it says.
    ///
    /// # Errors
    ///
    /// Why it could not be recorded, or that somebody else was faster.
    fn record_start(&self, start: &Start) -> Result<(), NotStarted> {
        let mirror = self.mirror();
        self.in_time(|ended| mirror.record_draft(start.sources, ended))?;
        settle(self, start.sources)?;
        mirror.begin(start);
        Ok(())
    }
}

impl<S: Starter> Decides for S {}

/// The groups that there are.
pub fn joined<W: World>(w: &W) -> GroupSet {
    let view = w.core().view();
    let is_there = |&group: &GroupId| view.state(group) != GroupState::Absent;
    GroupId::all().filter(is_there).collect()
}

/// The first start of a device in this life: what was found decides.
fn first<S: Starter + ?Sized>(s: &S, ask: Ask) -> Result<Start, NotStarted> {
    let mirror = s.mirror();
    for group in joined(mirror).iter() {
        mirror.wait_for_start(group);
    }
    let (mut plan, mut has_flush) = plan(s, ask)?;
    let had_it = mirror.with_notes(|notes| {
        let base = plan.base.pick(notes.found).as_ref()?;
        base.record.owner.map(|_| base.record.mirror)
    });
    if let Some(of) = had_it {
        await_owner(s, of)?;
        // What was on its way has arrived.
        (plan, has_flush) = self::plan(s, ask)?;
    }
    let pages = find_pages(s, &plan)?;
    let (plan, marked) = plan_with(mirror, &plan, &pages, has_flush, ask)?;
    let (layout, block) = draft(s, &plan, &pages, marked)?;
    let others = others_of(mirror, &plan, had_it.is_some());
    tell(mirror, &plan, &others, marked);
    Ok(Start {
        sources: plan.sources,
        others,
        marked,
        is_unclean: had_it.is_some(),
        layout,
        block,
    })
}

/// Why the members that are no source are out of service; `is_unclean` if the device was not ended in order.
#[inline(never)]
fn others_of<W: World>(
    mirror: &W,
    plan: &Plan,
    is_unclean: bool,
) -> [Option<GroupFault>; MAX_GROUPS] {
    let in_sync = mirror.with_notes(|notes| {
        let base = plan.base.pick(notes.found).as_ref();
        base.map_or(GroupSet::default(), |base| base.record.in_sync())
    });
    core::array::from_fn(|index| {
        let group = GroupId::new(index).filter(|&group| plan.others.has(group))?;
        Some(match plan.drawn {
            Some(Cause::Forced) => GroupFault::Overridden,
            _ if plan.set_back.has(group) => GroupFault::SetBack,
            // What it shows is what it has: had a flush of it been refused, it would not be in sync.
            _ if is_unclean && in_sync.has(group) => GroupFault::Crashed,
            _ => GroupFault::Behind,
        })
    })
}

/// Looks for the newest superblocks of all groups that are there; gives those whose servers can make
/// durable what they have.
fn find_members<S: Starter + ?Sized>(s: &S) -> Result<GroupSet, NotStarted> {
    let mirror = s.mirror();
    let mut has_flush = GroupSet::default();
    for group in GroupId::all() {
        let is_there = !mirror.core().group(group).up().is_empty();
        mirror.with_notes(|notes| *group.pick_mut(notes.found) = None);
        if !is_there || s.is_unread(group) {
            continue;
        }
        match s.in_time(|ended| mirror.read_member(group, ended)) {
            Ok(()) => mirror.with_notes(|notes| {
                if let Some(superblock) = group.pick(notes.found) {
                    notes.memory.found(superblock);
                }
            }),
            Err(Failed::Bad(Bad::Blank)) => {}
            Err(failed) => return Err(failed.into()),
        }
        if !mirror.is_volatile(group) {
            has_flush = has_flush.with(group);
        }
    }
    Ok(has_flush)
}

/// What is found now, and what it allows; and the groups whose servers can make durable what they have.
fn plan<S: Starter + ?Sized>(s: &S, ask: Ask) -> Result<(Plan, GroupSet), NotStarted> {
    let has_flush = find_members(s)?;
    let mirror = s.mirror();
    let plan = mirror.with_notes(|notes| assemble(notes.found, has_flush, ask))?;
    Ok((plan, has_flush))
}

/// Looks for the newest intent pages; gives their numbers. What they mark is wanted by the marks.
#[inline(never)] // It passes through this stack frame.
fn find_pages<S: Starter + ?Sized>(s: &S, plan: &Plan) -> Result<Pages, NotStarted> {
    let mirror = s.mirror();
    let base = mirror.with_notes(|notes| {
        let record = &plan.base.pick(notes.found).as_ref()?.record;
        let of = (record.mirror, record.layout.device_bytes);
        Some((of, record.full()))
    });
    let (of, full) = base.ok_or(Refusal::NoMember)?;
    if !s.prepare_marks(of.1) {
        return Err(NotStarted::NoMemory);
    }
    let mut pages: Pages = [None; MAX_GROUPS];
    for group in plan.sources.union(plan.others).iter() {
        let mark = !full.has(group);
        *group.pick_mut(&mut pages) =
            s.in_time(|ended| mirror.read_intent(group, of, mark, ended))?;
    }
    mirror.with_memory(|memory| memory.found_pages(&pages));
    Ok(pages)
}

/// The same as [`plan`], now that the intent pages are known; and the groups that miss nothing but what
/// those mark.
#[inline(never)]
fn plan_with<W: World>(
    mirror: &W,
    plan: &Plan,
    pages: &Pages,
    has_flush: GroupSet,
    ask: Ask,
) -> Result<(Plan, GroupSet), NotStarted> {
    mirror.with_notes(|notes| {
        let preferred = plan.preferred(notes.found, pages, has_flush);
        let plan = assemble(notes.found, preferred, ask)?;
        let marked = plan.marked(notes.found, pages, has_flush);
        Ok((plan, marked))
    })
}

/// Drafts the record of a start; gives the sizes that go with it.
#[inline(never)] // It passes through this stack frame.
fn draft<S: Starter + ?Sized>(
    s: &S,
    plan: &Plan,
    pages: &Pages,
    marked: GroupSet,
) -> Result<(Layout, u32), NotStarted> {
    let mirror = s.mirror();
    let (fresh, owner) = (Generation::new(mirror.random()), s.owner());
    let sizes = mirror.with_notes(|notes| {
        let base = plan.base.pick(notes.found).as_ref();
        notes.memory.draft = base.map(|superblock: &Superblock| superblock.record);
        let draft = notes.memory.draft.as_mut()?;
        plan.advance(draft, notes.found, (pages, marked), fresh, owner);
        draft.keep_intent(s.keeps_intent());
        Some((draft.layout, draft.block))
    });
    // There is a base: it was taken from there.
    Ok(sizes.ok_or(Refusal::NoMember)?)
}

/// Why a device starts as it does, by the cause for which a generation is drawn.
pub fn why_so(drawn: Option<Cause>) -> &'static str {
    match drawn {
        None => "all members are there and in sync",
        Some(Cause::Crashed) => "the device was not ended in order: one group is the source",
        Some(Cause::Degraded) => "not all members are in sync",
        Some(Cause::Forced) => "the administrator has chosen the source",
        Some(_) => "another generation begins",
    }
}

/// Says what was decided, and why.
fn tell<W: World>(
    mirror: &W,
    plan: &Plan,
    others: &[Option<GroupFault>; MAX_GROUPS],
    marked: GroupSet,
) {
    mirror.tell(News::Starts { drawn: plan.drawn });
    let (members, found) = mirror.with_notes(|notes| {
        let draft = notes.memory.draft.as_ref();
        let is_found = |&group: &GroupId| group.pick(notes.found).is_some();
        let found: GroupSet = GroupId::all().filter(is_found).collect();
        (draft.map(Record::all).unwrap_or_default(), found)
    });
    for group in members.union(found).iter() {
        let standing = match *group.pick(others) {
            _ if !found.has(group) => Standing::Away,
            _ if plan.sources.has(group) => Standing::Current,
            None => Standing::Dropped,
            Some(GroupFault::Crashed) if marked.has(group) => Standing::ComparedWhereMarked,
            Some(GroupFault::Crashed) => Standing::Compared,
            Some(_) if marked.has(group) => Standing::CopiedWhereMarked,
            Some(_) => Standing::Copied,
        };
        mirror.tell(News::Stands { group, standing });
    }
}

/// A later start in this life: what is known holds, if nobody else had the mirror meanwhile.
fn go_on<S: Starter + ?Sized>(s: &S, ask: Ask) -> Result<Start, NotStarted> {
    let in_sync = s.mirror().core().view().readable();
    if matches!(ask, Ask::Source(source) if in_sync != GroupSet::of(source)) {
        return Err(NotStarted::Known);
    }
    if !shows_last(s, in_sync)? {
        return Err(NotStarted::Meanwhile);
    }
    let (layout, block) = draft_later(s, in_sync)?;
    if !s.keep_marks(layout.device_bytes) {
        return Err(NotStarted::NoMemory);
    }
    Ok(Start {
        sources: in_sync,
        others: [None; MAX_GROUPS],
        marked: GroupSet::default(),
        is_unclean: false,
        layout,
        block,
    })
}

/// Drafts the record of a later start, as [`draft`].
#[inline(never)]
fn draft_later<S: Starter + ?Sized>(s: &S, in_sync: GroupSet) -> Result<(Layout, u32), NotStarted> {
    let mirror = s.mirror();
    let (fresh, owner) = (Generation::new(mirror.random()), s.owner());
    let sizes = mirror.with_memory(|memory| {
        let nobody = GroupSet::default();
        let draft = memory.begin_draft(in_sync, nobody, fresh, Owned::By(owner))?;
        draft.keep_intent(s.keeps_intent());
        Some((draft.layout, draft.block))
    });
    sizes.ok_or(NotStarted::NoMetadata)
}
