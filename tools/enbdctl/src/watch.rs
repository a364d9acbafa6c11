// SPDX-License-Identifier: GPL-2.0

//! `enbdctl watch`: a line a device, drawn anew; or a line for each change.
//!
//! The module wakes who polls its file; with one that cannot, the file is read twice a second.

use crate::module::Watcher;
use crate::places::{Configs, Places};
use crate::problem::{Exit, Problem};
use crate::show::{chosen, name_of};
use crate::size::{bytes, seconds};
use crate::view::{self, state_words, Recovery, Subject, Verdict};
use enbd_status::{Device, GroupState, Status};
use std::fmt::Write;
use std::io::IsTerminal;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often at most.
const PERIOD: Duration = Duration::from_millis(500);
/// The characters of a bar.
const BAR: usize = 20;

/// Watches until interrupted, or until what was named is not there any more.
///
/// # Errors
///
/// The module or the device is not there.
pub fn watch(places: &Places, word: Option<&str>) -> Result<Exit, Problem> {
    let configs = Configs::load(places)?;
    let mut watcher = Watcher::open(&places.nbdinfo)?;
    let on_terminal = std::io::stdout().is_terminal();
    let mut before: Option<Seen> = None;
    let mut lines = 0;
    loop {
        let began = Instant::now();
        let status = watcher.status()?;
        let devices = chosen(word, &status, &configs)?;
        let seen = Seen::of(&devices, began);
        if on_terminal {
            let text = screen(&devices, before.as_ref(), &seen);
            // Up to the first line, and everything from there on away.
            let up = if lines > 0 {
                format!("\x1b[{lines}A")
            } else {
                String::new()
            };
            // What is wider than the terminal is cut, so that each line stays one.
            crate::print(&format!("\r{up}\x1b[J\x1b[?7l{text}\x1b[?7h"));
            lines = text.lines().count();
        } else {
            let old = before.as_ref().map(|seen| &seen.facts);
            crate::print(&changes(old, &seen.facts, &|letter| {
                name(letter, &status, &configs)
            }));
        }
        before = Some(seen);
        // On a terminal figures are drawn that change all the time.
        watcher.wait(if on_terminal { PERIOD } else { Duration::MAX })?;
        sleep(PERIOD.saturating_sub(began.elapsed()));
    }
}

fn name(letter: char, status: &Status, configs: &Configs) -> String {
    let named = status
        .device(letter)
        .and_then(|device| name_of(device, configs));
    named.map_or_else(|| letter.to_string(), str::to_owned)
}

/// What is compared between two looks.
struct Seen {
    at: Instant,
    facts: Vec<Fact>,
    traffic: Vec<(char, u64, u64)>,
}

/// What a change of is worth a line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fact {
    letter: char,
    /// None is the device itself.
    group: Option<u8>,
    words: String,
}

