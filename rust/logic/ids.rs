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
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
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

    /// Its number.
    pub const fn index(self) -> usize {
        self.0 as usize
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
