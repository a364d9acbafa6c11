// SPDX-License-Identifier: GPL-2.0

//! Models of the record of unflushed writes: a region that was noted is either reported when the
//! server is lost, or covered by a FLUSH that began afterwards and succeeded.
//!
//! A region that is reported without need is no fault; one that is missed is a difference between
//! the mirrors that no map knows of.
//!
//! What was also changed by hand to see these fail: a FLUSH that clears both generations, one that
//! moves by taking out and putting in, and a second FLUSH that moves while the owner clears.

#![cfg(loom)]

mod loom_common;

use enbd_logic::{
    logic::{
        mirror::{Health, HealthEvent},
        unflushed::{Ownership, Unflushed, WORDS},
    },
    sync::Word,
};
use loom::{sync::Arc, thread};
use loom_common::explore;

type Regions = Unflushed<Vec<Word>>;

fn regions() -> Arc<Regions> {
    let words = (0..WORDS).map(|_| Word::new(0)).collect();
    Arc::new(Unflushed::new(words).expect("as many words as it needs"))
}

/// The first FLUSH, which is the owner.
fn begin(regions: &Regions) -> Ownership {
    regions.begin_flush().expect("no other one is on its way")
}

fn end(regions: &Regions, owner: Option<Ownership>, succeeded: bool) {
    if let Some(owner) = owner {
        regions.end_flush(owner, succeeded);
    }
}

fn lose(regions: &Regions) -> Vec<u64> {
    let mut lost = Vec::new();
    regions.lose(|first, len| lost.extend(first..first + len));
    lost
}

/// Does `one` and `other` at once, in two threads; gives what `other` gave.
///
/// loom begins with the calling thread, and overlooks some orders of a load that comes before
/// another thread's load and change of the same word. So it is asked twice, with the threads
/// exchanged.
fn race<B: Send + 'static, T: Send + 'static>(
    regions: &Arc<Regions>,
    begun: B,
    one: fn(&Regions, B),
    other: fn(&Regions) -> T,
    exchanged: bool,
) -> T {
    let shared = regions.clone();
    if exchanged {
        let thread = thread::spawn(move || other(&shared));
        one(regions, begun);
        thread.join().unwrap()
    } else {
        let thread = thread::spawn(move || one(&shared, begun));
        let result = other(regions);
        thread.join().unwrap();
        result
    }
}

/// One `other` against one `one`, on top of what `before` did and gave to `one`; `check` gets what
/// `other` gave, and the record when both have ended.
fn explore_race<B: Send + 'static, T: Send + 'static>(
    before: fn(&Regions) -> B,
    one: fn(&Regions, B),
    other: fn(&Regions) -> T,
    check: fn(&Regions, T),
) {
    for exchanged in [false, true] {
        explore(None, move || {
            let regions = regions();
            let begun = before(&regions);
            let result = race(&regions, begun, one, other, exchanged);
            check(&regions, result);
        });
    }
}

#[test]
fn a_flush_that_fails_keeps_what_is_noted_meanwhile() {
    explore_race(
        |regions| regions.note(3, 3),
        |regions, ()| regions.note(3, 4),
        |regions| {
            let owns = regions.begin_flush();
            end(regions, owns, false);
        },
        |regions, ()| {
            let lost = lose(regions);
            assert!(lost.contains(&3) && lost.contains(&4), "{lost:?}");
        },
    );
}

/// What is noted while a FLUSH is on its way is not covered by it.
#[test]
fn a_flush_clears_only_what_was_noted_before() {
    explore_race(
        begin,
        |regions, owner| regions.end_flush(owner, true),
        |regions| regions.note(3, 3),
        |regions, ()| assert_eq!(lose(regions), [3]),
    );
}

#[test]
fn what_is_noted_while_the_server_is_lost_is_reported_now_or_later() {
    explore_race(
        |_| (),
        |regions, ()| regions.note(3, 3),
        lose,
        |regions, mut lost| {
            lost.extend(lose(regions));
            assert_eq!(lost, [3]);
        },
    );
}

