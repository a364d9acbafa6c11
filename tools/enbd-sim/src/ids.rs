// SPDX-License-Identifier: GPL-2.0

//! What a run has one of for each group or channel, by that; and how a group is told.

use crate::logic::ids::{ChannelId, GroupId};
use std::{
    fmt,
    ops::{Index, IndexMut},
};

impl<T> Index<GroupId> for Vec<T> {
    type Output = T;

    fn index(&self, group: GroupId) -> &T {
        &self[group.index()]
    }
}

impl<T> IndexMut<GroupId> for Vec<T> {
    fn index_mut(&mut self, group: GroupId) -> &mut T {
        &mut self[group.index()]
    }
}

impl<T> Index<ChannelId> for Vec<T> {
    type Output = T;

    fn index(&self, channel: ChannelId) -> &T {
        &self[channel.index()]
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.index())
    }
}
