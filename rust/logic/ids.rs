// SPDX-License-Identifier: GPL-2.0

//! The numbers that name something, each a type of its own, with its bound.

use super::{MAX_CHANNELS, MAX_GROUPS};

/// Requests that a device can have at once; their tags are below.
pub const TAGS: u32 = 256;
/// Transfers of a resync of one group at once: as many small ones as keep a server and the way to
/// it busy.
pub const COPIES_EACH: usize = 16;
/// Transfers of all resyncs of a device at once.
pub const COPIES: usize = COPIES_EACH * MAX_GROUPS;
/// Slots in the table of a group: those of requests, then those of resyncs, and then one for each
/// channel of the device, for what it is asked by others that come up.
pub const SLOTS: usize = TAGS as usize + COPIES + MAX_CHANNELS;

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

    /// Its number.
    pub const fn index(self) -> usize {
        self.0 as usize
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
}
