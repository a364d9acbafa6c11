// SPDX-License-Identifier: GPL-2.0

//! Events against what has really happened.

use enbd_logic::logic::command::Label;
use enbd_logic::logic::group::{GroupEvent, GroupFault, GroupSet, GroupState, View};
use enbd_logic::logic::ids::GroupId;
use enbd_logic::logic::tell::{DeviceState, Event, Facts, Happened, Next, Teller};
use proptest::prelude::*;

const G0: GroupId = GroupId::new(0).unwrap();
const G1: GroupId = GroupId::new(1).unwrap();

/// Two groups in sync that can be reached.
fn whole() -> Facts {
    let mut facts = Facts::default();
    for group in [G0, G1] {
        happen(&mut facts, group, GroupEvent::JoinWhole);
        facts.reachable = facts.reachable.with(group);
    }
    facts
}

/// Whether it could happen.
fn happen(facts: &mut Facts, group: GroupId, event: GroupEvent) -> bool {
    let Ok(view) = facts.view.after(group, event) else {
        return false;
    };
    facts.view = view;
    facts.faults[group.index()] = match view.state(group) {
        GroupState::Faulty => Some(GroupFault::NoChannel),
        _ => None,
    };
    true
}

/// All that is to be told at once, but not more than the rate allows.
fn drain(teller: &mut Teller, facts: &Facts, now_ms: u64) -> Vec<Event> {
    let mut events = Vec::new();
    while let Next::Tell(event) = teller.next(facts, now_ms) {
        events.push(event);
    }
    events
}

fn words(event: &Event) -> String {
    let mut text = String::new();
    event.write(&mut text).expect("a String takes all");
    assert!(text.len() <= 512, "there is room for so much: {text:?}");
    text.trim_end_matches('\0').replace('\0', " ")
}

fn told(teller: &mut Teller, facts: &Facts, now_ms: u64) -> Vec<String> {
    let events = drain(teller, facts, now_ms);
    events.iter().map(words).collect()
}

#[test]
fn a_group_goes_and_comes_back() {
    let mut facts = whole();
    let mut teller = Teller::new(&facts, 16);
    assert_eq!(teller.next(&facts, 0), Next::Nothing);
    assert!(happen(&mut facts, G1, GroupEvent::Fault));
    assert_eq!(
        told(&mut teller, &facts, 0),
        ["ENBD_EVENT=group_faulty ENBD_SEQ=17 ENBD_STATE=degraded ENBD_GROUP=1 ENBD_GROUP_STATE=faulty \
          ENBD_REASON=no channel was up for the timeout"]
    );
    assert!(happen(&mut facts, G1, GroupEvent::HotAdd));
    assert_eq!(
        told(&mut teller, &facts, 5000),
        ["ENBD_EVENT=resync_started ENBD_SEQ=18 ENBD_STATE=degraded ENBD_GROUP=1 ENBD_GROUP_STATE=resyncing"]
    );
    assert!(happen(&mut facts, G1, GroupEvent::Synced));
    assert_eq!(
        told(&mut teller, &facts, 9000),
        [
            "ENBD_EVENT=resync_finished ENBD_SEQ=19 ENBD_STATE=ok ENBD_GROUP=1 ENBD_GROUP_STATE=in_sync",
            "ENBD_EVENT=group_in_sync ENBD_SEQ=20 ENBD_STATE=ok ENBD_GROUP=1 ENBD_GROUP_STATE=in_sync",
        ]
    );
}

#[test]
fn held_and_released() {
    let mut facts = whole();
    let mut teller = Teller::new(&facts, 0);
    let all = facts.reachable;
    facts.reachable = GroupSet::default();
    assert_eq!(
        told(&mut teller, &facts, 0),
        ["ENBD_EVENT=held ENBD_SEQ=1 ENBD_STATE=held"]
    );
    facts.reachable = GroupSet::of(G0);
    assert_eq!(
        told(&mut teller, &facts, 0),
        ["ENBD_EVENT=released ENBD_SEQ=2 ENBD_STATE=degraded"]
    );
    facts.reachable = all;
    assert_eq!(facts.state(), DeviceState::Ok);
    assert_eq!(teller.next(&facts, 0), Next::Nothing);
}

