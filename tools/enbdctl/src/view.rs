// SPDX-License-Identifier: GPL-2.0

//! What is to be said of a device: the verdict, and what follows from the figures of the status.

use crate::problem::Exit;
use crate::uri::Uri;
use enbd_status::{Channel, Device, Figure, Group, GroupState, Member};

/// How a device fares, in a word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// All groups are in sync, and each has a channel that is up.
    Ok,
    /// It is served, by fewer groups than it has.
    Degraded,
    /// No group that is in sync has a channel that is up: requests wait.
    Held,
    /// There is no disk.
    Disabled,
}

/// A device with what its configuration says of it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its name, if it has one.
    pub name: Option<&'a str>,
    /// What the module says.
    pub device: &'a Device,
    /// How many groups its configuration has; 0 without one.
    pub wanted: usize,
}

impl Subject<'_> {
    /// The name, or the letter.
    pub fn label(&self) -> String {
        let letter = || self.device.letter.to_string();
        self.name.map_or_else(letter, str::to_owned)
    }

    /// How many groups it has or should have: one of the configuration that was never connected is
    /// none to the module, nor is a member that is not there.
    pub fn groups(&self) -> usize {
        let known = self
            .device
            .group_count
            .saturating_add(away(self.device).count());
        known.max(self.wanted)
    }

    /// How many of its configuration were never connected.
    pub fn missing(&self) -> usize {
        let away = away(self.device).count();
        let known = self.device.group_count.saturating_add(away);
        self.groups().saturating_sub(known)
    }

    /// Whether all groups are in sync, those that should be there included.
    pub fn is_synced(&self) -> bool {
        self.groups() > 0 && in_sync(self.device) == self.groups()
    }
}

impl Verdict {
    /// What is known from the marks of a device.
    pub fn of(subject: &Subject<'_>) -> Self {
        let device = subject.device;
        if !device.enabled {
            return Self::Disabled;
        }
        let has_up = |group: &Group| device.channels_of(group.number).any(Channel::is_up);
        let served = device
            .groups
            .iter()
            .any(|group| may_serve(group) && has_up(group));
        let whole = subject.is_synced()
            && device
                .groups
                .iter()
                .filter(|group| may_serve(group))
                .all(has_up)
            && device.groups.len() >= device.group_count;
        match (served, whole) {
            (false, _) => Self::Held,
            (true, false) => Self::Degraded,
            (true, true) => Self::Ok,
        }
    }

    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Degraded => "DEGRADED",
            Self::Held => "HELD",
            Self::Disabled => "DISABLED",
        }
    }

    /// For programs.
    pub fn key(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Held => "held",
            Self::Disabled => "disabled",
        }
    }

    /// The exit status of `enbdctl status NAME`.
    pub fn exit(self) -> Exit {
        match self {
            Self::Ok => Exit::Ok,
            Self::Degraded => Exit::Degraded,
            Self::Held => Exit::Held,
            Self::Disabled => Exit::NotThere,
        }
    }
}

/// The members that are not there.
pub fn away(device: &Device) -> impl Iterator<Item = &Member> {
    let is_away = |member: &&Member| device.group(member.number).is_none();
    device.members.iter().filter(is_away)
}

/// A group that is not known to miss anything. One of which the text does not tell is either in
/// sync or not yet a group at all.
fn may_serve(group: &Group) -> bool {
    matches!(group.state, GroupState::InSync | GroupState::Unknown)
}

/// How many groups are in sync: those that are not faulty and not being resynced.
pub fn in_sync(device: &Device) -> usize {
    let missing = device
        .groups
        .iter()
        .filter(|group| !may_serve(group))
        .count();
    device.group_count.saturating_sub(missing)
}

/// The URI of a channel; none if it is kept from this reader.
pub fn uri(channel: &Channel) -> Option<Uri> {
    let peer = channel.peer.as_ref()?;
    let (address, export) = (peer.address.as_ref()?, peer.export.as_ref()?);
    Uri::of_peer(&peer.transport, address, export)
}

/// The state of a group, for people.
pub fn state_words(state: GroupState) -> &'static str {
    match state {
        GroupState::InSync => "in sync",
        GroupState::Faulty => "faulty",
        GroupState::Resyncing => "resyncing",
        GroupState::Unknown => "unknown",
    }
}

/// The state of a group, for programs.
pub fn state_key(state: GroupState) -> &'static str {
    match state {
        GroupState::InSync => "in_sync",
        GroupState::Faulty => "faulty",
        GroupState::Resyncing => "resyncing",
        GroupState::Unknown => "unknown",
    }
}

/// How far the resync of a group is. The module gives the place in blocks and the time left; the
/// speed is what is left to copy over that time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Recovery {
    /// Bytes of the device that it is past, clean ones included.
    pub done: u64,
    /// Bytes of the device.
    pub total: u64,
    /// Seconds left; none where nothing was copied yet.
    pub eta: Option<u64>,
    /// Bytes a second; none where that is not known.
    pub speed: Option<u64>,
}

impl Recovery {
    /// The resync of this group, if it has one.
    pub fn of(device: &Device, group: &Group) -> Option<Self> {
        let resync = device.resync_of(group.number)?;
        let eta = Some(resync.finish_s).filter(|&seconds| seconds > 0);
        let left = group
            .dirty
            .map(|figure| figure.times(device.blocksize).least);
        let speed = left.zip(eta).and_then(|(left, eta)| left.checked_div(eta));
        Some(Self {
            done: resync.pos.saturating_mul(device.blocksize),
            total: resync.max.saturating_mul(device.blocksize),
            eta,
            speed,
        })
    }

    /// Of a hundred.
    pub fn percent(&self) -> f64 {
        if self.total == 0 {
            return 0.0;
        }
        self.done as f64 * 100.0 / self.total as f64
    }
}

/// Bytes that a group misses.
pub fn dirty_bytes(device: &Device, group: &Group) -> Option<Figure> {
    group.dirty.map(|blocks| blocks.times(device.blocksize))
}
