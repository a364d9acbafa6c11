// SPDX-License-Identifier: GPL-2.0

//! `enbdctl status` for people.
//!
//! A line a device with its verdict, then a line a group. A group in sync with all channels up and
//! nothing to say is told in full only where the device is not OK, or is the only one asked for.

use crate::size::{bytes, seconds};
use crate::usage::Use;
use crate::view::{self, dirty_bytes, Recovery, Subject, Verdict};
use enbd_status::{Channel, Device, Group, GroupState};
use std::fmt::Write;

/// A device with what the module does not know of it.
pub struct Shown<'a> {
    /// The device.
    pub subject: Subject<'a>,
    /// Who has the disk.
    pub uses: Vec<Use>,
}

/// Whether to colour the verdict.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Colour {
    /// On a terminal.
    Ansi,
    /// Elsewhere, or with NO_COLOR.
    None,
}

impl Colour {
    /// For this standard output.
    pub fn of_stdout() -> Self {
        use std::io::IsTerminal;
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if std::io::stdout().is_terminal() && !set("NO_COLOR") && !dumb {
            Self::Ansi
        } else {
            Self::None
        }
    }

    fn paint(self, verdict: Verdict, padded: &str) -> String {
        let code = match verdict {
            Verdict::Ok => "32",
            Verdict::Degraded => "33",
            Verdict::Held => "31",
            Verdict::Disabled => "2",
        };
        match self {
            Self::Ansi => format!("\x1b[{code}m{padded}\x1b[0m"),
            Self::None => padded.to_owned(),
        }
    }
}

