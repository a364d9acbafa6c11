// SPDX-License-Identifier: GPL-2.0

//! `enbdctl check`: a plugin of Nagios and Icinga. One line on standard output, then `|` and figures;
//! the exit status is that of the plugins: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
//!
//! Whatever goes wrong is UNKNOWN, on standard output, since that is all that is shown of a plugin.

use crate::module::{Module, Proc};
use crate::places::{Configs, Places};
use crate::problem::{Exit, Problem};
use crate::show::{chosen, subject};
use crate::size::seconds;
use crate::view::{self, away, dirty_bytes, state_words, Recovery, Subject, Verdict};
use enbd_status::{Group, GroupState, Status};
use std::fmt::Write;

/// What is told.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Report {
    exit: Exit,
    /// What is to be said, the worst first.
    words: Vec<String>,
    figures: Vec<String>,
}

/// `enbdctl check`.
pub fn check(places: &Places, word: Option<&str>) -> Exit {
    let report = look(places, word).unwrap_or_else(|problem| Report {
        exit: Exit::NotThere,
        words: vec![problem.what],
        figures: Vec::new(),
    });
    crate::print(&line(&report));
    report.exit
}

/// The command line was wrong, which is UNKNOWN, too.
pub fn misused() -> Exit {
    crate::print("ENBD UNKNOWN - the command line is wrong: enbdctl check --help\n");
    Exit::NotThere
}

fn look(places: &Places, word: Option<&str>) -> Result<Report, Problem> {
    let configs = Configs::load(places)?;
    let status = Proc::new(&places.nbdinfo).status()?;
    if word.is_some() {
        return Ok(report(&chosen(word, &status, &configs)?, &[]));
    }
    let enabled = status.devices.iter().filter(|device| device.enabled);
    let subjects: Vec<Subject<'_>> = enabled.map(|one| subject(one, &configs)).collect();
    Ok(report(&subjects, &unknown(&status, &configs)))
}

/// What should be up, and what cannot be known: to say that all is well would be wrong.
fn unknown(status: &Status, configs: &Configs) -> Vec<String> {
    let is_up = |letter| status.device(letter).is_some_and(|device| device.enabled);
    let down = configs
        .good()
        .filter(|config| config.auto && !is_up(config.letter))
        .map(|config| format!("{}: not up", config.name));
    // A file that is kept from this user is none of his business.
    let wrong = configs
        .problems()
        .filter(|problem| problem.exit == Exit::Usage)
        .map(|problem| problem.what.clone());
    down.chain(wrong).collect()
}