#[test]
fn a_name() {
    let mut facts = whole();
    let mut teller = Teller::new(&facts, 0);
    facts.name = Label::parse("data").ok();
    let renamed = "ENBD_EVENT=renamed ENBD_SEQ=1 ENBD_NAME=data ENBD_STATE=ok";
    assert_eq!(told(&mut teller, &facts, 0), [renamed]);
    facts.reachable = GroupSet::default();
    let held = "ENBD_EVENT=held ENBD_SEQ=2 ENBD_NAME=data ENBD_STATE=held";
    assert_eq!(told(&mut teller, &facts, 0), [held]);
}

#[test]
fn a_reason_that_comes_late_or_never() {
    let mut facts = whole();
    let mut teller = Teller::new(&facts, 0);
    happen(&mut facts, G1, GroupEvent::Fault);
    facts.faults[1] = None;
    assert_eq!(teller.next(&facts, 0), Next::Nothing, "a moment later");
    facts.faults[1] = Some(GroupFault::Admin);
    let events = drain(&mut teller, &facts, 1);
    assert_eq!(events.len(), 1);
    assert_eq!(
        (events[0].fault, events[0].folded),
        (Some(GroupFault::Admin), 0)
    );
    // Another reason is worth an event; that there is none any more is not.
    facts.faults[1] = Some(GroupFault::Resync);
    assert_eq!(drain(&mut teller, &facts, 2).len(), 1);
    facts.faults[1] = None;
    assert_eq!(teller.next(&facts, 3), Next::Nothing);
    happen(&mut facts, G1, GroupEvent::HotAdd);
    happen(&mut facts, G1, GroupEvent::Fault);
    drain(&mut teller, &facts, 5000);
    // Never.
    happen(&mut facts, G1, GroupEvent::HotAdd);
    drain(&mut teller, &facts, 10_000);
    happen(&mut facts, G1, GroupEvent::Fault);
    facts.faults[1] = None;
    let finished = drain(&mut teller, &facts, 10_001);
    assert_eq!(finished.len(), 1, "{finished:?}");
    let events = drain(&mut teller, &facts, 10_500);
    assert_eq!(events.len(), 1);
    assert_eq!(
        (events[0].what, events[0].fault),
        (Happened::Faulty(G1), None)
    );
}

#[test]
fn what_goes_away_again_is_counted() {
    let mut facts = whole();
    let mut teller = Teller::new(&facts, 0);
    for event in [GroupEvent::Fault, GroupEvent::HotAdd, GroupEvent::Synced] {
        assert!(happen(&mut facts, G1, event));
    }
    assert_eq!(
        told(&mut teller, &facts, 0),
        ["ENBD_EVENT=folded ENBD_SEQ=1 ENBD_STATE=ok ENBD_FOLDED=3"]
    );
    assert_eq!(teller.next(&facts, 0), Next::Nothing);
}

