// SPDX-License-Identifier: GPL-2.0

//! `enbdctl monitor`: follows all devices, as a service.
//!
//! The module wakes it, and it compares what it sees with what it saw: so it misses no state, however
//! fast changes come. While there is no module it waits for the kernel to say that it has loaded it.
//! Handlers run in a thread of their own.

use crate::alarm::Alarm;
use crate::change::{Line, Priority};
use crate::course::Course;
use crate::handler::{Handlers, Worker};
use crate::metrics;
use crate::module::Watcher;
use crate::monitor_config::MonitorConfig;
use crate::notify::notify;
use crate::places::{Configs, Places};
use crate::problem::{Exit, Problem};
use crate::show::subject;
use crate::sys::{self, Told, Uevents};
use crate::view::{Subject, Verdict};
use enbd_status::{Group, GroupState, Status};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Between two looks, at least: whoever flaps makes many changes.
const PERIOD: Duration = Duration::from_millis(500);
/// How long it is waited for the rest of what is half told, and how often.
const SETTLE: Duration = Duration::from_millis(100);
const SETTLE_TRIES: u32 = 10;
/// How often metrics are written, at least.
const METRICS: Duration = Duration::from_secs(15);
/// How often it is looked for a module, should the kernel not say that there is one.
const LOOK_FOR_MODULE: Duration = Duration::from_secs(60);

/// `enbdctl monitor`, which ends only by a failure.
///
/// # Errors
///
/// Its configuration is wrong, or the status cannot be understood.
pub fn monitor(places: &Places) -> Result<Exit, Problem> {
    let wishes = MonitorConfig::load(places)?;
    let worker = Worker::start(Handlers::new(&wishes), say)
        .map_err(|error| Problem::new(Exit::Refused, format!("cannot start a thread: {error}")))?;
    let mut source = Source::open(places);
    let mut course = Course::new(wishes.remind);
    let mut report = Report::new(wishes.metrics);
    let began = Instant::now();
    loop {
        let looked = Instant::now();
        let status = source.status()?;
        let configs = Configs::load(places)?;
        let subjects: Option<Vec<Subject<'_>>> = status.as_ref().map(|status| {
            let devices = status.devices.iter();
            devices.map(|one| subject(one, &configs)).collect()
        });
        let known = subjects.as_deref().unwrap_or_default();
        let told = course.look(looked.duration_since(began), known);
        told.lines.iter().for_each(say);
        for alarm in told.alarms {
            if let Err(line) = worker.give(alarm) {
                say(&line);
            }
        }
        report.update(subjects.as_deref(), !told.lines.is_empty());
        let due = course.due();
        let due = due.map_or(Duration::MAX, |due| due.saturating_sub(began.elapsed()));
        sleep(PERIOD.saturating_sub(looked.elapsed()));
        source.wait(due.min(report.due()))?;
    }
}

/// `enbdctl monitor --test`.
///
/// # Errors
///
/// The configuration is wrong.
pub fn trial(places: &Places) -> Result<Exit, Problem> {
    let wishes = MonitorConfig::load(places)?;
    let handlers = Handlers::new(&wishes);
    let alarm = Alarm::trial();
    say(&alarm.line());
    if handlers.is_empty() {
        let file = places.etc.join("monitor.toml");
        crate::print(&format!(
            "nobody else is told: there is no mail and no exec in {}\n",
            file.display()
        ));
    }
    let mut exit = Exit::Ok;
    for (what, end) in handlers.run(&alarm) {
        match end {
            Ok(()) => crate::print(&format!("{what}: done\n")),
            Err(why) => {
                eprintln!("enbdctl: {what} {why}");
                exit = Exit::Refused;
            }
        }
    }
    Ok(exit)
}

/// With its priority, but for people.
fn say(line: &Line) {
    if std::io::stdout().is_terminal() {
        crate::print(&format!("{}\n", line.text));
    } else {
        crate::print(&format!("{line}\n"));
    }
}

/// Where the status comes from. A module comes and goes.
struct Source {
    path: PathBuf,
    watcher: Option<Watcher>,
    uevents: Option<Uevents>,
    /// Whether it was said that there is none.
    was_there: Option<bool>,
}

impl Source {
    fn open(places: &Places) -> Self {
        // First: what comes while the file is looked for is heard afterwards.
        let uevents = Uevents::open();
        if let Err(error) = &uevents {
            let text =
                format!("cannot listen to the kernel, and looks for changes now and then: {error}");
            say(&Line::new(Priority::Warning, text));
        }
        Self {
            path: places.nbdinfo.clone(),
            watcher: None,
            uevents: uevents.ok(),
            was_there: None,
        }
    }

