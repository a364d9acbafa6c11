// SPDX-License-Identifier: GPL-2.0

//! `enbdctl events`: what happens to devices, a line each, as the kernel tells it to udev.
//!
//! The module's own uevents (Documentation/programs.rst) come as they are; the `add` and `remove` of a
//! disk are `enabled` and `disabled`. The schema of `--json` is in Documentation/enbdctl.rst: keys are
//! only added, and a line is an object.

use crate::module::{Module, Proc};
use crate::places::{target, Configs, Places};
use crate::problem::{Exit, Problem};
use crate::show::{name_of, subject};
use crate::sys::{Told, Uevents};
use crate::time::utc;
use crate::view::{state_key, Verdict};
use enbd_status::Status;
use serde_json::{json, Value};
use std::time::{SystemTime, UNIX_EPOCH};

/// The version of the schema.
const VERSION: u32 = 1;

/// How it is wished.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// For programs.
    pub json: bool,
    /// What is there already is told first.
    pub now: bool,
}

/// One event.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Event {
    letter: char,
    /// As the module calls the device.
    name: Option<String>,
    /// What has happened.
    event: String,
    seq: Option<u64>,
    state: Option<String>,
    group: Option<u64>,
    group_state: Option<String>,
    reason: Option<String>,
    folded: Option<u64>,
}

/// `enbdctl events`.
///
/// # Errors
///
/// The module is not loaded, or the kernel cannot be listened to.
pub fn events(places: &Places, word: Option<&str>, wish: Wish) -> Result<Exit, Problem> {
    let configs = Configs::load(places)?;
    let letter = match word {
        None => None,
        Some(word) => Some(target(word, &configs)?.letter),
    };
    let is_meant = |event: &Event| letter.is_none_or(|letter| letter == event.letter);
    let cannot = |error: std::io::Error| {
        let mut problem = Problem::new(
            Exit::Refused,
            format!("cannot listen to the kernel: {error}"),
        );
        problem.errno = error.raw_os_error();
        problem
    };
    // First: what comes while the status is read is told after it.
    let uevents = Uevents::open().map_err(cannot)?;
    let status = Proc::new(&places.nbdinfo).status()?;
    let tell = |event: &Event| crate::print(&line(event, &configs, wish.json, now_s()));
    if wish.now {
        existing(&status, &configs)
            .iter()
            .filter(|&event| is_meant(event))
            .for_each(tell);
    }
    loop {
        match uevents.next().map_err(cannot)? {
            Told::Missed => tell(&Event {
                event: "missed".to_owned(),
                ..Event::default()
            }),
            Told::Words(text) => {
                if let Some(event) = parse(&text).filter(is_meant) {
                    tell(&event);
                }
            }
        }
    }
}

fn now_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// An event for each device and each group that is there.
fn existing(status: &Status, configs: &Configs) -> Vec<Event> {
    let mut all = Vec::new();
    for device in &status.devices {
        let base = Event {
            letter: device.letter,
            name: name_of(device, configs).map(str::to_owned),
            event: "exists".to_owned(),
            seq: device.events,
            state: Some(Verdict::of(&subject(device, configs)).key().to_owned()),
            ..Event::default()
        };
        all.push(base.clone());
        all.extend(device.groups.iter().map(|group| Event {
            group: Some(u64::from(group.number)),
            group_state: Some(state_key(group.state).to_owned()),
            reason: group.reason.clone(),
            ..base.clone()
        }));
    }
    all
}

/// What the kernel says, if it is of a disk of enbd and a thing that is told.
fn parse(text: &str) -> Option<Event> {
    let value = |key: &str| {
        let mut pairs = text.split('\0').filter_map(|word| word.split_once('='));
        let (_, value) = pairs.find(|(known, _)| *known == key)?;
        Some(value.to_owned())
    };
    let number = |key: &str| value(key)?.parse().ok();
    let disk = value("DEVNAME").filter(|_| value("SUBSYSTEM").as_deref() == Some("block"))?;
    let mut letters = disk.strip_prefix("nd")?.chars();
    let letter = letters.next().filter(char::is_ascii_lowercase)?;
    if letters.next().is_some() {
        return None;
    }
    let event = match (value("ACTION")?.as_str(), value("ENBD_EVENT")) {
        ("add", _) => "enabled".to_owned(),
        ("remove", _) => "disabled".to_owned(),
        (_, event) => event?,
    };
    Some(Event {
        letter,
        name: value("ENBD_NAME"),
        event,
        seq: number("ENBD_SEQ"),
        state: value("ENBD_STATE"),
        group: number("ENBD_GROUP"),
        group_state: value("ENBD_GROUP_STATE"),
        reason: value("ENBD_REASON"),
        folded: number("ENBD_FOLDED"),
    })
}

