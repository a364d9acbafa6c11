// SPDX-License-Identifier: GPL-2.0

//! The start of a device with metadata, once it is recorded: what its groups are from then on.

use super::{loss::doubt_ended_connections, HealthEvent, Memories, Route, States, World};
use crate::logic::{
    group::{GroupFault, GroupSet, GroupState},
    ids::GroupId,
    meta::Layout,
    unflushed::{region_shift, REGIONS},
    MAX_GROUPS,
};

/// What a device starts with.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The groups that are in sync.
    pub sources: GroupSet,
    /// Other groups, and why they are out of service.
    pub others: [Option<GroupFault>; MAX_GROUPS],
    /// Of those, the ones that miss nothing but what the marks say.
    pub marked: GroupSet,
    /// Somebody had the device before, and did not end in order: what the sources hold may be in caches
    /// that nobody has flushed.
    pub is_unclean: bool,
    /// Sizes that go with the metadata.
    pub layout: Layout,
    /// Bytes of a block.
    pub block: u32,
}

impl Start {
    /// Sectors of the device.
    fn sectors(&self) -> u64 {
        self.layout.device_bytes >> 9
    }
}

/// Starts of a device.
pub trait Starts: World {
    /// Lets the groups be what was recorded. What was found of marks is wanted, by
    /// [`Marks::found`](crate::logic::meta::Marks::found). What may not be durable on a source is in the
    /// first page: a group that joins later may differ there, should that source crash.
    fn begin(&self, start: &Start) {
        let core = self.core();
        // Whoever is away relies on what was found, be it not here now.
        let is_needed = start.is_unclean || self.has_away();
        if let Some(marks) = self.marks().filter(|_| !is_needed) {
            marks.forget_found();
        }
        for (group, fault) in GroupId::all().zip(start.others) {
            // One without metadata has joined beside members.
            let is_blank = core.group(group).fault() == Some(GroupFault::Waiting)
                && core.view().state(group) == GroupState::Faulty
                && !start.sources.has(group);
            if let Some(fault) = fault.or(is_blank.then_some(GroupFault::Joined)) {
                if !matches!(fault, GroupFault::Crashed | GroupFault::Joined) {
                    // Perhaps it has refused a flush while it was out of service, or before.
                    core.group(group).happened(HealthEvent::Deceives);
                }
                if start.marked.has(group) {
                    self.clear_all(group);
                    each_found(self, start.sectors(), |first, sectors| {
                        self.mark(group, first, sectors);
                    });
                } else {
                    self.mark_all(group);
                }
                self.wait_for_start_as(group, fault);
            }
        }
        for group in start.sources.iter() {
            // Refused for those that are in sync since the last time, and miss nothing.
            if self.assembled(group).is_ok() {
                self.clear_all(group);
            }
            if start.is_unclean {
                note_unflushed(self, group, start);
            }
        }
        for group in start.sources.iter() {
            mark_unflushed(self, group, start.sectors());
        }
        self.begin_records(start.sources);
    }
}

impl<W: World> Starts for W {}

/// What an earlier client has written to a source, and not flushed, may be lost with its server still:
/// where the marks say, or anywhere if nobody kept them.
fn note_unflushed<W: World>(w: &W, group: GroupId, start: &Start) {
    let Some(unflushed) = w.unflushed(group).filter(|_| !w.is_volatile(group)) else {
        return;
    };
    doubt_ended_connections(w, group);
    if start.marked.is_empty() {
        return unflushed.note(0, REGIONS);
    }
    let shift = region_shift(start.sectors());
    each_found(w, start.sectors(), |first, sectors| {
        let last = first.saturating_add(sectors.saturating_sub(1));
        unflushed.note(first >> shift, last >> shift);
    });
}

/// What a source may not have made durable is to be marked.
fn mark_unflushed<W: World>(w: &W, group: GroupId, sectors: u64) {
    let (Some(unflushed), Some(marks)) = (w.unflushed(group), w.marks()) else {
        return;
    };
    let shift = region_shift(sectors);
    let regions = sectors.saturating_sub(1) >> shift;
    for region in (0..=regions.min(REGIONS - 1)).filter(|&region| unflushed.is_noted(region)) {
        marks.found(region << shift << 9, shift.saturating_add(9));
    }
}

/// Calls `f` with the first sector of each region that was found to be marked, and how many it has.
fn each_found<W: World>(w: &W, sectors: u64, mut f: impl FnMut(u64, u64)) {
    if let Some(marks) = w.marks() {
        marks.each_found(|first, bytes| {
            let first = first >> 9;
            let count = (bytes >> 9).min(sectors.saturating_sub(first));
            f(first, count);
        });
    }
}
