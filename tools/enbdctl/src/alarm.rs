// SPDX-License-Identifier: GPL-2.0

//! What somebody is told of a device: an alarm. When there is one is decided in [`crate::course`].

use crate::change::{Face, Line, Priority};
use crate::screen::{self, Colour, Shown};
use crate::view::{Subject, Verdict};

/// What kind of alarm.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Fewer groups than there should be, or one fewer than before.
    Degraded,
    /// No group can be reached.
    Held,
    /// Not OK still.
    Reminder,
    /// OK again.
    Recovered,
    /// To try who is told.
    Test,
}

impl Kind {
    /// For programs.
    pub fn key(self) -> &'static str {
        match self {
            Self::Degraded => "degraded",
            Self::Held => "held",
            Self::Reminder => "reminder",
            Self::Recovered => "recovered",
            Self::Test => "test",
        }
    }
}

/// What somebody is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Alarm {
    /// What kind.
    pub kind: Kind,
    /// The device; none for a trial.
    pub letter: Option<char>,
    /// Its name, or its letter.
    pub label: String,
    /// How it fares.
    pub verdict: Verdict,
    /// That in a line.
    pub summary: String,
    /// What has just happened, and the status: lines.
    pub text: String,
}

impl Alarm {
    /// One of a device, with the lines of what has just happened.
    pub fn of(kind: Kind, face: &Face, subject: &Subject<'_>, lines: &[Line]) -> Self {
        let shown = Shown {
            subject: *subject,
            uses: Vec::new(),
        };
        let news: String = lines
            .iter()
            .map(|line| format!("{}\n", line.text))
            .collect();
        let status = screen::text(&[shown], true, Colour::None);
        let between = if news.is_empty() { "" } else { "\n" };
        Self {
            kind,
            letter: Some(face.letter),
            label: face.label.clone(),
            verdict: face.verdict,
            summary: face.summary.clone(),
            text: format!("{news}{between}{status}"),
        }
    }

    /// One that is none.
    pub fn trial() -> Self {
        let text = "This is a trial of enbdctl monitor --test. Nothing has happened.\n";
        Self {
            kind: Kind::Test,
            letter: None,
            label: "test".to_owned(),
            verdict: Verdict::Ok,
            summary: "test: a trial alarm".to_owned(),
            text: text.to_owned(),
        }
    }

    /// The same for the journal.
    pub fn line(&self) -> Line {
        let (priority, word) = match self.kind {
            Kind::Held => (Priority::Critical, "alarm"),
            Kind::Degraded => (Priority::Error, "alarm"),
            Kind::Reminder => (Priority::Error, "alarm, again"),
            Kind::Recovered => (Priority::Notice, "alarm is over"),
            Kind::Test => (Priority::Notice, "alarm, a trial"),
        };
        Line::new(priority, format!("{word}: {}", self.summary))
    }
}
