// SPDX-License-Identifier: GPL-2.0

//! Who is told of an alarm: a program of the administrator, and mail.
//!
//! No shell reads anything. Programs run one after the other, in a thread of their own, so that who
//! follows devices never waits for one; and each has its time, after which it is killed with all that
//! it has started.

use crate::alarm::Alarm;
use crate::change::{Line, Priority};
use crate::monitor_config::MonitorConfig;
use crate::sys;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{sync_channel, SyncSender, TrySendError};
use std::thread;
use std::time::Duration;

/// Alarms that may wait for a handler.
const QUEUE: usize = 64;
/// Less than a pipe holds, so that a program that does not read it keeps nobody waiting.
const TEXT_BYTES: usize = 32 << 10;

/// What is run for an alarm.
#[derive(Clone, Debug)]
pub struct Handlers {
    wishes: MonitorConfig,
    host: String,
}

impl Handlers {
    /// Those that are wished.
    pub fn new(wishes: &MonitorConfig) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            wishes: wishes.clone(),
            host: host.trim().to_owned(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.wishes.mail.is_none() && self.wishes.exec.is_none()
    }

    /// Runs all of them, and waits for them: each with how it ended.
    pub fn run(&self, alarm: &Alarm) -> Vec<(String, Result<(), String>)> {
        let mut ends = Vec::new();
        if let Some(words) = &self.wishes.exec {
            let text = format!("{}\n\n{}", alarm.summary, alarm.text);
            let end = command(words, alarm);
            let end = end.and_then(|command| self.end_of(command, &text));
            ends.push((words.join(" "), end));
        }
        if let Some(to) = &self.wishes.mail {
            let mut words = self.wishes.sendmail.clone();
            words.push(to.clone());
            let end = command(&words, alarm);
            let end = end.and_then(|command| self.end_of(command, &self.letter(to, alarm)));
            ends.push((format!("mail to {to}"), end));
        }
        ends
    }

    fn letter(&self, to: &str, alarm: &Alarm) -> String {
        let host = &self.host;
        let subject = format!("enbd on {host}: {}", alarm.summary);
        // A header is a line of ASCII.
        let plain = |letter: char| letter == ' ' || letter.is_ascii_graphic();
        let subject = subject.replace(|letter| !plain(letter), "?");
        format!(
            "To: {to}\nSubject: {subject}\nAuto-Submitted: auto-generated\nMIME-Version: 1.0\n\
             Content-Type: text/plain; charset=utf-8\n\n{}\n\n{}",
            alarm.summary, alarm.text
        )
    }

    /// Has a program read a text, and waits for its end.
    fn end_of(&self, mut command: Command, text: &str) -> Result<(), String> {
        let mut child = command
            .spawn()
            .map_err(|error| format!("cannot be started: {error}"))?;
        if let Some(mut pipe) = child.stdin.take() {
            // Who does not read it does not want it.
            let _ = pipe.write_all(cut(text).as_bytes());
        }
        end_within(&mut child, self.wishes.timeout)
    }
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or("")
}

fn command(words: &[String], alarm: &Alarm) -> Result<Command, String> {
    let (program, words) = words.split_first().ok_or("there is no program")?;
    let device = alarm
        .letter
        .map_or(String::new(), |letter| format!("/dev/nd{letter}"));
    let mut command = Command::new(program);
    command
        .args(words)
        .env("ENBD_EVENT", alarm.kind.key())
        .env("ENBD_DEVICE", device)
        .env("ENBD_NAME", &alarm.label)
        .env("ENBD_STATE", alarm.verdict.key())
        .env("ENBD_SUMMARY", &alarm.summary)
        // It is not the service that is ready.
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::piped())
        .process_group(0);
    Ok(command)
}

