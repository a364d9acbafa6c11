// SPDX-License-Identifier: GPL-2.0

//! The grammar of what is written to /proc/nbdinfo: `verb[device]=value`, one command a line.
//!
//! Shape: [`lines`] cuts one write into lines, [`parse_line`] turns one line into a [`Command`]
//! that borrows from it. Nothing is remembered between lines, and whether a command can be obeyed
//! is not decided here. What a line may be:
//!
//! ```text
//! connect[a]=0 192.0.2.1:10809 name=disk channels=2     also [v6]:port and unix:/path, see Address
//! connect[a]=1 192.0.2.1:10809 name=disk force          the export of another group
//! connect[a]=2 [fe80::1%eth0] name=VM\040disk           names have escapes, see Name
//! connect[a]=3 192.0.2.3 meta=none                      its metadata is not looked at
//! attach[a]=192.0.2.1 name=disk channels=2              the group that its metadata says
//! disconnect[a]=0 [192.0.2.1:10809]                     the address may be left out
//! create[a]=0    create[a]=0 equal force                a group, and options
//! enable[a]=1 degraded    enable[a]=1 source=0          who counts, see Ask
//! enable[a]=0    show_errs[a]=0    autoadd[a]=1         switches: 0 or 1
//! setfaulty[a]=1    hotremove[a]=1    forget[a]=1       a group
//! hotadd[a]=1    hotadd[a]=1 full                       a group, and how much of it is copied
//! blocksize[a]=4096                                     bytes, a power of two
//! timeout[a]=30    connect_timeout[a]=10                seconds
//! owner_check[a]=5                                      seconds, 0 for none
//! intent[a]=1                                           or 0
//! compare[a]=auto                                       0, 1 or auto
//! intent_max[a]=0                                       MiB, 0 for no bound
//! intent_idle[a]=30                                     seconds
//! resync_min[a]=0    resync_max[a]=0                    KiB/s
//! name[a]=data                                          see Label
//! reset[a]=1
//! ```
//!
//! Words are separated by spaces or tabs, which may also stand at either end of the line, but not
//! left of the `=`. Options follow the address in any order, each at most once. Numbers are decimal
//! and without sign; leading zeros are allowed.
//!
//! Errors: every way to be wrong is a [`Reason`], and the first one found is given. A line with a
//! word too many is refused rather than half understood, so that a mistyped option never becomes a
//! connection without it.

mod address;
mod connect;
mod label;
mod lines;
mod name;
mod reason;
mod words;
mod zone;

#[cfg(test)]
mod tests;

pub use address::{Address, AddressText, DEFAULT_PORT, MAX_PATH};
pub use label::{Label, MAX_LABEL};
pub use lines::{lines, Line, MAX_LINE};
pub use name::{Bytes, Name};
pub use reason::Reason;
pub use zone::{Zone, MAX_ZONE};

use crate::logic::{ids::GroupId, meta::Ask, resync::Compare, MAX_DEVICES};
use words::Words;

/// The most channels that one `connect` may add.
pub const MAX_CONNECT_CHANNELS: u32 = 16;
/// The smallest unit of accounting, in bytes: the smallest logical block of the block layer.
pub const MIN_BLOCKSIZE: u32 = 512;
/// The largest unit of accounting, in bytes.
pub const MAX_BLOCKSIZE: u32 = 65536;
/// The longest time that a request may go unanswered, in seconds. An hour outlasts every server
/// restart worth waiting for; whoever wants to wait for ever has the holding of requests instead.
pub const MAX_TIMEOUT_S: u32 = 3600;
/// The longest limit of a handshake, in seconds. The writer of `connect` waits as long.
pub const MAX_CONNECT_TIMEOUT_S: u32 = 300;

/// The longest time between two beats, in seconds.
pub const MAX_OWNER_CHECK_S: u32 = crate::logic::meta::beat::MOST_S as u32;

/// The longest time that a mark may be idle, in seconds.
pub const MAX_INTENT_IDLE_S: u32 = 3600;