impl Seen {
    fn of(devices: &[Subject<'_>], at: Instant) -> Self {
        Self {
            at,
            facts: devices.iter().flat_map(facts).collect(),
            traffic: devices
                .iter()
                .map(|subject| {
                    let one = subject.device;
                    let (read, written) = done(one);
                    (one.letter, read, written)
                })
                .collect(),
        }
    }
}

/// Bytes that were read and written; from the rounded counters of a module that has no others.
fn done(device: &Device) -> (u64, u64) {
    let exact = device.channels.iter().try_fold((0u64, 0u64), |sum, one| {
        let bytes = one.bytes?;
        Some((
            sum.0.saturating_add(bytes.despatched_read),
            sum.1.saturating_add(bytes.despatched_written),
        ))
    });
    let rounded = |blocks: u64| blocks.saturating_mul(device.blocksize);
    exact.unwrap_or((
        rounded(device.despatched.read.least),
        rounded(device.despatched.written.least),
    ))
}

/// The state of a device and of each of its groups, in words.
pub fn facts(subject: &Subject<'_>) -> Vec<Fact> {
    let device = subject.device;
    let mut facts = vec![Fact {
        letter: device.letter,
        group: None,
        words: Verdict::of(subject).as_str().to_owned(),
    }];
    for group in &device.groups {
        let channels = device.channels_of(group.number);
        let (up, all) = channels.fold((0u32, 0u32), |(up, all), channel| {
            (
                up.saturating_add(u32::from(channel.is_up())),
                all.saturating_add(1),
            )
        });
        let mut words = format!("{}, {up}/{all} channels", state_words(group.state));
        if let (Some(reason), GroupState::Faulty) = (&group.reason, group.state) {
            let _ = write!(words, ": {reason}");
        }
        facts.push(Fact {
            letter: device.letter,
            group: Some(group.number),
            words,
        });
    }
    facts
}

/// A line for each fact that is new, and for each device or group that is gone.
pub fn changes(before: Option<&Vec<Fact>>, now: &[Fact], name: &dyn Fn(char) -> String) -> String {
    let mut out = String::new();
    let subject = |fact: &Fact| match fact.group {
        None => name(fact.letter),
        Some(group) => format!("{} group {group}", name(fact.letter)),
    };
    let same = |one: &Fact, other: &Fact| (one.letter, one.group) == (other.letter, other.group);
    for fact in now {
        if !before.is_some_and(|old| old.contains(fact)) {
            let _ = writeln!(out, "{}: {}", subject(fact), fact.words);
        }
    }
    for fact in before.into_iter().flatten() {
        if !now.iter().any(|new| same(new, fact)) {
            let _ = writeln!(out, "{}: gone", subject(fact));
        }
    }
    out
}

fn screen(devices: &[Subject<'_>], before: Option<&Seen>, now: &Seen) -> String {
    let mut out = String::new();
    for subject in devices {
        let device = subject.device;
        let speeds = match device.resyncs.is_empty() {
            true => speeds(device, before, now),
            false => String::new(),
        };
        let _ = writeln!(out, "{}{speeds}", line(subject));
    }
    if devices.is_empty() {
        out.push_str("no device is up\n");
    }
    out
}

/// `data  [========>...........] 41.0 %  26.2/64.0 GiB  112 MiB/s  2:01 left`, or the verdict where
/// nothing is being resynced.
pub fn line(subject: &Subject<'_>) -> String {
    let (name, device) = (subject.label(), subject.device);
    let mut recoveries = device
        .groups
        .iter()
        .filter_map(|group| Recovery::of(device, group));
    let Some(recovery) = recoveries.next() else {
        let (good, all) = (view::in_sync(device), subject.groups());
        return format!(
            "{name:<8}  {:<8}  {good}/{all} groups in sync",
            Verdict::of(subject).as_str()
        );
    };
    let percent = recovery.percent();
    // Of two resyncs the first is drawn; both are in the status.
    let done = (percent / 100.0 * BAR as f64) as usize;
    let (bar, rest) = (
        "=".repeat(done.min(BAR)),
        ".".repeat(BAR.saturating_sub(done)),
    );
    let mut text = format!("{name:<8}  [{bar}>{rest}] {percent:.1} %  ");
    let _ = write!(
        text,
        "{} of {}",
        bytes(recovery.done),
        bytes(recovery.total)
    );
    if let Some(speed) = recovery.speed {
        let _ = write!(text, "  {}/s", bytes(speed));
    }
    if let Some(eta) = recovery.eta {
        let _ = write!(text, "  {} left", seconds(eta));
    }
    text
}

/// What went through the device since the last look, as far as the counters tell.
fn speeds(device: &Device, before: Option<&Seen>, now: &Seen) -> String {
    let find = |seen: &Seen| {
        seen.traffic
            .iter()
            .find(|(letter, ..)| *letter == device.letter)
            .copied()
    };
    let Some((old, new, since)) = before.and_then(|old| Some((find(old)?, find(now)?, old.at)))
    else {
        return String::new();
    };
    let seconds = now.at.duration_since(since).as_secs_f64().max(0.001);
    let rate = |old: u64, new: u64| bytes((new.saturating_sub(old) as f64 / seconds) as u64);
    format!("   r {}/s w {}/s", rate(old.1, new.1), rate(old.2, new.2))
}

#[cfg(test)]
mod tests {
    use super::{changes, facts, line, Subject};
    use enbd_status::{Device, Status};

    const TEXT: &str = include_str!("../tests/golden/devices.nbdinfo");

    fn alone(device: &Device) -> Subject<'_> {
        Subject {
            name: None,
            device,
            wanted: 0,
        }
    }

    fn device(text: &str, letter: char) -> Device {
        let status = Status::parse(text).expect("well formed");
        status.device(letter).expect("there is one").clone()
    }

    #[test]
    fn lines_on_a_terminal() {
        assert_eq!(
            line(&alone(&device(TEXT, 'a'))),
            "a         [========>............] 41.0 %  26.2 GiB of 64.0 GiB  15.7 MiB/s  2 min left"
        );
        let shown = line(&alone(&device(TEXT, 'c')));
        assert_eq!(shown, "c         HELD      1/2 groups in sync");
        // A group that was never connected is missed all the same.
        let device = device(TEXT, 'b');
        let mut subject = alone(&device);
        assert_eq!(line(&subject), "b         OK        2/2 groups in sync");
        subject.wanted = 3;
        assert_eq!(line(&subject), "b         DEGRADED  2/3 groups in sync");
    }

    #[test]
    fn a_line_for_each_change() {
        let name = |letter: char| letter.to_string();
        let before = facts(&alone(&device(TEXT, 'c')));
        let first = "c: HELD\nc group 0: in sync, 0/1 channels\n\
            c group 1: faulty, 1/1 channels: set faulty by the administrator\n";
        assert_eq!(changes(None, &before, &name), first);
        assert_eq!(changes(Some(&before), &before, &name), "");
        let text = TEXT.replace("[c] Sockets:\t2\t(-)", "[c] Sockets:\t2\t(*)");
        let now = facts(&alone(&device(&text, 'c')));
        assert_eq!(
            changes(Some(&before), &now, &name),
            "c: DEGRADED\nc group 0: in sync, 1/1 channels\n"
        );
        let gone = "c: gone\nc group 0: gone\nc group 1: gone\n";
        assert_eq!(changes(Some(&before), &[], &name), gone);
    }
}
