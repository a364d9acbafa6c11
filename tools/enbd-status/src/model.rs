// SPDX-License-Identifier: GPL-2.0

//! What the status says, as plain data.

use crate::figure::Figure;
use std::fmt;

/// All of /proc/nbdinfo.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Status {
    /// The devices that exist, by letter.
    pub devices: Vec<Device>,
    /// Lines that belong to no device.
    pub others: Vec<String>,
}

impl Status {
    /// The device with this letter.
    pub fn device(&self, letter: char) -> Option<&Device> {
        self.devices.iter().find(|device| device.letter == letter)
    }
}

/// What a group is to its device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GroupState {
    /// It holds what the device holds.
    InSync,
    /// It gets no I/O, and its map collects what it misses.
    Faulty,
    /// What it missed is being copied.
    Resyncing,
    /// The text does not tell: somebody is connecting a new group at this moment, and any of those
    /// without a mark may be it.
    Unknown,
}

/// One mirror group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Group {
    /// Its number.
    pub number: u8,
    /// What it is to the device.
    pub state: GroupState,
    /// Marked blocks of its map; none where the text does not tell whose column is whose.
    pub dirty: Option<Figure>,
    /// Its server has no FLUSH.
    pub volatile: bool,
    /// Its server may still carry out old writes, so that it is not brought back yet.
    pub suspect: bool,
    /// Why it is, or was last, faulty.
    pub reason: Option<String>,
}

/// What a channel's socket is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Link {
    /// Negotiated.
    Up,
    /// Negotiated, and the last of the device's channels to be given a request.
    Active,
    /// Not connected, or not yet negotiated.
    Down,
}

/// Where a channel leads, and how it fares: its `Channel` line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peer {
    /// `tcp` or `unix`.
    pub transport: String,
    /// The server, `192.0.2.1:10809`, `[2001:db8::1]:10809` or a path; none if it is kept from this
    /// reader.
    pub address: Option<String>,
    /// The export; empty is the server's default, none if it is kept from this reader.
    pub export: Option<String>,
    /// Seconds that the socket has been up, or down.
    pub since_s: u64,
    /// How often the socket was lost and made again.
    pub reconnects: u64,
    /// Why the socket was last lost, or could not be made.
    pub last_error: Option<String>,
}

/// What went over a channel, in bytes: its `Bytes` line.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Bytes {
    /// What it was asked to read.
    pub requested_read: u64,
    /// What it was given to write.
    pub requested_written: u64,
    /// What was read.
    pub despatched_read: u64,
    /// What was written.
    pub despatched_written: u64,
    /// What was refused, or lost with a socket.
    pub errored: u64,
    /// What is not answered yet.
    pub pending: u64,
}

/// What the administrator has set, or what stands where he has not, but for the block: the
/// `Settings` line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Seconds that a server may be silent.
    pub timeout: u64,
    /// Seconds for connecting and negotiating.
    pub connect_timeout: u64,
    /// Requests that no group can serve fail, instead of waiting.
    pub show_errs: bool,
    /// A group that enbd itself faulted is brought back.
    pub autoadd: bool,
    /// KiB/s that a resync gets at least; 0 is no bound.
    pub resync_min: u64,
    /// KiB/s that it gets at most; 0 is no bound.
    pub resync_max: u64,
    /// What a module tells that has more of them.
    pub more: Option<MoreSettings>,
}

/// Settings that modules of before do not tell.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MoreSettings {
    /// What a resync compares before it writes: all, nothing, or what may be worth it.
    pub compare: Option<bool>,
    /// Seconds between two beats of a device with metadata; 0 for none.
    pub owner_check: u64,
    /// A device with metadata keeps intent pages.
    pub intent: bool,
    /// MiB that are marked at most; 0 is no bound.
    pub intent_max: u64,
    /// Seconds after which an idle mark is taken back.
    pub intent_idle: u64,
}

/// A mirror that remembers: its `Mirror` line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mirror {
    /// Its identity, as text.
    pub uuid: String,
    /// The line of its life, in hexadecimal digits.
    pub generation: String,
    /// The number of the last record.
    pub event: u64,
    /// The host that has it; none after an orderly end.
    pub owner: Option<String>,
}

/// Where writes may be on their way: its `Intent` line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Intent {
    /// Regions that are marked.
    pub regions: u64,
    /// Bytes of those.
    pub bytes: Figure,
    /// Pages that were written.
    pub rounds: u64,
    /// Writes that had to wait for one.
    pub waits: u64,
}

/// A member of it: a `Member` line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    /// Its group.
    pub number: u8,
    /// The event since when it misses something, and how many bytes; none while it is in sync.
    pub stale: Option<(u64, Figure)>,
}

