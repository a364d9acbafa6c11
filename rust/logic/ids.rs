// SPDX-License-Identifier: GPL-2.0

//! The numbers that name something, each a type of its own, with its bound.

use super::{MAX_CHANNELS, MAX_GROUPS};
use core::ops::BitOrAssign;

/// Requests that a device can have at once; their tags are below.
pub const TAGS: u32 = 256;
/// Transfers of a resync of one group at once: as many small ones as keep a server and the way to
/// it busy.
pub const COPIES_EACH: usize = 16;
/// Transfers of all resyncs of a device at once.
pub const COPIES: usize = COPIES_EACH * MAX_GROUPS;
/// Slots in the table of a group: those of requests, then those of resyncs, then one for each
/// channel of the device, for what it is asked by others that come up, one for its metadata, and one for
/// the flush behind which marks are taken back.
pub const SLOTS: usize = TAGS as usize + COPIES + MAX_CHANNELS + 2;

/// A mirror group of a device.
// INVARIANT: the number is below MAX_GROUPS.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct GroupId(u8);

impl GroupId {
    /// Group number `index`; none from [`MAX_GROUPS`] on.
    pub const fn new(index: usize) -> Option<Self> {
        if index < MAX_GROUPS {
            Some(Self(index as u8))
        } else {
            None
        }
    }

    /// All groups that a device may have, in ascending order.
    pub fn all() -> impl Iterator<Item = Self> + Clone {
        (0..MAX_GROUPS as u8).map(Self)
    }

    /// Its number.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// What the group has in an array with one entry a group.
    pub fn pick<T>(self, all: &[T; MAX_GROUPS]) -> &T {
        let [first, ..] = all;
        // By the invariant there is one, which the compiler does not know.
        all.get(self.index()).unwrap_or(first)
    }

    /// The same, to be changed.
    pub fn pick_mut<T>(self, all: &mut [T; MAX_GROUPS]) -> &mut T {
        let [first, rest @ ..] = all;
        match self.index().checked_sub(1).map(|at| rest.get_mut(at)) {
            Some(Some(one)) => one,
            _ => first,
        }
    }
}

/// A channel of a device, over all its groups.
// INVARIANT: the number is below MAX_CHANNELS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ChannelId(u8);

impl ChannelId {
    /// Channel number `index`; none from [`MAX_CHANNELS`] on.
    pub const fn new(index: usize) -> Option<Self> {
        if index < MAX_CHANNELS {
            Some(Self(index as u8))
        } else {
            None
        }
    }

    /// All channels that a device may have, in ascending order.
    pub fn all() -> impl Iterator<Item = Self> + Clone {
        (0..MAX_CHANNELS as u8).map(Self)
    }

    /// Its number.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// What the channel has in an array with one entry a channel.
    pub fn pick<T>(self, all: &[T; MAX_CHANNELS]) -> &T {
        let [first, ..] = all;
        // By the invariant there is one, which the compiler does not know.
        all.get(self.index()).unwrap_or(first)
    }
}

/// A set of channels of a device, one bit each.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ChannelSet(u32);

// There are no more channels than bits.
const _: () = assert!(MAX_CHANNELS <= u32::BITS as usize);

impl ChannelSet {
    /// The set of this channel alone.
    pub fn of(channel: ChannelId) -> Self {
        Self(1u32.wrapping_shl(channel.index() as u32))
    }

    /// The same set with `channel` in it.
    #[must_use]
    pub fn with(self, channel: ChannelId) -> Self {
        self.union(Self::of(channel))
    }

    /// The same set without the channels of `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The channels of both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `channel` is in it.
    pub fn has(self, channel: ChannelId) -> bool {
        self.meets(Self::of(channel))
    }

    /// Whether a channel is in both.
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
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
    pub fn bits(self) -> u32 {
        self.0
    }

