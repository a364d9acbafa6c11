// SPDX-License-Identifier: GPL-2.0

//! Which channel of a group, and which group.

use super::World;
use crate::logic::{
    group::GroupSet,
    ids::{ChannelId, ChannelSet, GroupId},
};

/// The channel that was taken last is taken again until it has so many bytes more than another one:
/// what goes over one socket is sent, carried out and answered in fewer and larger pieces than what
/// goes over several, and by threads of the server that are awake or have just been.
const STICKY: u64 = 64 << 10;
/// Turns without these bits, one in 256, give the last channel no advantage: all get their share.
const LEAVE_BUSY: u32 = 0xff00;
/// The same for a channel without load, and for the group that was read from last, one in 16: who
/// asks for one thing after the other stays with one server for a while, and all are used.
const LEAVE_IDLE: u32 = 0x0f00;

/// The place of number `at` of `count` among equals: the one that stays comes first, then each in
/// turn, from number `first` on.
fn place(at: u32, first: u32, count: u32, stays: bool) -> u32 {
    if stays {
        0
    } else {
        1 + (at + count - first).checked_rem(count).unwrap_or(0)
    }
}

/// The choices among what is equally right.
pub trait Balance: World {
    /// The channel of `group` for the next transfer: of those that are not full, or of all if all are,
    /// the one with the fewest bytes on it, where the last one mostly has [`STICKY`] bytes of
    /// advantage, and among equals each in turn.
    fn pick_channel(&self, group: GroupId) -> Option<ChannelId> {
        let core = self.core();
        let g = core.group(group);
        let up = g.up();
        let lowest = up.first()?;
        if up == ChannelSet::of(lowest) {
            return Some(lowest);
        }
        let count = up.len();
        let turn = core.next_turn();
        let first = turn % count;
        let current = g.last_taken();
        let mut best: Option<((bool, u64, u32), ChannelId)> = None;
        for (channel, at) in up.iter().zip(0..count) {
            let load = self.load(channel);
            let leave = if load > 0 { LEAVE_BUSY } else { LEAVE_IDLE };
            let stays = turn & leave != 0 && Some(channel) == current;
            let weight = load.saturating_sub(if stays { STICKY } else { 0 });
            let key = (
                self.is_full(channel),
                weight,
                place(at, first, count, stays),
            );
            if best.is_none_or(|(least, _)| key < least) {
                best = Some((key, channel));
            }
        }
        let (_, channel) = best?;
        g.take(channel);
        Some(channel)
    }

    /// Whether a channel of `group` is up that is not full.
    fn takes_more(&self, group: GroupId) -> bool {
        let up = self.core().group(group).up();
        up.iter().any(|channel| !self.is_full(channel))
    }

    /// The group whose next channel is not full and has the fewest bytes on it, among equals mostly
    /// the one of last time, else each in turn; nothing if none has a channel.
    fn least_loaded(&self, groups: GroupSet) -> Option<GroupId> {
        let core = self.core();
        if groups.len() == 1 {
            let only = groups.iter().next()?;
            return (!core.group(only).up().is_empty()).then_some(only);
        }
        let count = groups.len().max(1);
        let turn = core.next_turn();
        let first = turn % count;
        let last = (turn & LEAVE_IDLE != 0).then(|| core.last_read.load() as usize);
        let current = last.and_then(GroupId::new);
        let (_, group) = groups
            .iter()
            .zip(0..count)
            .filter_map(|(g, at)| {
                let channel = self.pick_channel(g)?;
                let key = (self.is_full(channel), self.load(channel));
                Some(((key, place(at, first, count, Some(g) == current)), g))
            })
            .min()?;
        if Some(group) != current {
            core.last_read.store(group.index() as u64);
        }
        Some(group)
    }
}

impl<W: World> Balance for W {}