/// One of the devices `a`..`z`.
// INVARIANT: the number is below MAX_DEVICES.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DeviceId(u8);

impl DeviceId {
    /// The device with this index, 0 being `a`; none from [`MAX_DEVICES`] on.
    pub fn new(index: usize) -> Option<Self> {
        if index < MAX_DEVICES {
            u8::try_from(index).ok().map(Self)
        } else {
            None
        }
    }

    /// The device with this letter; small letters only.
    pub fn from_letter(letter: char) -> Option<Self> {
        let above_a = u32::from(letter).checked_sub(u32::from('a'))?;
        Self::new(usize::try_from(above_a).ok()?)
    }

    /// `a`..`z`.
    pub fn letter(self) -> char {
        char::from(b'a'.saturating_add(self.0))
    }

    /// 0..26.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What one line asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Command<'a> {
    /// The device that is named between the brackets.
    pub device: DeviceId,
    /// What is to be done to it.
    pub verb: Verb<'a>,
}

/// How much a `hotadd` copies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HotAddMode {
    /// The blocks that are marked in the group's dirty map.
    Dirty,
    /// All blocks.
    Full,
}

/// What is to be done to a device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verb<'a> {
    /// Adds channels to a group.
    Connect {
        /// The group that the channels belong to.
        group: GroupId,
        /// The server.
        addr: Address<'a>,
        /// The export asked for; empty is the server's default export. A line holds no name that
        /// is longer than NBD allows.
        name: Name<'a>,
        /// How many channels, 1 to [`MAX_CONNECT_CHANNELS`].
        channels: u8,
        /// Also an export that another group of the device has.
        force: bool,
        /// Its metadata is looked at.
        metadata: bool,
    },
    /// The same for the group that the metadata says.
    Attach {
        /// The server.
        addr: Address<'a>,
        /// The export asked for.
        name: Name<'a>,
        /// How many channels.
        channels: u8,
    },
    /// Makes a mirror of the groups, which remembers what it is.
    Create {
        /// The group whose data counts.
        group: GroupId,
        /// All of them hold the same.
        equal: bool,
        /// Whatever is at the ends of the exports is overwritten.
        force: bool,
    },
    /// Takes a member out of the mirror.
    Forget(GroupId),
    /// Removes a group's channels.
    Disconnect {
        /// The group.
        group: GroupId,
        /// Only the channels to this server; all of the group's if left out.
        addr: Option<Address<'a>>,
    },
    /// Publishes the disk.
    Enable(Ask),
    /// Takes it away.
    Disable,
    /// Stops I/O to a group.
    SetFaulty(GroupId),
    /// Brings a faulty group back.
    HotAdd {
        /// The group.
        group: GroupId,
        /// How much of it is copied.
        mode: HotAddMode,
    },
    /// Drops a faulty group and its map.
    HotRemove(GroupId),
    /// The unit of accounting and of the dirty map in bytes: a power of two between
    /// [`MIN_BLOCKSIZE`] and [`MAX_BLOCKSIZE`].
    BlockSize(u32),
    /// How long a request may go unanswered, in seconds, 1 to [`MAX_TIMEOUT_S`].
    Timeout(u32),
    /// How long a handshake may take, in seconds, 1 to [`MAX_CONNECT_TIMEOUT_S`].
    ConnectTimeout(u32),
    /// Fails requests when every group is gone (true), or holds them.
    ShowErrs(bool),
    /// Brings back a group that was faulted by enbd itself as soon as it answers.
    AutoAdd(bool),
    /// The resync speed never gone below, in KiB/s; 0 is none.
    ResyncMin(u32),
    /// The resync speed never exceeded, in KiB/s; 0 is none.
    ResyncMax(u32),
    /// What a resync compares before it writes.
    Compare(Compare),
    /// Seconds between two beats of a device with metadata, 0 for none, up to 60.
    OwnerCheck(u32),
    /// Whether a device with metadata keeps intent pages, from the next `enable` on.
    Intent(bool),
    /// MiB that are marked as being written to at most; 0 is no bound.
    IntentMax(u32),
    /// Seconds after which a mark that is idle is taken back, 1 to [`MAX_INTENT_IDLE_S`].
    IntentIdle(u32),
    /// How programs and people call the device.
    Name(Label),
    /// Forgets the device.
    Reset,
}

