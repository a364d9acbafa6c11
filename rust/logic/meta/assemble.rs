// SPDX-License-Identifier: GPL-2.0

//! Who is current: what the superblocks of the groups that are there allow (R4 to R6).
//!
//! The *newest* record is the one of whose line all others are. A start needs all members that it
//! calls in sync: one that is missing may have gone on alone. After a crash, or by force, one member
//! is the source of all others, since those that were in sync may differ in what was on its way.
//!
//! | found | `enable=1` | `degraded` | `source=G` |
//! |---|---|---|---|
//! | all in sync, nobody has the device | all of them, the same generation | the same | G alone, forced |
//! | all in sync, somebody has it still: a crash | one of them | the same | G alone, forced |
//! | all in sync, one shows an older record | one that shows the newest | the same | G alone, forced |
//! | one in sync is missing | refused | one of those that are there | G alone, forced |
//! | only members that are not in sync | refused | refused | G alone, forced |
//! | two lines that parted | refused | refused | G alone, forced |
//!
//! Members that are not in sync are brought back afterwards: what the intent pages mark, where those are
//! complete ([`Plan::marked`]), else from the beginning to the end.

use super::{Cause, Change, Generation, Member, Owner, Record, Superblock};
use crate::logic::{group::GroupSet, ids::GroupId, MAX_GROUPS};

/// The newest superblock of each group; nothing where there is no metadata.
pub type Found = [Option<Superblock>; MAX_GROUPS];

/// What the administrator asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ask {
    /// Only what is certain.
    Certain,
    /// To go on without members that may be newer.
    Degraded,
    /// To go on with what this group has, whatever else is known.
    Source(GroupId),
}

/// Why nobody can know, or why it cannot be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// No group is a member.
    NoMember,
    /// The group is a member of another mirror than the first one.
    Foreign(GroupId),
    /// The group has the superblock of another member: two connections to one export, or a copy.
    Place(GroupId),
    /// The group's superblock does not fit those of the others.
    Odd(GroupId),
    /// This member, which is not there, may be newer.
    Missing(GroupId),
    /// This member was set back to an older state, and no other one is in sync.
    SetBack(GroupId),
    /// All that are there miss something.
    Stale,
    /// These two have gone on without each other.
    Split(GroupId, GroupId),
    /// The group that is to be the source has no metadata.
    NoSource(GroupId),
}

/// What is done.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The group whose record is followed by that of the start.
    pub base: GroupId,
    /// The members that are in sync from then on.
    pub sources: GroupSet,
    /// Other members that are there. They get all, but for those of [`Plan::marked`].
    pub others: GroupSet,
    /// Of those, the ones that show an older state than they had.
    pub set_back: GroupSet,
    /// Why a new generation is drawn, if one is.
    pub drawn: Option<Cause>,
}

impl Plan {
    /// Makes `record`, which is what the base was found with, that of the start, which is durable on
    /// all sources before anything else happens. `fresh` is its generation if it has to have a new
    /// one, `owner` who starts the device; `pages` are those that were found, and `marked` what
    /// [`Plan::marked`] says of them.
    pub fn advance(
        &self,
        record: &mut Record,
        found: &Found,
        (pages, marked): (&Pages, GroupSet),
        fresh: Generation,
        owner: Owner,
    ) {
        // One that is not there may lack the last page, which was on its way, perhaps.
        let least = latest_page(record.in_sync(), pages).saturating_sub(1);
        let is_here = |group| superblock(found, group).is_some();
        record.note_pages(|group| match group.pick(pages) {
            Some(page) => *page,
            None if is_here(group) => 0,
            None => least,
        });
        record.advance(&Change {
            in_sync: self.sources,
            drawn: self.drawn.map(|cause| (fresh, cause)),
            owner: Some(owner),
        });
        // Who gets all now is not to be believed by the next start, should this one be cut short.
        record.forget_pages(self.others.without(marked));
        if self.drawn != Some(Cause::Forced) {
            return;
        }
        for group in self.others.iter() {
            let theirs = superblock(found, group).map(|superblock| superblock.record.generation);
            if let Some(uuid) = record.member(group).map(|member| member.uuid) {
                record.adopt(group, uuid, theirs);
            }
        }
    }
}