    /// The set back from [`ChannelSet::bits`].
    pub fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The one with the lowest number.
    pub fn first(self) -> Option<ChannelId> {
        ChannelId::new(self.0.trailing_zeros() as usize)
    }

    /// Its channels in ascending order.
    pub fn iter(self) -> impl Iterator<Item = ChannelId> {
        let mut left = self;
        core::iter::from_fn(move || {
            let first = left.first()?;
            left.0 &= left.0.wrapping_sub(1);
            Some(first)
        })
    }
}

impl BitOrAssign for ChannelSet {
    fn bitor_assign(&mut self, other: Self) {
        *self = self.union(other);
    }
}

/// The first slot of a resync's transfer.
const FIRST_COPY: usize = TAGS as usize;
/// The first slot of a question.
const FIRST_QUESTION: usize = FIRST_COPY + COPIES;
/// The slot of metadata.
const METADATA: usize = FIRST_QUESTION + MAX_CHANNELS;
/// The slot of the flush behind which marks are taken back.
const FLUSH: usize = METADATA + 1;

/// A slot in the table of a group.
// INVARIANT: the number is below SLOTS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SlotId(u16);

/// What a slot is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SlotKind {
    /// For the request with this tag.
    Request(u32),
    /// For a transfer of a resync, by its number among those of all resyncs.
    Copy(usize),
    /// For what this channel is asked by another one that comes up.
    Question(ChannelId),
    /// For the group's metadata.
    Metadata,
    /// For a flush of the group, behind which marks are taken back.
    Flush,
}

impl SlotId {
    /// Slot number `index`; none from [`SLOTS`] on.
    pub const fn new(index: usize) -> Option<Self> {
        if index < SLOTS {
            Some(Self(index as u16))
        } else {
            None
        }
    }

    /// The slot of the request with this tag, which is below [`TAGS`].
    pub const fn of_request(tag: u32) -> Self {
        Self((tag % TAGS) as u16)
    }

    /// The slot of transfer `copy` of the resyncs, which is below [`COPIES`].
    pub const fn of_copy(copy: usize) -> Self {
        Self((FIRST_COPY + copy % COPIES) as u16)
    }

    /// The slot of what `channel` is asked.
    pub const fn of_question(channel: ChannelId) -> Self {
        Self((FIRST_QUESTION + channel.index()) as u16)
    }

    /// The slot of the group's metadata.
    pub const fn of_metadata() -> Self {
        Self(METADATA as u16)
    }

    /// The slot of the flush of the group behind which marks are taken back.
    pub const fn of_flush() -> Self {
        Self(FLUSH as u16)
    }

    /// All slots.
    pub const fn all() -> SlotIds {
        SlotIds {
            next: 0,
            end: SLOTS as u16,
        }
    }

    /// The slots of transfers that may wait for a channel: all but those of questions, metadata
    /// and its flush.
    pub const fn all_that_may_wait() -> SlotIds {
        SlotIds {
            next: 0,
            end: FIRST_QUESTION as u16,
        }
    }

    /// Its number.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// What it is for.
    pub fn kind(self) -> SlotKind {
        let index = self.index();
        match index {
            METADATA => return SlotKind::Metadata,
            FLUSH => return SlotKind::Flush,
            _ => {}
        }
        match (
            index.checked_sub(FIRST_COPY),
            index.checked_sub(FIRST_QUESTION),
        ) {
            // There are as many of these slots as channels.
            (_, Some(channel)) => SlotKind::Question(ChannelId(channel as u8)),
            (Some(copy), None) => SlotKind::Copy(copy),
            (None, None) => SlotKind::Request(u32::from(self.0)),
        }
    }

    /// What the slot has in an array with one entry a slot.
    pub fn pick<T>(self, all: &[T; SLOTS]) -> &T {
        let [first, ..] = all;
        // By the invariant there is one, which the compiler does not know.
        all.get(self.index()).unwrap_or(first)
    }
}

