// SPDX-License-Identifier: GPL-2.0

//! `enbdctl metrics`: the status in the text format of Prometheus, for node_exporter's collector of text
//! files or for any other that reads it.
//!
//! Names and labels are in Documentation/monitor.rst, and are only added to. A device has the label of
//! the status, its name or else its letter.

use crate::exposition::{Exposition, Label};
use crate::module::{Module, Proc};
use crate::places::{Configs, Places};
use crate::problem::{Exit, Problem};
use crate::show::subject;
use crate::view::{self, dirty_bytes, state_key, Recovery, Subject, Verdict};
use enbd_status::{Channel, Group, GroupState};
use std::fs;
use std::io;
use std::path::Path;

const VERDICTS: [Verdict; 4] = [
    Verdict::Ok,
    Verdict::Degraded,
    Verdict::Held,
    Verdict::Disabled,
];

const STATES: [GroupState; 4] = [
    GroupState::InSync,
    GroupState::Faulty,
    GroupState::Resyncing,
    GroupState::Unknown,
];

/// `enbdctl metrics`. That there is no module is a metric, too.
///
/// # Errors
///
/// The status cannot be read, or the file cannot be written.
pub fn metrics(places: &Places, output: Option<&Path>) -> Result<Exit, Problem> {
    let configs = Configs::load(places)?;
    let status = match Proc::new(&places.nbdinfo).status() {
        Ok(status) => Some(status),
        Err(problem) if problem.exit == Exit::NotThere => None,
        Err(problem) => return Err(problem),
    };
    let subjects: Option<Vec<Subject<'_>>> = status.as_ref().map(|status| {
        let devices = status.devices.iter();
        devices.map(|one| subject(one, &configs)).collect()
    });
    let text = text(subjects.as_deref());
    match output {
        None => crate::print(&text),
        Some(path) => save(path, &text)?,
    }
    Ok(Exit::Ok)
}

/// Writes the file so that who reads it has the old one or the new one, whole.
///
/// # Errors
///
/// It cannot be written.
pub fn save(path: &Path, text: &str) -> Result<(), Problem> {
    let save = || -> io::Result<()> {
        let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
        // The collector reads what ends with .prom, and two writers have a file each.
        let mut new = std::ffi::OsString::from(".");
        new.push(name);
        new.push(format!(".{}", std::process::id()));
        let new = path.with_file_name(new);
        let written = fs::write(&new, text).and_then(|()| fs::rename(&new, path));
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written
    };
    save().map_err(|error| Problem::file("write", path, &error))
}