/// The number of the newest intent page of each group; nothing where there is none.
pub type Pages = [Option<u64>; MAX_GROUPS];

impl Plan {
    /// Those of `has_flush` that are to be preferred as the source, now that their intent pages are known:
    /// one that shows an older page than others was set back, and lacks what was acknowledged since. If
    /// that leaves none, nobody knows better.
    pub fn preferred(&self, found: &Found, pages: &Pages, has_flush: GroupSet) -> GroupSet {
        let Some(newest) = record(found, self.base).filter(|record| record.intent) else {
            return has_flush;
        };
        let latest = latest_page(newest.in_sync(), pages);
        let is_fresh = |&group: &GroupId| {
            let page = group.pick(pages).unwrap_or(0);
            newest.in_sync().has(group) && latest.saturating_sub(page) <= 1
        };
        let fresh: GroupSet = has_flush.iter().filter(is_fresh).collect();
        if fresh.is_empty() {
            has_flush
        } else {
            fresh
        }
    }

    /// The others that miss nothing but what the intent pages of the members that are there mark. No mark
    /// is taken back while a member is away, so that holds of those, too.
    ///
    /// | not | because |
    /// |---|---|
    /// | one that is to get all | the marks know nothing of what it holds |
    /// | a server that cannot make durable what it has | it may have lost anything |
    /// | one in sync that shows an older record, one that is not and was set back | it may lack anything |
    /// | one in sync whose page is older than the last but one | the same. Of two pages that follow each other the older one marks what the newer one takes back, so both together are complete, whether the newer one was on its way or the member was set back |
    /// | one that was away whose page is older than the last that it had | the same |
    pub fn marked(&self, found: &Found, pages: &Pages, has_flush: GroupSet) -> GroupSet {
        let newest = record(found, self.base).filter(|record| record.intent);
        let Some(newest) = newest.filter(|_| self.drawn != Some(Cause::Forced)) else {
            return GroupSet::default();
        };
        let latest = latest_page(newest.in_sync(), pages);
        let has_marks = |&group: &GroupId| {
            let (Some(member), Some(page)) = (newest.member(group), *group.pick(pages)) else {
                return false;
            };
            if member.is_in_sync() {
                record(found, group).is_some_and(|theirs| theirs.is_same_as(newest))
                    && latest.saturating_sub(page) <= 1
            } else {
                member.page > 0 && !member.is_full() && page >= member.page
            }
        };
        let all = self.others.without(self.set_back).union(self.sources);
        let all: GroupSet = all.and(has_flush).iter().filter(has_marks).collect();
        if self.sources.without(all).is_empty() {
            all.without(self.sources)
        } else {
            GroupSet::default()
        }
    }
}

/// The number of the newest page of these groups.
fn latest_page(groups: GroupSet, pages: &Pages) -> u64 {
    let page = |group: GroupId| group.pick(pages).unwrap_or(0);
    groups.iter().map(page).max().unwrap_or(0)
}

/// A sentence for each group.
macro_rules! of_group {
    ($group:expr, $before:literal, $after:literal) => {
        match $group.index() {
            0 => concat!($before, "0", $after),
            1 => concat!($before, "1", $after),
            2 => concat!($before, "2", $after),
            3 => concat!($before, "3", $after),
            4 => concat!($before, "4", $after),
            5 => concat!($before, "5", $after),
            6 => concat!($before, "6", $after),
            _ => concat!($before, "7", $after),
        }
    };
}

