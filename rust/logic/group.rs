// SPDX-License-Identifier: GPL-2.0

//! The states of a mirror group, and the word that holds those of all groups of a device.
//!
//! ```text
//!              Join(whole)                        Fault
//!   Absent ------------------> InSync ----------------------------+
//!     |  ^                       ^                                v
//!     |  |                       | Synced                       Faulty
//!     |  |                       |             HotAdd             |
//!     |  |                   Resyncing <--------------------------+
//!     |  |                       |              Fault             ^
//!     |  |                       +--------------------------------+
//!     |  +------------------------- Remove -----------------------+
//!     +-------------------------- Join(stale) --------------------+
//!
//!   Before the device is enabled, with metadata:  InSync -- Wait --> Faulty -- Assembled --> InSync
//! ```
//!
//! A change that would leave the device without a group in sync is refused
//! ([`Refusal::LastInSync`]): a group that missed writes must never become the source.

use super::{ids::GroupId, MAX_GROUPS};

/// What a mirror group is to its device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GroupState {
    /// No such group.
    Absent,
    /// Holds every acknowledged write; may be read.
    InSync,
    /// Gets no requests; its dirty map collects what it misses.
    Faulty,
    /// Gets new writes while the blocks of its dirty map are copied to it; may not be read.
    Resyncing,
}

/// What can happen to a group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GroupEvent {
    /// A new group that holds the same data as the others (before the device is enabled).
    JoinWhole,
    /// A new group whose data is unknown (the device is enabled already).
    JoinStale,
    /// The administrator or an error takes the group out of service.
    Fault,
    /// The administrator, or the group's return, starts a resync.
    HotAdd,
    /// The resync found the dirty map empty.
    Synced,
    /// The group is dropped.
    Remove,
    /// Its metadata says at the next start what it is (before that).
    Wait,
    /// Its metadata has said that it is in sync (at the start).
    Assembled,
}

/// Why an event cannot happen to a group now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// There is no such group.
    NoGroup,
    /// There is such a group already.
    Exists,
    /// The group is faulty already.
    AlreadyFaulty,
    /// The group is in sync: nothing to add or remove.
    IsInSync,
    /// A resync of the group runs already.
    IsResyncing,
    /// It is the last group that is in sync.
    LastInSync,
    /// A channel that was lost may still carry out old writes.
    Suspect,
    /// What the group has lost is being marked.
    Unmarked,
    /// No channel of the group is up.
    NoChannel,
    /// The administrator has just set the group faulty.
    KeptOut,
    /// That it is out of service is not recorded yet.
    Unrecorded,
}

impl Refusal {
    /// A short phrase for a log line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoGroup => "no such group",
            Self::Exists => "the group exists already",
            Self::AlreadyFaulty => "the group is faulty already",
            Self::IsInSync => "the group is in sync",
            Self::IsResyncing => "the group is being resynced",
            Self::LastInSync => "it is the last group in sync",
            Self::Suspect => "a lost channel may still carry out old writes",
            Self::Unmarked => "what the group has lost is being marked",
            Self::Unrecorded => {
                "the groups in sync have not recorded yet that it is out of service"
            }
            Self::KeptOut => "the administrator has just set the group faulty",
            Self::NoChannel => "the group has no channel that is up",
        }
    }

    /// The positive Linux errno for the writer of the command.
    pub fn errno(self) -> i32 {
        match self {
            Self::NoGroup => 2,     // ENOENT
            Self::Exists => 17,     // EEXIST
            Self::NoChannel => 107, // ENOTCONN
            _ => 16,                // EBUSY
        }
    }
}

/// Why a group is faulty.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GroupFault {
    /// The administrator said so.
    Admin,
    /// It joined a device that was enabled already.
    Joined,
    /// It refused a write or a flush, with this errno.
    Refused(i32),
    /// A channel was lost with writes that the server may still carry out.
    WriteLost,
    /// Its connections ended again and again with the same write on the way.
    Fatal,
    /// It was without a channel for too long.
    NoChannel,
    /// Its resync failed.
    Resync,
    /// All of it was copied but for blocks that no group in sync can read.
    Unreadable,
    /// Its server was lost with writes that may not have been durable.
    CacheLost,
    /// What it holds where nothing was missed is not what the others hold.
    Differs,
    /// No flush makes durable what it holds, and another group is there to copy it from.
    Doubted,
    /// All its connections were lost, and nothing shows that the server is the same.
    Unproved,
    /// It lost its last channel while it was being resynced.
    Interrupted,
    /// Another group came back with what it may have lost, and is the source from then on.
    Outrun,
    /// It is a member of a mirror that is not enabled yet.
    Waiting,
    /// The device was not ended in order, and another one is the source.
    Crashed,
    /// It had missed something before the device was enabled.
    Behind,
    /// It shows an older state than it had.
    SetBack,
    /// The administrator has said that another one counts.
    Overridden,
    /// Its metadata could not be written.
    Metadata,
}

