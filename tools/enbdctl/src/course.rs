// SPDX-License-Identifier: GPL-2.0

//! The course of devices from look to look: what has changed, and when somebody has to be told.
//!
//! Shape: a [`Course`] has what the last look showed, and is given the next one with the time; it
//! decides and waits for nothing.
//!
//! A group that is lost is an alarm at once. What mends itself mostly is one only if it does not: a
//! group whose server is just not reached, or that an `up` is still connecting, gets a minute, and one
//! that is new, and gets its first copy, a day. `create` and `add` make no alarm so. As long as a
//! device that has given one is not OK it gives it again, once a day.

use crate::alarm::{Alarm, Kind};
use crate::change::{changes, gone, unseen, Condition, Face, GroupFace, Line};
use crate::view::{Subject, Verdict};
use enbd_status::GroupState;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What the module says of a group that joins a device, before it gets its first copy.
const JOINED: &str = "joined an enabled device";
/// For what mends itself in a moment.
const MOMENT: Duration = Duration::from_secs(60);
/// For a first copy.
const FIRST_COPY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a device may be as it is without an alarm.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Care {
    Calm,
    FirstCopy,
    Moment,
    Now,
}

impl Care {
    fn patience(self) -> Duration {
        match self {
            Self::Calm | Self::FirstCopy => FIRST_COPY,
            Self::Moment => MOMENT,
            Self::Now => Duration::ZERO,
        }
    }
}

/// What is known of a device.
#[derive(Debug)]
struct Known {
    face: Face,
    care: Care,
    /// Groups that were lost and are not in sync yet.
    lost: BTreeSet<u8>,
    /// When the next alarm is due.
    due: Option<Duration>,
    /// There was one, and the device has not been OK since.
    alarmed: bool,
    /// Events that belong to lines that were told already: they may come a moment after the change.
    expected: u64,
}

/// What came of a look.
#[derive(Debug, Default)]
pub struct Told {
    /// A line for each change.
    pub lines: Vec<Line>,
    /// For the handlers.
    pub alarms: Vec<Alarm>,
}

/// The course of all devices.
#[derive(Debug)]
pub struct Course {
    known: BTreeMap<char, Known>,
    remind: Option<Duration>,
}

impl Course {
    /// Nothing was seen yet. An alarm is given again after `remind`, if there is one.
    pub fn new(remind: Option<Duration>) -> Self {
        Self {
            known: BTreeMap::new(),
            remind,
        }
    }

