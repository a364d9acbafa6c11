// SPDX-License-Identifier: GPL-2.0

//! A mirror of one block: what is on each export, what the client knows, and what is true.

use crate::{
    oracle::{Line, Oracle},
    told::Told,
};

/// Members at most.
pub const MOST: usize = 3;
/// A set of members, one bit each.
pub type Set = u8;
/// What an export holds that was copied onto by half, or is blank. No read may return it.
pub const HALF: u8 = 7;

/// Whether a member is in a set.
pub fn has(set: Set, member: usize) -> bool {
    set & 1 << member != 0
}

/// The members of a set.
pub fn members(set: Set) -> impl Iterator<Item = usize> {
    (0..MOST).filter(move |&member| has(set, member))
}

/// What is on an export.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Store {
    /// The number of the write that it has, or [`HALF`].
    pub data: u8,
    /// Its newest superblock, and that one's number.
    pub told: Told,
    pub seq: u8,
    /// It differs from the sources of its superblock's line only in what they know that it missed.
    pub is_kin: bool,
}

/// What a member is to the client.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Part {
    InSync,
    /// Has all; gets writes; is being recorded as in sync.
    Joining,
    /// Is copied onto.
    Copying,
    Out,
}

/// A record on its way to the members, one at a time: first to all of `first`, then to `then`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Recording {
    pub told: Told,
    pub first: Set,
    pub then: Set,
    /// The faults that it has.
    pub faults: Set,
    /// The line that it overrides, by the administrator's word.
    pub overrides: Option<Line>,
}

/// What the client knows, which a crash forgets.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Client {
    pub view: [Part; MOST],
    /// Faults that are not on all members in sync yet.
    pub unrecorded: Set,
    /// The disk has not appeared: its first record is on its way.
    pub is_starting: bool,
    /// It is on its way to an orderly end.
    pub is_ending: bool,
    /// The write that is on its way, and who has it.
    pub write: Option<(u8, Set)>,
    pub recording: Option<Recording>,
    pub base: Told,
}

impl Client {
    /// The members that are one of these.
    pub fn all(&self, parts: &[Part]) -> Set {
        let is_one = |&member: &usize| parts.contains(&self.view[member]);
        (0..MOST)
            .filter(is_one)
            .fold(0, |set, member| set | 1 << member)
    }
}

/// All of it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct State {
    pub stores: [Store; MOST],
    pub client: Option<Client>,
    pub oracle: Oracle,
    pub writes: u8,
    pub generation: u8,
    /// Crashes and ends that were.
    pub lives: u8,
    /// A former state of a member that somebody has kept.
    pub kept: Option<(u8, Store)>,
    /// Who had all when a member was set back or lost; 0 as long as none was.
    pub sure: Set,
}

/// One step, for a trace.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub what: &'static str,
    pub who: Set,
    /// Of those that are there.
    pub of: Set,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |set| {
            let names: Vec<_> = members(set).map(|member| member.to_string()).collect();
            names.join(",")
        };
        match (self.who, self.of) {
            (0, _) => write!(f, "{}", self.what),
            (who, 0) => write!(f, "{} {}", self.what, list(who)),
            (who, of) => write!(f, "{} {} of {{{}}}", self.what, list(who), list(of)),
        }
    }
}