impl GroupFault {
    /// Whether enbd brings the group back by itself once it can.
    pub fn is_own(self) -> bool {
        !matches!(
            self,
            Self::Admin | Self::Joined | Self::Differs | Self::Waiting | Self::Overridden
        )
    }

    /// Whether a group that is out of service for this holds all that it has not missed. What is said
    /// no to here may be so too, but there is something that would have to be asked first: the
    /// administrator, the server, or the other groups.
    pub fn leaves_rest_good(self) -> bool {
        matches!(self, Self::Refused(_) | Self::Resync | Self::Unreadable)
    }

    /// A short phrase for the status and the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "set faulty by the administrator",
            Self::Joined => "joined an enabled device, all blocks marked",
            Self::Refused(28) => "the server refused a write: no space",
            Self::Refused(1) => "the server refused a write: not permitted",
            Self::Refused(_) => "the server refused a write",
            Self::WriteLost => "a channel was lost with unanswered writes",
            Self::Fatal => "its connections ended again and again with the same write",
            Self::NoChannel => "no channel was up for the timeout",
            Self::Resync => "the resync failed",
            Self::Unreadable => "in sync but for blocks that no group in sync can read",
            Self::CacheLost => "the server was lost with writes that it had not flushed",
            Self::Doubted => "it holds writes that no flush makes durable, and gets them once more",
            Self::Unproved => {
                "its connections were lost, and nothing shows that it is the same server"
            }
            Self::Interrupted => "its last channel was lost during the resync",
            Self::Outrun => "another group was back before it, and is the source",
            Self::Waiting => "a member of the mirror: 'enable' decides who is current",
            Self::Crashed => "the device was not ended in order: compared with the source",
            Self::Behind => "it missed something before the device was enabled",
            Self::SetBack => "it was set back to an older state",
            Self::Overridden => "the administrator said that another group counts",
            Self::Metadata => "its metadata could not be written",
            Self::Differs => "clean blocks differ from the mirror's: not the server that was lost",
        }
    }

    /// As a number for an atomic word; never 0.
    pub fn to_bits(self) -> u64 {
        match self {
            Self::Admin => 1,
            Self::Joined => 2,
            Self::WriteLost => 3,
            Self::NoChannel => 4,
            Self::Resync => 5,
            Self::CacheLost => 6,
            Self::Differs => 7,
            Self::Doubted => 9,
            Self::Unproved => 10,
            Self::Outrun => 11,
            Self::Interrupted => 12,
            Self::Fatal => 13,
            Self::Waiting => 14,
            Self::Crashed => 15,
            Self::Behind => 16,
            Self::SetBack => 17,
            Self::Overridden => 18,
            Self::Metadata => 19,
            Self::Unreadable => 20,
            Self::Refused(errno) => 8 | u64::from(errno.unsigned_abs()) << 8,
        }
    }

    /// Back from [`GroupFault::to_bits`].
    pub fn from_bits(bits: u64) -> Option<Self> {
        match bits & 0xff {
            1 => Some(Self::Admin),
            2 => Some(Self::Joined),
            3 => Some(Self::WriteLost),
            4 => Some(Self::NoChannel),
            5 => Some(Self::Resync),
            6 => Some(Self::CacheLost),
            7 => Some(Self::Differs),
            9 => Some(Self::Doubted),
            10 => Some(Self::Unproved),
            11 => Some(Self::Outrun),
            12 => Some(Self::Interrupted),
            13 => Some(Self::Fatal),
            14 => Some(Self::Waiting),
            15 => Some(Self::Crashed),
            16 => Some(Self::Behind),
            17 => Some(Self::SetBack),
            18 => Some(Self::Overridden),
            19 => Some(Self::Metadata),
            20 => Some(Self::Unreadable),
            8 => Some(Self::Refused((bits >> 8) as i32)),
            _ => None,
        }
    }
}

/// A set of groups, one bit each.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct GroupSet(u8);

impl GroupSet {
    /// The set of this group alone.
    pub fn of(group: GroupId) -> Self {
        Self(bit(group))
    }

    /// The same set with `group` in it.
    #[must_use]
    pub fn with(self, group: GroupId) -> Self {
        Self(self.0 | bit(group))
    }

    /// The same set without the groups of `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The groups of both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `group` is in it.
    pub fn has(self, group: GroupId) -> bool {
        self.0 & bit(group) != 0
    }

