// SPDX-License-Identifier: GPL-2.0

//! `enbdctl examine`: what a mirror has written at the end of an export.
//!
//! It reads 32 KiB, and asks neither the module nor a server.

use crate::problem::{Exit, Problem};
use crate::size::bytes;
use crate::time;
use enbd_logic::logic::ids::GroupId;
use enbd_logic::logic::meta::layout::{ring_at, LEAST_EXPORT, RING_BYTES, SUPERBLOCKS};
use enbd_logic::logic::meta::{
    newest, Bad, Cause, Generation, Member, MemberState, Name, Owner, Superblock, Uuid, BLOCK,
};
use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

type Ring = [u8; RING_BYTES];

/// `enbdctl examine`.
///
/// # Errors
///
/// The file cannot be read, or holds nothing that a mirror would use.
pub fn examine(path: &Path) -> Result<Exit, Problem> {
    let (ring, export_bytes) = read(path)?;
    let found = newest(&ring, export_bytes);
    let mut out = String::new();
    if let Ok(superblock) = &found {
        let (number, mirror) = (superblock.member.index(), uuid(superblock.record.mirror));
        let _ = writeln!(
            out,
            "{}: member {number} of mirror {mirror}",
            path.display()
        );
        write_superblock(&mut out, superblock);
    }
    if found != Err(Bad::Blank) {
        write_places(&mut out, &ring, export_bytes, found.as_ref().ok());
    }
    crate::print(&out);
    let Err(bad) = found else {
        return Ok(Exit::Ok);
    };
    let exit = match bad {
        Bad::Blank => Exit::NotThere,
        _ => Exit::Refused,
    };
    Err(Problem::new(exit, bad.as_str()).about(path.display()))
}

/// The superblocks, and the bytes of the export.
fn read(path: &Path) -> Result<(Ring, u64), Problem> {
    let cannot = |error: io::Error| Problem::file("read", path, &error);
    let mut file = File::open(path).map_err(cannot)?;
    // Of a block device, too, whose metadata says 0.
    let export_bytes = file.seek(SeekFrom::End(0)).map_err(cannot)?;
    let at = ring_at(export_bytes).ok_or_else(|| {
        let least = bytes(LEAST_EXPORT);
        let what = format!("it is too small for metadata: below {least}");
        Problem::new(Exit::NotThere, what).about(path.display())
    })?;
    let mut ring = [0; RING_BYTES];
    file.seek(SeekFrom::Start(at)).map_err(cannot)?;
    file.read_exact(&mut ring).map_err(cannot)?;
    Ok((ring, export_bytes))
}

/// What a superblock says, a line each.
pub fn write_superblock(out: &mut String, superblock: &Superblock) {
    let record = &superblock.record;
    let mut line = |label: &str, text: String| {
        let _ = writeln!(out, "  {label:<12}{text}");
    };
    if record.name != Name::NONE {
        line("name", name(record.name));
    }
    let (born, cause) = (record.born, cause(record.cause));
    let drawn = generation(record.generation);
    line("generation", format!("{drawn} since event {born}: {cause}"));
    line("event", record.event.to_string());
    line("owner", owner(record.owner.as_ref()));
    if record.intent {
        line(
            "intent",
            "kept: after a crash what it marks is compared".into(),
        );
    }
    let layout = &record.layout;
    line(
        "device",
        format!(
            "{} in blocks of {} bytes",
            bytes(layout.device_bytes),
            record.block
        ),
    );
    let (export, area) = (bytes(superblock.export_bytes), bytes(layout.area_bytes));
    line("export", format!("{export}, metadata in the last {area}"));
    if record.compat != 0 {
        let bits = record.compat;
        line("features", format!("of a later version: {bits:#010x}"));
    }
    let past = record.history.iter().flatten();
    for (index, (drawn, event)) in past.enumerate() {
        let label = if index == 0 { "before it" } else { "" };
        line(label, format!("{} since event {event}", generation(*drawn)));
    }
    for group in GroupId::all() {
        if let Some(member) = record.member(group) {
            let label = format!("member {}", group.index());
            line(&label, told_of(member));
        }
    }
}

/// A member as this export tells it.
fn told_of(member: &Member) -> String {
    let state = match member.state {
        MemberState::InSync => "in sync".to_owned(),
        MemberState::Stale { since, left, full } => {
            let left = left.map_or_else(String::new, |left| {
                format!(", left generation {}", generation(left))
            });
            let full = if full { ", gets all" } else { "" };
            format!("stale since event {since}{left}{full}")
        }
    };
    let page = match member.page {
        0 => String::new(),
        page => format!("  page {page}"),
    };
    format!(
        "{}  superblock {}{page}  {state}",
        uuid(member.uuid),
        member.seen
    )
}

/// A line for each place, 0 first.
fn write_places(out: &mut String, ring: &Ring, export_bytes: u64, newest: Option<&Superblock>) {
    let places = (0..SUPERBLOCKS).zip(ring.rchunks_exact(BLOCK as usize));
    for (place, block) in places {
        let text = match Superblock::decode(block, place, export_bytes) {
            Ok(one) => {
                let is_newest = newest.is_some_and(|newest| newest.seq == one.seq);
                let (seq, event) = (one.seq, one.record.event);
                let mark = if is_newest { ", the newest" } else { "" };
                format!("superblock {seq}, event {event}{mark}")
            }
            Err(Bad::Blank) => "empty".to_owned(),
            Err(bad) => bad.as_str().to_owned(),
        };
        let _ = writeln!(out, "  {:<12}{text}", format!("place {place}"));
    }
}

fn owner(owner: Option<&Owner>) -> String {
    match owner {
        None => "nobody: it was stopped in order".to_owned(),
        Some(owner) => {
            let host = match name(owner.name) {
                host if host.is_empty() => "a host without a name".to_owned(),
                host => host,
            };
            format!("{host} since {}", time::utc(owner.since))
        }
    }
}

fn cause(cause: Cause) -> String {
    match cause {
        Cause::Created => "the mirror was made".to_owned(),
        Cause::Faulted => "a member was taken out of service".to_owned(),
        Cause::Degraded => "it was started without all members".to_owned(),
        Cause::Crashed => "it was started after a crash".to_owned(),
        Cause::Forced => "it was started by force".to_owned(),
        Cause::Other(bits) => format!("reason {bits}, which a later version knows"),
    }
}

fn generation(generation: Generation) -> String {
    format!("{:016x}", generation.bits())
}

/// An identity as the status shows it.
pub fn uuid(uuid: Uuid) -> String {
    let mut text = String::new();
    // Strings take all that is written.
    let _ = uuid.write(&mut text);
    text
}

fn name(name: Name) -> String {
    let mut text = String::new();
    let _ = name.write(&mut text);
    text
}