impl Refusal {
    /// What to tell the administrator.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoMember => "no group is a member of a mirror",
            Self::Foreign(group) => of_group!(group, "group ", " belongs to another mirror"),
            Self::Place(group) => of_group!(
                group,
                "group ",
                " has the superblock of another member: the same export twice, or a copy of it"
            ),
            Self::Odd(group) => of_group!(group, "the superblock of group ", " does not fit"),
            Self::Missing(group) => of_group!(
                group,
                "group ",
                " is missing and may be newer: connect it, or enable with 'degraded'"
            ),
            Self::SetBack(group) => of_group!(
                group,
                "group ",
                " was set back to an older state, and no other one is in sync: 'source=G' takes it"
            ),
            Self::Stale => {
                "all groups that are there miss something: connect the one that does not"
            }
            Self::Split(group, _) => of_group!(
                group,
                "group ",
                " and another one have gone on without each other: 'source=G' says which counts"
            ),
            Self::NoSource(group) => of_group!(group, "group ", " is no member, so no source"),
        }
    }

    /// The positive Linux errno for the writer of the command.
    pub fn errno(self) -> i32 {
        match self {
            Self::NoMember | Self::NoSource(_) => 2, // ENOENT
            Self::Foreign(_) | Self::Place(_) => 17, // EEXIST
            Self::Stale => 116,                      // ESTALE
            _ => 117,                                // EUCLEAN
        }
    }
}

/// Who is current, among the members that were found; `has_flush` are the groups whose servers can
/// make durable what they have.
///
/// # Errors
///
/// Why nobody can know, or why it cannot be.
pub fn assemble(found: &Found, has_flush: GroupSet, ask: Ask) -> Result<Plan, Refusal> {
    look_over(found)?;
    let newest = newest(found);
    let (base, sources, drawn) = match (ask, newest) {
        (Ask::Source(source), newest) => {
            let base = forced_base(found, newest, source)?;
            (base, GroupSet::of(source), Some(Cause::Forced))
        }
        (_, None) => return Err(split(found)),
        (ask, Some((group, newest))) => {
            let (sources, drawn) = choose(found, has_flush, ask, newest)?;
            (group, sources, drawn)
        }
    };
    // There is one: it was taken from there.
    let record = record(found, base).ok_or(Refusal::NoMember)?;
    let others = members_of(found, record).without(sources);
    let set_back = others
        .iter()
        .filter(|&group| is_set_back(found, record, group));
    Ok(Plan {
        base,
        sources,
        others,
        set_back: set_back.collect(),
        drawn,
    })
}

/// Numbers of events and superblocks up to here have as many after them: a larger one was made up, and
/// what follows it might be one that cannot be read again.
const MOST_NUMBER: u64 = u64::MAX / 2;

/// Whether the superblocks can be those of one mirror.
fn look_over(found: &Found) -> Result<(), Refusal> {
    let mut first: Option<&Superblock> = None;
    for group in GroupId::all() {
        let Some(superblock) = superblock(found, group) else {
            continue;
        };
        let theirs = &superblock.record;
        match first.map(|first| &first.record) {
            Some(ours) if ours.mirror != theirs.mirror => return Err(Refusal::Foreign(group)),
            _ if superblock.member != group => return Err(Refusal::Place(group)),
            _ if theirs.event > MOST_NUMBER || superblock.seq > MOST_NUMBER => {
                return Err(Refusal::Odd(group));
            }
            Some(ours) if ours.layout != theirs.layout || ours.block != theirs.block => {
                return Err(Refusal::Odd(group));
            }
            Some(_) => {}
            None => first = Some(superblock),
        }
    }
    first.map(|_| ()).ok_or(Refusal::NoMember)
}

fn superblock(found: &Found, group: GroupId) -> Option<&Superblock> {
    group.pick(found).as_ref()
}

fn record(found: &Found, group: GroupId) -> Option<&Record> {
    superblock(found, group).map(|superblock| &superblock.record)
}

/// The groups that were found, and are members by this record: the same identity in the same place.
fn members_of(found: &Found, record: &Record) -> GroupSet {
    let uuid = |record: &Record, group| record.member(group).map(|member: &Member| member.uuid);
    GroupId::all()
        .filter(|&group| {
            superblock(found, group).is_some_and(|superblock| {
                let ours = uuid(record, group);
                ours.is_some() && ours == uuid(&superblock.record, group)
            })
        })
        .collect()
}

/// The record of whose line all others are, and on which group it is; nothing if there is none.
fn newest(found: &Found) -> Option<(GroupId, &Record)> {
    let mut best: Option<(GroupId, &Record)> = None;
    for group in GroupId::all() {
        let Some(one) = record(found, group) else {
            continue;
        };
        let present = members_of(found, one);
        let knows = |other: GroupId| {
            record(found, other).is_some_and(|theirs| one.has_line_of(other, theirs))
        };
        let is_newest = present.has(group) && present.iter().all(knows);
        if is_newest && best.is_none_or(|(_, best)| is_after(one, best)) {
            best = Some((group, one));
        }
    }
    best
}