/// One channel. Its number is its place in [`Device::channels`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Channel {
    /// The group that it belongs to.
    pub group: u8,
    /// What its socket is.
    pub link: Link,
    /// Blocks that it was given.
    pub requested: Figure,
    /// Blocks that were answered.
    pub despatched: Figure,
    /// Blocks that were refused, or lost with a socket.
    pub errored: Figure,
    /// Blocks that are not answered yet.
    pub pending: Figure,
    /// Its line; none if there is none that is understood.
    pub peer: Option<Peer>,
    /// The same figures exactly; none from a module that does not tell.
    pub bytes: Option<Bytes>,
}

impl Channel {
    /// Whether it is negotiated.
    pub fn is_up(&self) -> bool {
        self.link != Link::Down
    }
}

/// A resync that runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Resync {
    /// The group that is brought back; none where the text does not tell.
    pub group: Option<u8>,
    /// The block that it has come to.
    pub pos: u64,
    /// The blocks of the device.
    pub max: u64,
    /// Seconds left; 0 also where nothing was copied yet.
    pub finish_s: u64,
}

/// Blocks that went each way.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Traffic {
    /// Both.
    pub total: Figure,
    /// Read.
    pub read: Figure,
    /// Written, once for each group.
    pub written: Figure,
}

/// A line that is not known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OtherLine {
    /// What stands before the first colon and tab.
    pub label: String,
    /// What stands behind.
    pub text: String,
}

/// One device.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Device {
    /// `a` to `z`.
    pub letter: char,
    /// Whether the disk is published.
    pub enabled: bool,
    /// Whether the disk takes no writes.
    pub read_only: bool,
    /// The errno of the last command that failed; 0 if none did.
    pub last_error: u32,
    /// That in words.
    pub error: Option<String>,
    /// Requests that the device has.
    pub queued: u64,
    /// Blocks that are with channels.
    pub queued_real: u64,
    /// The most requests that it had at once.
    pub queued_max: u64,
    /// The block, in bytes.
    pub blocksize: u64,
    /// The disk's size in KiB; 0 while disabled.
    pub size_kib: u64,
    /// The disk's size in blocks.
    pub blocks: u64,
    /// How many groups there are.
    pub group_count: usize,
    /// The groups of which the text tells the number: those with a channel, or a line of their own,
    /// which a newer module has for each.
    pub groups: Vec<Group>,
    /// The channels, in the order of the columns.
    pub channels: Vec<Channel>,
    /// The resyncs that run.
    pub resyncs: Vec<Resync>,
    /// What was given to channels.
    pub requested: Traffic,
    /// What was answered.
    pub despatched: Traffic,
    /// Blocks that were refused, or lost with a channel.
    pub errored: Figure,
    /// Blocks that are not answered yet.
    pub pending: Figure,
    /// Marked blocks of all groups.
    pub dirty: Figure,
    /// Writes that were compared by checksum before they were sent.
    pub md5: Figure,
    /// How programs and people call it; none if it has no name.
    pub name: Option<String>,
    /// The number of the last uevent; none from a module that makes none.
    pub events: Option<u64>,
    /// What is set; none from a module that does not tell.
    pub settings: Option<Settings>,
    /// What is recorded of the mirror; none of one without metadata.
    pub mirror: Option<Mirror>,
    /// Its members.
    pub members: Vec<Member>,
    /// Where writes may be on their way; none while no pages are kept.
    pub intent: Option<Intent>,
    /// Lines that are not known, in their order.
    pub others: Vec<OtherLine>,
}

impl Device {
    /// The group with this number, if the text tells of it.
    pub fn group(&self, number: u8) -> Option<&Group> {
        self.groups.iter().find(|group| group.number == number)
    }

    /// The channels of a group.
    pub fn channels_of(&self, group: u8) -> impl Iterator<Item = &Channel> {
        self.channels.iter().filter(move |one| one.group == group)
    }

    /// The resync of a group, if it has one.
    pub fn resync_of(&self, group: u8) -> Option<&Resync> {
        self.resyncs.iter().find(|one| one.group == Some(group))
    }

    /// The first line with this label that is not known.
    pub fn other(&self, label: &str) -> Option<&str> {
        let line = self.others.iter().find(|line| line.label == label);
        line.map(|line| line.text.as_str())
    }
}

/// A line that has stood in the text since 2003 is not as it was.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Malformed {
    /// The device.
    pub letter: char,
    /// The label of the line.
    pub label: String,
    /// The line behind its label; none if it is not there.
    pub text: Option<String>,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (letter, label) = (self.letter, &self.label);
        match &self.text {
            None => write!(f, "device {letter} has no line {label}"),
            Some(text) => write!(
                f,
                "device {letter} has a line {label} of no known form: {text:?}"
            ),
        }
    }
}

impl std::error::Error for Malformed {}
