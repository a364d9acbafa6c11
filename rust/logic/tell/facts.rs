// SPDX-License-Identifier: GPL-2.0

//! What events tell of: the groups of a device, and whether it is served.

use crate::logic::{
    command::Label,
    group::{GroupFault, GroupSet, GroupState, View},
    ids::GroupId,
    mirror::Core,
    MAX_GROUPS,
};

/// How an enabled device fares.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DeviceState {
    /// All groups are in sync, and each has a channel that is up.
    Ok,
    /// It is served, by fewer groups than it has.
    Degraded,
    /// No group that is in sync has a channel that is up: requests wait, or fail where the
    /// administrator wants that.
    Held,
}

impl DeviceState {
    /// For programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Held => "held",
        }
    }
}

/// The state of a group, for programs.
pub fn state_key(state: GroupState) -> &'static str {
    match state {
        GroupState::Absent => "absent",
        GroupState::InSync => "in_sync",
        GroupState::Faulty => "faulty",
        GroupState::Resyncing => "resyncing",
    }
}

/// A device at one moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Facts {
    /// The states of its groups.
    pub view: View,
    /// Why groups are faulty, as far as that is known yet.
    pub faults: [Option<GroupFault>; MAX_GROUPS],
    /// The groups that have a channel that is up.
    pub reachable: GroupSet,
    /// How it is called.
    pub name: Option<Label>,
}

impl Facts {
    /// What the words of a mirror say, which is called so. What changes meanwhile is seen in part.
    pub fn of(core: &Core, name: Option<Label>) -> Self {
        let view = core.view();
        let is_reachable = |group: &GroupId| !core.group(*group).up().is_empty();
        let mut faults = [None; MAX_GROUPS];
        for (group, fault) in GroupId::all().zip(&mut faults) {
            *fault = core.group(group).fault();
        }
        Self {
            view,
            faults,
            reachable: GroupId::all().filter(is_reachable).collect(),
            name,
        }
    }

    /// How the device fares.
    pub fn state(&self) -> DeviceState {
        let readable = self.view.readable();
        if readable.iter().all(|group| !self.reachable.has(group)) {
            return DeviceState::Held;
        }
        let is_whole = self.view.faulty().is_empty() && self.view.resyncing().is_empty();
        if is_whole && readable.without(self.reachable).is_empty() {
            DeviceState::Ok
        } else {
            DeviceState::Degraded
        }
    }

    /// Why a group is faulty; nothing if it is not, or if that is not known yet.
    pub fn fault(&self, group: GroupId) -> Option<GroupFault> {
        let is_faulty = self.view.state(group) == GroupState::Faulty;
        self.faults
            .get(group.index())
            .copied()
            .flatten()
            .filter(|_| is_faulty)
    }
}
