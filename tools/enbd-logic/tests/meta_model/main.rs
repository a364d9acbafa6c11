// SPDX-License-Identifier: GPL-2.0

//! An exhaustive search of who is current: all that can happen to a small mirror, with the real
//! `assemble` and the real records. The rules are those of Documentation/metadata.rst.

mod oracle;
mod search;
mod start;
mod state;
mod told;
mod world;

use search::{search, Outcome};

/// A rule that can be left out, to see that the search finds what it is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rule {
    /// R1: nothing is acknowledged before a fault is recorded.
    FaultRecorded,
    /// R1: a fault draws a generation.
    DrawnByFault,
    /// R2: a member's own superblock is overwritten before its data.
    Adopted,
    /// R2: before it is, one of another line is recorded as FULL.
    Full,
    /// R3: a member is recorded as in sync before it is.
    Named,
    /// R3: its own superblock comes last.
    LastItself,
    /// R3: its failure is one of a member in sync.
    JoiningCounts,
    /// R4: one source after a crash.
    OneSource,
    /// R4, R6: a start is recorded before the disk appears.
    StartRecorded,
    /// R5: no start without a member that may be newer.
    Certain,
    /// R6: a start without all members draws a generation.
    DrawnByStart,
    /// R8: an end is orderly only if no write is on its way.
    Orderly,
}

/// How far a search goes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub members: usize,
    pub writes: u8,
    pub generations: u8,
    /// Crashes and orderly ends.
    pub lives: u8,
    /// A member may be set back once to a former state, or its export be lost.
    pub set_back: bool,
    pub blank: bool,
    /// Members are to be resynced by maps some day.
    pub has_maps: bool,
    /// States at most.
    pub limit: usize,
    pub off: Option<Rule>,
}

const TWO: Bounds = Bounds {
    members: 2,
    writes: 1,
    generations: 3,
    lives: 2,
    set_back: false,
    blank: false,
    has_maps: true,
    limit: usize::MAX,
    off: None,
};

fn find_nothing(bounds: Bounds) -> Outcome {
    let outcome = search(bounds);
    if let Some((law, way)) = &outcome.broken {
        panic!("{law}, in {bounds:?}\n{way}");
    }
    println!(
        "{} states, complete: {}",
        outcome.states, outcome.is_complete
    );
    outcome
}

/// The rule is left out, and what it is for happens within so many states.
fn find_without(rule: Rule, states: usize, bounds: Bounds) {
    let outcome = search(Bounds {
        off: Some(rule),
        limit: states,
        ..bounds
    });
    let Some((law, way)) = outcome.broken else {
        panic!("nothing found without {rule:?} in {states} states");
    };
    println!("{rule:?}: {law}, after {} states\n  {way}", outcome.states);
}

#[test]
fn two_members_and_two_lives_break_no_law() {
    let outcome = find_nothing(Bounds {
        generations: 2,
        ..TWO
    });
    assert!(outcome.is_complete);
}

#[test]
fn a_lost_export_breaks_no_law() {
    let outcome = find_nothing(Bounds {
        generations: 2,
        blank: true,
        ..TWO
    });
    assert!(outcome.is_complete);
}

#[test]
fn the_first_steps_of_three_members_break_no_law() {
    find_nothing(Bounds {
        members: 3,
        limit: 20_000,
        ..TWO
    });
}

/// The superblock of a member that was set back by one is not always known to be old, so its map
/// would not be enough; it gets all.
#[test]
fn the_first_steps_with_a_member_that_is_set_back_break_no_law() {
    find_nothing(Bounds {
        set_back: true,
        has_maps: false,
        limit: 30_000,
        ..TWO
    });
}

#[test]
fn each_rule_is_needed() {
    let bounds = Bounds {
        generations: 4,
        ..TWO
    };
    for (rule, states) in [
        (Rule::FaultRecorded, 1_000),
        (Rule::DrawnByFault, 15_000),
        (Rule::Adopted, 10_000),
        (Rule::Full, 10_000),
        (Rule::Named, 60_000),
        (Rule::LastItself, 60_000),
        (Rule::JoiningCounts, 80_000),
        (Rule::OneSource, 1_000),
        (Rule::StartRecorded, 1_000),
        (Rule::Certain, 2_000),
        (Rule::DrawnByStart, 2_000),
        (Rule::Orderly, 1_000),
    ] {
        find_without(rule, states, bounds);
    }
}

/// Minutes, and gigabytes: `cargo test --release --test meta_model -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes and gigabytes"]
fn more_members_and_lives_break_no_law() {
    let all = [
        // The bounds of each: members, writes, generations, lives.
        (2, 2, 4, 2),
        (2, 2, 4, 3),
        (3, 1, 3, 1),
    ];
    for (members, writes, generations, lives) in all {
        let outcome = find_nothing(Bounds {
            members,
            writes,
            generations,
            lives,
            limit: 10_000_000,
            ..TWO
        });
        assert!(outcome.states > 100_000);
    }
    find_nothing(Bounds {
        generations: 4,
        set_back: true,
        has_maps: false,
        limit: 10_000_000,
        ..TWO
    });
}
