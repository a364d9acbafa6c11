// SPDX-License-Identifier: GPL-2.0

//! The metadata of one group: reading and writing its superblocks.
//!
//! Each goes over a channel of the group as a transfer of its own, in the one slot that is for that,
//! so there is one at a time. Who wants to carry one out waits for the answer; what bounds that is
//! the time limit of the channel, and, where there is none, the one after which the group is taken
//! out of service.

use super::{outcome::MOST_LOSSES, Balance, Fence, GroupCore, Outcome, Transfer, World};
use crate::logic::{
    group::{GroupSet, GroupState},
    ids::{GroupId, SlotId},
    meta::{
        encode,
        layout::{self, INTENT_PAGES, SUPERBLOCKS},
        Bad, Beat, Scan, Uuid, BLOCK,
    },
    wire::request::{Command, CommandFlags},
    MAX_GROUPS,
};

/// How long to wait at most until the group is looked at again, in milliseconds.
const TICK_MS: u32 = 200;
/// Places that are tried for one superblock, if the server refuses to write there.
const PLACES: usize = 3;

/// Why something was not read or written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failed {
    /// No channel of the group is up.
    NoChannel,
    /// The server refused.
    Refused,
    /// The channel was lost before the answer.
    Lost,
    /// There is no memory now.
    NoMemory,
    /// The one who asked wants no answer any more.
    Ended,
    /// What was read is no superblock that could be used.
    Bad(Bad),
}

impl Failed {
    /// A short phrase for a log line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoChannel => "no channel is up for its metadata",
            Self::Refused => "the server refuses to read or write its metadata",
            Self::Lost => "the connection was lost while its metadata was read or written",
            Self::NoMemory => "no memory to read or write its metadata",
            Self::Ended => "its metadata was not read or written in time",
            Self::Bad(bad) => bad.as_str(),
        }
    }

    /// The positive Linux errno for the writer of the command.
    pub fn errno(self) -> i32 {
        match self {
            Self::NoChannel | Self::Lost => 107, // ENOTCONN
            Self::NoMemory => 12,                // ENOMEM
            Self::Ended => 110,                  // ETIMEDOUT
            Self::Bad(Bad::Version) => 93,       // EPROTONOSUPPORT
            Self::Bad(_) => 117,                 // EUCLEAN
            Self::Refused => 5,                  // EIO
        }
    }
}

/// Which record is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Which {
    /// The last one that is durable where it has to be.
    Record,
    /// The one that is to be the next.
    Draft,
}

/// How well a server has to keep what is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Keep {
    /// A crash of the server may take it.
    Cached,
    /// It outlasts one, as far as the server can promise that.
    Durable,
}

/// Nobody uses the slot.
const IDLE: u64 = 0;
/// A transfer is on its way.
const GOING: u64 = 1;
/// What became of it.
const DONE: u64 = 2;
const REFUSED: u64 = 3;
const FENCED: u64 = 4;
const OPEN: u64 = 5;

impl GroupCore {
    /// Takes the slot; false if a transfer is on its way.
    fn take_metadata(&self) -> bool {
        let state = self.metadata.load();
        state != GOING && self.metadata.compare_exchange(state, GOING).is_ok()
    }
}

/// A transfer of metadata has ended.
pub(super) fn answered<W: World>(w: &W, group: GroupId, outcome: Outcome) {
    let state = match outcome {
        Outcome::Done => DONE,
        Outcome::Refused(_) => REFUSED,
        Outcome::Lost(Fence::Fenced) => FENCED,
        Outcome::Lost(Fence::Open) => OPEN,
    };
    w.core().group(group).metadata.swap(state);
    w.core().note_metadata_answer();
    w.wake();
}

/// What is to be carried out, where.
#[derive(Clone, Copy)]
pub(super) struct Job {
    command: Command,
    flags: CommandFlags,
    offset: u64,
    len: u32,
}

/// A flush.
pub(super) const FLUSH: Job = Job {
    command: Command::Flush,
    flags: CommandFlags::NONE,
    offset: 0,
    len: 0,
};

