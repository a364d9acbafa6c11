// SPDX-License-Identifier: GPL-2.0

//! The lines of one open device.
//!
//! Shape: one function a line or kind of line, called in the order of the lines.
//! Errors: those of the writer, at the first write that fails.

use super::{memory::write_memory, progress::write_progress};
use super::{
    Bytes, ChannelStatus, DeviceStatus, DiskState, Figure, GroupStatus, Link, Reader, Traffic,
};
use crate::logic::group::GroupState;
use core::fmt::{self, Write};

/// What stands where something is not shown.
const HIDDEN: &str = "-";

/// Writes all lines of one device, each with its newline, as far as `reader` may see them.
///
/// # Errors
///
/// Those of `w`.
pub fn write_device(w: &mut impl Write, s: &DeviceStatus<'_>, reader: Reader) -> fmt::Result {
    writeln!(w, "Device {}:\tOpen", s.device.letter())?;
    write_state(w, s)?;
    write_geometry(w, s)?;
    write_groups(w, s)?;
    write_resyncs(w, s)?;
    write_sockets(w, s)?;
    write_requested(w, s)?;
    write_despatched(w, s)?;
    write_counts(w, s, "Errored", s.errored, |channel| channel.errored)?;
    w.write_char('\n')?;
    write_counts(w, s, "Pending", s.pending, |channel| channel.pending)?;
    w.write_char('\n')?;
    write_dirty(w, s)?;
    for (number, channel) in s.channels.iter().enumerate() {
        write_channel(w, s, number, channel, reader)?;
    }
    for (number, channel) in s.channels.iter().enumerate() {
        write_bytes(w, s, number, channel.bytes)?;
    }
    for group in present(s) {
        write_group(w, s, group)?;
    }
    write_memory(w, s)?;
    if let Some(name) = &s.name {
        write_label(w, s, "Name")?;
        writeln!(w, "{}", name.as_str())?;
    }
    write_label(w, s, "Events")?;
    writeln!(w, "{}", s.events)?;
    write_settings(w, s)?;
    write_error(w, s)
}

/// The groups that there are.
fn present<'a>(s: &DeviceStatus<'a>) -> impl Iterator<Item = &'a GroupStatus<'a>> {
    s.groups
        .iter()
        .filter(|group| group.state != GroupState::Absent)
}

/// Starts a line: `[a] LABEL:\t`.
pub(super) fn write_label(w: &mut impl Write, s: &DeviceStatus<'_>, label: &str) -> fmt::Result {
    write!(w, "[{}] {label}:\t", s.device.letter())
}

/// Writes text that came from outside, its control characters made harmless.
fn write_foreign(w: &mut impl Write, text: &str) -> fmt::Result {
    for letter in text.chars() {
        w.write_char(if letter.is_control() { '?' } else { letter })?;
    }
    Ok(())
}

fn write_state(w: &mut impl Write, s: &DeviceStatus<'_>) -> fmt::Result {
    let access = if s.read_only { "ro" } else { "rw" };
    let disk = match s.disk {
        DiskState::Idle => "disabled",
        DiskState::Enabled => "enabled",
    };
    let errno = s.last_error.map_or(0, |error| error.errno.unsigned_abs());
    write_label(w, s, "State")?;
    writeln!(w, "verify, {access}, {disk}, last error {errno}")
}

fn write_geometry(w: &mut impl Write, s: &DeviceStatus<'_>) -> fmt::Result {
    let (current, real, max) = (s.queued_current, s.queued_real, s.queued_max);
    write_label(w, s, "Queued")?;
    writeln!(w, "{current} current/{real} real/{max} max")?;
    let blocksize = s.blocksize;
    let log = blocksize.checked_ilog2().unwrap_or(0);
    write_label(w, s, "Blocksize")?;
    writeln!(w, "{blocksize}\t(log={log})")?;
    write_label(w, s, "Size")?;
    writeln!(w, "{}KB", s.size_kib)?;
    write_label(w, s, "Blocks")?;
    writeln!(w, "{}", s.blocks)
}