    /// The next look, at this time since any moment that stays the same.
    pub fn look(&mut self, now: Duration, subjects: &[Subject<'_>]) -> Told {
        let mut told = Told::default();
        let mut before = std::mem::take(&mut self.known);
        for subject in subjects {
            let face = Face::of(subject);
            let old = before.remove(&face.letter);
            let old = match old {
                Some(old) if face.is_another_than(&old.face) => {
                    told.lines.push(gone(&old.face));
                    None
                }
                old => old,
            };
            let at = told.lines.len();
            let mut known = follow(old.as_ref(), face, &mut told.lines);
            if let Some(kind) = decide(old.as_ref(), &mut known, now, self.remind) {
                let lines = told.lines.get(at..).unwrap_or_default();
                let alarm = Alarm::of(kind, &known.face, subject, lines);
                told.lines.push(alarm.line());
                told.alarms.push(alarm);
            }
            self.known.insert(known.face.letter, known);
        }
        told.lines
            .extend(before.values().map(|old| gone(&old.face)));
        told
    }

    /// When something has to be told though nothing changes.
    pub fn due(&self) -> Option<Duration> {
        self.known.values().filter_map(|known| known.due).min()
    }
}

/// Tells what is new, and what was between.
fn follow(old: Option<&Known>, face: Face, lines: &mut Vec<Line>) -> Known {
    let (new, events) = changes(old.map(|old| &old.face), &face);
    lines.extend(new);
    let expected = old.map_or(0, |old| old.expected).saturating_add(events);
    let before = old.and_then(|old| old.face.events).or(face.events);
    let came = face
        .events
        .zip(before)
        .map_or(0, |(now, before)| now.saturating_sub(before));
    if came > expected {
        lines.push(unseen(&face, came.saturating_sub(expected)));
    }
    // Of each group, and of the device.
    let most = u64::try_from(face.groups.len()).map_or(1, |count| count.saturating_add(1));
    let old_lost = old.map(|old| &old.lost);
    let is_lost = |(number, group): &(&u8, &GroupFace)| {
        let was_lost = old_lost.is_some_and(|lost| lost.contains(number));
        is_lost(
            group,
            old.and_then(|old| old.face.groups.get(number)),
            was_lost,
        )
    };
    let lost = face
        .groups
        .iter()
        .filter(is_lost)
        .map(|(number, _)| *number)
        .collect();
    Known {
        care: care(&face, &lost),
        lost,
        due: old.and_then(|old| old.due),
        alarmed: old.is_some_and(|old| old.alarmed),
        // One that has not come by the next look belongs to no line of this one.
        expected: expected.saturating_sub(came).min(events).min(most),
        face,
    }
}

/// Whether a group was lost: it is not one that is new and gets its first copy.
fn is_lost(group: &GroupFace, before: Option<&GroupFace>, was_lost: bool) -> bool {
    let was_in_sync = before.is_some_and(|old| old.condition == Condition::Is(GroupState::InSync));
    match group.condition {
        Condition::Is(GroupState::InSync | GroupState::Unknown) => false,
        Condition::Is(GroupState::Resyncing) => was_lost || was_in_sync,
        Condition::Is(GroupState::Faulty) => {
            let joins = group
                .reason
                .as_ref()
                .is_some_and(|why| why.starts_with(JOINED));
            was_lost || was_in_sync || !joins
        }
        Condition::Absent => true,
    }
}

fn care(face: &Face, lost: &BTreeSet<u8>) -> Care {
    match face.verdict {
        Verdict::Ok | Verdict::Disabled => return Care::Calm,
        Verdict::Held => return Care::Now,
        Verdict::Degraded if !lost.is_empty() => return Care::Now,
        Verdict::Degraded => {}
    }
    let is_unreached = |group: &GroupFace| group.up == 0;
    match face.missing > 0 || face.groups.values().any(is_unreached) {
        true => Care::Moment,
        false => Care::FirstCopy,
    }
}

/// Whether there is an alarm now, and when the next one is due.
fn decide(
    old: Option<&Known>,
    known: &mut Known,
    now: Duration,
    remind: Option<Duration>,
) -> Option<Kind> {
    let is_held = known.face.verdict == Verdict::Held;
    if known.care == Care::Calm {
        // Who takes a device down knows of it.
        let recovered = known.alarmed && known.face.verdict == Verdict::Ok;
        (known.due, known.alarmed) = (None, false);
        return recovered.then_some(Kind::Recovered);
    }
    let was = |verdict| old.is_some_and(|old| old.face.verdict == verdict);
    let newly_lost = match old {
        Some(old) => !known.lost.is_subset(&old.lost),
        None => !known.lost.is_empty(),
    };
    let is_worse = newly_lost || (is_held && !was(Verdict::Held));
    if is_worse {
        known.due = Some(now);
    } else if !known.alarmed && old.is_none_or(|old| old.care != known.care) {
        known.due = now.checked_add(known.care.patience());
    }
    if known.due.is_none_or(|due| now < due) {
        return None;
    }
    let is_again = known.alarmed && !is_worse;
    known.alarmed = true;
    known.due = remind.and_then(|remind| now.checked_add(remind));
    Some(match (is_again, is_held) {
        (true, _) => Kind::Reminder,
        (false, true) => Kind::Held,
        (false, false) => Kind::Degraded,
    })
}

#[cfg(test)]
mod tests {
    use super::{Course, Told};
    use crate::alarm::Kind;
    use crate::view::Subject;
    use enbd_status::Status;
    use std::time::Duration;

    const DAY_S: u64 = 86400;
    const FAULTY: &str = "faulty, dirty 1, reason: no channel was up for the timeout";
    const JOINED: &str = "faulty, dirty 2048, reason: joined an enabled device, all blocks marked";
    const COPIED: &str =
        "resyncing, dirty 7, reason: it missed something before the device was enabled";

