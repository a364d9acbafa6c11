// SPDX-License-Identifier: GPL-2.0

//! The command line. The manual and the completions are made from it.

use crate::choice::{Consent, Data};
use crate::create::Wanted;
use crate::places::Places;
use crate::uri::{parse_channels, Uri};
use crate::verbs::Goal;
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
    /// Shows the lines that would be written to /proc/nbdinfo, and changes nothing
    #[arg(short = 'n', long, global = true)]
    pub dry_run: bool,
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
    /// Tells what happens to devices, a line each, until interrupted
    ///
    /// As the kernel tells it to udev: groups that are faulty, in sync or gone, resyncs that begin and
    /// end, devices that are enabled, disabled, held, released and renamed. `missed` says that there
    /// was more than could be told.
    Events {
        /// The device; all if left out
        device: Option<String>,
        /// For programs: an object a line
        #[arg(long)]
        json: bool,
        /// Tells first what is there, as `exists`
        #[arg(long)]
        now: bool,
    },
    /// Tells in one line how devices fare: a plugin of Nagios and Icinga
    ///
    /// Without DEVICE it tells of all that are enabled, and of those that should be: what has
    /// `auto = true` and is not up is UNKNOWN. It needs no privilege.
    ///
    /// Exit status: 0 OK; 1 WARNING, degraded or resyncing; 2 CRITICAL, held; 3 UNKNOWN, not there or
    /// disabled, or it cannot be told.
    Check {
        /// The device; all if left out
        device: Option<String>,
    },
    /// Shows the status as metrics of Prometheus
    ///
    /// Names and labels are in Documentation/monitor.rst. Addresses are shown to root only.
    Metrics {
        /// Writes them into this file, which is replaced whole; for node_exporter it ends with .prom
        #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
        output: Option<PathBuf>,
    },
    /// Tells of what changes, and gives alarms: a service
    ///
    /// A line for each change on standard output, for the journal. An alarm, as of a group that is
    /// lost, is mailed, and a program is run, if /etc/enbd/monitor.toml says so; it runs without that
    /// file, too. The first copy of a new group is no alarm. While a device is not OK its alarm is
    /// given again, once a day.
    Monitor {
        /// Gives a trial alarm, says who was told, and ends
        #[arg(long)]
        test: bool,
    },
    /// Makes a mirror that remembers, and brings it up
    ///
    /// Its exports get metadata in their last mebibytes, which must be blank, and the mirror is
    /// smaller than them by that. What one group has is copied to all others: which one that is is
    /// said by an option, or asked on a terminal. Its configuration is written, never over one that
    /// is there, and what fstab needs is shown. Interrupted it can be called again.
    Create(CreateArgs),
    /// Brings devices up from their configurations
    ///
    /// A mirror that remembers (`create`) is started with what is current, or it is said which
    /// server is missing: the exports know it, and the module decides.
    ///
    /// Of others only groups that are known to be in sync are connected before the disk is enabled;
    /// the rest is connected afterwards and copied. What was in sync is known from the last `down`.
    /// If it is not known, say it: --source or --assume-equal. What is up already gets what it
    /// lacks.
    Up {
        /// The device
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        device: Option<String>,
        /// All devices that have a configuration
        #[arg(long)]
        all: bool,
        /// How long to wait for servers that are not there
        #[arg(long, value_name = "SECONDS", default_value_t = 30)]
        wait: u64,
        /// This group is current: all others are overwritten, or, if the mirror remembers, wait for resync
        #[arg(long, value_name = "GROUP", value_parser = group, conflicts_with_all = ["assume_equal", "degraded", "all"])]
        source: Option<u8>,
        /// All groups hold the same; of a mirror without metadata
        #[arg(long, conflicts_with_all = ["degraded", "all"])]
        assume_equal: bool,
        /// Goes on without members that may be newer; of a mirror that remembers
        #[arg(long, conflicts_with = "all")]
        degraded: bool,
    },
    /// Takes devices down, and remembers which groups are in sync
    Down {
        /// The device
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        device: Option<String>,
        /// All devices that have a configuration
        #[arg(long)]
        all: bool,
    },
    /// Publishes the disk of a device that exists
    Enable {
        /// The device
        device: String,
    },
    /// Flushes the disk and takes it away; channels and states stay
    Disable {
        /// The device
        device: String,
    },
    /// Sees to it that a group has channels to a server
    ///
    /// A device that was never enabled takes all its groups to hold the same.
    Connect {
        /// The device, which need not exist
        device: String,
        /// The group
        #[arg(value_parser = group)]
        group: u8,
        /// nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=/PATH
        #[arg(value_parser = Uri::parse)]
        uri: Uri,
        /// How many channels the group is to have to it
        #[arg(long, value_name = "N", value_parser = parse_channels)]
        channels: Option<u8>,
    },
    /// Removes the channels of a group
    Disconnect {
        /// The device
        device: String,
        /// The group
        #[arg(value_parser = group)]
        group: u8,
        /// Only those to this server
        #[arg(value_parser = Uri::parse)]
        uri: Option<Uri>,
    },
    /// Stops I/O to a group; what it misses is remembered
    Fail {
        /// The device
        device: String,
        /// The group
        #[arg(value_parser = group)]
        group: u8,
    },
    /// Brings a group back: what it missed is copied
    Resync {
        /// The device
        device: String,
        /// The group
        #[arg(value_parser = group)]
        group: u8,
        /// Copies everything
        #[arg(long)]
        full: bool,
    },
    /// Gives an enabled device one more group, and copies everything to it
    Add {
        /// The device
        device: String,
        /// nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=/PATH
        #[arg(value_parser = Uri::parse)]
        uri: Uri,
        /// How many channels
        #[arg(long, value_name = "N", value_parser = parse_channels)]
        channels: Option<u8>,
    },
    /// Drops a group
    Remove {
        /// The device
        device: String,
        /// The group
        #[arg(value_parser = group)]
        group: u8,
    },
    /// Connects a member of a mirror that remembers
    ///
    /// The export must have the metadata of that member. If the device is enabled, what it misses
    /// is copied.
    Attach {
        /// The device, which need not exist
        device: String,
        /// The group
        #[arg(value_parser = group)]
        group: u8,
        /// The server; that of the configuration if left out
        #[arg(value_parser = Uri::parse)]
        uri: Option<Uri>,
        /// How many channels
        #[arg(long, value_name = "N", value_parser = parse_channels)]
        channels: Option<u8>,
    },
    /// Takes a member out of a mirror that remembers, for good
    ///
    /// The device must be there and disabled, with all other members that are in sync. The metadata
    /// of the member is overwritten if it is connected.
    Forget {
        /// The device
        device: String,
        /// The group
        #[arg(value_parser = group)]
        group: u8,
    },
    /// Changes settings: timeout=60 resync_max=50M show_errs=on
    Set {
        /// The device
        device: String,
        /// KEY=VALUE
        #[arg(required = true, value_name = "KEY=VALUE")]
        settings: Vec<String>,
    },
    /// Has the module forget a device; fails what is held
    Reset {
        /// The device
        device: String,
    },
    /// Waits until a device is as wished
    Wait {
        /// The device
        device: String,
        /// What for
        #[arg(long = "for", value_name = "STATE", value_enum, default_value_t = Goal::Synced)]
        goal: Goal,
        /// How long at most; for ever if left out
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u64>,
    },
    /// Checks configuration files
    Config {
        /// What to do with them
        #[command(subcommand)]
        what: ConfigVerb,
    },
    /// Shows what a mirror has written at the end of an export
    ///
    /// On the server, or wherever the export's file or block device is. The module need not be
    /// loaded, nothing is written, and who may read the file need not be root. What is shown of
    /// other members is what this one was told last.
    ///
    /// Exit status: 0 the export is a member, 3 it has no metadata or is not there, 5 its metadata
    /// cannot be used.
    Examine {
        /// The file or block device
        #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
        export: PathBuf,
    },
    /// Shows what a server has: the export's size, what it can do, what is on it
    ///
    /// Nothing is written, and the module need not be loaded. A server that takes one connection at
    /// a time does not answer while a device has it.
    Probe {
        /// nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=/PATH
        #[arg(value_parser = Uri::parse)]
        uri: Uri,
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

/// What is to be made of which exports.
#[derive(Args, Debug)]
pub struct CreateArgs {
    /// The name: that of its configuration, and of /dev/enbd/NAME
    name: String,
    /// The exports, group 0 first
    #[arg(required = true, value_name = "URI", value_parser = Uri::parse)]
    uris: Vec<Uri>,
    /// The letter of the device; the first one that is free if left out
    #[arg(long, value_name = "LETTER", value_parser = letter)]
    device: Option<char>,
    /// How many channels each group has
    #[arg(long, value_name = "N", value_parser = parse_channels)]
    channels: Option<u8>,
    /// Bytes of a block
    #[arg(long, value_name = "BYTES")]
    blocksize: Option<u32>,
    /// This group has the data: the others are overwritten with it
    #[arg(long, value_name = "GROUP", value_parser = group, conflicts_with_all = ["equal", "empty"])]
    source: Option<u8>,
    /// All groups hold the same: nothing is copied
    #[arg(long, conflicts_with = "empty")]
    equal: bool,
    /// Nothing that any group has is to be kept
    #[arg(long)]
    empty: bool,
    /// Overwrites metadata, and what is in its place
    #[arg(long)]
    force: bool,
    /// Asks nothing
    #[arg(long, short = 'y')]
    yes: bool,
}

impl CreateArgs {
    /// What is wanted.
    pub fn wanted(&self) -> Wanted {
        let data = match self.source {
            Some(group) => Some(Data::Of(group)),
            None if self.equal => Some(Data::Equal),
            None if self.empty => Some(Data::Nobody),
            None => None,
        };
        Wanted {
            name: self.name.clone(),
            letter: self.device,
            uris: self.uris.clone(),
            channels: self.channels,
            block: self.blocksize,
            data,
            consent: Consent {
                yes: self.yes,
                force: self.force,
            },
        }
    }
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

/// A device's letter.
fn letter(text: &str) -> Result<char, String> {
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        (Some(letter @ 'a'..='z'), None) => Ok(letter),
        _ => Err("a device is one letter from a to z".to_owned()),
    }
}

/// A group's number.
fn group(text: &str) -> Result<u8, String> {
    let number = text.parse::<u8>().ok().filter(|_| !text.starts_with('+'));
    let known = number.filter(|&number| usize::from(number) < enbd_logic::logic::MAX_GROUPS);
    known.ok_or_else(|| "a group is a number from 0 to 7".to_owned())
}

/// The command line for the makers of manuals and completions.
pub fn command() -> clap::Command {
    Cli::command()
}