/// The line of an event.
fn line(event: &Event, configs: &Configs, as_json: bool, now_s: u64) -> String {
    let has_device = event.letter.is_ascii_lowercase();
    let known = || configs.of_letter(event.letter).map(|one| one.name.clone());
    let name = event.name.clone().or_else(known);
    let time = utc(now_s);
    if as_json {
        let device = has_device.then(|| format!("/dev/nd{}", event.letter));
        let object: Value = json!({
            "version": VERSION,
            "time": now_s,
            "device": device,
            "name": name,
            "event": event.event,
            "seq": event.seq,
            "state": event.state,
            "group": event.group,
            "group_state": event.group_state,
            "reason": event.reason,
            "folded": event.folded,
        });
        return format!("{object}\n");
    }
    let label = match (name, has_device) {
        (Some(name), _) => name,
        (None, true) => event.letter.to_string(),
        (None, false) => "-".to_owned(),
    };
    let group = event
        .group
        .map_or(String::new(), |group| format!(" group {group}"));
    let words: Vec<&str> = [&event.group_state, &event.reason]
        .into_iter()
        .filter_map(|word| word.as_deref())
        .collect();
    let why = match words.as_slice() {
        [] => String::new(),
        words => format!(": {}", words.join(", ")),
    };
    let state = event
        .state
        .as_ref()
        .map_or(String::new(), |state| format!(" ({state})"));
    format!("{time}  {label}{group} {}{why}{state}\n", event.event)
}

#[cfg(test)]
mod tests {
    use super::{existing, line, parse, Event};
    use crate::places::{Configs, Places};
    use enbd_status::Status;
    use std::path::PathBuf;

    const TOLD: &str = "change@/devices/virtual/block/nda\0ACTION=change\0\
        DEVPATH=/devices/virtual/block/nda\0SUBSYSTEM=block\0ENBD_EVENT=group_faulty\0ENBD_SEQ=17\0\
        ENBD_NAME=data\0ENBD_STATE=degraded\0ENBD_GROUP=1\0ENBD_GROUP_STATE=faulty\0\
        ENBD_REASON=set faulty by the administrator\0MAJOR=259\0MINOR=0\0DEVNAME=nda\0DEVTYPE=disk\0\
        SEQNUM=900\0";
    const NOW_S: u64 = 1_893_456_000;

    fn configs() -> Configs {
        let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let places = Places {
            etc: golden.join("etc"),
            ..Places::default()
        };
        Configs::load(&places).expect("they can be read")
    }

    fn shown(event: &Event, as_json: bool) -> String {
        line(event, &configs(), as_json, NOW_S)
    }

    #[test]
    fn what_the_kernel_says() {
        let event = parse(TOLD).expect("it is one");
        assert_eq!(
            shown(&event, false),
            "2030-01-01 00:00:00 UTC  data group 1 group_faulty: faulty, set faulty by the administrator (degraded)\n"
        );
        assert_eq!(
            shown(&event, true),
            "{\"device\":\"/dev/nda\",\"event\":\"group_faulty\",\"folded\":null,\"group\":1,\
             \"group_state\":\"faulty\",\"name\":\"data\",\"reason\":\"set faulty by the administrator\",\
             \"seq\":17,\"state\":\"degraded\",\"time\":1893456000,\"version\":1}\n"
        );
        for (from, to, event) in [
            ("ACTION=change", "ACTION=add", Some("enabled")),
            ("ACTION=change", "ACTION=remove", Some("disabled")),
            ("ENBD_EVENT=", "OTHER=", None),
            ("DEVNAME=nda", "DEVNAME=nda1", None),
            ("DEVNAME=nda", "DEVNAME=nbd0", None),
            ("SUBSYSTEM=block", "SUBSYSTEM=bdi", None),
        ] {
            let told = parse(&TOLD.replace(from, to));
            assert_eq!(told.map(|one| one.event), event.map(str::to_owned), "{to}");
        }
        assert_eq!(parse(""), None);
        let missed = Event {
            event: "missed".to_owned(),
            ..Event::default()
        };
        assert_eq!(shown(&missed, false), "2030-01-01 00:00:00 UTC  - missed\n");
        assert!(shown(&missed, true).contains("\"device\":null"));
    }

    #[test]
    fn what_is_there_already() {
        let text = include_str!("../tests/golden/members.nbdinfo");
        let status = Status::parse(text).expect("well formed");
        let lines: String = existing(&status, &configs())
            .iter()
            .map(|event| shown(event, false).split_off(25))
            .collect();
        assert_eq!(
            lines,
            "data exists (disabled)\n\
             data group 1 exists: faulty, a member of the mirror: 'enable' decides who is current (disabled)\n\
             scratch exists (degraded)\n\
             scratch group 0 exists: in_sync (degraded)\n\
             scratch group 1 exists: resyncing, the device was not ended in order: compared with the source (degraded)\n"
        );
    }
}
