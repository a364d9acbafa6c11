// SPDX-License-Identifier: GPL-2.0

//! The text of /proc/nbdinfo.
//!
//! Shape: the caller takes a [`DeviceStatus`] under its locks, plain data without a reference to
//! anything that lives, and [`write_device`] turns it into lines afterwards. [`runs`] says which
//! devices to write, and in what order. The lines are:
//!
//! ```text
//! Device a:       Open
//! [a] State:      verify, rw, enabled, last error 0
//! [a] Queued:     0 current/0 real/34 max
//! [a] Blocksize:  1024    (log=10)
//! [a] Size:       4096KB
//! [a] Blocks:     4096
//! [a] Groups:     2       (0)     (0)     (1_)    (1_)            one column a channel
//! [a] Resync:     [=>...................] recovery = 6.5% (270/4096) finish=8s
//! [a] Sockets:    4       (*)     (+)     (+)     (+)
//! [a] Requested:  7.4058K (2.58K) (2.83K) (1.06K) (967) 2.530KR/4.875KW max 34
//! [a] Despatched: 7.4048K (2.58K) (2.83K) (1.06K) (966) 2.530KR/4.874KW md5 0
//! [a] Errored:    0       (0)     (0)     (0)     (0)
//! [a] Pending:    1       (0)     (0)     (0)     (1)
//! [a] Dirty:      763     (0)     (763)                           one column a group
//! [a] Channel:    0 tcp 192.0.2.1:10809 disk, up 12s, reconnects 0       one line a channel
//! [a] Bytes:      0 requested_read=4096 requested_written=0 ...       one line a channel
//! [a] Group:      1 faulty, dirty 763, volatile, suspect, reason: why          one line a group
//! [a] Mirror:     3a0e6b1c-..., generation 6b3d437ca790aaed, event 17, clean     with metadata
//! [a] Member:     1 stale since event 16, 3.10M missed            one line a member
//! [a] Name:       data                                            where it has one
//! [a] Events:     17                                              how many uevents there were
//! [a] Settings:   timeout=30 connect_timeout=10 show_errs=0 autoadd=1 resync_min=0 resync_max=0 compare=auto owner_check=5 intent=1 intent_max=0 intent_idle=30
//! [a] Error:      unknown verb                                    where the last error is not 0
//! Device b-z:     Closed
//! ```
//!
//! To a reader who may not administer the system a `Channel` line shows `-` in the place of its
//! address and, if there is one, of its export.
//!
//! Units: figures are in blocks of the device's blocksize, in the forms of [`Figure`]; what is left
//! of the columns of `Queued`, `Blocks` and `max` is plain, and so are all numbers of the lines that
//! came after 2003.
//! Errors: those of the writer. Text that came from outside cannot break a line or colour a
//! terminal: its control characters are shown as `?`.

mod device;
mod figures;
mod memory;
mod progress;
mod roster;

#[cfg(test)]
mod tests;

pub use device::write_device;
pub use figures::Figure;
pub use memory::{IntentStatus, MemberStatus, MirrorStatus};
pub use progress::{finish_seconds, ResyncStatus, MAX_FINISH_S};
pub use roster::{runs, write_closed, Run, Runs};

use crate::logic::command::{DeviceId, Label};
use crate::logic::{group::GroupState, ids::GroupId, resync::Compare};

/// Who reads the text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reader {
    /// Who may administer the system: all is shown.
    Admin,
    /// Anybody else: where the servers are, and what their exports are called, is not shown. The
    /// name of an export is the only password that NBD has.
    Other,
}

/// Whether the disk is published.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DiskState {
    /// No disk: before `enable[d]=1`, or after `enable[d]=0`. Shown as `disabled`.
    Idle,
    /// The disk takes requests.
    Enabled,
}

/// The last thing that went wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LastError<'a> {
    /// Its errno; shown without its sign.
    pub errno: i32,
    /// What it was, and where.
    pub reason: &'a str,
}

/// Blocks that went each way since the device was made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Traffic {
    /// Blocks read.
    pub read: u64,
    /// Blocks written, once for each group that they went to.
    pub written: u64,
}

/// What went over a channel, in bytes.
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
    /// What failed on it.
    pub errored: u64,
    /// What it waits for.
    pub pending: u64,
}

