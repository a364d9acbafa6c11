// SPDX-License-Identifier: GPL-2.0

//! Models of changes of the view that meet: each is made on top of the other, or refused.

#![cfg(loom)]

mod loom_common;

use enbd_logic::{
    logic::{
        group::{
            GroupEvent::{self, *},
            GroupState, Refusal, View,
        },
        ids::GroupId,
    },
    sync::Word,
};
use loom::{sync::Arc, thread};
use loom_common::{explore, view_of};

const G0: GroupId = GroupId::new(0).unwrap();
const G1: GroupId = GroupId::new(1).unwrap();
const G2: GroupId = GroupId::new(2).unwrap();

/// How a change is made.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Door {
    /// As `Mirror::change_view()` does.
    CompareExchange,
    /// By a load and a swap, which forgets what came between.
    Swap,
}

fn change(word: &Word, door: Door, group: GroupId, event: GroupEvent) -> Result<View, Refusal> {
    let mut old = word.load();
    loop {
        let new = View::from_bits(old).after(group, event)?;
        if door == Door::Swap {
            word.swap(new.bits());
            return Ok(new);
        }
        match word.compare_exchange(old, new.bits()) {
            Ok(_) => return Ok(new),
            Err(now) => old = now,
        }
    }
}

type Results = Vec<Result<View, Refusal>>;

/// Makes `events`, each in a thread of its own, on top of `before`; `check` gets the view at the
/// end and what came of each.
fn race(
    door: Door,
    before: &'static [(GroupId, GroupEvent)],
    events: &'static [(GroupId, GroupEvent)],
    check: impl Fn(View, Results) + Sync + Send + 'static,
) {
    explore(None, move || {
        let word = Arc::new(Word::new(view_of(before).bits()));
        let (first, others) = events.split_first().expect("an event");
        let others: Vec<_> = others
            .iter()
            .map(|(group, event)| {
                let word = word.clone();
                thread::spawn(move || change(&word, door, *group, *event))
            })
            .collect();
        let mut results = vec![change(&word, door, first.0, first.1)];
        results.extend(others.into_iter().map(|other| other.join().unwrap()));
        let end = View::from_bits(word.load());
        // Every view but the first has been in the word once, with an epoch of its own.
        let mut epochs: Vec<_> = results.iter().flatten().map(|view| view.epoch()).collect();
        epochs.sort_unstable();
        let first = view_of(before).epoch() + 1;
        let wanted: Vec<_> = (first..).take(epochs.len()).collect();
        assert_eq!(epochs, wanted, "two views of one epoch");
        assert_eq!(end.epoch() + 1, first + epochs.len() as u32);
        assert!(!end.readable().is_empty(), "no group is in sync");
        check(end, results);
    });
}

fn both_fault(door: Door) {
    race(
        door,
        &[(G0, JoinWhole), (G1, JoinWhole)],
        &[(G0, Fault), (G1, Fault)],
        |end, results| {
            assert_eq!(end.readable().len(), 1);
            let refused = results
                .iter()
                .filter(|r| **r == Err(Refusal::LastInSync))
                .count();
            assert_eq!(refused, 1);
        },
    );
}

#[test]
fn the_last_group_in_sync_stays() {
    both_fault(Door::CompareExchange);
}

#[test]
#[should_panic(expected = "two views of one epoch")]
fn not_without_compare_exchange() {
    both_fault(Door::Swap);
}

#[test]
fn a_group_that_is_synced_and_faulted_ends_faulty() {
    race(
        Door::CompareExchange,
        &[(G0, JoinWhole), (G1, JoinStale), (G1, HotAdd)],
        &[(G1, Fault), (G1, Synced)],
        |end, results| {
            assert!(results[0].is_ok());
            assert_eq!(end.state(G1), GroupState::Faulty);
            assert!(matches!(results[1], Ok(_) | Err(Refusal::AlreadyFaulty)));
        },
    );
}

/// Group 0 may only be faulted once group 1 is in sync.
#[test]
fn the_source_goes_only_when_the_other_is_in_sync() {
    race(
        Door::CompareExchange,
        &[(G0, JoinWhole), (G1, JoinStale), (G1, HotAdd)],
        &[(G0, Fault), (G1, Synced), (G1, Fault)],
        |end, results| {
            if results[0].is_ok() {
                assert_eq!(end.state(G0), GroupState::Faulty);
                assert_eq!(end.state(G1), GroupState::InSync);
                assert_eq!(results[2], Err(Refusal::LastInSync));
            }
            assert_eq!(
                results.iter().filter(|r| r.is_ok()).count() as u32,
                end.epoch() - 3
            );
        },
    );
}

#[test]
fn three_faults_leave_one_group() {
    race(
        Door::CompareExchange,
        &[(G0, JoinWhole), (G1, JoinWhole), (G2, JoinWhole)],
        &[(G0, Fault), (G1, Fault), (G2, Fault)],
        |end, _| assert_eq!(end.readable().len(), 1),
    );
}
