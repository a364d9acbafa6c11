// SPDX-License-Identifier: GPL-2.0

//! The module's file: the status out, commands in.
//!
//! Shape: [`Module`] is what the verbs talk to: [`Proc`] is the file, [`Dry`] only prints what would
//! be written. A command is one write(2) of one line on a raw descriptor, since a buffered writer
//! sends a refused line again.

use crate::command::Line;
use crate::problem::{Exit, Problem};
use crate::sys::Uevents;
use enbd_status::Status;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A command that the kernel refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// The line.
    pub line: Line,
    /// The errno.
    pub errno: i32,
    /// Why, in the module's words or else the system's.
    pub why: String,
}

impl Refusal {
    /// As a problem of a device.
    pub fn problem(&self, name: &str) -> Problem {
        let errno = errno_name(self.errno);
        let what = format!(
            "{name}: {} was refused: {} ({errno})",
            self.line.text(),
            self.why
        );
        let mut problem = Problem::new(Exit::Refused, what);
        problem.errno = Some(self.errno);
        if matches!(self.errno, libc::EPERM | libc::EACCES) {
            problem.hint = Some("commands need CAP_SYS_ADMIN: sudo".to_owned());
        }
        problem
    }
}

/// The module.
pub trait Module {
    /// What it says.
    ///
    /// # Errors
    ///
    /// It is not loaded, or its text is of no known form.
    fn status(&self) -> Result<Status, Problem>;

    /// Has one command carried out.
    ///
    /// # Errors
    ///
    /// The kernel refused it.
    fn command(&mut self, line: &Line) -> Result<(), Refusal>;

    /// Whether commands are only shown.
    fn is_dry(&self) -> bool {
        false
    }
}

/// `EBUSY` for 16, or the number.
pub fn errno_name(errno: i32) -> String {
    let name = match errno {
        libc::EPERM => "EPERM",
        libc::ENOENT => "ENOENT",
        libc::EINTR => "EINTR",
        libc::EIO => "EIO",
        libc::E2BIG => "E2BIG",
        libc::ENOMEM => "ENOMEM",
        libc::EACCES => "EACCES",
        libc::EBUSY => "EBUSY",
        libc::EEXIST => "EEXIST",
        libc::ENODEV => "ENODEV",
        libc::EINVAL => "EINVAL",
        libc::EFBIG => "EFBIG",
        libc::ENOSPC => "ENOSPC",
        libc::EROFS => "EROFS",
        libc::ERANGE => "ERANGE",
        libc::ENAMETOOLONG => "ENAMETOOLONG",
        libc::EPROTO => "EPROTO",
        libc::EILSEQ => "EILSEQ",
        libc::EOPNOTSUPP => "EOPNOTSUPP",
        libc::ENETUNREACH => "ENETUNREACH",
        libc::ECONNABORTED => "ECONNABORTED",
        libc::ECONNRESET => "ECONNRESET",
        libc::ENOTCONN => "ENOTCONN",
        libc::ESHUTDOWN => "ESHUTDOWN",
        libc::ETIMEDOUT => "ETIMEDOUT",
        libc::ECONNREFUSED => "ECONNREFUSED",
        libc::EHOSTUNREACH => "EHOSTUNREACH",
        libc::EUCLEAN => "EUCLEAN",
        libc::ESTALE => "ESTALE",
        libc::EPROTONOSUPPORT => "EPROTONOSUPPORT",
        other => return format!("errno {other}"),
    };
    name.to_owned()
}

/// The file.
pub struct Proc {
    path: PathBuf,
}

impl Proc {
    /// The file at this path; it is opened when it is needed.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    fn write(&self, line: &Line) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(&self.path)?;
        let text = format!("{}\n", line.text());
        // Not write_all, which would go on with what is left of a line.
        match file.write(text.as_bytes())? {
            taken if taken == text.len() => Ok(()),
            _ => Err(io::Error::from_raw_os_error(libc::EIO)),
        }
    }

    /// What the module says of the refusal, if it is this one that it speaks of.
    fn reason(&self, letter: char, errno: i32) -> Option<String> {
        let status = self.status().ok()?;
        let device = status.device(letter)?;
        let same = i32::try_from(device.last_error) == Ok(errno);
        device.error.clone().filter(|_| same)
    }
}

impl Module for Proc {
    fn status(&self) -> Result<Status, Problem> {
        let text =
            fs::read_to_string(&self.path).map_err(|error| unreadable(&self.path, &error))?;
        parse(&text)
    }