fn report(subjects: &[Subject<'_>], unknown: &[String]) -> Report {
    let mut all: Vec<(Exit, String)> = subjects
        .iter()
        .map(|subject| (Verdict::of(subject).exit(), summary(subject)))
        .chain(unknown.iter().map(|why| (Exit::NotThere, why.clone())))
        .collect();
    if all.is_empty() {
        all.push((Exit::NotThere, "no device is up".to_owned()));
    }
    all.sort_by_key(|(exit, _)| std::cmp::Reverse(rank(*exit)));
    Report {
        exit: all.first().map_or(Exit::NotThere, |(exit, _)| *exit),
        words: all.into_iter().map(|(_, words)| words).collect(),
        figures: subjects.iter().flat_map(figures).collect(),
    }
}

/// What is known to be bad is worse than what is not known.
fn rank(exit: Exit) -> u8 {
    match exit {
        Exit::Held => 3,
        Exit::Degraded => 2,
        Exit::Ok => 0,
        _ => 1,
    }
}

fn line(report: &Report) -> String {
    let word = match report.exit {
        Exit::Ok => "OK",
        Exit::Degraded => "WARNING",
        Exit::Held => "CRITICAL",
        _ => "UNKNOWN",
    };
    // What comes after a | is figures, and what comes after the first line is shown to few.
    let words = report.words.join("; ").replace(['|', '\n'], " ");
    let figures = match report.figures.as_slice() {
        [] => String::new(),
        figures => format!(" | {}", figures.join(" ")),
    };
    format!("ENBD {word} - {words}{figures}\n")
}

/// How a device fares, in a line: `data: DEGRADED, 1 of 2 groups in sync, group 1 faulty: WHY`.
pub fn summary(subject: &Subject<'_>) -> String {
    let device = subject.device;
    let verdict = Verdict::of(subject);
    let (good, all) = (view::in_sync(device), subject.groups());
    let noun = if all == 1 { "group" } else { "groups" };
    let mut text = format!(
        "{}: {}, {good} of {all} {noun} in sync",
        subject.label(),
        verdict.as_str()
    );
    if verdict == Verdict::Held {
        let _ = write!(text, ", {} requests wait", device.queued);
    }
    for group in &device.groups {
        let reached = device.channels_of(group.number).any(|one| one.is_up());
        if group.state != GroupState::InSync {
            let _ = write!(text, ", {}", group_words(subject, group));
        } else if !reached && device.enabled {
            let _ = write!(text, ", group {} cannot be reached", group.number);
        }
    }
    for member in away(device) {
        let _ = write!(text, ", group {} is not there", member.number);
    }
    match subject.missing() {
        0 => {}
        1 => text.push_str(", one of its configuration was never connected"),
        count => {
            let _ = write!(text, ", {count} of its configuration were never connected");
        }
    }
    text
}

fn group_words(subject: &Subject<'_>, group: &Group) -> String {
    let mut text = format!("group {} {}", group.number, state_words(group.state));
    if let Some(recovery) = Recovery::of(subject.device, group) {
        let _ = write!(text, " {:.0} %", recovery.percent().floor());
        if let Some(eta) = recovery.eta {
            let _ = write!(text, " with {} left", seconds(eta));
        }
    } else if let Some(reason) = &group.reason {
        let _ = write!(text, ": {reason}");
    }
    text
}

/// `'data_in_sync'=1;2:;1:;0;2`: the value, what it warns below, what is critical, the least and the
/// most that it can be.
fn figures(subject: &Subject<'_>) -> Vec<String> {
    let device = subject.device;
    let name = subject.label().replace(['\'', '=', '|'], "_");
    let (good, all) = (view::in_sync(device), subject.groups());
    let dirty = device
        .groups
        .iter()
        .filter_map(|group| dirty_bytes(device, group))
        .fold(0u64, |sum, figure| sum.saturating_add(figure.least));
    let mut figures = vec![
        format!("'{name}_in_sync'={good};{all}:;1:;0;{all}"),
        format!("'{name}_dirty'={dirty}B;;;0"),
    ];
    figures.extend(device.groups.iter().filter_map(|group| {
        let recovery = Recovery::of(device, group)?;
        let (number, percent) = (group.number, recovery.percent());
        Some(format!("'{name}_resync_{number}'={percent:.1}%;;;0;100"))
    }));
    figures
}

#[cfg(test)]
mod tests {
    use super::{line, report, Report, Subject};
    use crate::problem::Exit;
    use enbd_status::Status;

    const TEXT: &str = include_str!("../tests/golden/devices.nbdinfo");

    fn told(letters: &str, unknown: &[String]) -> (Exit, String) {
        let status = Status::parse(TEXT).expect("well formed");
        let subjects: Vec<Subject<'_>> = letters
            .chars()
            .map(|letter| Subject {
                name: None,
                device: status.device(letter).expect("there is one"),
                wanted: 0,
            })
            .collect();
        let report = report(&subjects, unknown);
        (report.exit, line(&report))
    }

    #[test]
    fn the_worst_comes_first() {
        let unknown = ["late: not up".to_owned()];
        for (letters, exit, start) in [
            ("b", Exit::NotThere, "ENBD UNKNOWN - late: not up; b: OK, "),
            ("ba", Exit::Degraded, "ENBD WARNING - a: DEGRADED, "),
            ("bac", Exit::Held, "ENBD CRITICAL - c: HELD, "),
            ("", Exit::NotThere, "ENBD UNKNOWN - late: not up\n"),
        ] {
            let (code, text) = told(letters, &unknown);
            assert_eq!(code, exit, "{text}");
            assert!(text.starts_with(start), "{text}");
        }
        let nothing = (
            Exit::NotThere,
            "ENBD UNKNOWN - no device is up\n".to_owned(),
        );
        assert_eq!(told("", &[]), nothing);
        assert_eq!(told("b", &[]).0, Exit::Ok);
    }

    #[test]
    fn what_was_never_connected_is_told() {
        let status = Status::parse(TEXT).expect("well formed");
        let device = status.device('b').expect("there is one");
        for (wanted, words) in [
            (2, "data: OK, 2 of 2 groups in sync"),
            (3, "data: DEGRADED, 2 of 3 groups in sync, one of its configuration was never connected"),
            (4, "data: DEGRADED, 2 of 4 groups in sync, 2 of its configuration were never connected"),
        ] {
            let name = Some("data");
            let subject = Subject { name, device, wanted };
            assert_eq!(super::summary(&subject), words);
        }
    }

    #[test]
    fn it_is_one_line_with_one_bar() {
        let report = Report {
            exit: Exit::Degraded,
            words: vec!["a|b\nc".to_owned(), "d".to_owned()],
            figures: vec!["'x'=1".to_owned(), "'y'=2".to_owned()],
        };
        assert_eq!(line(&report), "ENBD WARNING - a b c; d | 'x'=1 'y'=2\n");
    }
}