    /// The groups that are in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether nothing is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many are in it.
    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// The set as a number, for an atomic word.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The set back from [`GroupSet::bits`].
    pub fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// Its groups in ascending order.
    pub fn iter(self) -> impl Iterator<Item = GroupId> {
        GroupId::all().filter(move |&g| self.has(g))
    }
}

impl FromIterator<GroupId> for GroupSet {
    fn from_iter<I: IntoIterator<Item = GroupId>>(groups: I) -> Self {
        groups.into_iter().fold(Self::default(), Self::with)
    }
}

// There are no more groups than bits.
const _: () = assert!(MAX_GROUPS <= u8::BITS as usize && 2 * MAX_GROUPS <= EPOCH_SHIFT as usize);

/// A group as a set of groups.
fn bit(group: GroupId) -> u8 {
    1u8.wrapping_shl(group.index() as u32)
}

/// The place of a group's state in the word of a view.
fn shift(group: GroupId) -> u32 {
    2 * group.index() as u32
}

/// The states of all groups of a device at one moment, in one word: two bits a group from bit 0,
/// and from bit 32 an epoch that goes up with each change, so that a request can tell under which
/// states it was sent.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct View(u64);

const EPOCH_SHIFT: u32 = 32;

impl View {
    /// The view as it stands in an atomic word.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The word for an atomic.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The number of this view; wraps.
    pub fn epoch(self) -> u32 {
        (self.0 >> EPOCH_SHIFT) as u32
    }

    /// The state of one group.
    pub fn state(self, group: GroupId) -> GroupState {
        match self.0.wrapping_shr(shift(group)) & 3 {
            0 => GroupState::Absent,
            1 => GroupState::InSync,
            2 => GroupState::Faulty,
            _ => GroupState::Resyncing,
        }
    }

    fn with(self, group: GroupId, state: GroupState) -> Self {
        let code: u64 = match state {
            GroupState::Absent => 0,
            GroupState::InSync => 1,
            GroupState::Faulty => 2,
            GroupState::Resyncing => 3,
        };
        let shift = shift(group);
        let states = (self.0 & 0xffff_ffff & !3u64.wrapping_shl(shift)) | code.wrapping_shl(shift);
        Self(states | (u64::from(self.epoch().wrapping_add(1)) << EPOCH_SHIFT))
    }

    /// The groups that are in `state`.
    pub fn groups_in(self, state: GroupState) -> GroupSet {
        GroupId::all().filter(|&g| self.state(g) == state).collect()
    }

    /// The groups that a read may go to.
    pub fn readable(self) -> GroupSet {
        // Bits 01: the low bit of the pair set, the high one clear.
        self.fold(|low, high| low & !high)
    }

    /// The groups that a write goes to.
    pub fn writable(self) -> GroupSet {
        self.fold(|low, _| low)
    }

    /// The groups whose dirty map a write marks.
    pub fn faulty(self) -> GroupSet {
        self.fold(|low, high| !low & high)
    }

    /// The groups whose windows a write must look at.
    pub fn resyncing(self) -> GroupSet {
        self.fold(|low, high| low & high)
    }

    /// Applies a boolean function to the low and high bits of all groups at once.
    fn fold(self, f: impl Fn(u64, u64) -> u64) -> GroupSet {
        let every_pair = 0x5555;
        let mut pairs = f(self.0, self.0 >> 1) & every_pair;
        // Squeeze bit 2g to bit g.
        pairs = (pairs | (pairs >> 1)) & 0x3333;
        pairs = (pairs | (pairs >> 2)) & 0x0f0f;
        pairs = (pairs | (pairs >> 4)) & 0x00ff;
        GroupSet(pairs as u8)
    }

    /// The view after `event` happened to `group`: the one door through which states change.
    pub fn after(self, group: GroupId, event: GroupEvent) -> Result<Self, Refusal> {
        use GroupEvent as E;
        use GroupState as S;
        let next = match (self.state(group), event) {
            (S::Absent, E::JoinWhole) => S::InSync,
            (S::Absent, E::JoinStale) => S::Faulty,
            (S::Absent, _) => return Err(Refusal::NoGroup),
            (_, E::JoinWhole | E::JoinStale) => return Err(Refusal::Exists),
            (S::InSync, E::Fault) if self.readable().len() <= 1 => return Err(Refusal::LastInSync),
            (S::InSync | S::Resyncing, E::Fault) => S::Faulty,
            // Also of the last one: the device is not enabled.
            (S::InSync, E::Wait) => S::Faulty,
            (S::InSync, _) => return Err(Refusal::IsInSync),
            (S::Faulty, E::Assembled) => S::InSync,
            (S::Faulty, E::Fault | E::Wait) => return Err(Refusal::AlreadyFaulty),
            (S::Faulty, E::HotAdd) => S::Resyncing,
            (S::Faulty, E::Synced) => return Err(Refusal::AlreadyFaulty),
            (S::Faulty, E::Remove) => S::Absent,
            (S::Resyncing, E::Synced) => S::InSync,
            (S::Resyncing, E::HotAdd | E::Remove | E::Wait | E::Assembled) => {
                return Err(Refusal::IsResyncing)
            }
        };
        Ok(self.with(group, next))
    }