fn end_within(child: &mut Child, limit: Duration) -> Result<(), String> {
    let in_time = sys::ends_within(child, limit).map_err(|error| error.to_string());
    if in_time != Ok(true) {
        sys::kill_group(child);
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    match in_time {
        Ok(true) if status.success() => Ok(()),
        Ok(true) => Err(format!("failed: {status}")),
        Ok(false) => Err(format!("was killed: not done within {} s", limit.as_secs())),
        Err(error) => Err(format!("was killed: {error}")),
    }
}

/// The thread in which they run.
pub struct Worker {
    queue: Option<SyncSender<Alarm>>,
}

impl Worker {
    /// Starts it, if there is anything to run. `say` is told of what fails.
    ///
    /// # Errors
    ///
    /// There is no thread to be had.
    pub fn start(handlers: Handlers, say: fn(&Line)) -> std::io::Result<Self> {
        if handlers.is_empty() {
            return Ok(Self { queue: None });
        }
        let (queue, alarms) = sync_channel::<Alarm>(QUEUE);
        let work = move || {
            for alarm in alarms {
                for (what, end) in handlers.run(&alarm) {
                    if let Err(why) = end {
                        let text = format!("{}: nobody was told: {what} {why}", alarm.label);
                        say(&Line::new(Priority::Error, text));
                    }
                }
            }
        };
        thread::Builder::new()
            .name("handlers".to_owned())
            .spawn(work)?;
        Ok(Self { queue: Some(queue) })
    }

    /// Hands an alarm over, and does not wait.
    ///
    /// # Errors
    ///
    /// Too many wait already, and this one will not be handled.
    pub fn give(&self, alarm: Alarm) -> Result<(), Line> {
        let Some(queue) = &self.queue else {
            return Ok(());
        };
        queue.try_send(alarm).map_err(|error| {
            let (alarm, why) = match error {
                TrySendError::Full(alarm) => (alarm, "too many alarms wait for handlers"),
                TrySendError::Disconnected(alarm) => (alarm, "the handlers' thread has ended"),
            };
            let text = format!("{}: nobody was told: {why}", alarm.label);
            Line::new(Priority::Error, text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{cut, Handlers, Worker, TEXT_BYTES};
    use crate::alarm::Alarm;
    use crate::monitor_config::MonitorConfig;
    use std::path::Path;
    use std::time::{Duration, Instant};

    fn handlers(text: &str) -> Handlers {
        let wishes = MonitorConfig::parse(Path::new("monitor.toml"), text);
        Handlers::new(&wishes.expect("a good file"))
    }

    #[test]
    fn both_are_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name).display().to_string();
        let (one, two) = (at("one"), at("two"));
        let text = format!(
            "mail = \"root\"\n\
             sendmail = [\"/bin/sh\", \"-c\", 'echo \"$0\" >{one}; cat >>{one}']\n\
             exec = [\"/bin/sh\", \"-c\", 'echo \"$ENBD_EVENT $ENBD_NAME $ENBD_STATE $1\" >{two}; cat >>{two}', 'x', 'a b; c']\n"
        );
        for (_, end) in handlers(&text).run(&Alarm::trial()) {
            assert_eq!(end, Ok(()));
        }
        let letter = std::fs::read_to_string(&one).expect("sendmail has run");
        assert!(
            letter.starts_with("root\nTo: root\nSubject: enbd on "),
            "{letter}"
        );
        assert!(
            letter.contains(": test: a trial alarm\nAuto-Submitted"),
            "{letter}"
        );
        assert!(
            letter.contains("\n\ntest: a trial alarm\n\nThis is a trial"),
            "{letter}"
        );
        let told = std::fs::read_to_string(&two).expect("exec has run");
        assert!(
            told.starts_with("test test ok a b; c\ntest: a trial alarm\n\nThis"),
            "{told}"
        );
    }

    #[test]
    fn how_they_end() {
        for (exec, wanted) in [
            ("[\"/bin/true\"]", None),
            ("[\"/bin/false\"]", Some("failed: exit status: 1")),
            ("[\"/no/where\"]", Some("cannot be started: ")),
            (
                "[\"/bin/sh\", \"-c\", \"kill -9 $$\"]",
                Some("failed: signal: 9"),
            ),
            // The one that it waits for is killed, too.
            (
                "[\"/bin/sh\", \"-c\", \"sleep 600; true\"]",
                Some("was killed: not done within 1 s"),
            ),
        ] {
            let began = Instant::now();
            let ends = handlers(&format!("timeout = 1\nexec = {exec}\n")).run(&Alarm::trial());
            let (_, end) = ends.first().expect("it was run");
            match wanted {
                None => assert_eq!(end, &Ok(())),
                Some(why) => assert!(
                    end.as_ref().is_err_and(|end| end.starts_with(why)),
                    "{end:?}"
                ),
            }
            assert!(began.elapsed() < Duration::from_secs(60));
        }
    }

    #[test]
    fn nobody_waits_for_them() {
        let worker = Worker::start(handlers("exec = [\"/bin/sleep\", \"2\"]"), |_| {});
        let worker = worker.expect("a thread");
        let began = Instant::now();
        let refused = (0..1000).filter(|_| worker.give(Alarm::trial()).is_err());
        assert!(refused.count() > 900);
        assert!(began.elapsed() < Duration::from_secs(20));
        let none = Worker::start(handlers(""), |_| {}).expect("no thread is needed");
        assert!((0..1000).all(|_| none.give(Alarm::trial()).is_ok()));
    }

    #[test]
    fn texts_are_cut_between_letters() {
        let long = "\u{fc}".repeat(TEXT_BYTES);
        assert_eq!(cut(&long).len(), TEXT_BYTES);
        assert_eq!(cut(&format!("a{long}")).len(), TEXT_BYTES - 1);
        assert_eq!(cut("x"), "x");
    }
}