/// The writing of a block.
pub(super) fn write_of(offset: u64, flags: CommandFlags) -> Job {
    Job {
        command: Command::Write,
        flags,
        offset,
        len: BLOCK as u32,
    }
}

/// Reads `len` bytes.
pub(super) fn read<W: World>(
    w: &W,
    group: GroupId,
    offset: u64,
    len: u32,
    ended: &dyn Fn() -> bool,
) -> Result<W::Buffer, Failed> {
    let buffer = w.memory(len).ok_or(Failed::NoMemory)?;
    let job = Job {
        command: Command::Read,
        flags: CommandFlags::NONE,
        offset,
        len,
    };
    carry_out(w, group, job, &buffer, ended)?;
    Ok(buffer)
}

/// Carries out one transfer, again if its connection was lost and the server will not carry it out
/// any more.
fn carry_out<W: World>(
    w: &W,
    group: GroupId,
    job: Job,
    buffer: &W::Buffer,
    ended: &dyn Fn() -> bool,
) -> Result<(), Failed> {
    for _ in 0..MOST_LOSSES {
        start(w, group, job, buffer, ended)?;
        if let Some(result) = finish(w, group, ended) {
            return result;
        }
    }
    Err(Failed::Lost)
}

/// Begins to carry out one transfer, whose end is waited for with [`finish`].
fn start<W: World>(
    w: &W,
    group: GroupId,
    job: Job,
    buffer: &W::Buffer,
    ended: &dyn Fn() -> bool,
) -> Result<(), Failed> {
    let g = w.core().group(group);
    begin(w, g, ended)?;
    put(w, group, job, buffer, ended).inspect_err(|_| {
        g.metadata.swap(IDLE);
        w.wake();
    })
}

/// Waits for the end of a transfer; nothing if its connection was lost, and the server will not carry
/// it out any more.
fn finish<W: World>(w: &W, group: GroupId, ended: &dyn Fn() -> bool) -> Option<Result<(), Failed>> {
    let g = w.core().group(group);
    let has_answer = || g.metadata.load() != GOING;
    // The time limit of the channel bounds this. Who leaves before leaves the slot to it.
    while !w.wait(TICK_MS, &mut || has_answer() || ended()) {}
    match g.metadata.load() {
        DONE => Some(Ok(())),
        REFUSED => Some(Err(Failed::Refused)),
        FENCED => None,
        OPEN => Some(Err(Failed::Lost)),
        _ => Some(Err(Failed::Ended)),
    }
}

/// Carries out one transfer for each of `groups`, all at once, of which `job` gives what it is; what
/// became of each.
pub(super) fn carry_out_all<W: World>(
    w: &W,
    groups: GroupSet,
    job: impl Fn(GroupId) -> Result<Job, Failed>,
    buffer: &W::Buffer,
    ended: &dyn Fn() -> bool,
) -> Results {
    let mut results: Results = [None; MAX_GROUPS];
    let mut going = GroupSet::default();
    for group in groups.iter() {
        match job(group).and_then(|job| start(w, group, job, buffer, ended)) {
            Ok(()) => going = going.with(group),
            Err(failed) => *group.pick_mut(&mut results) = Some(Err(failed)),
        }
    }
    for group in going.iter() {
        let result = match finish(w, group, ended) {
            Some(result) => result,
            // Its connection was lost: once more, by itself.
            None => job(group).and_then(|job| carry_out(w, group, job, buffer, ended)),
        };
        *group.pick_mut(&mut results) = Some(result);
    }
    results
}

/// What became of the transfer of each group that had one.
pub(super) type Results = [Option<Result<(), Failed>>; MAX_GROUPS];

/// Waits for the slot.
fn begin<W: World>(w: &W, g: &GroupCore, ended: &dyn Fn() -> bool) -> Result<(), Failed> {
    let mut taken = false;
    while !w.wait(TICK_MS, &mut || {
        taken = taken || g.take_metadata();
        taken || ended()
    }) {}
    if taken {
        Ok(())
    } else {
        Err(Failed::Ended)
    }
}