impl Verb<'_> {
    /// The verb as it is written.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Disconnect { .. } => "disconnect",
            Self::Attach { .. } => "attach",
            Self::Create { .. } => "create",
            Self::Forget(_) => "forget",
            Self::Enable(_) | Self::Disable => "enable",
            Self::SetFaulty(_) => "setfaulty",
            Self::HotAdd { .. } => "hotadd",
            Self::HotRemove(_) => "hotremove",
            Self::BlockSize(_) => "blocksize",
            Self::Timeout(_) => "timeout",
            Self::ConnectTimeout(_) => "connect_timeout",
            Self::ShowErrs(_) => "show_errs",
            Self::AutoAdd(_) => "autoadd",
            Self::ResyncMin(_) => "resync_min",
            Self::ResyncMax(_) => "resync_max",
            Self::Compare(_) => "compare",
            Self::OwnerCheck(_) => "owner_check",
            Self::Intent(_) => "intent",
            Self::IntentMax(_) => "intent_max",
            Self::IntentIdle(_) => "intent_idle",
            Self::Name(_) => "name",
            Self::Reset => "reset",
        }
    }
}

/// Parses one line, without its newline.
///
/// # Errors
///
/// The first [`Reason`] why the line is no command: the line as a whole before its device, the
/// device before the verb, the verb before its value.
pub fn parse_line(line: &[u8]) -> Result<Command<'_>, Reason> {
    let (name, device, value) = split(lines::printable(line)?)?;
    let mut words = Words::new(value);
    let verb = parse_verb(name, &mut words)?;
    words.finish()?;
    Ok(Command { device, verb })
}

/// The device that a line names, even if the rest of the line is wrong: whose `last error` a
/// refused line is.
pub fn device_of(line: &[u8]) -> Option<DeviceId> {
    let (_, device, _) = split(lines::printable(line).ok()?).ok()?;
    Some(device)
}

/// Cuts `verb[device]=value`.
fn split(text: &str) -> Result<(&str, DeviceId, &str), Reason> {
    let (name, rest) = text.split_once('[').ok_or(Reason::Malformed)?;
    let (device, rest) = rest.split_once(']').ok_or(Reason::Malformed)?;
    let value = rest.strip_prefix('=').ok_or(Reason::Malformed)?;
    let mut letters = device.chars();
    match (
        letters.next().and_then(DeviceId::from_letter),
        letters.next(),
    ) {
        (Some(device), None) => Ok((name, device, value)),
        _ => Err(Reason::NoSuchDevice),
    }
}