    fn command(&mut self, line: &Line) -> Result<(), Refusal> {
        let Err(error) = self.write(line) else {
            return Ok(());
        };
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        // Who may not write is not told of in the status.
        let told = !matches!(errno, libc::EPERM | libc::EACCES);
        let reason = told.then(|| self.reason(line.letter(), errno)).flatten();
        let why = reason.unwrap_or_else(|| match errno {
            libc::ENODEV => "no such device".to_owned(),
            errno => system_words(errno),
        });
        Err(Refusal {
            line: line.clone(),
            errno,
            why,
        })
    }
}

/// The system's words, without Rust's own addition of the number.
pub(crate) fn system_words(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    let words = text.split(" (os error").next().unwrap_or(&text);
    words.to_owned()
}

/// Takes the module's text apart.
///
/// # Errors
///
/// It is of no known form.
pub fn parse(text: &str) -> Result<Status, Problem> {
    Status::parse(text).map_err(|error| {
        let what = format!("the status of the module cannot be read: {error}");
        Problem::new(Exit::Refused, what).hint("is enbdctl older than the module?")
    })
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    if error.kind() != io::ErrorKind::NotFound {
        return Problem::file("read", path, error);
    }
    let mut problem = Problem::new(Exit::NotThere, "the module enbd is not loaded");
    problem.errno = error.raw_os_error();
    problem.hint(load_hint())
}

/// How to load it, or that there is none for this kernel.
fn load_hint() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let known = fs::read_to_string(format!("/lib/modules/{release}/modules.dep"));
    let is_enbd = |line: &str| {
        let file = line
            .split(':')
            .next()
            .and_then(|path| path.rsplit('/').next());
        file.is_some_and(|file| file.starts_with("enbd.ko"))
    };
    match known {
        Ok(text) if !text.lines().any(is_enbd) => {
            format!("none is installed for the kernel {release}: see README.md, or insmod enbd.ko")
        }
        _ => "sudo modprobe enbd".to_owned(),
    }
}

/// Shows commands instead of having them carried out.
pub struct Dry {
    inner: Proc,
}

impl Dry {
    /// Over the file at this path.
    pub fn new(path: &Path) -> Self {
        Self {
            inner: Proc::new(path),
        }
    }
}

impl Module for Dry {
    fn status(&self) -> Result<Status, Problem> {
        self.inner.status()
    }

    fn command(&mut self, line: &Line) -> Result<(), Refusal> {
        crate::print(&format!("{}\n", line.text()));
        Ok(())
    }

    fn is_dry(&self) -> bool {
        true
    }
}

/// The status, again and again.
pub struct Watcher {
    file: File,
    path: PathBuf,
    /// The module wakes who polls. One that does not tell its settings is too old for that; while
    /// there is no device it is not known.
    wakes: bool,
    /// There was no device.
    is_empty: bool,
}

/// How often a file is read that may not say when it has changed.
const LOOK: Duration = Duration::from_millis(500);
/// The same, should it fail to say so.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

impl Watcher {
    /// Opens the file.
    ///
    /// # Errors
    ///
    /// The module is not loaded.
    pub fn open(path: &Path) -> Result<Self, Problem> {
        let file = File::open(path).map_err(|error| unreadable(path, &error))?;
        Ok(Self {
            file,
            path: path.to_owned(),
            wakes: false,
            is_empty: false,
        })
    }

    /// What the module says now.
    ///
    /// # Errors
    ///
    /// As [`Module::status`].
    pub fn status(&mut self) -> Result<Status, Problem> {
        let mut text = String::new();
        self.file
            .seek(SeekFrom::Start(0))
            .and_then(|_| self.file.read_to_string(&mut text))
            .map_err(|error| Problem::file("read", &self.path, &error))?;
        let status = parse(&text)?;
        self.wakes = status.devices.iter().any(|one| one.settings.is_some());
        self.is_empty = status.devices.is_empty();
        Ok(status)
    }

    /// Waits for a change, but not longer than this; where the module does not say that there was one,
    /// for a short while.
    ///
    /// # Errors
    ///
    /// Those of poll(2).
    pub fn wait(&self, limit: Duration) -> Result<(), Problem> {
        let limit = limit.min(if self.wakes { LOOK_AGAIN } else { LOOK });
        crate::sys::wait_for_change(&self.file, limit)
            .map_err(|error| Problem::file("wait for", &self.path, &error))
    }

    /// The same, or until the kernel tells udev something, which it does when a disk comes: so a file
    /// without a device need not be read again and again, whatever module it may be.
    ///
    /// # Errors
    ///
    /// Those of poll(2).
    pub fn wait_or_hear(&self, uevents: &Uevents, limit: Duration) -> Result<(), Problem> {
        let is_sure = self.wakes || self.is_empty;
        let limit = limit.min(if is_sure { LOOK_AGAIN } else { LOOK });
        crate::sys::wait_for_either(Some(&self.file), Some(uevents), limit)
            .map_err(|error| Problem::file("wait for", &self.path, &error))
    }
}
