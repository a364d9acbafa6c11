// SPDX-License-Identifier: GPL-2.0

//! Events: what has changed in a device since the last one was told.
//!
//! Nothing is queued. What was told is compared with what is, and each difference makes one event;
//! so while events are held back, a difference that goes away again makes none. How many changes of
//! groups' states had no event of their own the next event says.
//!
//! Shape: [`Teller::next`] is called until it has nothing more to tell.
//! Units: milliseconds of a clock that does not go back.

use super::{
    facts::{state_key, DeviceState, Facts},
    rate::Rate,
};
use crate::logic::{
    command::Label,
    group::{GroupFault, GroupSet, GroupState},
    ids::GroupId,
    MAX_GROUPS,
};
use core::fmt::{self, Write};

/// What has happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Happened {
    /// A group is in sync.
    InSync(GroupId),
    /// A group is faulty, or is so for another reason.
    Faulty(GroupId),
    /// A group was dropped.
    Removed(GroupId),
    /// A group is being brought back.
    ResyncStarted(GroupId),
    /// It is not any more, whatever came of it.
    ResyncFinished(GroupId),
    /// No group that is in sync can be reached.
    Held,
    /// One can again.
    Released,
    /// The device has another name.
    Renamed,
    /// Groups have changed, and are as they were.
    Folded,
}

impl Happened {
    /// For programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InSync(_) => "group_in_sync",
            Self::Faulty(_) => "group_faulty",
            Self::Removed(_) => "group_removed",
            Self::ResyncStarted(_) => "resync_started",
            Self::ResyncFinished(_) => "resync_finished",
            Self::Held => "held",
            Self::Released => "released",
            Self::Renamed => "renamed",
            Self::Folded => "folded",
        }
    }

    /// The group that it has happened to.
    pub fn group(self) -> Option<GroupId> {
        match self {
            Self::InSync(group)
            | Self::Faulty(group)
            | Self::Removed(group)
            | Self::ResyncStarted(group)
            | Self::ResyncFinished(group) => Some(group),
            Self::Held | Self::Released | Self::Renamed | Self::Folded => None,
        }
    }
}

/// One event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Event {
    /// What has happened.
    pub what: Happened,
    /// Its number: one more than that of the last one.
    pub seq: u64,
    /// How the device is called.
    pub name: Option<Label>,
    /// How the device fares now.
    pub state: DeviceState,
    /// What its group is now.
    pub group_state: Option<GroupState>,
    /// Why that is faulty.
    pub fault: Option<GroupFault>,
    /// Changes of groups' states since the last event that have none of their own.
    pub folded: u32,
}

impl Event {
    /// Writes the words of the event, `KEY=value` each, and behind each a NUL.
    ///
    /// # Errors
    ///
    /// Those of `w`.
    pub fn write(&self, w: &mut impl Write) -> fmt::Result {
        write!(w, "ENBD_EVENT={}\0", self.what.as_str())?;
        write!(w, "ENBD_SEQ={}\0", self.seq)?;
        if let Some(name) = &self.name {
            write!(w, "ENBD_NAME={}\0", name.as_str())?;
        }
        write!(w, "ENBD_STATE={}\0", self.state.as_str())?;
        if let Some(group) = self.what.group() {
            write!(w, "ENBD_GROUP={}\0", group.index())?;
        }
        if let Some(state) = self.group_state {
            write!(w, "ENBD_GROUP_STATE={}\0", state_key(state))?;
        }
        if let Some(fault) = self.fault {
            write!(w, "ENBD_REASON={}\0", fault.as_str())?;
        }
        if self.folded > 0 {
            write!(w, "ENBD_FOLDED={}\0", self.folded)?;
        }
        Ok(())
    }
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next {
    /// This is to be told.
    Tell(Event),
    /// There is something to tell, in so many milliseconds.
    Wait(u64),
    /// All is told.
    Nothing,
}

/// What was told, and when.
pub struct Teller {
    states: [GroupState; MAX_GROUPS],
    faults: [Option<GroupFault>; MAX_GROUPS],
    resyncing: GroupSet,
    is_held: bool,
    name: Option<Label>,
    /// The number of the view up to which all changes were told of, or counted.
    epoch: u32,
    /// Groups that were faulty, for no reason yet, when it was last looked.
    unexplained: GroupSet,
    rate: Rate,
    seq: u64,
}

impl Teller {
    /// Nobody wants to be told of what is `now`; `seq` is the number of the last event.
    pub fn new(now: &Facts, seq: u64) -> Self {
        let mut states = [GroupState::Absent; MAX_GROUPS];
        let mut faults = [None; MAX_GROUPS];
        for ((group, state), fault) in GroupId::all().zip(&mut states).zip(&mut faults) {
            *state = now.view.state(group);
            *fault = now.fault(group);
        }
        Self {
            states,
            faults,
            resyncing: now.view.resyncing(),
            is_held: now.state() == DeviceState::Held,
            name: now.name,
            epoch: now.view.epoch(),
            unexplained: GroupSet::default(),
            rate: Rate::default(),
            seq,
        }
    }