    /// What the module says; nothing if there is none.
    fn status(&mut self) -> Result<Option<Status>, Problem> {
        // One that was open is of no use when its module has gone, and perhaps come again.
        for _ in 0..SETTLE_TRIES {
            let Some(Ok(status)) = self.watcher.as_mut().map(Watcher::status) else {
                break;
            };
            if is_settled(&status) {
                return Ok(Some(status));
            }
            sleep(SETTLE);
        }
        self.watcher = None;
        let status = Watcher::open(&self.path).and_then(|mut watcher| {
            let status = watcher.status()?;
            self.watcher = Some(watcher);
            Ok(status)
        });
        let is_there = match &status {
            Ok(_) => true,
            Err(problem) if problem.exit == Exit::NotThere => false,
            Err(problem) => return Err(problem.clone()),
        };
        if self.was_there.replace(is_there) != Some(is_there) {
            let word = if is_there { "is" } else { "is not" };
            say(&Line::new(
                Priority::Info,
                format!("the module enbd {word} loaded"),
            ));
        }
        Ok(status.ok())
    }

    /// Waits until there may be something new, but not much longer than this.
    fn wait(&self, limit: Duration) -> Result<(), Problem> {
        let end = Instant::now().checked_add(limit);
        loop {
            let left = end.map_or(Duration::MAX, |end| {
                end.saturating_duration_since(Instant::now())
            });
            let Some(uevents) = &self.uevents else {
                return match &self.watcher {
                    Some(watcher) => watcher.wait(left),
                    None => {
                        sleep(left.min(METRICS));
                        Ok(())
                    }
                };
            };
            match &self.watcher {
                Some(watcher) => watcher.wait_or_hear(uevents, left)?,
                None => sys::wait_for_either(None, Some(uevents), left.min(LOOK_FOR_MODULE))
                    .map_err(deaf)?,
            }
            if concerns(uevents)? {
                return Ok(());
            }
        }
    }
}

/// Whether it is known why groups are faulty. The module says it a moment after it says that they are,
/// and an alarm should have it. One that makes no events may never say it.
fn is_settled(status: &Status) -> bool {
    let is_told = |group: &Group| group.state != GroupState::Faulty || group.reason.is_some();
    let mut devices = status.devices.iter().filter(|one| one.events.is_some());
    devices.all(|device| device.groups.iter().all(is_told))
}

fn deaf(error: std::io::Error) -> Problem {
    Problem::new(
        Exit::Refused,
        format!("cannot listen to the kernel: {error}"),
    )
}

/// Reads what the kernel has said. Whether it may be of enbd, or it said nothing and another thing has
/// woken the reader.
fn concerns(uevents: &Uevents) -> Result<bool, Problem> {
    let (mut is_ours, mut is_empty) = (false, true);
    while let Some(told) = uevents.pending().map_err(deaf)? {
        is_empty = false;
        is_ours |= match told {
            Told::Missed => true,
            Told::Words(words) => words.contains("/module/enbd") || words.contains("/block/nd"),
        };
    }
    Ok(is_ours || is_empty)
}

/// What is told of the whole: to systemd, and in metrics.
struct Report {
    metrics: Option<PathBuf>,
    written: Option<Instant>,
    /// What systemd was told.
    words: String,
    /// Why metrics could not be written, lest it is said each time.
    why: Option<String>,
}

impl Report {
    fn new(metrics: Option<PathBuf>) -> Self {
        Self {
            metrics,
            written: None,
            words: String::new(),
            why: None,
        }
    }

    /// When metrics are to be written again.
    fn due(&self) -> Duration {
        let left = || METRICS.saturating_sub(self.written.map_or(METRICS, |at| at.elapsed()));
        self.metrics.as_ref().map_or(Duration::MAX, |_| left())
    }

    fn update(&mut self, subjects: Option<&[Subject<'_>]>, is_new: bool) {
        if is_new || self.due().is_zero() {
            self.write_metrics(subjects);
        }
        // Last: who is ready has done all that it does.
        let words = format!("READY=1\nSTATUS={}", words(subjects));
        if words != self.words {
            // Later it is a courtesy.
            let is_first = self.words.is_empty();
            if let (Err(error), true) = (notify(&words), is_first) {
                let text = format!("systemd cannot be told: {error}");
                say(&Line::new(Priority::Warning, text));
            }
            self.words = words;
        }
    }

    fn write_metrics(&mut self, subjects: Option<&[Subject<'_>]>) {
        let Some(path) = &self.metrics else {
            return;
        };
        self.written = Some(Instant::now());
        let why = metrics::save(path, &metrics::text(subjects)).err();
        let why = why.map(|problem| problem.what);
        if why != self.why {
            if let Some(why) = &why {
                say(&Line::new(Priority::Error, why.clone()));
            }
            self.why = why;
        }
    }
}

/// The whole in a few words.
fn words(subjects: Option<&[Subject<'_>]>) -> String {
    let Some(subjects) = subjects else {
        return "the module enbd is not loaded".to_owned();
    };
    let count = |wanted| {
        let verdicts = subjects.iter().map(Verdict::of);
        verdicts.filter(|verdict| *verdict == wanted).count()
    };
    let (ok, degraded, held) = (
        count(Verdict::Ok),
        count(Verdict::Degraded),
        count(Verdict::Held),
    );
    format!("{ok} OK, {degraded} degraded, {held} held")
}
