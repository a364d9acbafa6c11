// SPDX-License-Identifier: GPL-2.0

//! The command line. The manual and the completions are made from it.

use crate::places::Places;
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::path::PathBuf;

const AFTER: &str = "\
A DEVICE is named as its file in /etc/enbd (data), by its letter (a), or by its path (/dev/nda,
/dev/enbd/data). A GROUP is one mirror of a device: 0 to 7, in the order of the file.

Exit status: 0 done, or all is well; 1 a device is degraded; 2 a device has no group that could
serve it; 3 what was named is not there; 4 the command line or a file is wrong; 5 refused.";

/// Starts, stops, changes and shows enbd's mirrors.
#[derive(Debug, Parser)]
#[command(name = "enbdctl", version, after_help = AFTER, subcommand_required = true)]
pub struct Cli {
    /// Where files are.
    #[command(flatten)]
    pub dirs: Dirs,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Other places for files, for tests.
#[derive(Args, Debug)]
pub struct Dirs {
    #[arg(long, global = true, hide = true, value_name = "DIR")]
    etc: Option<PathBuf>,
    #[arg(long, global = true, hide = true, value_name = "DIR")]
    var: Option<PathBuf>,
    #[arg(long, global = true, hide = true, value_name = "DIR")]
    run: Option<PathBuf>,
    #[arg(long, global = true, hide = true, value_name = "FILE")]
    nbdinfo: Option<PathBuf>,
}

impl Dirs {
    /// The places that are meant.
    pub fn places(&self) -> Places {
        let mut places = Places::default();
        for (place, given) in [
            (&mut places.etc, &self.etc),
            (&mut places.var, &self.var),
            (&mut places.run, &self.run),
            (&mut places.nbdinfo, &self.nbdinfo),
        ] {
            if let Some(given) = given {
                place.clone_from(given);
            }
        }
        places
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Shows how devices fare; the exit status tells it, too
    ///
    /// Exit status: 0 OK, 1 degraded or resyncing, 2 held, 3 not there or disabled. Without DEVICE
    /// it is that of the worst device that is enabled.
    Status {
        /// The device; all if left out
        device: Option<String>,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Lists devices, and configurations that are not up
    List {
        /// Names alone, one a line
        #[arg(long)]
        names: bool,
    },
    /// Shows the course of things until interrupted
    ///
    /// On a terminal one line a device, drawn anew when something has changed, at most twice a
    /// second; elsewhere a line for each change.
    Watch {
        /// The device; all if left out
        device: Option<String>,
    },
    /// Checks configuration files
    Config {
        /// What to do with them
        #[command(subcommand)]
        what: ConfigVerb,
    },
    /// Writes the manual pages into a directory
    #[command(hide = true)]
    Man {
        /// The directory
        dir: PathBuf,
    },
    /// Writes a completion to standard output
    #[command(hide = true)]
    Completion {
        /// For which shell
        shell: clap_complete::Shell,
    },
}

/// What to do with configuration files.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Reads them, and says what is wrong with them
    Check {
        /// The name of the device; all if left out
        device: Option<String>,
    },
}

/// The command line for the makers of manuals and completions.
pub fn command() -> clap::Command {
    Cli::command()
}