/// How many groups there are, then the group of each channel and the mark of its state.
fn write_groups(w: &mut impl Write, s: &DeviceStatus<'_>) -> fmt::Result {
    write_label(w, s, "Groups")?;
    write!(w, "{}", present(s).count())?;
    for channel in s.channels {
        let group = present(s).find(|group| group.group == channel.group);
        let mark = match group.map(|group| group.state) {
            Some(GroupState::Faulty) => "F",
            Some(GroupState::Resyncing) => "_",
            Some(GroupState::InSync | GroupState::Absent) | None => "",
        };
        write!(w, "\t({}{mark})", channel.group.index())?;
    }
    w.write_char('\n')
}

/// One line a resync. The line of 2003 has no place for the group, since then there were only two
/// of which one was in sync; where several groups return at once, it stands at the end.
fn write_resyncs(w: &mut impl Write, s: &DeviceStatus<'_>) -> fmt::Result {
    for resync in s.resyncs {
        write_label(w, s, "Resync")?;
        write_progress(w, resync)?;
        if s.resyncs.len() > 1 {
            write!(w, " group {}", resync.group.index())?;
        }
        w.write_char('\n')?;
    }
    Ok(())
}

fn write_sockets(w: &mut impl Write, s: &DeviceStatus<'_>) -> fmt::Result {
    write_label(w, s, "Sockets")?;
    write!(w, "{}", s.channels.len())?;
    for channel in s.channels {
        w.write_str(match channel.link {
            Link::Up => "\t(+)",
            Link::Active => "\t(*)",
            Link::Down => "\t(-)",
        })?;
    }
    w.write_char('\n')
}