    /// A device of two groups: what the second one is, the channels that are up, the last event.
    fn text(second: &str, up: [bool; 2], events: u64) -> String {
        let mark = match second {
            faulty if faulty.starts_with("faulty") => "1F",
            resyncing if resyncing.starts_with("resyncing") => "1_",
            _ => "1",
        };
        let [one, two] = up.map(|up| if up { "+" } else { "-" });
        let channel = |number, up: bool| {
            let word = if up { "up" } else { "down" };
            format!("[b] Channel:\t{number} tcp 192.0.2.1:1 x, {word} 12s, reconnects 0\n")
        };
        let text = include_str!("../tests/golden/members.nbdinfo");
        let line = |line: &str| match line.split(":\t").next().unwrap_or("") {
            "[b] Groups" => format!("[b] Groups:\t2\t(0)\t({mark})\n"),
            "[b] Sockets" => format!("[b] Sockets:\t2\t({one})\t({two})\n"),
            "[b] Channel" if line.contains("\t0 ") => channel(0, up[0]),
            "[b] Channel" => channel(1, up[1]),
            "[b] Group" if line.contains("\t1 ") => format!("[b] Group:\t1 {second}\n"),
            "[b] Events" => format!("[b] Events:\t{events}\n"),
            "[b] Resync" | "[b] Mirror" | "[b] Intent" | "[b] Member" => String::new(),
            _ => format!("{line}\n"),
        };
        text.lines()
            .filter(|line| !line.starts_with("[a]") && !line.starts_with("Device a"))
            .map(line)
            .collect()
    }

    /// One look after the other, each with its time, and what was told: the kinds of alarms.
    struct Looks(Course);

    impl Looks {
        fn new() -> Self {
            Self(Course::new(Some(Duration::from_secs(DAY_S))))
        }

        fn at(&mut self, now_s: u64, text: &str, wanted: usize) -> Vec<Kind> {
            let told = self.told(now_s, text, wanted);
            told.alarms.iter().map(|alarm| alarm.kind).collect()
        }

        fn told(&mut self, now_s: u64, text: &str, wanted: usize) -> Told {
            let status = Status::parse(text).expect("well formed");
            let devices = status.devices.iter().map(|device| Subject {
                name: Some("data"),
                device,
                wanted,
            });
            let subjects: Vec<_> = devices.collect();
            self.0.look(Duration::from_secs(now_s), &subjects)
        }
    }

    const UP: [bool; 2] = [true, true];

