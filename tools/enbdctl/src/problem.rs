// SPDX-License-Identifier: GPL-2.0

//! What went wrong, why, and what to do about it; and the exit statuses.

use std::fmt;
use std::io;

/// How the program ends. Scripts rely on the numbers.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Exit {
    /// All is well, or what was asked for is done.
    Ok = 0,
    /// A device is degraded, or a group is being resynced.
    Degraded = 1,
    /// A device has no group that could serve it.
    Held = 2,
    /// The device, the group, the file or the module is not there.
    NotThere = 3,
    /// The command line or a configuration file is wrong.
    Usage = 4,
    /// The kernel refused, or enbdctl did because it would have had to guess.
    Refused = 5,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What went wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// How the program ends for it.
    pub exit: Exit,
    /// What went wrong and why.
    pub what: String,
    /// What to do.
    pub hint: Option<String>,
    /// The errno, where there is one.
    pub errno: Option<i32>,
}

impl Problem {
    /// A problem without a hint.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self {
            exit,
            what: what.into(),
            hint: None,
            errno: None,
        }
    }

    /// The same with a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A file that could not be read or written.
    pub fn file(doing: &str, path: &std::path::Path, error: &io::Error) -> Self {
        let exit = match error.kind() {
            io::ErrorKind::NotFound => Exit::NotThere,
            _ => Exit::Refused,
        };
        let mut problem = Self::new(exit, format!("cannot {doing} {}: {error}", path.display()));
        problem.errno = error.raw_os_error();
        if error.kind() == io::ErrorKind::PermissionDenied {
            problem.hint = Some("root can: sudo".to_owned());
        }
        problem
    }

    /// The same with something said before it.
    pub fn about(mut self, subject: impl fmt::Display) -> Self {
        self.what = format!("{subject}: {}", self.what);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}
