// SPDX-License-Identifier: GPL-2.0

//! The whole text, and the lines of one device.

use crate::columns;
use crate::figure::{plain, Figure};
use crate::model::{
    Channel, Device, Group, GroupState, Link, Malformed, OtherLine, Resync, Status,
};
use crate::{memory, peer};
use std::collections::BTreeMap;

/// The lines that have stood in the text since 2003, and are there in each device.
const ALWAYS: [&str; 12] = [
    "State",
    "Queued",
    "Blocksize",
    "Size",
    "Blocks",
    "Groups",
    "Sockets",
    "Requested",
    "Despatched",
    "Errored",
    "Pending",
    "Dirty",
];

impl Status {
    /// Takes the text apart.
    ///
    /// # Errors
    ///
    /// A line of 2003 that is missing or not of its form.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let mut status = Self::default();
        let mut open: Vec<(char, Vec<(&str, &str)>)> = Vec::new();
        for line in text.split('\n').filter(|line| !line.is_empty()) {
            match (heading(line), open.last_mut()) {
                (Some(Some(letter)), _) => open.push((letter, Vec::new())),
                (Some(None), _) => {}
                (None, Some((letter, lines))) => match labelled(line, *letter) {
                    Some(pair) => lines.push(pair),
                    None => status.others.push(line.to_owned()),
                },
                (None, None) => status.others.push(line.to_owned()),
            }
        }
        for (letter, lines) in open {
            status.devices.push(Lines { letter, lines }.device()?);
        }
        Ok(status)
    }
}

/// `Device a:<tab>Open` gives the letter, `Device b-z:<tab>Closed` none; other lines are no heading.
fn heading(line: &str) -> Option<Option<char>> {
    let (devices, state) = line.strip_prefix("Device ")?.split_once(":\t")?;
    let mut letters = devices.chars();
    let letter = letters.next().filter(char::is_ascii_lowercase)?;
    match (state, letters.next()) {
        ("Open", None) => Some(Some(letter)),
        ("Closed", None | Some('-')) => Some(None),
        _ => None,
    }
}

/// `[a] LABEL:<tab>text`.
fn labelled(line: &str, letter: char) -> Option<(&str, &str)> {
    let rest = line.strip_prefix('[')?.strip_prefix(letter)?;
    rest.strip_prefix("] ")?.split_once(":\t")
}

struct Lines<'a> {
    letter: char,
    lines: Vec<(&'a str, &'a str)>,
}

