// SPDX-License-Identifier: GPL-2.0

//! What all members of a mirror are told alike: a *record*. It says of each member whether it is in
//! sync, and in which generation. A later record follows from the one before by a [`Change`].
//!
//! ```text
//!                 create, hotadd
//!   (no member) -----------------> Stale <---------------- a fault, a start without it
//!        ^                          |  |                               |
//!        |          forget          |  |          resynced             |
//!        +--------------------------+  +--------------------------> InSync
//! ```
//!
//! Rule R1: nothing is acknowledged that a member called in sync does not have. So who takes a group
//! out of service has that recorded first; see `logic::mirror::record`.

use super::{Generation, Layout, Name, Uuid};
use crate::logic::{group::GroupSet, ids::GroupId, MAX_GROUPS};

/// What a member is to the mirror.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MemberState {
    /// Holds all that was acknowledged.
    InSync,
    /// Misses something.
    Stale {
        /// The event since when it does.
        since: u64,
        /// The generation of its own superblock when it was last seen: one that shows another one has
        /// gone on alone since. Nothing if it had none.
        left: Option<Generation>,
        /// It is to get all, whatever its own superblock says (R2).
        full: bool,
    },
}

/// One member.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Member {
    /// Its identity.
    pub uuid: Uuid,
    /// What it is.
    pub state: MemberState,
    /// Number of the last superblock that it has acknowledged as durable: one that shows an older one
    /// has been set back.
    pub seen: u64,
    /// Number of the last intent page that it had, as far as was known when it was in sync last: one that
    /// shows an older one has been set back, too. 0: nobody knows.
    pub page: u64,
}

impl Member {
    /// Whether it is in sync.
    pub fn is_in_sync(&self) -> bool {
        self.state == MemberState::InSync
    }

    /// Whether it is to get all, whatever its own superblock says.
    pub fn is_full(&self) -> bool {
        matches!(self.state, MemberState::Stale { full: true, .. })
    }
}

/// Who has the device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Owner {
    /// A random number that this life of the device has alone.
    pub nonce: [u64; 2],
    /// The host.
    pub name: Name,
    /// Since when, in seconds of the epoch.
    pub since: u64,
}

/// Why a generation was drawn.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// The mirror was made.
    Created,
    /// A member was taken out of service.
    Faulted,
    /// It was started without all members.
    Degraded,
    /// It was started after a crash.
    Crashed,
    /// It was started by force.
    Forced,
    /// Something that a later version knows.
    Other(u16),
}

impl Cause {
    /// As it stands in a block.
    pub fn to_bits(self) -> u16 {
        match self {
            Self::Created => 1,
            Self::Faulted => 2,
            Self::Degraded => 3,
            Self::Crashed => 4,
            Self::Forced => 5,
            Self::Other(bits) => bits,
        }
    }

    /// Back from that.
    pub fn from_bits(bits: u16) -> Self {
        match bits {
            1 => Self::Created,
            2 => Self::Faulted,
            3 => Self::Degraded,
            4 => Self::Crashed,
            5 => Self::Forced,
            bits => Self::Other(bits),
        }
    }
}

/// Generations that are remembered.
pub const HISTORY: usize = 16;

/// A generation of the past, and its last event: what it told later is of another life.
pub type Past = Option<(Generation, u64)>;

/// What all members are told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Record {
    /// Which mirror.
    pub mirror: Uuid,
    /// Goes up with each record of a line.
    pub event: u64,
    /// The line.
    pub generation: Generation,
    /// The event that the generation was drawn with.
    pub born: u64,
    /// Why it was.
    pub cause: Cause,
    /// The generations before, the latest first.
    pub history: [Past; HISTORY],
    /// The members.
    pub members: [Option<Member>; MAX_GROUPS],
    /// Who has the device; nobody after an orderly end.
    pub owner: Option<Owner>,
    /// Bytes of the device, and of the area behind it.
    pub layout: Layout,
    /// Bytes of a block of the device.
    pub block: u32,
    /// The mirror's name.
    pub name: Name,
    /// While somebody has the device, the intent pages say where writes may be on their way.
    pub intent: bool,
    /// Features of a later version that this one need not know, and keeps.
    pub compat: u32,
}