/// Gives the transfer to a channel. A group that is in service is waited for: it gets one, or is
/// taken out of service.
fn put<W: World>(
    w: &W,
    group: GroupId,
    job: Job,
    buffer: &W::Buffer,
    ended: &dyn Fn() -> bool,
) -> Result<(), Failed> {
    let g = w.core().group(group);
    let is_served = || {
        matches!(
            w.core().view().state(group),
            GroupState::InSync | GroupState::Resyncing
        )
    };
    loop {
        if let Some(channel) = w.pick_channel(group) {
            let (offset, len) = (job.offset, job.len);
            let transfer = Transfer::new(job.command, job.flags, offset, len, buffer.clone());
            let number = SlotId::of_metadata();
            if w.submit(group, channel, number, transfer).is_ok() {
                w.kick(channel);
                return Ok(());
            }
        }
        if ended() {
            return Err(Failed::Ended);
        }
        if w.core().is_failing() || !is_served() {
            return Err(Failed::NoChannel);
        }
        // A channel that was chosen and has ended is taken out of those that are up by itself.
        w.wait(TICK_MS, &mut || {
            ended() || !is_served() || !g.up().is_empty()
        });
    }
}

/// The metadata of groups.
pub trait Members: World {
    /// Looks for the newest superblock of a group: it is among what was found afterwards.
    ///
    /// # Errors
    ///
    /// Why there is none, or why it is not known.
    fn read_member(&self, group: GroupId, ended: &dyn Fn() -> bool) -> Result<(), Failed> {
        let export_bytes = self.export_sectors(group) << 9;
        let mut scan = Scan::new(export_bytes);
        self.with_notes(|notes| *group.pick_mut(notes.found) = None);
        for slot in 0..SUPERBLOCKS {
            let Some(offset) = layout::slot_at(export_bytes, slot) else {
                return Err(Failed::Bad(Bad::Blank));
            };
            let buffer = read(self, group, offset, BLOCK as u32, ended)?;
            self.with_notes(|notes| {
                if self.content(&buffer, 0, notes.block) {
                    scan.see(notes.block, slot, group.pick_mut(notes.found));
                }
            });
        }
        self.with_notes(|notes| scan.end(group.pick(notes.found)))
            .map_err(Failed::Bad)
    }

    /// Makes a superblock with the record, or the draft of the next one, durable on a group: the one
    /// after the last one that it has acknowledged.
    ///
    /// # Errors
    ///
    /// Why it may not be there.
    fn write_member(
        &self,
        group: GroupId,
        which: Which,
        ended: &dyn Fn() -> bool,
    ) -> Result<(), Failed> {
        let export_bytes = self.export_sectors(group) << 9;
        let mut result = Err(Failed::Refused);
        for _ in 0..PLACES {
            let prepared = self.with_notes(|notes| {
                let seq = notes.memory.next_seq(group);
                let record = match which {
                    Which::Record => notes.memory.record.as_ref()?,
                    Which::Draft => notes.memory.draft.as_ref()?,
                };
                encode(record, group, seq, export_bytes, notes.block);
                let buffer = self.holding(notes.block)?;
                let sum = self.checksum(&buffer, 0)?;
                Some((seq, buffer, sum))
            });
            let (seq, buffer, sum) = prepared.ok_or(Failed::NoMemory)?;
            let offset = layout::slot_at(export_bytes, layout::slot_of(seq));
            let offset = offset.ok_or(Failed::Bad(Bad::Moved))?;
            result = write_durably(self, group, offset, &buffer, ended);
            match result {
                Ok(()) => {
                    self.with_memory(|memory| memory.acknowledged(group, seq, sum, which));
                    return result;
                }
                // A bad place costs a superblock, not the group.
                Err(Failed::Refused) => {}
                Err(_) => return result,
            }
        }
        result
    }

