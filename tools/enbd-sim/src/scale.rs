// SPDX-License-Identifier: GPL-2.0

//! What a run is made of.

use crate::logic::{ids::GroupId, resync::Compare};
use clap::ValueEnum;

/// What may be left out, for a mirror that is known not to survive it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Kind {
    /// Users who change the memory of a write that is on its way.
    Changing,
    /// Servers that come back with another store.
    Replaced,
    /// Channels that lead to another server than the others of their group.
    Stray,
}

/// Which of it there is.
#[derive(Clone, Copy, Debug)]
pub struct Trouble {
    pub changing: bool,
    pub replaced: bool,
    pub stray: bool,
}

impl Trouble {
    /// All of it, but for what is left out.
    pub fn without(left_out: &[Kind]) -> Self {
        let has = |kind| !left_out.contains(&kind);
        Self {
            changing: has(Kind::Changing),
            replaced: has(Kind::Replaced),
            stray: has(Kind::Stray),
        }
    }
}

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    pub groups: usize,
    pub channels_each: usize,
    pub blocks: usize,
    /// A server promises that a flush on one connection covers all, and keeps that; else it covers no
    /// other one, and one connection is made at a time.
    pub multi_conn: bool,
    /// Requests fail when every group is gone.
    pub show_errs: bool,
    /// How often, in a thousand, a page of the map cannot be had.
    pub no_page: u32,
    /// Nothing but disks goes wrong, and users read more than they write: so connections hold, and what
    /// a group has missed stays little.
    pub calm: bool,
    /// The groups keep superblocks.
    pub memory: bool,
    /// They keep intent pages, too.
    pub intent: bool,
    /// After so long a mark is idle.
    pub intent_idle_ms: u64,
    /// What resyncs compare before they write.
    pub compare: Compare,
    /// Bytes that are marked at most; 0 for no bound.
    pub most_marked: u64,
    /// Seconds between two beats; 0 for none.
    pub owner_check_s: u64,
    /// How many clients there are, one after the other.
    pub lives: usize,
    pub trouble: Trouble,
}

impl Scale {
    /// The groups that there are.
    pub fn all_groups(&self) -> impl Iterator<Item = GroupId> {
        GroupId::all().take(self.groups)
    }

    /// How many channels of a group carry requests when all is well: one where there is no
    /// `multi_conn`, which any of them may be.
    pub fn serving_each(&self) -> usize {
        if self.multi_conn {
            self.channels_each
        } else {
            1
        }
    }
}