/// The text of all devices, or of the one that was asked for.
pub fn text(devices: &[Shown<'_>], alone: bool, colour: Colour) -> String {
    let mut out = String::new();
    let widths = devices.iter().map(|shown| shown.subject.label().len());
    let width = widths.max().unwrap_or(0).max(8);
    for shown in devices {
        let verdict = Verdict::of(&shown.subject);
        let device = shown.subject.device;
        write_head(&mut out, shown, verdict, width, colour);
        if alone || verdict != Verdict::Ok {
            write_groups(&mut out, &shown.subject);
            for one in &shown.uses {
                let _ = writeln!(out, "  {one}");
            }
            if let (Some(error), true) = (&device.error, alone) {
                let errno = device.last_error;
                let _ = writeln!(out, "  last refused command: {error} ({errno})");
            }
        }
    }
    out
}

fn write_head(out: &mut String, shown: &Shown<'_>, verdict: Verdict, width: usize, colour: Colour) {
    let device = shown.subject.device;
    let size = match device.enabled {
        true => bytes(device.size_kib.saturating_mul(1024)),
        false => "-".to_owned(),
    };
    let name = shown.subject.label();
    let word = colour.paint(verdict, &format!("{:<8}", verdict.as_str()));
    let _ = write!(
        out,
        "{name:<width$}  /dev/nd{}   {size:<8}   {word}   ",
        device.letter
    );
    let (good, all) = (view::in_sync(device), shown.subject.groups());
    let noun = if all == 1 { "group" } else { "groups" };
    let _ = write!(out, "{good} of {all} {noun} in sync");
    if device.read_only {
        out.push_str(", read only");
    }
    if verdict == Verdict::Held {
        let _ = write!(
            out,
            ", none of them reached: {} requests wait",
            device.queued
        );
    }
    for group in &device.groups {
        if let Some(recovery) = Recovery::of(device, group) {
            let _ = write!(out, ", resyncing {:.0} %", recovery.percent().floor());
            if let Some(eta) = recovery.eta {
                let _ = write!(out, ", {} left", seconds(eta));
            }
        }
    }
    out.push('\n');
}

fn write_groups(out: &mut String, subject: &Subject<'_>) {
    let device = subject.device;
    let rows: Vec<Row> = device
        .groups
        .iter()
        .map(|group| Row::of(device, group))
        .collect();
    let width = rows.iter().map(|row| row.uri.len()).max().unwrap_or(0);
    for row in &rows {
        let (head, uri) = (&row.head, &row.uri);
        let line = format!("  {head}  {uri:<width$}  {}", row.tail);
        let _ = writeln!(out, "{}", line.trim_end());
        for more in &row.more {
            let _ = writeln!(out, "            {more}");
        }
    }
    write_memory(out, device);
    let hidden = |channel: &Channel| channel.peer.is_some() && view::uri(channel).is_none();
    if device.channels.iter().any(hidden) {
        out.push_str("  (root is shown the servers)\n");
    }
    let quiet = device.group_count.saturating_sub(device.groups.len());
    if quiet > 0 {
        let _ = writeln!(out, "  and {quiet} without channels");
    }
    let missing = subject.missing();
    if missing > 0 {
        let noun = if missing == 1 { "group" } else { "groups" };
        let name = subject.label();
        let _ = writeln!(
            out,
            "  {missing} {noun} of the configuration not connected: enbdctl up {name}"
        );
    }
}

/// What a mirror remembers: the members that are not there, and its identity.
fn write_memory(out: &mut String, device: &Device) {
    let Some(mirror) = &device.mirror else {
        return;
    };
    for member in view::away(device) {
        let _ = write!(out, "  group {}   {:<9}  ", member.number, "not there");
        let _ = match member.stale {
            None => writeln!(out, "in sync by the last record: a start needs it"),
            Some((event, _)) => writeln!(out, "stale since event {event}"),
        };
    }
    let owner = match (&mirror.owner, device.enabled) {
        (None, _) => "clean".to_owned(),
        (Some(owner), true) => format!("in use by {owner}"),
        (Some(owner), false) => format!("in use by {owner}, or not ended in order"),
    };
    let _ = writeln!(
        out,
        "  mirror {}, event {}, {owner}",
        mirror.uuid, mirror.event
    );
}

struct Row {
    head: String,
    uri: String,
    tail: String,
    more: Vec<String>,
}

impl Row {
    fn of(device: &Device, group: &Group) -> Self {
        let mut uris: Vec<String> = Vec::new();
        let (mut up, mut all, mut since) = (0u32, 0u32, None::<u64>);
        for channel in device.channels_of(group.number) {
            all = all.saturating_add(1);
            let text = view::uri(channel).map_or("-".to_owned(), |uri| uri.to_string());
            if !uris.contains(&text) {
                uris.push(text);
            }
            if channel.is_up() {
                up = up.saturating_add(1);
                let age = channel.peer.as_ref().map(|peer| peer.since_s);
                since = since.into_iter().chain(age).min();
            }
        }
        let mut tail = format!("{up}/{all} channels");
        if let Some(since) = since {
            let _ = write!(tail, "   up {}", seconds(since));
        }
        if let Some(figure) = dirty_bytes(device, group).filter(|figure| figure.most > 0) {
            let exact = figure.number().is_some();
            let _ = write!(
                tail,
                "   {}{} to copy",
                if exact { "" } else { "about " },
                bytes(figure.least)
            );
        }
        if let Some(speed) = Recovery::of(device, group).and_then(|recovery| recovery.speed) {
            let _ = write!(tail, ", {}/s", bytes(speed));
        }
        if group.volatile {
            tail.push_str("   volatile (no FLUSH)");
        }
        if group.suspect {
            tail.push_str("   suspect (owes answers to old writes)");
        }
        let mut more: Vec<String> = uris
            .iter()
            .skip(1)
            .map(|uri| format!("also {uri}"))
            .collect();
        more.extend(reasons(device, group));
        Self {
            head: format!(
                "group {}   {:<9}",
                group.number,
                view::state_words(group.state)
            ),
            uri: uris.first().cloned().unwrap_or_default(),
            tail,
            more,
        }
    }
}

/// Why it is, or was, faulty, and why channels are down.
fn reasons(device: &Device, group: &Group) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(reason) = &group.reason {
        let tense = if group.state == GroupState::Faulty {
            "is"
        } else {
            "was"
        };
        lines.push(format!("{tense} faulty: {reason}"));
    }
    let mut down: Vec<(String, u32)> = Vec::new();
    for channel in device
        .channels_of(group.number)
        .filter(|channel| !channel.is_up())
    {
        let Some(peer) = &channel.peer else { continue };
        let why = peer.last_error.as_deref().unwrap_or("not connected");
        match down.iter_mut().find(|(known, _)| known == why) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => down.push((why.to_owned(), 1)),
        }
    }
    lines.extend(down.into_iter().map(|(why, count)| match count {
        1 => format!("channel down: {why}"),
        count => format!("{count} channels down: {why}"),
    }));
    lines
}