/// The text; of no module if there are no devices to tell of at all.
pub fn text(subjects: Option<&[Subject<'_>]>) -> String {
    let mut out = Exposition::default();
    let loaded = u8::from(subjects.is_some());
    out.family(
        "enbd_module_loaded",
        "gauge",
        "Whether the module is there.",
    );
    out.sample(&[], loaded);
    let named = named(subjects.unwrap_or_default());
    devices(&mut out, &named);
    groups(&mut out, &named);
    resyncs(&mut out, &named);
    channels(&mut out, &named);
    out.text
}

/// A device with its label.
type Named<'a> = (String, &'a Subject<'a>);

/// Two devices of one label would be one series. One has it from the module then, and the other from a
/// file, so a letter, which is no name, tells them apart.
fn named<'a>(subjects: &'a [Subject<'a>]) -> Vec<Named<'a>> {
    let mut named: Vec<Named<'a>> = Vec::new();
    for subject in subjects {
        let label = subject.label();
        let label = match named.iter().any(|(known, _)| *known == label) {
            true => subject.device.letter.to_string(),
            false => label,
        };
        named.push((label, subject));
    }
    named
}

fn devices(out: &mut Exposition, named: &[Named<'_>]) {
    out.family(
        "enbd_device_state",
        "gauge",
        "1 of the state that a device is in, 0 of the others.",
    );
    for (name, subject) in named {
        let verdict = Verdict::of(subject);
        for one in VERDICTS {
            let value = u8::from(one == verdict);
            out.sample(&[("device", name), ("state", one.key())], value);
        }
    }
    out.family(
        "enbd_device_size_bytes",
        "gauge",
        "Size of the disk; 0 while disabled.",
    );
    for (name, subject) in named {
        let size = subject.device.size_kib.saturating_mul(1024);
        out.sample(&[("device", name)], size);
    }
    out.family(
        "enbd_device_queued_requests",
        "gauge",
        "Requests that a device has.",
    );
    for (name, subject) in named {
        out.sample(&[("device", name)], subject.device.queued);
    }
    out.family(
        "enbd_device_events_total",
        "counter",
        "Events that a device has told of.",
    );
    for (name, subject) in named {
        if let Some(events) = subject.device.events {
            out.sample(&[("device", name)], events);
        }
    }
}

fn groups(out: &mut Exposition, named: &[Named<'_>]) {
    out.family(
        "enbd_groups",
        "gauge",
        "Groups of a device in each state; absent ones are not there.",
    );
    for (name, subject) in named {
        let device = subject.device;
        let count = |state| {
            device
                .groups
                .iter()
                .filter(|one| one.state == state)
                .count()
        };
        // An older module does not tell of all that are in sync.
        let in_sync = view::in_sync(device).saturating_sub(count(GroupState::Unknown));
        for state in STATES {
            let value = match state {
                GroupState::InSync => in_sync,
                other => count(other),
            };
            out.sample(&[("device", name), ("state", state_key(state))], value);
        }
        let absent = subject.groups().saturating_sub(device.group_count);
        out.sample(&[("device", name), ("state", "absent")], absent);
    }
    out.family(
        "enbd_group_state",
        "gauge",
        "1 of the state that a group is in, 0 of the others.",
    );
    for_groups(named, |labels, _, group| {
        for state in STATES {
            let mut labels = labels.to_vec();
            labels.push(("state", state_key(state)));
            out.sample(&labels, u8::from(state == group.state));
        }
    });
    out.family(
        "enbd_group_dirty_bytes",
        "gauge",
        "Bytes that a group misses.",
    );
    for_groups(named, |labels, subject, group| {
        if let Some(dirty) = dirty_bytes(subject.device, group) {
            out.sample(labels, dirty.least);
        }
    });
}

fn for_groups(named: &[Named<'_>], mut tell: impl FnMut(&[Label<'_>], &Subject<'_>, &Group)) {
    for (name, subject) in named {
        for group in &subject.device.groups {
            let number = group.number.to_string();
            tell(&[("device", name), ("group", &number)], subject, group);
        }
    }
}

fn resyncs(out: &mut Exposition, named: &[Named<'_>]) {
    out.family(
        "enbd_resync_ratio",
        "gauge",
        "How far the resync of a group is, from 0 to 1; only while there is one.",
    );
    for_groups(named, |labels, subject, group| {
        if let Some(recovery) = Recovery::of(subject.device, group) {
            out.sample(labels, recovery.percent() / 100.0);
        }
    });
}

fn channels(out: &mut Exposition, named: &[Named<'_>]) {
    let mut family = |name, kind, help, value: fn(&Channel) -> Option<u64>| {
        out.family(name, kind, help);
        for (name, subject) in named {
            for (number, channel) in subject.device.channels.iter().enumerate() {
                let Some(value) = value(channel) else {
                    continue;
                };
                let (number, group) = (number.to_string(), channel.group.to_string());
                let address = channel
                    .peer
                    .as_ref()
                    .and_then(|peer| peer.address.as_deref());
                let labels = [
                    ("device", name.as_str()),
                    ("group", &group),
                    ("channel", &number),
                    // Nothing, which is no label, where it is kept from this reader.
                    ("address", address.unwrap_or("")),
                ];
                out.sample(&labels, value);
            }
        }
    };
    family(
        "enbd_channel_up",
        "gauge",
        "Whether a channel is negotiated.",
        |one| Some(u64::from(one.is_up())),
    );
    family(
        "enbd_channel_reconnects_total",
        "counter",
        "How often the socket was lost and made again.",
        |one| one.peer.as_ref().map(|peer| peer.reconnects),
    );
    family(
        "enbd_channel_read_bytes_total",
        "counter",
        "Bytes that were read.",
        |one| one.bytes.map(|bytes| bytes.despatched_read),
    );
    family(
        "enbd_channel_written_bytes_total",
        "counter",
        "Bytes that were written.",
        |one| one.bytes.map(|bytes| bytes.despatched_written),
    );
    family(
        "enbd_channel_errored_bytes_total",
        "counter",
        "Bytes that were refused, or lost with a socket.",
        |one| one.bytes.map(|bytes| bytes.errored),
    );
    family(
        "enbd_channel_pending_bytes",
        "gauge",
        "Bytes that are not answered yet.",
        |one| one.bytes.map(|bytes| bytes.pending),
    );
}

#[cfg(test)]
mod tests {
    use super::{save, text, Subject};
    use crate::exposition::reader::{parse, Labels, Samples};
    use enbd_status::Status;

    fn of(status: &Status, name: Option<&'static str>) -> Samples {
        let subject = |device| Subject {
            name,
            device,
            wanted: 3,
        };
        let subjects: Vec<_> = status.devices.iter().map(subject).collect();
        parse(&text(Some(&subjects)))
    }

    fn value(samples: &Samples, name: &str, wanted: &[(&str, &str)]) -> Option<f64> {
        let fits = |labels: &Labels| {
            let mut wanted = wanted.iter();
            wanted.all(|(label, value)| labels.get(*label).is_some_and(|one| one == value))
        };
        let mut found = samples.iter().filter(|one| one.0 == name && fits(&one.1));
        let first = found.next().map(|one| one.2);
        assert_eq!(found.next(), None, "{name} {wanted:?} is one series");
        first
    }

    #[test]
    fn they_are_read_back() {
        let devices = Status::parse(include_str!("../tests/golden/devices.nbdinfo"));
        let all = of(&devices.expect("well formed"), None);
        for (name, labels, number) in [
            ("enbd_module_loaded", &[][..], Some(1.0)),
            (
                "enbd_device_state",
                &[("device", "a"), ("state", "degraded")],
                Some(1.0),
            ),
            (
                "enbd_device_state",
                &[("device", "a"), ("state", "ok")],
                Some(0.0),
            ),
            (
                "enbd_device_state",
                &[("device", "c"), ("state", "held")],
                Some(1.0),
            ),
            ("enbd_device_size_bytes", &[("device", "d")], Some(0.0)),
            (
                "enbd_groups",
                &[("device", "a"), ("state", "in_sync")],
                Some(1.0),
            ),
            (
                "enbd_groups",
                &[("device", "a"), ("state", "absent")],
                Some(1.0),
            ),
            (
                "enbd_group_state",
                &[("device", "c"), ("group", "1"), ("state", "faulty")],
                Some(1.0),
            ),
            (
                "enbd_group_dirty_bytes",
                &[("device", "c"), ("group", "1")],
                Some(3072.0),
            ),
            ("enbd_resync_ratio", &[("device", "b")], None),
            (
                "enbd_channel_up",
                &[("device", "a"), ("channel", "2")],
                Some(1.0),
            ),
            (
                "enbd_channel_up",
                &[("device", "a"), ("address", "/run/nbd.sock")],
                Some(0.0),
            ),
            (
                "enbd_channel_reconnects_total",
                &[("device", "a"), ("channel", "2")],
                Some(3.0),
            ),
            // This one rounds, and a counter must not.
            ("enbd_channel_read_bytes_total", &[("device", "a")], None),
        ] {
            assert_eq!(value(&all, name, labels), number, "{name} {labels:?}");
        }
        let ratio = value(&all, "enbd_resync_ratio", &[("device", "a")]);
        assert!(ratio.is_some_and(|ratio| (0.40..0.42).contains(&ratio)));
        let exact = Status::parse(include_str!("../tests/golden/members.nbdinfo"));
        // Of two devices of one name the second has its letter.
        let exact = of(&exact.expect("well formed"), Some("data"));
        let read = (
            "enbd_channel_read_bytes_total",
            [("device", "data"), ("channel", "1")],
        );
        assert_eq!(value(&exact, read.0, &read.1), Some(0.0));
        assert_eq!(
            value(&exact, "enbd_device_events_total", &[("device", "b")]),
            Some(9.0)
        );
        let none = parse(&text(None));
        assert_eq!(
            none,
            [("enbd_module_loaded".to_owned(), Labels::new(), 0.0)]
        );
    }

    #[test]
    fn files_are_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("enbd.prom");
        for text in ["one\n", "two\n"] {
            save(&path, text).expect("written");
            assert_eq!(std::fs::read_to_string(&path).expect("there"), text);
        }
        let files = std::fs::read_dir(dir.path()).expect("a directory");
        assert_eq!(files.count(), 1, "nothing is left beside it");
        std::fs::create_dir(dir.path().join("full")).expect("a directory");
        save(&dir.path().join("full"), "").expect_err("a directory is no file");
        save(&dir.path().join("no/where"), "").expect_err("no directory");
        let files = std::fs::read_dir(dir.path()).expect("a directory");
        assert_eq!(files.count(), 2, "nor after a failure");
    }
}