fn parse_verb<'a>(name: &str, words: &mut Words<'a>) -> Result<Verb<'a>, Reason> {
    match name {
        "connect" => connect::parse_connect(words),
        "attach" => connect::parse_attach(words),
        "create" => parse_create(words),
        "forget" => Ok(Verb::Forget(words.group()?)),
        "disconnect" => parse_disconnect(words),
        "enable" => parse_enable(words),
        "setfaulty" => Ok(Verb::SetFaulty(words.group()?)),
        "hotadd" => parse_hotadd(words),
        "hotremove" => Ok(Verb::HotRemove(words.group()?)),
        "blocksize" => parse_blocksize(words),
        "timeout" => Ok(Verb::Timeout(words.number(
            1,
            MAX_TIMEOUT_S,
            Reason::TimeoutOutOfRange,
        )?)),
        "connect_timeout" => Ok(Verb::ConnectTimeout(words.number(
            1,
            MAX_CONNECT_TIMEOUT_S,
            Reason::ConnectTimeoutOutOfRange,
        )?)),
        "show_errs" => Ok(Verb::ShowErrs(words.switch()?)),
        "autoadd" => Ok(Verb::AutoAdd(words.switch()?)),
        "resync_min" => Ok(Verb::ResyncMin(words.speed()?)),
        "resync_max" => Ok(Verb::ResyncMax(words.speed()?)),
        "compare" => {
            let word = words.next().ok_or(Reason::ValueMissing)?;
            let compare = Compare::parse(word).ok_or(Reason::CompareUnknown)?;
            Ok(Verb::Compare(compare))
        }
        "owner_check" => Ok(Verb::OwnerCheck(words.number(
            0,
            MAX_OWNER_CHECK_S,
            Reason::OwnerCheckOutOfRange,
        )?)),
        "intent" => Ok(Verb::Intent(words.switch()?)),
        "intent_max" => Ok(Verb::IntentMax(words.number(
            0,
            u32::MAX,
            Reason::IntentMaxOutOfRange,
        )?)),
        "intent_idle" => Ok(Verb::IntentIdle(words.number(
            1,
            MAX_INTENT_IDLE_S,
            Reason::IntentIdleOutOfRange,
        )?)),
        "name" => {
            let word = words.next().ok_or(Reason::ValueMissing)?;
            Ok(Verb::Name(Label::parse(word)?))
        }
        "reset" => parse_reset(words),
        _ => Err(Reason::UnknownVerb),
    }
}

fn parse_create<'a>(words: &mut Words<'a>) -> Result<Verb<'a>, Reason> {
    let group = words.group()?;
    let (mut equal, mut force) = (false, false);
    while let Some(word) = words.next() {
        let option = match word {
            "equal" => &mut equal,
            "force" => &mut force,
            _ => return Err(Reason::UnexpectedWord),
        };
        if core::mem::replace(option, true) {
            return Err(Reason::DuplicateOption);
        }
    }
    Ok(Verb::Create {
        group,
        equal,
        force,
    })
}

fn parse_enable<'a>(words: &mut Words<'a>) -> Result<Verb<'a>, Reason> {
    if !words.switch()? {
        return Ok(Verb::Disable);
    }
    let Some(word) = words.next() else {
        return Ok(Verb::Enable(Ask::Certain));
    };
    if word == "degraded" {
        return Ok(Verb::Enable(Ask::Degraded));
    }
    let source = word.strip_prefix("source=").ok_or(Reason::UnexpectedWord)?;
    Ok(Verb::Enable(Ask::Source(words::group(source)?)))
}

fn parse_disconnect<'a>(words: &mut Words<'a>) -> Result<Verb<'a>, Reason> {
    let group = words.group()?;
    let addr = words.next().map(Address::parse).transpose()?;
    Ok(Verb::Disconnect { group, addr })
}

fn parse_hotadd<'a>(words: &mut Words<'a>) -> Result<Verb<'a>, Reason> {
    let group = words.group()?;
    let mode = match words.next() {
        None => HotAddMode::Dirty,
        Some("full") => HotAddMode::Full,
        Some(_) => return Err(Reason::UnexpectedWord),
    };
    Ok(Verb::HotAdd { group, mode })
}

fn parse_blocksize<'a>(words: &mut Words<'a>) -> Result<Verb<'a>, Reason> {
    let bytes = words.number(MIN_BLOCKSIZE, MAX_BLOCKSIZE, Reason::BlocksizeOutOfRange)?;
    if bytes.is_power_of_two() {
        Ok(Verb::BlockSize(bytes))
    } else {
        Err(Reason::BlocksizeNotPowerOfTwo)
    }
}

/// `reset` wants its `=1`, so that a script's slip of `reset[a]=0` does not forget a device.
fn parse_reset<'a>(words: &mut Words<'a>) -> Result<Verb<'a>, Reason> {
    if words.switch()? {
        Ok(Verb::Reset)
    } else {
        Err(Reason::ResetNotOne)
    }
}
