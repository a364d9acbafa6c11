// SPDX-License-Identifier: GPL-2.0

//! Who uses a disk: mounts, swap, devices on top, and processes that have it open.
//!
//! All of it is told to help a person; what cannot be read is left out.

use std::fmt;
use std::fs;
use std::path::Path;

/// One use of a disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Use {
    /// A file system is mounted.
    Mount {
        /// Where.
        place: String,
        /// Its kind.
        kind: String,
    },
    /// It is swap.
    Swap,
    /// Another block device is made of it.
    Holder(String),
    /// A process has it open.
    Process {
        /// Its name.
        name: String,
        /// Its number.
        pid: u32,
    },
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mount { place, kind } => write!(f, "mounted on {place} ({kind})"),
            Self::Swap => write!(f, "used as swap"),
            Self::Holder(name) => write!(f, "part of {name}"),
            Self::Process { name, pid } => write!(f, "open by {name} ({pid})"),
        }
    }
}

impl Use {
    /// What ends it.
    pub fn remedy(&self, device: &str) -> String {
        match self {
            Self::Mount { place, .. } => format!("umount {place}"),
            Self::Swap => format!("swapoff {device}"),
            Self::Holder(name) => format!("take {name} apart"),
            Self::Process { name, pid } => format!("end {name} ({pid})"),
        }
    }
}

/// The mounts, swap and devices on top of a disk and its partitions. `letter` names it.
pub fn of(letter: char) -> Vec<Use> {
    let disk = format!("nd{letter}");
    let parts = partitions(&disk);
    let mut uses = Vec::new();
    let numbers: Vec<String> = parts
        .iter()
        .filter_map(|part| fs::read_to_string(format!("/sys/class/block/{part}/dev")).ok())
        .map(|text| text.trim().to_owned())
        .collect();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    uses.extend(mounts.lines().filter_map(|line| mount(line, &numbers)));
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let is_swap = |line: &str| {
        let file = line
            .split_whitespace()
            .next()
            .and_then(|file| file.strip_prefix("/dev/"));
        file.is_some_and(|file| parts.iter().any(|part| part == file))
    };
    if swaps.lines().any(is_swap) {
        uses.push(Use::Swap);
    }
    for part in &parts {
        let holders = names(Path::new(&format!("/sys/class/block/{part}/holders")));
        uses.extend(holders.into_iter().map(Use::Holder));
    }
    uses
}

/// The processes that have the disk or a partition open. Only root sees those of others.
pub fn processes(letter: char) -> Vec<Use> {
    let disk = format!("/dev/nd{letter}");
    let is_ours = |path: &Path| {
        let rest = path.to_str().and_then(|path| path.strip_prefix(&disk));
        rest.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let mut uses = Vec::new();
    for pid in names(Path::new("/proc"))
        .iter()
        .filter_map(|name| name.parse().ok())
    {
        let pid: u32 = pid;
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        let mut links = files
            .flatten()
            .filter_map(|file| fs::read_link(file.path()).ok());
        if links.any(|link| is_ours(&link)) {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            uses.push(Use::Process {
                name: name.trim().to_owned(),
                pid,
            });
        }
    }
    uses
}

/// The disk and its partitions.
fn partitions(disk: &str) -> Vec<String> {
    let inside = names(Path::new(&format!("/sys/class/block/{disk}")));
    let mut parts = vec![disk.to_owned()];
    parts.extend(inside.into_iter().filter(|name| name.starts_with(disk)));
    parts
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// `36 35 259:0 / /srv/data rw,noatime shared:1 - ext4 /dev/nda rw`.
fn mount(line: &str, numbers: &[String]) -> Option<Use> {
    let (head, tail) = line.split_once(" - ")?;
    let mut words = head.split(' ');
    let number = words.nth(2)?;
    let place = words.nth(1)?;
    numbers
        .iter()
        .any(|known| known == number)
        .then(|| Use::Mount {
            place: place.replace("\\040", " "),
            kind: tail.split(' ').next().unwrap_or("?").to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::{mount, Use};

    #[test]
    fn a_line_of_mountinfo() {
        let line = "36 35 259:0 / /srv/my\\040data rw,noatime shared:1 - ext4 /dev/nda rw";
        let found = mount(line, &["259:0".to_owned()]).map(|found| found.to_string());
        assert_eq!(found.as_deref(), Some("mounted on /srv/my data (ext4)"));
        assert_eq!(mount(line, &["259:1".to_owned()]), None);
        assert_eq!(mount("36 35 259:0", &["259:0".to_owned()]), None);
        assert_eq!(Use::Swap.remedy("/dev/nda"), "swapoff /dev/nda");
    }
}
