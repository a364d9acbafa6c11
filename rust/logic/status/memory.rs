// SPDX-License-Identifier: GPL-2.0

//! The lines of a mirror that remembers.
//!
//! ```text
//! [a] Mirror:     3a0e6b1c-..., generation 6b3d437ca790aaed, event 17, in use by alice
//! [a] Intent:     128 regions (128M), rounds 412, waits 377
//! [a] Member:     0 in sync
//! [a] Member:     1 stale since event 16, 3.10M missed
//! ```

use super::{device::write_label, DeviceStatus, Figure};
use crate::logic::{
    ids::GroupId,
    meta::{Generation, MemberState, Name, Record, Uuid},
    MAX_GROUPS,
};
use core::fmt::{self, Write};

/// What the last record says that is durable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MirrorStatus {
    /// Which mirror.
    pub uuid: Uuid,
    /// The line.
    pub generation: Generation,
    /// Its number.
    pub event: u64,
    /// Who has it; nobody after an orderly end.
    pub owner: Option<Name>,
    /// Where writes may be on their way; nothing while no pages are kept.
    pub intent: Option<IntentStatus>,
    /// The members.
    pub members: [Option<MemberStatus>; MAX_GROUPS],
}

/// The intent pages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IntentStatus {
    /// Regions that are marked.
    pub regions: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Pages that were written since the device was made.
    pub rounds: u64,
    /// Writes that had to wait for one.
    pub waits: u64,
}

/// What it says of one member.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MemberStatus {
    /// The event since when it misses something; nothing while it is in sync.
    pub since: Option<u64>,
    /// Bytes that it misses, by the map of its group.
    pub missed: u64,
}

impl MirrorStatus {
    /// What `record` says, where a group misses so many bytes.
    pub fn of(record: &Record, missed: impl Fn(GroupId) -> u64) -> Self {
        let mut members = [None; MAX_GROUPS];
        for group in GroupId::all() {
            let since = record.member(group).map(|member| match member.state {
                MemberState::InSync => None,
                MemberState::Stale { since, .. } => Some(since),
            });
            *group.pick_mut(&mut members) = since.map(|since| MemberStatus {
                since,
                missed: missed(group),
            });
        }
        Self {
            uuid: record.mirror,
            generation: record.generation,
            event: record.event,
            owner: record.owner.map(|owner| owner.name),
            intent: None,
            members,
        }
    }
}

/// Writes them; none of a device without metadata.
pub(super) fn write_memory(w: &mut impl Write, s: &DeviceStatus<'_>) -> fmt::Result {
    let Some(mirror) = &s.mirror else {
        return Ok(());
    };
    write_label(w, s, "Mirror")?;
    mirror.uuid.write(w)?;
    let (generation, event) = (mirror.generation.bits(), mirror.event);
    write!(w, ", generation {generation:016x}, event {event}, ")?;
    match &mirror.owner {
        None => w.write_str("clean")?,
        Some(name) => {
            w.write_str("in use by ")?;
            name.write(w)?;
        }
    }
    w.write_char('\n')?;
    if let Some(intent) = &mirror.intent {
        write_label(w, s, "Intent")?;
        write!(w, "{} regions (", intent.regions)?;
        Figure::Column.write(w, intent.bytes)?;
        writeln!(w, "), rounds {}, waits {}", intent.rounds, intent.waits)?;
    }
    for group in GroupId::all() {
        if let Some(member) = group.pick(&mirror.members) {
            write_label(w, s, "Member")?;
            write!(w, "{}", group.index())?;
            match member.since {
                None => w.write_str(" in sync\n")?,
                Some(since) => {
                    write!(w, " stale since event {since}, ")?;
                    Figure::Column.write(w, member.missed)?;
                    w.write_str(" missed\n")?;
                }
            }
        }
    }
    Ok(())
}