impl<'a> Lines<'a> {
    fn find(&self, label: &str) -> Option<&'a str> {
        let line = self.lines.iter().find(|(known, _)| *known == label);
        line.map(|(_, text)| *text)
    }

    /// What `read` makes of the line with this label.
    fn read<T>(&self, label: &str, read: impl Fn(&'a str) -> Option<T>) -> Result<T, Malformed> {
        let text = self.find(label);
        text.and_then(read).ok_or_else(|| Malformed {
            letter: self.letter,
            label: label.to_owned(),
            text: text.map(str::to_owned),
        })
    }

    fn malformed(&self, label: &str) -> Malformed {
        Malformed {
            letter: self.letter,
            label: label.to_owned(),
            text: self.find(label).map(str::to_owned),
        }
    }

    fn device(&self) -> Result<Device, Malformed> {
        let (read_only, enabled, last_error) = self.read("State", state)?;
        let (queued, queued_real, queued_max) = self.read("Queued", queued)?;
        let blocksize = self.read("Blocksize", |text| plain(text.split('\t').next()?))?;
        let size_kib = self.read("Size", |text| plain(text.strip_suffix("KB")?))?;
        let (dirty, dirty_columns) = self.read("Dirty", columns::only_counts)?;
        let (requested, _, _) = self.read("Requested", |text| columns::traffic(text, "max"))?;
        let (despatched, _, md5) = self.read("Despatched", |text| columns::traffic(text, "md5"))?;
        let mut device = Device {
            letter: self.letter,
            enabled,
            read_only,
            last_error,
            error: self.find("Error").map(str::to_owned),
            queued,
            queued_real,
            queued_max,
            blocksize,
            size_kib,
            blocks: self.read("Blocks", plain)?,
            group_count: 0,
            groups: Vec::new(),
            channels: Vec::new(),
            resyncs: Vec::new(),
            requested,
            despatched,
            errored: self.read("Errored", columns::only_counts)?.0,
            pending: self.read("Pending", columns::only_counts)?.0,
            dirty,
            md5,
            name: self.find("Name").map(str::to_owned),
            events: None,
            settings: None,
            mirror: None,
            members: Vec::new(),
            intent: None,
            others: Vec::new(),
        };
        let marked = self.read_channels(&mut device)?;
        self.read_added(&mut device);
        self.read_groups(&mut device, marked, &dirty_columns)?;
        device.name_resyncs();
        Ok(device)
    }

    /// The channels from their columns; gives the states that the marks tell.
    fn read_channels(&self, device: &mut Device) -> Result<BTreeMap<u8, GroupState>, Malformed> {
        let (count, groups) = self.read("Groups", |text| {
            let (count, columns) = columns::marks(text)?;
            let columns = columns.into_iter().map(mark).collect::<Option<Vec<_>>>()?;
            Some((usize::try_from(count).ok()?, columns))
        })?;
        device.group_count = count;
        let links = self.read("Sockets", |text| {
            let (count, columns) = columns::marks(text)?;
            let links = columns.into_iter().map(link).collect::<Option<Vec<_>>>()?;
            (u64::try_from(links.len()) == Ok(count)).then_some(links)
        })?;
        let traffic = |label, word| {
            self.read(label, |text| columns::traffic(text, word))
                .map(|(_, columns, _)| columns)
        };
        let counts = |label| {
            self.read(label, columns::only_counts)
                .map(|(_, columns)| columns)
        };
        let (requested, despatched) = (traffic("Requested", "max")?, traffic("Despatched", "md5")?);
        let (errored, pending) = (counts("Errored")?, counts("Pending")?);
        for (label, columns) in [
            ("Groups", groups.len()),
            ("Requested", requested.len()),
            ("Despatched", despatched.len()),
            ("Errored", errored.len()),
            ("Pending", pending.len()),
        ] {
            if columns != links.len() {
                return Err(self.malformed(label));
            }
        }
        let figure = |columns: &[Figure], at: usize| columns.get(at).copied().unwrap_or_default();
        for (at, (link, (group, _))) in links.iter().zip(&groups).enumerate() {
            device.channels.push(Channel {
                group: *group,
                link: *link,
                requested: figure(&requested, at),
                despatched: figure(&despatched, at),
                errored: figure(&errored, at),
                pending: figure(&pending, at),
                peer: None,
                bytes: None,
            });
        }
        Ok(groups.into_iter().collect())
    }

    /// The lines that came after 2003, and those that are not known.
    fn read_added(&self, device: &mut Device) {
        for &(label, text) in &self.lines {
            let understood = match label {
                "Error" | "Name" => true,
                "Resync" => resync(text).map(|one| device.resyncs.push(one)).is_some(),
                "Channel" => peer::channel(text)
                    .and_then(|(number, peer)| {
                        device.channels.get_mut(number)?.peer = Some(peer);
                        Some(())
                    })
                    .is_some(),
                "Bytes" => peer::bytes(text)
                    .and_then(|(number, bytes)| {
                        device.channels.get_mut(number)?.bytes = Some(bytes);
                        Some(())
                    })
                    .is_some(),
                "Group" => peer::group(text).is_some(),
                "Events" => plain(text)
                    .map(|events| device.events = Some(events))
                    .is_some(),
                "Settings" => peer::settings(text)
                    .map(|settings| device.settings = Some(settings))
                    .is_some(),
                "Mirror" => memory::mirror(text)
                    .map(|mirror| device.mirror = Some(mirror))
                    .is_some(),
                "Intent" => memory::intent(text)
                    .map(|intent| device.intent = Some(intent))
                    .is_some(),
                "Member" => memory::member(text)
                    .map(|member| device.members.push(member))
                    .is_some(),
                label => ALWAYS.contains(&label),
            };
            if !understood {
                device.others.push(OtherLine {
                    label: label.to_owned(),
                    text: text.to_owned(),
                });
            }
        }
    }

    /// The groups from the marks of their channels and from their own lines.
    fn read_groups(
        &self,
        device: &mut Device,
        marked: BTreeMap<u8, GroupState>,
        dirty: &[Figure],
    ) -> Result<(), Malformed> {
        if dirty.len() != device.group_count {
            return Err(self.malformed("Dirty"));
        }
        let mut groups: BTreeMap<u8, Group> = BTreeMap::new();
        for (number, state) in marked {
            let group = Group {
                number,
                state,
                dirty: None,
                volatile: false,
                suspect: false,
                reason: None,
            };
            groups.insert(number, group);
        }
        let mut told = Vec::new();
        for line in self.lines.iter().filter(|(label, _)| *label == "Group") {
            let Some(line) = peer::group(line.1) else {
                continue;
            };
            told.push(line.number);
            let group = Group {
                number: line.number,
                state: line.state,
                dirty: line.dirty.map(Figure::exact),
                volatile: line.volatile,
                suspect: line.suspect,
                reason: line.reason,
            };
            groups.insert(line.number, group);
        }
        // More than there are: one of them is just being connected, and is none yet.
        let joining = groups.len() > device.group_count;
        for group in groups.values_mut() {
            if joining && group.state == GroupState::InSync && !told.contains(&group.number) {
                group.state = GroupState::Unknown;
            }
        }
        if groups.len() == device.group_count {
            let columns = columns::narrowed(device.dirty, dirty);
            for (group, column) in groups.values_mut().zip(columns) {
                group.dirty.get_or_insert(column);
            }
        }
        device.groups = groups.into_values().collect();
        Ok(())
    }
}