/// What a record changes of the one before.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// The members that are in sync from now on.
    pub in_sync: GroupSet,
    /// A new generation, and why; needed if a member is in sync no more.
    pub drawn: Option<(Generation, Cause)>,
    /// Who has the device from now on.
    pub owner: Option<Owner>,
}

impl Record {
    /// The record of a new mirror, of members with these identities, which is in sync in `in_sync`.
    pub fn create(
        ids: (Uuid, Generation),
        members: &[Option<Uuid>; MAX_GROUPS],
        in_sync: GroupSet,
        layout: Layout,
        block: u32,
    ) -> Self {
        let (mirror, generation) = ids;
        let member = |group: GroupId| {
            let state = if in_sync.has(group) {
                MemberState::InSync
            } else {
                MemberState::Stale {
                    since: 1,
                    left: None,
                    full: true,
                }
            };
            let uuid = (*group.pick(members))?;
            Some(Member {
                uuid,
                state,
                seen: 0,
                page: 0,
            })
        };
        Self {
            mirror,
            event: 1,
            generation,
            born: 1,
            cause: Cause::Created,
            history: [None; HISTORY],
            members: of_groups(member),
            owner: None,
            layout,
            block,
            name: Name::NONE,
            intent: false,
            compat: 0,
        }
    }

    /// A member.
    pub fn member(&self, group: GroupId) -> Option<&Member> {
        group.pick(&self.members).as_ref()
    }

    /// All members.
    pub fn all(&self) -> GroupSet {
        self.members_that(|_| true)
    }

    /// The members that are in sync.
    pub fn in_sync(&self) -> GroupSet {
        self.members_that(Member::is_in_sync)
    }

    /// The members that are to get all.
    pub fn full(&self) -> GroupSet {
        self.members_that(Member::is_full)
    }

    fn members_that(&self, is: impl Fn(&Member) -> bool) -> GroupSet {
        GroupId::all()
            .filter(|&group| self.member(group).is_some_and(&is))
            .collect()
    }

    /// The next record. Members that are called in sync and were not must have been told all, and
    /// their own superblocks come last (R3).
    #[must_use]
    pub fn after(&self, change: &Change) -> Self {
        let mut next = *self;
        next.advance(change);
        next
    }

    /// Becomes the next record, as [`Record::after`]: one is too large for a kernel's stack.
    pub fn advance(&mut self, change: &Change) {
        let (last, event) = (self.generation, self.event);
        self.event = self.event.saturating_add(1);
        let since = self.event;
        if let Some((generation, cause)) = change.drawn {
            self.history.rotate_right(1);
            if let Some(latest) = self.history.first_mut() {
                *latest = Some((last, event));
            }
            self.generation = generation;
            self.born = since;
            self.cause = cause;
        }
        for group in GroupId::all() {
            let Some(member) = group.pick_mut(&mut self.members) else {
                continue;
            };
            if change.in_sync.has(group) {
                member.state = MemberState::InSync;
            } else if member.is_in_sync() {
                member.state = MemberState::Stale {
                    since,
                    left: Some(last),
                    full: false,
                };
            }
        }
        self.owner = change.owner;
    }

    /// A member is to get all, whatever its own superblock says, which is of generation `left`.
    ///
    /// That is recorded before its superblock is overwritten (R2): afterwards it would pass for one
    /// of this line. As its generation is kept, one that goes on alone in between is still seen.
    ///
    /// One that is no member yet becomes one, with the identity `uuid`.
    pub fn adopt(&mut self, group: GroupId, uuid: Uuid, left: Option<Generation>) {
        let since = self.event;
        let member = group.pick_mut(&mut self.members);
        *member = Some(Member {
            uuid: member.map_or(uuid, |member| member.uuid),
            state: MemberState::Stale {
                since,
                left,
                full: true,
            },
            seen: 0,
            page: 0,
        });
    }