/// What an administrator can set, but for the blocksize.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SettingsStatus {
    /// Seconds that a server may be silent.
    pub timeout: u32,
    /// Seconds for connecting and negotiating.
    pub connect_timeout: u32,
    /// Requests fail when every group is gone, instead of being held.
    pub show_errs: bool,
    /// Groups that enbd itself faulted are brought back.
    pub autoadd: bool,
    /// KiB/s that a resync gets at least; 0 is no bound.
    pub resync_min: u32,
    /// KiB/s that it gets at most; 0 is no bound.
    pub resync_max: u32,
    /// What it compares before it writes.
    pub compare: Compare,
    /// Seconds between two beats of a device with metadata; 0 for none.
    pub owner_check: u32,
    /// A device with metadata keeps intent pages.
    pub intent: bool,
    /// MiB that are marked at most; 0 is no bound.
    pub intent_max: u32,
    /// Seconds after which an idle mark is taken back.
    pub intent_idle: u32,
}

/// What a channel's socket is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Link {
    /// Negotiated. Shown as `(+)`.
    Up,
    /// Negotiated, and the last of the device's channels to have been active. Shown as `(*)`.
    Active,
    /// Not connected, or not yet negotiated. Shown as `(-)`.
    Down,
}

/// One mirror group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GroupStatus<'a> {
    /// Its number.
    pub group: GroupId,
    /// What it is to the device; an absent group is not shown.
    pub state: GroupState,
    /// The blocks of its dirty map that are marked.
    pub dirty: u64,
    /// Its server has no FLUSH, so that what it acknowledged may be lost with its power.
    pub volatile: bool,
    /// Its server may still carry out writes of a connection that was given up, so that it is not
    /// brought back yet.
    pub suspect: bool,
    /// Why it is in its state: why it was faulted.
    pub reason: Option<&'a str>,
}

/// One channel. Its number is its place in [`DeviceStatus::channels`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ChannelStatus<'a> {
    /// The group that it belongs to.
    pub group: GroupId,
    /// What its socket is.
    pub link: Link,
    /// The seconds that the socket has been up, or down.
    pub since_s: u64,
    /// Blocks that it was given.
    pub requested: u64,
    /// Blocks that the server answered for.
    pub despatched: u64,
    /// Blocks that failed on it.
    pub errored: u64,
    /// Blocks that it waits for.
    pub pending: u64,
    /// The same, exactly.
    pub bytes: Bytes,
    /// `tcp` or `unix`: [`Address::transport`](crate::logic::command::Address::transport).
    pub transport: &'a str,
    /// The server: [`Address::text`](crate::logic::command::Address::text).
    pub addr: &'a str,
    /// The export, as [`Name::spelled`](crate::logic::command::Name::spelled) spells it; not shown
    /// if empty.
    pub export: &'a str,
    /// How often the socket was lost and made again.
    pub reconnects: u64,
    /// Why the socket was last lost, or could not be made.
    pub last_error: Option<&'a str>,
}

/// One device, as it was at one moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DeviceStatus<'a> {
    /// Which device.
    pub device: DeviceId,
    /// Whether the disk is published.
    pub disk: DiskState,
    /// The disk takes no writes.
    pub read_only: bool,
    /// The last thing that went wrong, if any.
    pub last_error: Option<LastError<'a>>,
    /// Requests that wait to be sent.
    pub queued_current: u64,
    /// Requests of the block layer that are not yet ended, sent or not.
    pub queued_real: u64,
    /// The highest number of requests that was queued at once.
    pub queued_max: u64,
    /// The unit of accounting, in bytes.
    pub blocksize: u32,
    /// The size of the disk, in KiB.
    pub size_kib: u64,
    /// The size of the disk, in blocks.
    pub blocks: u64,
    /// The groups, by number.
    pub groups: &'a [GroupStatus<'a>],
    /// The channels, in the order of the columns.
    pub channels: &'a [ChannelStatus<'a>],
    /// The resyncs that run, by group; none gives no line.
    pub resyncs: &'a [ResyncStatus],
    /// Blocks that the device was asked for.
    pub requested: Traffic,
    /// Blocks that were answered for.
    pub despatched: Traffic,
    /// Blocks that failed, on a channel or for want of one.
    pub errored: u64,
    /// Blocks that are waited for, on a channel or for want of one.
    pub pending: u64,
    /// Writes that were compared by checksum before they were sent; 0 until that exists.
    pub md5: u64,
    /// How programs and people call it.
    pub name: Option<Label>,
    /// The number of the last uevent; 0 if there was none.
    pub events: u64,
    /// What was set, or what stands where nothing was.
    pub settings: SettingsStatus,
    /// What is recorded of the mirror; nothing of one without metadata.
    pub mirror: Option<MirrorStatus>,
}
