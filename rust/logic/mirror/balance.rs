// SPDX-License-Identifier: GPL-2.0

//! Which channel of a group, and which group.

use super::World;
use crate::logic::group::GroupSet;

/// The choices among what is equally right.
pub trait Balance: World {
    /// The channel of `group` for the next transfer: the one with the fewest bytes on it, and among
    /// equals each in turn.
    fn pick_channel(&self, group: usize) -> Option<u32> {
        let core = self.core();
        let g = core.groups.get(group)?;
        let up = g.up();
        if up == 0 {
            return None;
        }
        if up.is_power_of_two() {
            return Some(up.trailing_zeros());
        }
        if g.is_single() {
            return Some(g.working(up));
        }
        let count = up.count_ones();
        let first = core.next_turn() % count;
        let mut best: Option<((u64, u32), u32)> = None;
        let mut left = up;
        for at in 0..count {
            let channel = left.trailing_zeros();
            left &= left.wrapping_sub(1);
            let key = (self.load(channel), (at + count - first) % count);
            if best.is_none_or(|(least, _)| key < least) {
                best = Some((key, channel));
            }
        }
        best.map(|(_, channel)| channel)
    }

    /// The group whose next channel has the fewest bytes on it, and among equals each in turn;
    /// nothing if none has a channel.
    fn least_loaded(&self, groups: GroupSet) -> Option<usize> {
        let core = self.core();
        if groups.len() == 1 {
            let only = groups.iter().next()?;
            return (core.groups.get(only)?.up() != 0).then_some(only);
        }
        let count = groups.len().max(1);
        let first = core.next_turn() % count;
        groups
            .iter()
            .zip(0..count)
            .filter_map(|(g, at)| {
                let load = self.load(self.pick_channel(g)?);
                Some(((load, (at + count - first) % count), g))
            })
            .min()
            .map(|(_, g)| g)
    }
}

impl<W: World> Balance for W {}
