// SPDX-License-Identifier: GPL-2.0

//! A connection that was made, and is about to carry requests: whether it leads to the group's data,
//! and what its server may have lost.
//!
//! | connections of the group before | what it shows ([`proof`]) | what follows |
//! |---|---|---|
//! | one that serves, and one of the two has no CAN_MULTI_CONN | not asked | it is not taken |
//! | one that is up | other data | it is not taken |
//! | | the same, or nothing | it carries requests |
//! | | could not be asked | it is tried again |
//! | none, and the group is in sync or resyncing | the same | it carries requests |
//! | | nothing | the group is faulted, and compared in full; alone it goes on, with a warning |
//! | | other data | the group is faulted, and needs the administrator; alone it is not taken |
//! | none, and the group is faulty | not asked | the resync compares before it believes the map |
//! | none, as the device was never enabled | not asked | the administrator's word counts |
//!
//! "Alone" is a group where no other one in sync has a channel to copy from.

use super::{
    greet::{self, Life},
    loss::{look_after_loss, note_loss},
    proof::{self, Proof},
    step::{self, Numbered},
    HealthEvent, Losses, News, Probe, Route, States, World,
};
use crate::logic::{
    export::Lack,
    group::{GroupFault, GroupState, Refusal},
    ids::{ChannelSet, GroupId, Lane},
};

/// What became of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Arrival {
    /// It carries requests.
    Up,
    /// The channel is to end.
    Stopped,
    /// It has ended while it was asked.
    Broken,
    /// It leads to other data than the group's.
    OtherData,
    /// What it leads to could not be compared with what the group has.
    Unasked,
    /// It, or one that carries requests already, takes no other one beside it.
    Lacks(Lack),
}

/// What channels report of new connections.
pub trait Arrivals: World {
    /// A channel is connected; `probe` reads over it. It carries requests if this says
    /// so. Waits for the answers of another channel, as long as one is up, which the request timeout
    /// bounds, and for those of the connection itself.
    fn came_up(&self, lane: Lane, ended: &dyn Fn() -> bool, probe: Probe<'_>) -> Arrival {
        let group = lane.group;
        // One at a time: the second one can ask the first.
        if !greet::begin(self, group, ended) {
            return Arrival::Stopped;
        }
        let arrival = arrive(self, lane, ended, probe);
        greet::end(self, group);
        if arrival != Arrival::Up || ended() {
            return arrival;
        }
        let mut used = ChannelSet::default();
        self.each_waiting(group, |number| {
            if let Some(transfer) = self.take_waiting(group, number) {
                let waited = Numbered {
                    group,
                    number,
                    transfer,
                };
                used |= step::send(self, waited);
            }
        });
        self.kick_all(used);
        arrival
    }
}

impl<W: World> Arrivals for W {}

fn arrive<W: World>(w: &W, lane: Lane, ended: &dyn Fn() -> bool, probe: Probe<'_>) -> Arrival {
    let Lane { group, channel } = lane;
    let g = w.core().group(group);
    // Nobody else comes up meanwhile, so this holds until it serves.
    if let Err(lack) = g.may_serve(channel) {
        return Arrival::Lacks(lack);
    }
    let life = greet::life(w, lane, ended);
    if ended() {
        return Arrival::Stopped;
    }
    let refusal = match life {
        Life::Same => joins_another(w, lane, ended, probe),
        Life::Unknown if w.core().last_sectors() > 0 => returns(w, group, ended, probe),
        Life::Unknown => None,
    };
    if let Some(refusal) = refusal {
        return refusal;
    }
    if ended() {
        return Arrival::Stopped;
    }
    if life == Life::Unknown {
        note_loss(w, group);
    }
    look_after_loss(w, group);
    // Not before: who has chosen the channel when it was last up may still come with a transfer.
    g.happened(HealthEvent::ConnectionTaken);
    g.set_serving(channel, true);
    w.open(channel);
    g.add_up(channel);
    g.note_up();
    w.renew_doubted();
    Arrival::Up
}

/// A connection beside one that is up: why it is not taken, if it is not.
fn joins_another<W: World>(
    w: &W,
    lane: Lane,
    ended: &dyn Fn() -> bool,
    probe: Probe<'_>,
) -> Option<Arrival> {
    let Lane { group, channel } = lane;
    let up = w.core().group(group).up();
    let other = up.without(ChannelSet::of(channel)).first();
    // What a group that is faulty should hold says nothing of the server that it has now: that may be
    // a new one, which is still to be copied to.
    let remembers = w.core().view().writable().has(group);
    match proof::prove(w, group, remembers, other, ended, probe) {
        Proof::Same | Proof::Nothing => None,
        Proof::Unasked => Some(Arrival::Unasked),
        Proof::Broken => Some(Arrival::Broken),
        Proof::Other(offset) => Some(other_data(w, group, offset)),
    }
}

/// A connection leads to other data. It is tried again, and told once.
fn other_data<W: World>(w: &W, group: GroupId, offset: u64) -> Arrival {
    let before = w.core().group(group).happened(HealthEvent::OtherData);
    if !before.is_told() {
        w.tell(News::OtherData { group, offset });
    }
    Arrival::OtherData
}

/// The first connection of a group whose others were all lost: why it is not taken, if it is not.
fn returns<W: World>(
    w: &W,
    group: GroupId,
    ended: &dyn Fn() -> bool,
    probe: Probe<'_>,
) -> Option<Arrival> {
    let g = w.core().group(group);
    let proof = match w.core().view().state(group) {
        GroupState::InSync | GroupState::Resyncing => {
            proof::prove(w, group, true, None, ended, probe)
        }
        GroupState::Faulty | GroupState::Absent => Proof::Nothing,
    };
    let fault = match proof {
        Proof::Same => {
            g.happened(HealthEvent::Proved);
            return None;
        }
        Proof::Broken => return Some(Arrival::Broken),
        Proof::Nothing | Proof::Unasked => GroupFault::Unproved,
        Proof::Other(_) => GroupFault::Differs,
    };
    // Before it is faulted, so before it can be brought back.
    g.happened(HealthEvent::Unproved);
    if !is_alone(w, group, fault) {
        return None;
    }
    match proof {
        Proof::Other(offset) => Some(other_data(w, group, offset)),
        _ => {
            w.tell(News::Unproved { group });
            None
        }
    }
}

/// Takes a group out of service whose server may be another one, if there is one to copy from; says
/// whether there is none.
fn is_alone<W: World>(w: &W, group: GroupId, fault: GroupFault) -> bool {
    let core = w.core();
    let serves = |other: GroupId| !core.group(other).up().is_empty();
    // Again if the state has changed in between.
    loop {
        let state = core.view().state(group);
        let mut others = core.view().readable().iter().filter(|&g| g != group);
        match state {
            GroupState::Faulty | GroupState::Absent => return false,
            GroupState::InSync if !others.any(serves) => return true,
            GroupState::InSync | GroupState::Resyncing => {}
        }
        match w.fault(group, fault) {
            Ok(()) => return false,
            Err(Refusal::LastInSync) => return true,
            Err(_) => {}
        }
    }
}
