// SPDX-License-Identifier: GPL-2.0

//! What has changed between two looks at a device, a line each.
//!
//! Shape: a [`Face`] is what is compared. The number of the last event tells whether something was in
//! between that is not to be seen any more. Of a disabled device only that is told: before it is
//! enabled its groups come and go, and nobody depends on them.

use crate::check::summary;
use crate::view::{away, state_words, Subject, Verdict};
use enbd_status::{Channel, GroupState};
use std::collections::BTreeMap;
use std::fmt;

/// How much it matters, as sd-daemon(3) numbers it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Priority {
    /// Requests wait.
    Critical = 2,
    /// An alarm that is less than that, or one that could not be given.
    Error = 3,
    /// Less protected than before.
    Warning = 4,
    /// Worth a line.
    Notice = 5,
    /// As expected.
    Info = 6,
}

/// A line for the journal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    /// How much it matters.
    pub priority: Priority,
    /// What it says.
    pub text: String,
}

impl Line {
    /// One line.
    pub fn new(priority: Priority, text: impl Into<String>) -> Self {
        let text: String = text.into();
        Self {
            priority,
            text: text.replace('\n', " "),
        }
    }
}

/// With its priority before it, which the journal takes off.
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>{}", self.priority as u8, self.text)
    }
}

/// What a group is to its device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Condition {
    /// The module has it, in this state.
    Is(GroupState),
    /// A member that is not there.
    Absent,
}

/// What is compared of a group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupFace {
    /// Its state.
    pub condition: Condition,
    /// Why it is faulty.
    pub reason: Option<String>,
    /// Its channels that are up.
    pub up: usize,
    /// All of them.
    pub channels: usize,
}

impl GroupFace {
    fn words(&self) -> String {
        let Condition::Is(state) = self.condition else {
            return "not there".to_owned();
        };
        let (words, up, all) = (state_words(state), self.up, self.channels);
        let reason = self.reason.as_ref();
        let why = reason.map_or(String::new(), |reason| format!(": {reason}"));
        format!("{words}, {up}/{all} channels{why}")
    }

    fn priority(&self) -> Priority {
        match self.condition {
            Condition::Is(GroupState::Faulty) | Condition::Absent => Priority::Warning,
            Condition::Is(_) => Priority::Notice,
        }
    }

    /// Whether the module makes an event when it becomes this: not of channels.
    fn differs_by_event(&self, before: &Self) -> bool {
        (self.condition, &self.reason) != (before.condition, &before.reason)
    }
}

/// What is compared of a device.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Face {
    /// Its letter.
    pub letter: char,
    /// Its name, or its letter.
    pub label: String,
    /// How it fares.
    pub verdict: Verdict,
    /// Its groups, by number; none while it is disabled.
    pub groups: BTreeMap<u8, GroupFace>,
    /// Groups of its configuration that were never connected.
    pub missing: usize,
    /// The number of its last event.
    pub events: Option<u64>,
    /// All that in words, as it was then.
    pub summary: String,
}

impl Face {
    /// What a device shows.
    pub fn of(subject: &Subject<'_>) -> Self {
        let device = subject.device;
        let mut groups = BTreeMap::new();
        if device.enabled {
            for group in &device.groups {
                let is_faulty = group.state == GroupState::Faulty;
                let channels = || device.channels_of(group.number);
                let face = GroupFace {
                    condition: Condition::Is(group.state),
                    reason: group.reason.clone().filter(|_| is_faulty),
                    up: channels().filter(|one| Channel::is_up(one)).count(),
                    channels: channels().count(),
                };
                groups.insert(group.number, face);
            }
            for member in away(device) {
                let face = GroupFace {
                    condition: Condition::Absent,
                    reason: None,
                    up: 0,
                    channels: 0,
                };
                groups.insert(member.number, face);
            }
        }
        Self {
            letter: device.letter,
            label: subject.label(),
            verdict: Verdict::of(subject),
            groups,
            missing: subject.missing(),
            events: device.events,
            summary: summary(subject),
        }
    }

    /// That of the whole device.
    fn line(&self) -> Line {
        let priority = match self.verdict {
            Verdict::Held => Priority::Critical,
            Verdict::Degraded => Priority::Warning,
            Verdict::Ok | Verdict::Disabled => Priority::Notice,
        };
        Line::new(priority, &self.summary)
    }

    /// Whether it is another device of the same letter than the one before: events only count up.
    pub fn is_another_than(&self, before: &Self) -> bool {
        self.events < before.events
    }
}