#[test]
fn two_notes_of_one_word_are_both_kept() {
    explore_race(
        |_| (),
        |regions, ()| regions.note(4, 4),
        |regions| regions.note(3, 3),
        |regions, ()| assert_eq!(lose(regions), [3, 4]),
    );
}

/// What was noted before the server was lost is reported at once, whatever else is noted then.
#[test]
fn a_note_is_reported_beside_another_one() {
    explore_race(
        |_| (),
        |regions, ()| regions.note(4, 4),
        |regions| {
            regions.note(3, 3);
            lose(regions)
        },
        |_, lost| assert!(lost.contains(&3), "a region was missed: {lost:?}"),
    );
}

/// A FLUSH that begins takes no region out of sight.
#[test]
fn a_note_is_reported_while_a_flush_begins() {
    explore_race(
        |regions| regions.note(3, 3),
        |regions, ()| {
            begin(regions);
        },
        lose,
        |_, lost| assert!(lost.contains(&3), "a region was missed: {lost:?}"),
    );
}

/// The record does not look clear while a FLUSH moves what is in it.
#[test]
fn the_record_is_not_clear_while_a_flush_begins() {
    explore_race(
        |regions| regions.note(3, 3),
        |regions, ()| {
            begin(regions);
        },
        Regions::is_clear,
        |_, clear| assert!(!clear, "it looked clear"),
    );
}

/// A FLUSH that succeeds does not clear what another one has taken over and not made durable yet.
/// The block layer sends one FLUSH at a time, but the one at the end of a resync may meet it.
#[test]
fn a_flush_clears_nothing_of_the_next_one() {
    explore_race(
        |regions| {
            let owner = begin(regions);
            regions.note(3, 3);
            owner
        },
        |regions, owner| regions.end_flush(owner, true),
        Regions::begin_flush,
        |regions, owns| {
            end(regions, owns, false);
            assert_eq!(lose(regions), [3]);
        },
    );
}

/// A group that is doubted: no FLUSH covers what is noted.
struct Group {
    regions: Arc<Regions>,
    health: Word,
}

impl Group {
    fn happened(&self, event: HealthEvent) {
        let mut old = self.health.load();
        loop {
            let new = Health::from_bits(old).after(event).bits();
            match self.health.compare_exchange(old, new) {
                Ok(_) => return,
                Err(now) => old = now,
            }
        }
    }

    /// As `Losses::mark_unflushed`.
    fn mark(&self) -> Vec<u64> {
        self.happened(HealthEvent::MarkingBegan);
        self.regions.disown();
        self.happened(HealthEvent::RecordTaken);
        let lost = lose(&self.regions);
        self.happened(HealthEvent::MarkingEnded);
        lost
    }

    /// A FLUSH of a request that has seen the group in sync.
    fn flush(&self) {
        let owner = self.regions.begin_flush();
        let covers = Health::from_bits(self.health.load()).is_flushed_by_one();
        end(&self.regions, owner, covers);
    }
}

/// A FLUSH that begins and ends while a doubted group is marked clears nothing that it does not
/// cover.
#[test]
fn what_no_flush_covers_is_reported_beside_one() {
    for exchanged in [false, true] {
        explore(Some(2), move || {
            let group = Arc::new(Group {
                regions: regions(),
                health: Word::new(Health::default().after(HealthEvent::FlushVoid).bits()),
            });
            group.regions.note(3, 3);
            // An earlier one that covered nothing.
            let owner = group.regions.begin_flush();
            end(&group.regions, owner, false);
            let shared = group.clone();
            let lost = if exchanged {
                let thread = thread::spawn(move || shared.mark());
                group.flush();
                thread.join().unwrap()
            } else {
                let thread = thread::spawn(move || shared.flush());
                let lost = group.mark();
                thread.join().unwrap();
                lost
            };
            assert!(lost.contains(&3), "a region was missed: {lost:?}");
        });
    }
}