    /// The view without any group, for a device that is taken apart.
    pub fn cleared(self, group: GroupId) -> Self {
        self.with(group, GroupState::Absent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use GroupEvent::*;
    use GroupState::*;

    const G0: GroupId = GroupId::new(0).unwrap();
    const G1: GroupId = GroupId::new(1).unwrap();
    const G7: GroupId = GroupId::new(7).unwrap();

    /// The drawn table, state by state; every pair that is not here is refused.
    #[test]
    fn table() {
        let legal = [
            (Absent, JoinWhole, InSync),
            (Absent, JoinStale, Faulty),
            (InSync, Fault, Faulty),
            (Resyncing, Fault, Faulty),
            (Faulty, HotAdd, Resyncing),
            (Faulty, Remove, Absent),
            (Resyncing, Synced, InSync),
            (InSync, Wait, Faulty),
            (Faulty, Assembled, InSync),
        ];
        for from in [Absent, InSync, Faulty, Resyncing] {
            for event in [
                JoinWhole, JoinStale, Fault, HotAdd, Synced, Remove, Wait, Assembled,
            ] {
                // Group 7 is in sync throughout, so that group 1 is never the last.
                let view = View::default().with(G7, InSync).with(G1, from);
                let want = legal
                    .iter()
                    .find(|(f, e, _)| *f == from && *e == event)
                    .map(|(_, _, to)| *to);
                let got = view.after(G1, event);
                assert_eq!(got.ok().map(|v| v.state(G1)), want, "{from:?} {event:?}");
                if let Ok(v) = got {
                    assert_eq!(v.epoch(), view.epoch().wrapping_add(1));
                    assert_eq!(v.state(G7), InSync);
                }
            }
        }
    }

    #[test]
    fn last_in_sync_stays() {
        let one = View::default().after(G0, JoinWhole).unwrap();
        assert_eq!(one.after(G0, Fault), Err(Refusal::LastInSync));
        let two = one.after(G1, JoinStale).unwrap();
        assert_eq!(two.after(G0, Fault), Err(Refusal::LastInSync));
        let two = two.after(G1, HotAdd).unwrap();
        assert_eq!(two.after(G0, Fault), Err(Refusal::LastInSync));
        let two = two.after(G1, Synced).unwrap();
        assert_eq!(two.after(G0, Fault).unwrap().state(G0), Faulty);
    }

    #[test]
    fn sets_agree_with_states() {
        // All 4^8 combinations.
        for bits in 0..=0xffffu64 {
            let view = View::from_bits(bits | 7 << 32);
            assert_eq!(view.readable(), view.groups_in(InSync));
            assert_eq!(view.faulty(), view.groups_in(Faulty));
            assert_eq!(view.resyncing(), view.groups_in(Resyncing));
            assert_eq!(
                view.writable().bits(),
                view.groups_in(InSync).bits() | view.groups_in(Resyncing).bits()
            );
        }
    }

    #[test]
    fn faults_keep_in_a_word() {
        use GroupFault as F;
        let all = [
            F::Admin,
            F::Joined,
            F::Refused(28),
            F::Refused(5),
            F::WriteLost,
            F::Fatal,
            F::NoChannel,
            F::Resync,
            F::Unreadable,
            F::CacheLost,
            F::Differs,
            F::Doubted,
            F::Unproved,
            F::Outrun,
            F::Interrupted,
            F::Waiting,
            F::Crashed,
            F::Behind,
            F::SetBack,
            F::Overridden,
            F::Metadata,
        ];
        for fault in all {
            assert_eq!(F::from_bits(fault.to_bits()), Some(fault));
        }
        assert_eq!(F::from_bits(0), None);
        // Somebody has to be asked first: the administrator, the server, or the other groups.
        let rest = all.into_iter().filter(|fault| fault.leaves_rest_good());
        let good = [F::Refused(28), F::Refused(5), F::Resync, F::Unreadable];
        assert!(rest.eq(good));
    }
}