/// The lines for what is different from before, and how many events belong to them.
pub fn changes(before: Option<&Face>, now: &Face) -> (Vec<Line>, u64) {
    let Some(before) = before else {
        return (vec![now.line()], 0);
    };
    let mut lines = Vec::new();
    let mut events = 0u64;
    let mut count = |is_event: bool| events = events.saturating_add(u64::from(is_event));
    if now.label != before.label {
        lines.push(Line::new(
            Priority::Notice,
            format!("{}: is called {} now", before.label, now.label),
        ));
        count(true);
    }
    let is_enabled = |face: &Face| face.verdict != Verdict::Disabled;
    if is_enabled(before) && is_enabled(now) {
        for (number, group) in &now.groups {
            let old = before.groups.get(number);
            if old != Some(group) {
                let text = format!("{} group {number}: {}", now.label, group.words());
                lines.push(Line::new(group.priority(), text));
                count(old.is_none_or(|old| group.differs_by_event(old)));
            }
        }
        for number in before
            .groups
            .keys()
            .filter(|one| !now.groups.contains_key(one))
        {
            let text = format!("{} group {number}: gone", now.label);
            lines.push(Line::new(Priority::Notice, text));
            count(true);
        }
    }
    if (now.verdict, now.missing) != (before.verdict, before.missing) {
        lines.push(now.line());
        count(Verdict::Held == now.verdict || Verdict::Held == before.verdict);
    }
    // Whoever enables a device hears of its groups in one line, however many events that was.
    let all_told = is_enabled(before) != is_enabled(now);
    (lines, if all_told { u64::MAX } else { events })
}

/// The line for a device that is not there any more.
pub fn gone(before: &Face) -> Line {
    Line::new(Priority::Notice, format!("{}: gone", before.label))
}

/// The line for what was between two looks and is not to be seen.
pub fn unseen(now: &Face, count: u64) -> Line {
    let (label, noun) = (&now.label, if count == 1 { "event" } else { "events" });
    let text =
        format!("{label}: {count} more {noun} since the last look, of what is no more to be seen");
    Line::new(Priority::Notice, text)
}

#[cfg(test)]
mod tests {
    use super::{changes, gone, Face};
    use crate::view::Subject;
    use enbd_status::Status;

    const TEXT: &str = include_str!("../tests/golden/devices.nbdinfo");

    fn face(text: &str, letter: char, name: Option<&str>) -> Face {
        let status = Status::parse(text).expect("well formed");
        Face::of(&Subject {
            name,
            device: status.device(letter).expect("there is one"),
            wanted: 0,
        })
    }

    fn told(before: Option<&Face>, now: &Face) -> String {
        let (lines, _) = changes(before, now);
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn a_line_for_each_change() {
        let held = face(TEXT, 'c', None);
        assert_eq!(
            told(None, &held),
            "<2>c: HELD, 1 of 2 groups in sync, 2 requests wait, group 0 cannot be reached, group 1 \
             faulty: set faulty by the administrator\n"
        );
        assert_eq!(told(Some(&held), &held), "");
        // Figures alone are no change.
        let busier = TEXT.replace("[c] Queued:\t2 current", "[c] Queued:\t9 current");
        assert_eq!(told(Some(&held), &face(&busier, 'c', None)), "");
        let served = face(
            &TEXT.replace("[c] Sockets:\t2\t(-)", "[c] Sockets:\t2\t(*)"),
            'c',
            None,
        );
        assert_eq!(
            told(Some(&held), &served),
            "<5>c group 0: in sync, 1/1 channels\n\
             <4>c: DEGRADED, 1 of 2 groups in sync, group 1 faulty: set faulty by the administrator\n"
        );
        let disabled = face(
            &TEXT.replace(
                "[c] State:\tverify, rw, enabled",
                "[c] State:\tverify, rw, disabled",
            ),
            'c',
            None,
        );
        assert!(told(Some(&served), &disabled).starts_with("<5>c: DISABLED, "));
        assert_eq!(
            told(None, &face(TEXT, 'b', Some("data"))),
            "<5>data: OK, 2 of 2 groups in sync\n"
        );
        assert_eq!(
            told(Some(&face(TEXT, 'b', None)), &face(TEXT, 'b', Some("data"))),
            "<5>b: is called data now\n"
        );
        assert_eq!(gone(&held).to_string(), "<5>c: gone");
    }

    #[test]
    fn which_changes_have_events() {
        let members = include_str!("../tests/golden/members.nbdinfo");
        let before = face(members, 'b', None);
        for (from, to, count) in [
            ("[b] Sockets:\t2\t(*)\t(+)", "[b] Sockets:\t2\t(*)\t(-)", 0),
            ("[b] Group:\t1 resyncing", "[b] Group:\t1 faulty", 1),
            ("[b] Sockets:\t2\t(*)", "[b] Sockets:\t2\t(-)", 1),
        ] {
            let mut text = members.replace(from, to);
            if to.contains("faulty") {
                text = text.replace("(1_)", "(1F)");
            }
            let (lines, events) = changes(Some(&before), &face(&text, 'b', None));
            assert_eq!(events, count, "{lines:?}");
            assert!(!lines.is_empty());
        }
    }
}