/// Whether one of two records that know each other's lines is the later one.
fn is_after(record: &Record, other: &Record) -> bool {
    if record.generation == other.generation {
        return record.event > other.event;
    }
    let mut past = record.history.iter().flatten();
    past.any(|(generation, _)| *generation == other.generation)
}

/// Whether a member shows an older superblock than it has acknowledged.
fn is_set_back(found: &Found, record: &Record, group: GroupId) -> bool {
    match (superblock(found, group), record.member(group)) {
        (Some(superblock), Some(member)) => superblock.seq < member.seen,
        _ => false,
    }
}

/// The sources by the newest record, and why a generation is drawn.
fn choose(
    found: &Found,
    has_flush: GroupSet,
    ask: Ask,
    newest: &Record,
) -> Result<(GroupSet, Option<Cause>), Refusal> {
    let present = members_of(found, newest);
    let wanted = newest.in_sync();
    let is_current = |&group: &GroupId| {
        record(found, group).is_some_and(|theirs| newest.has_line_of(group, theirs))
            && !is_set_back(found, newest, group)
    };
    let current = present.and(wanted).iter().filter(is_current);
    let current: GroupSet = current.collect();
    // One that shows an older record was not reached by the last one, or was set back: nobody knows.
    let shows_newest =
        |&group: &GroupId| record(found, group).is_some_and(|theirs| theirs.is_same_as(newest));
    let latest = current.iter().filter(shows_newest);
    let latest = latest.collect();
    let best = best_of(latest, has_flush).or_else(|| best_of(current, has_flush));
    let Some(best) = best else {
        let set_back = present.and(wanted).iter().next();
        return Err(set_back.map_or(Refusal::Stale, Refusal::SetBack));
    };
    let missing = wanted.without(present).iter().next();
    Ok(match (missing, ask) {
        (Some(group), Ask::Certain) => return Err(Refusal::Missing(group)),
        (Some(_), _) => (GroupSet::of(best), Some(Cause::Degraded)),
        // A record is on all that are in sync before a member that is not in sync gets it.
        (None, _) if latest.is_empty() => return Err(Refusal::SetBack(best)),
        (None, _) if newest.owner.is_some() || latest != current => {
            (GroupSet::of(best), Some(Cause::Crashed))
        }
        (None, _) if current == newest.all() => (current, None),
        (None, _) => (current, Some(Cause::Degraded)),
    })
}

/// The best source among these: one that can make durable what it has, then the lowest.
fn best_of(groups: GroupSet, has_flush: GroupSet) -> Option<GroupId> {
    let first = |groups: GroupSet| groups.iter().next();
    first(groups.and(has_flush)).or_else(|| first(groups))
}

/// The group whose record that of a start by force follows: the newest one if the source is of its
/// line and in sync, else the source, so that those who know more are seen to have parted from it.
fn forced_base(
    found: &Found,
    newest: Option<(GroupId, &Record)>,
    source: GroupId,
) -> Result<GroupId, Refusal> {
    let own = record(found, source).ok_or(Refusal::NoSource(source))?;
    let knows = |newest: &Record| {
        newest.in_sync().and(members_of(found, newest)).has(source)
            && newest.has_line_of(source, own)
    };
    let base = newest.filter(|(_, newest)| knows(newest));
    Ok(base.map_or(source, |(group, _)| group))
}

/// Two members that have gone on without each other.
fn split(found: &Found) -> Refusal {
    for one in GroupId::all() {
        for other in GroupId::all().filter(|&other| other > one) {
            let (Some(a), Some(b)) = (record(found, one), record(found, other)) else {
                continue;
            };
            if !a.has_line_of(other, b) && !b.has_line_of(one, a) {
                return Refusal::Split(one, other);
            }
        }
    }
    Refusal::Stale
}

#[cfg(test)]
mod tests;
