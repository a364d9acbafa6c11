// SPDX-License-Identifier: GPL-2.0

//! What is remembered of a mirror while it is down: `/var/lib/enbd/NAME.state`.
//!
//! That is of mirrors without metadata alone: of those the module takes all groups that are connected
//! before `enable` to be equal. So who was in sync is written down when a mirror is stopped, and that
//! nobody knows is written down before it is started. A mirror that was not stopped in order leaves
//! a record that says so, and is not started by it.
//!
//! Servers are known by their URIs, since the numbers of groups follow the configuration.

use crate::config::Config;
use crate::places::Places;
use crate::problem::{Exit, Problem};
use crate::view;
use enbd_status::Device;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const VERSION: u32 = 1;

/// One group when it was last looked at.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Member {
    /// Its number then.
    pub group: u8,
    /// Its server and export.
    pub uri: String,
    /// Whether it was in sync.
    pub in_sync: bool,
    /// Its server as the module shows it, so that it is known again without its name.
    #[serde(default)]
    pub shown: Option<String>,
}

/// What is remembered.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Record {
    version: u32,
    /// The device's letter.
    pub device: char,
    /// The boot in which it was written.
    pub boot: String,
    /// The device was stopped in order, and nothing was written since.
    pub clean: bool,
    /// Why it is not clean, where there is a reason beside that it runs.
    pub note: Option<String>,
    /// The groups.
    pub groups: Vec<Member>,
}

impl Record {
    /// A record of this moment.
    pub fn new(device: char, clean: bool, groups: Vec<Member>) -> Self {
        Self {
            version: VERSION,
            device,
            boot: boot_id(),
            clean,
            note: None,
            groups,
        }
    }

    /// Whether it was written since the machine was started.
    pub fn is_of_this_boot(&self) -> bool {
        !self.boot.is_empty() && self.boot == boot_id()
    }

    /// Whether the module knows the states of this device, which exists and is disabled: it has been
    /// enabled since this was written. Enabling reads the partitions, so the most requests at once
    /// are none only if it never was.
    pub fn is_run_of(&self, device: &Device) -> bool {
        !self.clean && self.is_of_this_boot() && device.queued_max > 0
    }

    /// Whether a server was in sync; none if it was no member.
    pub fn was_in_sync(&self, uri: &str) -> Option<bool> {
        self.groups
            .iter()
            .find(|member| member.uri == uri)
            .map(|member| member.in_sync)
    }

    /// The servers that were in sync, for messages.
    pub fn in_sync_words(&self) -> String {
        let members = self.groups.iter().filter(|member| member.in_sync);
        let uris: Vec<&str> = members.map(|member| member.uri.as_str()).collect();
        match uris.as_slice() {
            [] => "none".to_owned(),
            uris => uris.join(", "),
        }
    }
}

/// The groups of a configuration, and their servers as the module shows them.
pub fn members(config: &Config, device: &Device, in_sync: impl Fn(u8) -> bool) -> Vec<Member> {
    let member = |(group, member): (u8, &crate::config::Member)| Member {
        group,
        uri: member.uri.to_string(),
        in_sync: in_sync(group),
        shown: shown(device, group),
    };
    (0u8..).zip(&config.groups).map(member).collect()
}

/// The server of a group as the module shows it; none if it has no channel.
pub fn shown(device: &Device, group: u8) -> Option<String> {
    let mut uris = device.channels_of(group).filter_map(view::uri);
    uris.next().map(|uri| uri.to_string())
}

/// The kernel's number of this boot; empty if it cannot be read.
fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// Where records are kept.
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// The records of these places.
    pub fn new(places: &Places) -> Self {
        Self {
            dir: places.var.clone(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.state"))
    }

    /// The record of a device, if there is one.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is no record that this enbdctl knows.
    pub fn load(&self, name: &str) -> Result<Option<Record>, Problem> {
        let path = self.path(name);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Problem::file("read", &path, &error)),
        };
        let damaged = |why: String| {
            let what = format!("{} is no record of a mirror: {why}", path.display());
            let hint = "if you know which group is current, remove the file and say so: --source";
            Problem::new(Exit::Refused, what).hint(hint)
        };
        let record: Record =
            serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        match record.version {
            VERSION => Ok(Some(record)),
            other => Err(damaged(format!("its version is {other}"))),
        }
    }

    /// Writes the record, so that after a crash there is the old one or the new one.
    ///
    /// # Errors
    ///
    /// It cannot be made durable.
    pub fn save(&self, name: &str, record: &Record) -> Result<(), Problem> {
        let path = self.path(name);
        let save = || -> io::Result<()> {
            fs::create_dir_all(&self.dir)?;
            let new = path.with_extension("state.new");
            let mut file = File::create(&new)?;
            serde_json::to_writer_pretty(&mut file, record)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            sync_dir(&self.dir)
        };
        save().map_err(|error| Problem::file("write", &path, &error))
    }

    /// Removes the record, if there is one.
    ///
    /// # Errors
    ///
    /// It cannot be removed for good.
    pub fn forget(&self, name: &str) -> Result<(), Problem> {
        let path = self.path(name);
        let remove = || fs::remove_file(&path).and_then(|()| sync_dir(&self.dir));
        match remove() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Problem::file("remove", &path, &error))
            }
            _ => Ok(()),
        }
    }

    /// Writes back what was there before, which may be nothing.
    ///
    /// # Errors
    ///
    /// It cannot be made durable.
    pub fn restore(&self, name: &str, record: Option<&Record>) -> Result<(), Problem> {
        if let Some(record) = record {
            return self.save(name, record);
        }
        self.forget(name)
    }
}

/// Makes durable which names a directory has.
///
/// # Errors
///
/// Those of fsync(2).
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Keeps others from changing a device, until it is dropped.
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock of a device.
    ///
    /// # Errors
    ///
    /// The lock's file cannot be made.
    pub fn take(places: &Places, letter: char) -> Result<Self, Problem> {
        let path = places.run.join(format!("{letter}.lock"));
        let take = || -> io::Result<File> {
            fs::create_dir_all(&places.run)?;
            let file = File::options().create(true).append(true).open(&path)?;
            crate::sys::lock(&file)?;
            Ok(file)
        };
        let file = take().map_err(|error| Problem::file("lock", &path, &error))?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::{Member, Record, Store};
    use crate::places::Places;
    use std::fs;

    #[test]
    fn records_come_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let places = Places {
            var: dir.path().join("var"),
            ..Places::default()
        };
        let store = Store::new(&places);
        assert_eq!(store.load("data"), Ok(None));
        let member = |group, uri: &str, in_sync| Member {
            group,
            uri: uri.to_owned(),
            in_sync,
            shown: None,
        };
        let groups = vec![member(0, "nbd://h/d", true), member(1, "nbd://i/d", false)];
        let record = Record::new('a', true, groups);
        store.save("data", &record).expect("saved");
        assert_eq!(store.load("data"), Ok(Some(record.clone())));
        assert!(record.is_of_this_boot());
        assert_eq!(record.was_in_sync("nbd://i/d"), Some(false));
        assert_eq!(record.was_in_sync("nbd://j/d"), None);
        assert_eq!(record.in_sync_words(), "nbd://h/d");
        for text in [
            "",
            "{}",
            "{\"version\":2,\"device\":\"a\",\"boot\":\"\",\"clean\":true,\"groups\":[]}",
        ] {
            fs::write(places.var.join("data.state"), text).expect("written");
            let problem = store.load("data").expect_err("damaged");
            assert!(
                problem.what.contains("data.state is no record of a mirror"),
                "{problem}"
            );
        }
    }
}