    /// The own superblock of a member, should it be stale, is of this generation now.
    pub fn note_left(&mut self, group: GroupId, generation: Option<Generation>) {
        let member = group.pick_mut(&mut self.members).as_mut();
        if let (Some(MemberState::Stale { left, .. }), Some(generation)) =
            (member.map(|member| &mut member.state), generation)
        {
            *left = Some(generation);
        }
    }

    /// A member has acknowledged its superblock number `seq`.
    pub fn note_seen(&mut self, group: GroupId, seq: u64) {
        if let Some(member) = group.pick_mut(&mut self.members) {
            member.seen = member.seen.max(seq);
        }
    }

    /// Whether a member misses something that the marks know of: it is not to get all.
    pub fn has_away(&self) -> bool {
        let is_away = |member: &Member| !member.is_in_sync() && !member.is_full();
        !self.members_that(is_away).is_empty()
    }

    /// Members that are in sync have got as far as `page` says with the intent pages; 0 where nobody
    /// knows. To be called before they are not any more.
    pub fn note_pages(&mut self, page: impl Fn(GroupId) -> u64) {
        for group in self.in_sync().iter() {
            if let Some(member) = group.pick_mut(&mut self.members) {
                member.page = page(group);
            }
        }
    }

    /// These members get all: the marks say nothing of them.
    pub fn forget_pages(&mut self, groups: GroupSet) {
        for group in groups.iter() {
            if let Some(member) = group.pick_mut(&mut self.members) {
                member.page = 0;
            }
        }
    }

    /// Whether intent pages are kept from now on. While they are not, nobody knows afterwards where a
    /// member may differ.
    pub fn keep_intent(&mut self, keeps: bool) {
        if !(self.intent && keeps) {
            self.forget_pages(self.all());
        }
        self.intent = keeps;
    }

    /// Takes over what the members have acknowledged since this record was made.
    pub fn take_seen(&mut self, other: &Self) {
        for group in GroupId::all() {
            if let Some(theirs) = other.member(group) {
                self.note_seen(group, theirs.seen);
            }
        }
    }

    /// A member is none any more. Part of a change, as [`Record::adopt`].
    pub fn drop_member(&mut self, group: GroupId) {
        *group.pick_mut(&mut self.members) = None;
    }

    /// Whether two records of members that know each other's lines are one.
    pub fn is_same_as(&self, other: &Self) -> bool {
        (self.generation, self.event) == (other.generation, other.event)
    }

    /// Whether a member whose own superblock holds `theirs` comes from this line: it has nothing that
    /// this line does not know of.
    pub fn has_line_of(&self, group: GroupId, theirs: &Self) -> bool {
        let generation = theirs.generation;
        let left = match self.member(group).map(|member| member.state) {
            Some(MemberState::Stale { left, .. }) => left,
            _ => None,
        };
        let mut past = self.history.iter().flatten();
        generation == self.generation
            || past.any(|(old, last)| *old == generation && theirs.event <= *last)
            || left == Some(generation)
    }
}