    #[test]
    fn a_group_is_lost_and_comes_back() {
        let mut looks = Looks::new();
        assert_eq!(looks.at(0, &text("in sync, dirty 0", UP, 1), 0), []);
        let told = looks.told(5, &text(FAULTY, [true, false], 2), 0);
        let lines: Vec<String> = told.lines.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "<4>data group 1: faulty, 0/1 channels: no channel was up for the timeout",
                "<4>data: DEGRADED, 1 of 2 groups in sync, group 1 faulty: no channel was up for the timeout",
                "<3>alarm: data: DEGRADED, 1 of 2 groups in sync, group 1 faulty: no channel was up for the timeout",
            ]
        );
        let alarm = &told.alarms[0];
        assert_eq!((alarm.kind, alarm.letter), (Kind::Degraded, Some('b')));
        assert!(
            alarm.text.starts_with("data group 1: faulty, 0/1"),
            "{}",
            alarm.text
        );
        assert!(
            alarm.text.contains("\n\ndata      /dev/ndb "),
            "{}",
            alarm.text
        );
        // Once is enough for a day, whatever the resync does.
        assert_eq!(looks.at(6, &text(FAULTY, UP, 2), 0), []);
        assert_eq!(looks.at(7, &text(COPIED, UP, 3), 0), []);
        assert_eq!(looks.0.due(), Some(Duration::from_secs(DAY_S + 5)));
        assert_eq!(
            looks.at(DAY_S + 5, &text(COPIED, UP, 3), 0),
            [Kind::Reminder]
        );
        assert_eq!(
            looks.at(DAY_S + 6, &text("in sync, dirty 0", UP, 4), 0),
            [Kind::Recovered]
        );
        assert_eq!(looks.0.due(), None);
    }

    #[test]
    fn the_first_copy_is_none() {
        let mut looks = Looks::new();
        // As `create` enables it.
        assert_eq!(looks.at(0, &text(COPIED, UP, 1), 0), []);
        assert_eq!(looks.at(DAY_S - 1, &text(COPIED, UP, 1), 0), []);
        assert_eq!(looks.at(DAY_S, &text(COPIED, UP, 1), 0), [Kind::Degraded]);
        // As `add` does.
        let mut looks = Looks::new();
        let first = text(JOINED, UP, 1);
        assert_eq!(looks.at(0, &first, 0), []);
        assert_eq!(looks.at(1, &text(COPIED, UP, 2), 0), []);
        assert_eq!(looks.at(2, &text("in sync, dirty 0", UP, 3), 0), []);
        // But what was in sync and is copied was lost, though nobody has seen it.
        assert_eq!(looks.at(3, &text(COPIED, UP, 5), 0), [Kind::Degraded]);
        // And what is lost in its first copy, too.
        let mut looks = Looks::new();
        assert_eq!(looks.at(0, &text(COPIED, UP, 1), 0), []);
        assert_eq!(looks.at(1, &text(FAULTY, UP, 2), 0), [Kind::Degraded]);
    }

    #[test]
    fn what_mends_itself_has_a_minute() {
        let mut looks = Looks::new();
        let away = [true, false];
        assert_eq!(looks.at(0, &text("in sync, dirty 0", away, 1), 0), []);
        assert_eq!(looks.at(59, &text("in sync, dirty 0", away, 1), 0), []);
        assert_eq!(
            looks.at(60, &text("in sync, dirty 0", away, 1), 0),
            [Kind::Degraded]
        );
        // As `up` connects one after the other.
        let mut looks = Looks::new();
        assert_eq!(looks.at(0, &text("in sync, dirty 0", UP, 1), 3), []);
        assert_eq!(looks.at(30, &text("in sync, dirty 0", UP, 1), 2), []);
        assert_eq!(looks.at(90, &text("in sync, dirty 0", UP, 1), 3), []);
        assert_eq!(
            looks.at(150, &text("in sync, dirty 0", UP, 1), 3),
            [Kind::Degraded]
        );
    }

    #[test]
    fn held_is_worse() {
        let mut looks = Looks::new();
        assert_eq!(looks.at(0, &text(FAULTY, UP, 1), 0), [Kind::Degraded]);
        assert_eq!(
            looks.at(1, &text(FAULTY, [false, false], 2), 0),
            [Kind::Held]
        );
        assert_eq!(looks.at(2, &text(FAULTY, UP, 3), 0), []);
        assert_eq!(
            looks.at(3, &text(FAULTY, [false, true], 4), 0),
            [Kind::Held]
        );
        let disabled = text("in sync, dirty 0", UP, 5).replace("rw, enabled", "rw, disabled");
        assert_eq!(looks.at(4, &disabled, 0), []);
        assert_eq!(looks.at(5, &text("in sync, dirty 0", UP, 5), 0), []);
        assert_eq!(looks.0.due(), None);
    }

    #[test]
    fn what_was_between_is_told() {
        let lines = |told: Told| {
            let lines = told.lines.iter().map(|line| line.text.clone());
            lines.collect::<Vec<String>>()
        };
        let mut looks = Looks::new();
        looks.told(0, &text("in sync, dirty 0", UP, 1), 0);
        // It has failed, was copied, and is in sync again.
        let told = looks.told(1, &text("in sync, dirty 0", UP, 4), 0);
        assert_eq!(
            lines(told),
            ["data: 3 more events since the last look, of what is no more to be seen"]
        );
        // An event may come after what it tells of.
        assert_eq!(looks.told(2, &text(FAULTY, UP, 4), 0).lines.len(), 3);
        assert_eq!(looks.told(3, &text(FAULTY, UP, 5), 0).lines, []);
        assert_eq!(looks.told(4, &text(FAULTY, UP, 6), 0).lines.len(), 1);
        // Numbers that begin anew are those of another device.
        let told = lines(looks.told(5, &text("in sync, dirty 0", UP, 0), 0));
        assert_eq!(told, ["data: gone", "data: OK, 2 of 2 groups in sync"]);
        let told = looks.told(6, "Device a-z:\tClosed\n", 0);
        assert_eq!(lines(told), ["data: gone"]);
    }
}
