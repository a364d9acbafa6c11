// SPDX-License-Identifier: GPL-2.0

//! Whether blocks are compared before they are written, so that what is equal already is not.
//!
//! Comparing costs a read of the returning group for each block, and saves a write where it is equal: it
//! spares flash and thin servers, and pays where nearly all is equal.
//!
//! | `compare` | what is compared |
//! |---|---|
//! | not set | what may be equal for all that is known: after a crash, and where all is marked; and no more once little has turned out to be |
//! | 1 | all that is marked |
//! | 0 | nothing |
//!
//! What a group shows has to be what a flush makes durable. So, whatever is set, nothing is compared in a
//! group whose flushes cover their own connection alone, nor in one that may show from its cache what it
//! has failed to make durable ([`Health::is_deceptive`](crate::logic::mirror::Health::is_deceptive)).

use super::{
    walk::{Phase, Walk, COMPARES},
    Overseer, Site,
};
use crate::logic::{
    bitmap::Run,
    group::GroupFault,
    mirror::{CopyOutcome, Copying},
};

/// Blocks that are compared before it is judged whether that is worth it.
pub const ENOUGH: u64 = 2048;
/// It is if one of so many was equal.
const WORTH: u64 = 8;

/// What the administrator wants.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Compare {
    /// Nothing in particular.
    #[default]
    Auto,
    /// Never to compare.
    Never,
    /// Always to compare.
    Always,
}

impl Compare {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Never, Self::Always];

    /// As a word of the command, and of the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Never => "0",
            Self::Always => "1",
        }
    }

    /// What a word says.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == word)
    }

    /// For an atomic word.
    pub fn to_bits(self) -> u32 {
        match self {
            Self::Auto => 0,
            Self::Never => 1,
            Self::Always => 2,
        }
    }

    /// From an atomic word that had one before.
    pub fn from_bits(bits: u32) -> Self {
        match bits {
            1 => Self::Never,
            2 => Self::Always,
            _ => Self::Auto,
        }
    }

    /// Whether what is marked is compared in a group that is out of service for `fault`; `all` of it if so.
    pub fn begins(self, fault: Option<GroupFault>, all: bool) -> bool {
        match self {
            Self::Auto => all || fault == Some(GroupFault::Crashed),
            Self::Never => false,
            Self::Always => true,
        }
    }

    /// Whether it is worth it still, of `compared` blocks that many having been the `same`. It is judged after
    /// `enough` of them, [`ENOUGH`].
    pub fn goes_on(self, enough: u64, compared: u64, same: u64) -> bool {
        match self {
            Self::Auto => compared < enough || same >= compared / WORTH,
            Self::Never => false,
            Self::Always => true,
        }
    }
}

impl<W: Site, O: Overseer> Walk<'_, W, O> {
    /// The marked blocks are copied, and the rest is not believed.
    ///
    /// What was marked had to be written even if it can be read already: it may lie in a cache that no
    /// flush empties. The same holds for all blocks if a flush covers its own connection alone.
    pub(super) fn begin_comparing(&mut self) {
        self.site.mark_all(self.group);
        self.compares = self.may_compare(true);
        // What was marked says nothing of the rest.
        self.differ = 0;
        self.has_compared |= self.compares;
    }

    /// The marked blocks are compared, and written where they differ, where that may save more than it costs.
    pub(super) fn begin_marked(&mut self) {
        let is_all = self.site.dirty(self.group) >= self.blocks();
        self.compares = self.may_compare(is_all);
        self.has_compared |= self.compares;
    }

    /// Whether what is marked, all of the group if `is_all`, is to be compared, and what the group shows is
    /// what a flush makes durable.
    fn may_compare(&self, is_all: bool) -> bool {
        let g = self.site.core().group(self.group);
        let shows_truth = !g.is_single() && !g.health().is_deceptive();
        shows_truth && self.site.compare().begins(g.fault(), is_all)
    }

    /// Whether comparing is worth it still.
    pub(super) fn goes_on_comparing(&self) -> bool {
        let compared = self.same.saturating_add(self.differ);
        let compare = self.site.compare();
        compare.goes_on(self.site.enough(), compared, self.same)
    }

    /// How the transfers of a window stand.
    pub(super) fn outcome(&self, index: usize, phase: Phase) -> CopyOutcome {
        let outcome = self.site.copy_outcome(self.group, index);
        let other = || {
            self.site
                .copy_outcome(self.group, index.saturating_add(COMPARES))
        };
        let waits_for_other = self.compares && phase == Phase::Reading;
        if waits_for_other && other() == CopyOutcome::Going {
            return CopyOutcome::Going;
        }
        outcome
    }

    /// Whether the returning group was read, too, and has the same.
    pub(super) fn has_same(&self, index: usize, run: Run) -> bool {
        let other = index.saturating_add(COMPARES);
        self.compares
            && self.site.copy_outcome(self.group, other) == CopyOutcome::Done
            && self.is_same(index, run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_what_its_word_and_its_bits_say() {
        for one in Compare::ALL {
            assert_eq!(Compare::parse(one.as_str()), Some(one));
            assert_eq!(Compare::from_bits(one.to_bits()), one);
        }
        assert_eq!(Compare::parse("2"), None);
        assert_eq!(Compare::default(), Compare::from_bits(0));
    }

    #[test]
    fn what_is_compared() {
        let (crashed, missed) = (Some(GroupFault::Crashed), Some(GroupFault::NoChannel));
        let begins = |one: Compare| {
            [(crashed, false), (missed, true), (missed, false)]
                .map(|(fault, all)| one.begins(fault, all))
        };
        assert_eq!(begins(Compare::Auto), [true, true, false]);
        assert_eq!(begins(Compare::Never), [false; 3]);
        assert_eq!(begins(Compare::Always), [true; 3]);
    }

    #[test]
    fn little_that_is_equal_ends_it() {
        let auto = Compare::Auto;
        assert!(auto.goes_on(ENOUGH, ENOUGH - 1, 0));
        assert!(!auto.goes_on(ENOUGH, ENOUGH, 0));
        assert!(!auto.goes_on(ENOUGH, ENOUGH, ENOUGH / WORTH - 1));
        assert!(auto.goes_on(ENOUGH, ENOUGH, ENOUGH / WORTH));
        assert!(Compare::Always.goes_on(ENOUGH, u64::MAX, 0));
        assert!(!Compare::Never.goes_on(ENOUGH, 0, 0));
    }
}