/// Slots in ascending order.
#[derive(Clone, Copy)]
pub struct SlotIds {
    next: u16,
    // INVARIANT: not above SLOTS.
    end: u16,
}

impl SlotIds {
    /// No slots.
    pub const NONE: Self = Self { next: 0, end: 0 };
}

impl Iterator for SlotIds {
    type Item = SlotId;

    fn next(&mut self) -> Option<SlotId> {
        let slot = self.next;
        if slot >= self.end {
            return None;
        }
        self.next = slot.wrapping_add(1);
        Some(SlotId(slot))
    }
}

/// A channel as one of a group: when it has ended, its number may go to another one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lane {
    /// The group.
    pub group: GroupId,
    /// The channel.
    pub channel: ChannelId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_group_picks_its_own() {
        let mut numbers: [usize; MAX_GROUPS] = core::array::from_fn(|index| index);
        for group in GroupId::all() {
            assert_eq!(*group.pick(&numbers), group.index());
            *group.pick_mut(&mut numbers) += 100;
        }
        assert_eq!(numbers, core::array::from_fn(|index| index + 100));
        assert_eq!(GroupId::all().count(), MAX_GROUPS);
        assert_eq!(GroupId::new(MAX_GROUPS), None);
    }

    #[test]
    fn each_channel_picks_its_own() {
        let numbers: [usize; MAX_CHANNELS] = core::array::from_fn(|index| index);
        for channel in ChannelId::all() {
            assert_eq!(*channel.pick(&numbers), channel.index());
        }
        assert_eq!(ChannelId::all().count(), MAX_CHANNELS);
        assert_eq!(ChannelId::new(MAX_CHANNELS), None);
    }

    #[test]
    fn each_slot_is_for_what_it_was_made_for() {
        let kinds: Vec<_> = SlotId::all().map(SlotId::kind).collect();
        let wanted = (0..TAGS)
            .map(SlotKind::Request)
            .chain((0..COPIES).map(SlotKind::Copy))
            .chain(ChannelId::all().map(SlotKind::Question))
            .chain([SlotKind::Metadata, SlotKind::Flush]);
        assert!(kinds.iter().copied().eq(wanted));
        for (slot, kind) in SlotId::all().zip(kinds) {
            let back = match kind {
                SlotKind::Request(tag) => SlotId::of_request(tag),
                SlotKind::Copy(copy) => SlotId::of_copy(copy),
                SlotKind::Question(channel) => SlotId::of_question(channel),
                SlotKind::Metadata => SlotId::of_metadata(),
                SlotKind::Flush => SlotId::of_flush(),
            };
            assert_eq!(back, slot);
            assert_eq!(SlotId::new(slot.index()), Some(slot));
        }
        assert_eq!(SlotId::new(SLOTS), None);
        let may_wait = SlotId::all_that_may_wait();
        assert_eq!(may_wait.count(), TAGS as usize + COPIES);
        let numbers: [usize; SLOTS] = core::array::from_fn(|index| index);
        assert!(SlotId::all().all(|slot| *slot.pick(&numbers) == slot.index()));
    }

    #[test]
    fn a_set_has_what_was_put_into_it() {
        let every_third = || ChannelId::all().step_by(3);
        let set = every_third().fold(ChannelSet::default(), ChannelSet::with);
        assert!(set.iter().eq(every_third()));
        assert_eq!(set.len() as usize, every_third().count());
        assert_eq!(set.first(), ChannelId::new(0));
        assert!(every_third().all(|channel| set.has(channel)));
        let one = ChannelSet::of(ChannelId::new(30).unwrap());
        assert!(set.meets(one) && !set.without(one).meets(one));
        assert_eq!(set.without(one).union(one), set);
        let mut all = set;
        all |= ChannelSet::from_bits(!set.bits());
        assert!(all.iter().eq(ChannelId::all()));
        assert!(ChannelSet::default().is_empty() && ChannelSet::default().first().is_none());
    }
}