/// What `of` says of each group.
pub(super) fn of_groups<T>(mut of: impl FnMut(GroupId) -> Option<T>) -> [Option<T>; MAX_GROUPS] {
    let mut groups = GroupId::all();
    core::array::from_fn(|_| groups.next().and_then(&mut of))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(groups: &[usize]) -> GroupSet {
        let groups = groups.iter().filter_map(|&group| GroupId::new(group));
        groups.collect()
    }

    fn mirror_of(count: usize, in_sync: &[usize]) -> Record {
        let uuid = |n: usize| (n < count).then(|| Uuid::new([n as u64, 7]));
        let ids = (Uuid::new([1, 2]), Generation::new(100));
        let layout = Layout::of_device(64 << 20);
        Record::create(ids, &core::array::from_fn(uuid), set(in_sync), layout, 4096)
    }

    fn drawn(number: u64) -> Option<(Generation, Cause)> {
        Some((Generation::new(number), Cause::Faulted))
    }

    #[test]
    fn a_member_that_is_out_is_known_by_the_generation_that_it_left() {
        let g1 = GroupId::new(1).unwrap();
        let both = mirror_of(2, &[0, 1]);
        let change = Change {
            in_sync: set(&[0]),
            drawn: drawn(200),
            owner: None,
        };
        let alone = both.after(&change);
        assert_eq!((alone.in_sync(), alone.all()), (set(&[0]), set(&[0, 1])));
        assert_eq!((alone.event, alone.born, alone.full()), (2, 2, set(&[])));
        assert!(alone.has_line_of(g1, &both) && !both.has_line_of(g1, &alone));
        // However many generations later.
        let change = |n| Change {
            drawn: drawn(n),
            ..change
        };
        let later = (300..340).fold(alone, |record, n| record.after(&change(n)));
        assert!(later.history.iter().all(Option::is_some));
        assert!(later.has_line_of(g1, &both) && !later.has_line_of(g1, &alone));
        assert_eq!(
            later.member(g1).unwrap().state,
            alone.member(g1).unwrap().state
        );
        // Until it is to get all.
        let change = Change {
            drawn: None,
            ..change(0)
        };
        let mut adopted = later.after(&change);
        adopted.adopt(g1, Uuid::new([8, 8]), Some(Generation::new(7)));
        assert_eq!(
            adopted.member(g1).map(|m| m.uuid),
            both.member(g1).map(|m| m.uuid)
        );
        assert!(!adopted.has_line_of(g1, &both));
        assert_eq!(adopted.after(&change).full(), set(&[1]));
        assert_eq!(adopted.generation, later.generation);
    }

    #[test]
    fn two_lives_that_parted_are_not_of_one_line() {
        let (g0, g1) = (GroupId::new(0).unwrap(), GroupId::new(1).unwrap());
        let both = mirror_of(2, &[0, 1]);
        let alone = |group: usize, number| {
            both.after(&Change {
                in_sync: set(&[group]),
                drawn: drawn(number),
                owner: None,
            })
        };
        let (zero, one) = (alone(0, 200), alone(1, 300));
        assert!(!zero.has_line_of(g1, &one) && !one.has_line_of(g0, &zero));
    }

    #[test]
    fn what_a_generation_told_after_it_was_left_is_of_another_line() {
        let g0 = GroupId::new(0).unwrap();
        let early = mirror_of(2, &[1]);
        let joined = early.after(&Change {
            in_sync: set(&[0, 1]),
            drawn: None,
            owner: None,
        });
        // Member 1 was set back to the time before 0 joined, and went on alone.
        let alone = early.after(&Change {
            in_sync: set(&[1]),
            drawn: drawn(200),
            owner: None,
        });
        assert!(alone.has_line_of(g0, &early) && !alone.has_line_of(g0, &joined));
        assert!(!joined.has_line_of(GroupId::new(1).unwrap(), &alone));
    }

    #[test]
    fn a_new_member_gets_all() {
        let g2 = GroupId::new(2).unwrap();
        let two = mirror_of(2, &[0]);
        assert_eq!((two.in_sync(), two.full()), (set(&[0]), set(&[1])));
        let mut three = two;
        three.adopt(g2, Uuid::new([9, 9]), None);
        assert_eq!((three.all(), three.full()), (set(&[0, 1, 2]), set(&[1, 2])));
        three.drop_member(g2);
        assert_eq!(three.all(), set(&[0, 1]));
    }

    #[test]
    fn causes_are_numbers() {
        for bits in 0..100 {
            assert_eq!(Cause::from_bits(bits).to_bits(), bits);
        }
    }
}