impl Device {
    /// The line of 2003 does not say whose resync it is where there is only one.
    fn name_resyncs(&mut self) {
        let mut running = self
            .groups
            .iter()
            .filter(|group| group.state == GroupState::Resyncing);
        if let (Some(group), None, [resync]) =
            (running.next(), running.next(), self.resyncs.as_mut_slice())
        {
            resync.group.get_or_insert(group.number);
        }
    }
}

/// `verify, rw, enabled, last error 0`: read only, enabled, errno.
fn state(text: &str) -> Option<(bool, bool, u32)> {
    let mut words = text.split(", ").skip(1);
    let read_only = match words.next()? {
        "ro" => true,
        "rw" => false,
        _ => return None,
    };
    let enabled = match words.next()? {
        "enabled" => true,
        "disabled" => false,
        _ => return None,
    };
    let errno = words.find_map(|word| word.strip_prefix("last error "))?;
    Some((read_only, enabled, u32::try_from(plain(errno)?).ok()?))
}

/// `0 current/0 real/34 max`.
fn queued(text: &str) -> Option<(u64, u64, u64)> {
    let mut parts = text.split('/');
    let mut next = |word: &str| plain(parts.next()?.strip_suffix(word)?);
    Some((next(" current")?, next(" real")?, next(" max")?))
}

/// `0`, `0F` or `1_`.
fn mark(column: &str) -> Option<(u8, GroupState)> {
    let (number, state) = match (column.strip_suffix('F'), column.strip_suffix('_')) {
        (Some(number), _) => (number, GroupState::Faulty),
        (_, Some(number)) => (number, GroupState::Resyncing),
        _ => (column, GroupState::InSync),
    };
    Some((u8::try_from(plain(number)?).ok()?, state))
}

fn link(column: &str) -> Option<Link> {
    match column {
        "+" => Some(Link::Up),
        "*" => Some(Link::Active),
        "-" => Some(Link::Down),
        _ => None,
    }
}

/// `[=>...] recovery = 6.5% (270/4096) finish=8s`, and ` group 1` where there are several.
fn resync(text: &str) -> Option<Resync> {
    let (_, text) = text.split_once("] recovery = ")?;
    let (_, text) = text.split_once("% (")?;
    let (position, text) = text.split_once(") finish=")?;
    let (pos, max) = position.split_once('/')?;
    let (finish, group) = text.split_once('s')?;
    let group = match group.strip_prefix(" group ") {
        Some(number) => Some(u8::try_from(plain(number)?).ok()?),
        None => None,
    };
    Some(Resync {
        group,
        pos: plain(pos)?,
        max: plain(max)?,
        finish_s: plain(finish)?,
    })
}