    /// What is to be told next of what is `now`.
    pub fn next(&mut self, now: &Facts, now_ms: u64) -> Next {
        let Some(what) = self.difference(now) else {
            return Next::Nothing;
        };
        if let Err(ms) = self.rate.admit(now_ms) {
            return Next::Wait(ms);
        }
        let changed = GroupId::all()
            .filter(|group| *group.pick(&self.states) != now.view.state(*group))
            .count();
        let changes = now.view.epoch().wrapping_sub(self.epoch);
        let folded = changes.saturating_sub(u32::try_from(changed).unwrap_or(u32::MAX));
        let own = self.note(what, now);
        self.epoch = self.epoch.wrapping_add(folded).wrapping_add(own);
        self.seq = self.seq.saturating_add(1);
        let group = what.group();
        Next::Tell(Event {
            what,
            seq: self.seq,
            name: now.name,
            state: now.state(),
            group_state: group.map(|group| now.view.state(group)),
            fault: group.and_then(|group| now.fault(group)),
            folded,
        })
    }

    /// The first difference between what was told and what is.
    fn difference(&mut self, now: &Facts) -> Option<Happened> {
        let view = now.view;
        let is_held = now.state() == DeviceState::Held;
        if is_held && !self.is_held {
            return Some(Happened::Held);
        }
        if let Some(group) = self.resyncing.without(view.resyncing()).iter().next() {
            return Some(Happened::ResyncFinished(group));
        }
        let changed = GroupId::all().find_map(|group| self.change(group, now));
        if changed.is_some() {
            return changed;
        }
        if !is_held && self.is_held {
            return Some(Happened::Released);
        }
        if now.name != self.name {
            return Some(Happened::Renamed);
        }
        let is_waiting = GroupId::all().any(|g| *g.pick(&self.states) != view.state(g));
        (view.epoch() != self.epoch && !is_waiting).then_some(Happened::Folded)
    }

    /// What is new of a group.
    fn change(&mut self, group: GroupId, now: &Facts) -> Option<Happened> {
        let state = now.view.state(group);
        let is_same = *group.pick(&self.states) == state;
        match state {
            // Or the last resync was told to be over, and this is another one.
            GroupState::Resyncing => {
                (!is_same || !self.resyncing.has(group)).then_some(Happened::ResyncStarted(group))
            }
            GroupState::InSync => (!is_same).then_some(Happened::InSync(group)),
            GroupState::Absent => (!is_same).then_some(Happened::Removed(group)),
            GroupState::Faulty => {
                let fault = now.fault(group);
                if is_same && (fault.is_none() || fault == *group.pick(&self.faults)) {
                    return None;
                }
                // The reason is there a moment after the state, and should it not be, never mind.
                if fault.is_none() && !self.unexplained.has(group) {
                    self.unexplained = self.unexplained.with(group);
                    return None;
                }
                Some(Happened::Faulty(group))
            }
        }
    }

    /// Notes that it is told; gives how many changes of groups' states that was.
    fn note(&mut self, what: Happened, now: &Facts) -> u32 {
        match what {
            Happened::Held => self.is_held = true,
            Happened::Released => self.is_held = false,
            Happened::Renamed => self.name = now.name,
            Happened::Folded => {}
            Happened::ResyncFinished(group) => {
                self.resyncing = self.resyncing.without(GroupSet::of(group));
            }
            Happened::InSync(group)
            | Happened::Faulty(group)
            | Happened::Removed(group)
            | Happened::ResyncStarted(group) => {
                let state = now.view.state(group);
                if state == GroupState::Resyncing {
                    self.resyncing = self.resyncing.with(group);
                }
                self.unexplained = self.unexplained.without(GroupSet::of(group));
                *group.pick_mut(&mut self.faults) = now.fault(group);
                let before = core::mem::replace(group.pick_mut(&mut self.states), state);
                return u32::from(before != state);
            }
        }
        0
    }
}