/// The longest event is what there is room for.
#[test]
fn every_reason_fits() {
    for bits in 1..=255 {
        let Some(fault) = GroupFault::from_bits(bits) else {
            continue;
        };
        let event = Event {
            what: Happened::ResyncFinished(G1),
            seq: u64::MAX,
            name: Label::parse(&"n".repeat(64)).ok(),
            state: DeviceState::Degraded,
            group_state: Some(GroupState::Resyncing),
            fault: Some(fault),
            folded: u32::MAX,
        };
        assert!(words(&event).len() < 400);
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Group(usize, GroupEvent),
    Reach(usize, bool),
    Look(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let event = prop_oneof![
        1 => Just(GroupEvent::JoinStale),
        3 => Just(GroupEvent::Fault),
        3 => Just(GroupEvent::HotAdd),
        3 => Just(GroupEvent::Synced),
        1 => Just(GroupEvent::Remove),
    ];
    prop_oneof![
        4 => (0usize..4, event).prop_map(|(group, event)| Step::Group(group, event)),
        1 => (0usize..4, any::<bool>()).prop_map(|(group, up)| Step::Reach(group, up)),
        2 => (0u64..300).prop_map(Step::Look),
    ]
}

/// What a program makes of the events.
struct Program {
    states: [GroupState; 4],
    resyncing: [bool; 4],
    is_held: bool,
    seq: u64,
    /// Changes of states that it has heard of, one way or the other.
    changes: u32,
}

impl Program {
    fn hear(&mut self, event: &Event) {
        assert_eq!(event.seq, self.seq + 1);
        self.seq = event.seq;
        self.changes = self.changes.wrapping_add(event.folded);
        assert_eq!(event.group_state.is_some(), event.what.group().is_some());
        match event.what {
            Happened::Held => assert!(!std::mem::replace(&mut self.is_held, true)),
            Happened::Released => assert!(std::mem::replace(&mut self.is_held, false)),
            Happened::Renamed => panic!("nobody has named it"),
            Happened::Folded => assert!(event.folded > 0),
            Happened::ResyncFinished(group) => {
                assert!(std::mem::replace(&mut self.resyncing[group.index()], false));
            }
            Happened::InSync(group)
            | Happened::Faulty(group)
            | Happened::Removed(group)
            | Happened::ResyncStarted(group) => {
                let state = event.group_state.expect("of a group");
                if let Happened::ResyncStarted(_) = event.what {
                    assert!(!std::mem::replace(&mut self.resyncing[group.index()], true));
                }
                let before = std::mem::replace(&mut self.states[group.index()], state);
                self.changes += u32::from(before != state);
            }
        }
    }
}

proptest! {
    /// Who hears all events knows in the end what is, and how often it changed.
    #[test]
    fn events_lead_to_the_truth(steps in prop::collection::vec(step(), 0..200), seq in 0u64..1000) {
        let mut facts = whole();
        let epoch = facts.view.epoch();
        let mut teller = Teller::new(&facts, seq);
        let mut program = Program {
            states: [0, 1, 2, 3].map(|group| facts.view.state(GroupId::new(group).expect("below 8"))),
            resyncing: [false; 4],
            is_held: false,
            seq,
            changes: 0,
        };
        let mut now_ms = 0;
        let mut times = Vec::new();
        let mut look = |facts: &Facts, now_ms: u64| {
            for event in drain(&mut teller, facts, now_ms) {
                program.hear(&event);
                times.push(now_ms);
            }
        };
        for step in steps {
            match step {
                Step::Group(group, event) => {
                    happen(&mut facts, GroupId::new(group).expect("below 8"), event);
                }
                Step::Reach(group, up) => {
                    let group = GroupSet::of(GroupId::new(group).expect("below 8"));
                    facts.reachable = match up {
                        true => facts.reachable.union(group),
                        false => facts.reachable.without(group),
                    };
                }
                Step::Look(ms) => {
                    now_ms += ms;
                    look(&facts, now_ms);
                }
            }
        }
        for _ in 0..8 {
            now_ms += 1000;
            look(&facts, now_ms);
        }
        prop_assert_eq!(teller.next(&facts, now_ms + 1000), Next::Nothing);
        for group in 0..4 {
            let state = facts.view.state(GroupId::new(group).expect("below 8"));
            prop_assert_eq!(program.states[group], state);
            prop_assert_eq!(program.resyncing[group], state == GroupState::Resyncing);
        }
        prop_assert_eq!(program.is_held, facts.state() == DeviceState::Held);
        prop_assert_eq!(program.changes, facts.view.epoch() - epoch);
        for ten in times.windows(11) {
            prop_assert!(ten[10] - ten[0] >= 1000, "{:?}", ten);
        }
    }
}

/// No view that there is makes a device with nobody to serve it anything but held.
#[test]
fn held_is_what_nobody_serves() {
    for bits in 0..=0xffffu64 {
        let facts = Facts {
            view: View::from_bits(bits),
            reachable: GroupSet::from_bits(0b1010_1010),
            ..Facts::default()
        };
        let serves = GroupId::all().any(|group| {
            facts.view.state(group) == GroupState::InSync && facts.reachable.has(group)
        });
        assert_eq!(facts.state() != DeviceState::Held, serves);
    }
}
