// SPDX-License-Identifier: GPL-2.0

//! What programs read of a device in sysfs, one value a file: `/sys/block/nda/enbd/`.
//!
//! It is there before udev hears that the disk is, and costs no text to take apart. Nothing here tells where
//! servers are, so everybody may read it.
//!
//! Locks: those of the name and of the metadata. Nobody has one of them who takes the disk away.

use super::Mirror;
use crate::kapi::block::mq::Attribute;
use crate::logic::{
    group::{GroupState, View},
    ids::GroupId,
    meta::Record,
    mirror::World,
    tell::{state_key, Facts},
};
use core::fmt::{self, Write};
use kernel::prelude::*;

/// The files.
pub(crate) const ATTRIBUTES: &[Attribute<Mirror>] = &[
    of_device(c"state", state),
    of_device(c"name", name),
    of_device(c"groups", groups),
    of_device(c"in_sync", in_sync),
    of_device(c"uuid", uuid),
    of_device(c"generation", generation),
    of_group(c"group0", 0, group),
    of_group(c"group1", 1, group),
    of_group(c"group2", 2, group),
    of_group(c"group3", 3, group),
    of_group(c"group4", 4, group),
    of_group(c"group5", 5, group),
    of_group(c"group6", 6, group),
    of_group(c"group7", 7, group),
    of_group(c"group0_missed", 0, missed),
    of_group(c"group1_missed", 1, missed),
    of_group(c"group2_missed", 2, missed),
    of_group(c"group3_missed", 3, missed),
    of_group(c"group4_missed", 4, missed),
    of_group(c"group5_missed", 5, missed),
    of_group(c"group6_missed", 6, missed),
    of_group(c"group7_missed", 7, missed),
];

type Show = fn(&Mirror, usize, &mut dyn Write) -> fmt::Result;

const fn of_device(name: &'static CStr, show: Show) -> Attribute<Mirror> {
    of_group(name, 0, show)
}

const fn of_group(name: &'static CStr, index: usize, show: Show) -> Attribute<Mirror> {
    Attribute { name, index, show }
}

/// `ok`, `degraded` or `held`, as in the events.
fn state(mirror: &Mirror, _: usize, w: &mut dyn Write) -> fmt::Result {
    w.write_str(Facts::of(mirror.core(), None).state().as_str())
}

/// How it is called; empty if it is not.
fn name(mirror: &Mirror, _: usize, w: &mut dyn Write) -> fmt::Result {
    let name = *mirror.name.lock();
    name.map_or(Ok(()), |name| w.write_str(name.as_str()))
}

/// How many groups there are.
fn groups(mirror: &Mirror, _: usize, w: &mut dyn Write) -> fmt::Result {
    let view = mirror.core().view();
    let is_there = |&group: &GroupId| view.state(group) != GroupState::Absent;
    write!(w, "{}", GroupId::all().filter(is_there).count())
}

/// How many of them are in sync.
fn in_sync(mirror: &Mirror, _: usize, w: &mut dyn Write) -> fmt::Result {
    write!(w, "{}", mirror.core().view().readable().len())
}

/// The identity of the mirror; empty without metadata.
fn uuid(mirror: &Mirror, _: usize, mut w: &mut dyn Write) -> fmt::Result {
    let uuid = of_record(mirror, |record| record.mirror);
    uuid.map_or(Ok(()), |uuid| uuid.write(&mut w))
}

/// The generation that is recorded last; empty without metadata.
fn generation(mirror: &Mirror, _: usize, w: &mut dyn Write) -> fmt::Result {
    let generation = of_record(mirror, |record| record.generation);
    generation.map_or(Ok(()), |generation| write!(w, "{:016x}", generation.bits()))
}

fn of_record<R>(mirror: &Mirror, f: impl FnOnce(&Record) -> R) -> Option<R> {
    mirror.with_memory(|memory| memory.record.as_ref().map(f))
}

/// `in_sync`, `faulty`, `resyncing` or `absent`, as in the events.
fn group(mirror: &Mirror, index: usize, w: &mut dyn Write) -> fmt::Result {
    let view: View = mirror.core().view();
    let state = GroupId::new(index).map_or(GroupState::Absent, |group| view.state(group));
    w.write_str(state_key(state))
}

/// Bytes that the group misses.
fn missed(mirror: &Mirror, index: usize, w: &mut dyn Write) -> fmt::Result {
    let blocks = GroupId::new(index).map_or(0, |group| mirror.group(group).map.dirty());
    let bytes = blocks.saturating_mul(mirror.block_sectors() << 9);
    write!(w, "{bytes}")
}