/// Writes a total and one column a channel, without the end of the line.
fn write_counts(
    w: &mut impl Write,
    s: &DeviceStatus<'_>,
    label: &str,
    total: u64,
    count: impl Fn(&ChannelStatus<'_>) -> u64,
) -> fmt::Result {
    write_label(w, s, label)?;
    Figure::Total.write(w, total)?;
    for channel in s.channels {
        write_column(w, count(channel))?;
    }
    Ok(())
}

fn write_column(w: &mut impl Write, blocks: u64) -> fmt::Result {
    w.write_str("\t(")?;
    Figure::Column.write(w, blocks)?;
    w.write_char(')')
}

/// Writes ` 2.530KR/4.875KW`.
fn write_sides(w: &mut impl Write, traffic: Traffic) -> fmt::Result {
    w.write_char(' ')?;
    Figure::Side.write(w, traffic.read)?;
    w.write_str("R/")?;
    Figure::Side.write(w, traffic.written)?;
    w.write_char('W')
}

fn write_requested(w: &mut impl Write, s: &DeviceStatus<'_>) -> fmt::Result {
    let total = s.requested.read.saturating_add(s.requested.written);
    write_counts(w, s, "Requested", total, |channel| channel.requested)?;
    write_sides(w, s.requested)?;
    writeln!(w, " max {}", s.queued_max)
}

fn write_despatched(w: &mut impl Write, s: &DeviceStatus<'_>) -> fmt::Result {
    let total = s.despatched.read.saturating_add(s.despatched.written);
    write_counts(w, s, "Despatched", total, |channel| channel.despatched)?;
    write_sides(w, s.despatched)?;
    w.write_str(" md5 ")?;
    Figure::Column.write(w, s.md5)?;
    w.write_char('\n')
}

fn write_dirty(w: &mut impl Write, s: &DeviceStatus<'_>) -> fmt::Result {
    let total = present(s).fold(0, |sum: u64, group| sum.saturating_add(group.dirty));
    write_label(w, s, "Dirty")?;
    Figure::Total.write(w, total)?;
    for group in present(s) {
        write_column(w, group.dirty)?;
    }
    w.write_char('\n')
}

/// `0 tcp 192.0.2.1:10809 disk, up 12s, reconnects 0`, or `0 tcp - -, ...` for other readers.
fn write_channel(
    w: &mut impl Write,
    s: &DeviceStatus<'_>,
    number: usize,
    channel: &ChannelStatus<'_>,
    reader: Reader,
) -> fmt::Result {
    let shown = |text| match reader {
        Reader::Admin => text,
        Reader::Other => HIDDEN,
    };
    write_label(w, s, "Channel")?;
    write!(w, "{number} {} ", channel.transport)?;
    write_foreign(w, shown(channel.addr))?;
    if !channel.export.is_empty() {
        w.write_char(' ')?;
        write_foreign(w, shown(channel.export))?;
    }
    let link = match channel.link {
        Link::Up | Link::Active => "up",
        Link::Down => "down",
    };
    let (since, reconnects) = (channel.since_s, channel.reconnects);
    write!(w, ", {link} {since}s, reconnects {reconnects}")?;
    if let Some(error) = channel.last_error {
        w.write_str(", last error: ")?;
        write_foreign(w, error)?;
    }
    w.write_char('\n')
}

/// `0 requested_read=4096 ...`: what the columns round, in bytes.
fn write_bytes(
    w: &mut impl Write,
    s: &DeviceStatus<'_>,
    number: usize,
    bytes: Bytes,
) -> fmt::Result {
    write_label(w, s, "Bytes")?;
    write!(w, "{number}")?;
    for (key, count) in [
        ("requested_read", bytes.requested_read),
        ("requested_written", bytes.requested_written),
        ("despatched_read", bytes.despatched_read),
        ("despatched_written", bytes.despatched_written),
        ("errored", bytes.errored),
        ("pending", bytes.pending),
    ] {
        write!(w, " {key}={count}")?;
    }
    w.write_char('\n')
}

/// `timeout=30 ...`, each as the command takes it.
fn write_settings(w: &mut impl Write, s: &DeviceStatus<'_>) -> fmt::Result {
    let set = s.settings;
    write_label(w, s, "Settings")?;
    write!(w, "timeout={} ", set.timeout)?;
    write!(w, "connect_timeout={} ", set.connect_timeout)?;
    write!(w, "show_errs={} ", u8::from(set.show_errs))?;
    write!(w, "autoadd={} ", u8::from(set.autoadd))?;
    write!(w, "resync_min={} ", set.resync_min)?;
    write!(w, "resync_max={} ", set.resync_max)?;
    write!(w, "compare={} ", set.compare.as_str())?;
    write!(w, "owner_check={} ", set.owner_check)?;
    write!(w, "intent={} ", u8::from(set.intent))?;
    write!(w, "intent_max={} ", set.intent_max)?;
    writeln!(w, "intent_idle={}", set.intent_idle)
}

/// `1 faulty, dirty 763, volatile, suspect, reason: connection lost`.
fn write_group(w: &mut impl Write, s: &DeviceStatus<'_>, group: &GroupStatus<'_>) -> fmt::Result {
    let state = match group.state {
        GroupState::Absent => "absent",
        GroupState::InSync => "in sync",
        GroupState::Faulty => "faulty",
        GroupState::Resyncing => "resyncing",
    };
    write_label(w, s, "Group")?;
    write!(w, "{} {state}, dirty {}", group.group.index(), group.dirty)?;
    if group.volatile {
        w.write_str(", volatile")?;
    }
    if group.suspect {
        w.write_str(", suspect")?;
    }
    if let Some(reason) = group.reason {
        w.write_str(", reason: ")?;
        write_foreign(w, reason)?;
    }
    w.write_char('\n')
}

fn write_error(w: &mut impl Write, s: &DeviceStatus<'_>) -> fmt::Result {
    match s.last_error {
        Some(error) if error.errno != 0 => {
            write_label(w, s, "Error")?;
            write_foreign(w, error.reason)?;
            w.write_char('\n')
        }
        _ => Ok(()),
    }
}