    /// The beat of a group that is a member of `mirror`; nothing if it has none.
    ///
    /// # Errors
    ///
    /// Why it is not known.
    fn read_beat(
        &self,
        group: GroupId,
        mirror: Uuid,
        ended: &dyn Fn() -> bool,
    ) -> Result<Option<Beat>, Failed> {
        let offset = layout::beat_at(self.export_sectors(group) << 9);
        let offset = offset.ok_or(Failed::Bad(Bad::Blank))?;
        let buffer = read(self, group, offset, BLOCK as u32, ended)?;
        Ok(self.with_notes(|notes| {
            let is_read = self.content(&buffer, 0, notes.block);
            is_read.then(|| Beat::decode(notes.block, mirror)).flatten()
        }))
    }

    /// Writes a beat to a group.
    ///
    /// # Errors
    ///
    /// Why it may not be there.
    fn write_beat(
        &self,
        group: GroupId,
        beat: &Beat,
        keep: Keep,
        ended: &dyn Fn() -> bool,
    ) -> Result<(), Failed> {
        let offset = layout::beat_at(self.export_sectors(group) << 9);
        let offset = offset.ok_or(Failed::Bad(Bad::Blank))?;
        let buffer = self.with_notes(|notes| {
            beat.encode(notes.block);
            self.holding(notes.block)
        });
        let buffer = buffer.ok_or(Failed::NoMemory)?;
        match keep {
            Keep::Durable => write_durably(self, group, offset, &buffer, ended),
            Keep::Cached => {
                let write = write_of(offset, CommandFlags::NONE);
                carry_out(self, group, write, &buffer, ended)
            }
        }
    }

    /// Overwrites with zeroes what a member has at its end: first what makes it one, then its intent pages
    /// and its beat, which nobody looks at any more.
    ///
    /// # Errors
    ///
    /// Why some may be there still.
    fn wipe_member(&self, group: GroupId, ended: &dyn Fn() -> bool) -> Result<(), Failed> {
        let bytes = self.export_sectors(group) << 9;
        let superblocks = (0..SUPERBLOCKS).map(|slot| layout::slot_at(bytes, slot));
        let pages = (0..INTENT_PAGES).map(|slot| layout::intent_at(bytes, slot));
        let beat = core::iter::once(layout::beat_at(bytes));
        for offset in superblocks.chain(pages).chain(beat) {
            let offset = offset.ok_or(Failed::Bad(Bad::Blank))?;
            let buffer = self.with_notes(|notes| {
                notes.block.fill(0);
                self.holding(notes.block)
            });
            let buffer = buffer.ok_or(Failed::NoMemory)?;
            write_durably(self, group, offset, &buffer, ended)?;
        }
        self.with_memory(|memory| memory.forget(group));
        Ok(())
    }

    /// Whether `len` bytes of a group, whole blocks, are zeroes.
    ///
    /// # Errors
    ///
    /// Why it is not known.
    fn is_blank(
        &self,
        group: GroupId,
        offset: u64,
        len: u32,
        ended: &dyn Fn() -> bool,
    ) -> Result<bool, Failed> {
        let buffer = read(self, group, offset, len, ended)?;
        Ok((0..len).step_by(BLOCK as usize).all(|from| {
            self.with_notes(|notes| {
                self.content(&buffer, from, notes.block) && notes.block.iter().all(|&b| b == 0)
            })
        }))
    }
}

impl<W: World> Members for W {}

/// Writes a block, so that it outlasts a crash of the server as far as that one can promise it.
fn write_durably<W: World>(
    w: &W,
    group: GroupId,
    offset: u64,
    buffer: &W::Buffer,
    ended: &dyn Fn() -> bool,
) -> Result<(), Failed> {
    let write = write_of(offset, durable_flags(w, group));
    carry_out(w, group, write, buffer, ended)?;
    if w.has_fua(group) || w.is_volatile(group) {
        return Ok(());
    }
    carry_out(w, group, FLUSH, buffer, ended)
}

/// The flags of a write that has to be durable: a server without FUA is asked to flush afterwards.
pub(super) fn durable_flags<W: World>(w: &W, group: GroupId) -> CommandFlags {
    if w.has_fua(group) {
        CommandFlags::NONE.with(CommandFlags::FUA)
    } else {
        CommandFlags::NONE
    }
}
