// SPDX-License-Identifier: GPL-2.0

//! What the decisions of a mirror need around them.

use super::{memory::Notes, Copies, Core, Memory, Pdu, Trial};
use crate::logic::{
    barrier::Claim,
    evidence::{Evidence, Sum},
    group::{GroupFault, GroupSet},
    ids::{ChannelId, GroupId, SlotId},
    meta::{Cause, Generation, Marks},
    session::Transfer,
    unflushed::Unflushed,
    wire::{reply::NbdError, request::Command},
};
use crate::sync::Word;
use core::ops::Deref;

/// What a request asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Op {
    /// Read.
    Read,
    /// Write.
    Write,
    /// Make what was acknowledged before durable.
    Flush,
    /// The range's content is no longer needed.
    Discard,
    /// The range becomes zeroes.
    WriteZeroes,
    /// Something that is not known.
    Other,
}

/// One of the handles to a request of the device's user. When the last one is dropped the request
/// ends as [`Route::result`](super::Route::result) says.
pub trait Request: Clone {
    /// What it asks for.
    fn op(&self) -> Op;
    /// The first sector, in units of 512 bytes.
    fn sector(&self) -> u64;
    /// Bytes.
    fn bytes(&self) -> u32;
    /// Its number, below [`TAGS`](super::TAGS), which no other request has meanwhile.
    fn tag(&self) -> u32;
    /// Whether the write has to be durable when it ends.
    fn fua(&self) -> bool;
    /// Whether zeroes must be backed by storage.
    fn no_unmap(&self) -> bool;
    /// What is known of it on its way.
    fn pdu(&self) -> &Pdu;
    /// From now on the device offers its users neither discards nor writes of zeroes.
    fn withdraw_zeroes(&self);
}

/// Memory that a transfer reads into or writes from, and what waits for the transfer.
pub trait Carrier: Clone {
    /// The requests of users.
    type Request: Request;

    /// The memory of a request.
    fn of(request: Self::Request) -> Self;
    /// The request; nothing if it is the memory of a resync.
    fn request(&self) -> Option<&Self::Request>;
    /// The request itself.
    fn into_request(self) -> Option<Self::Request>;
}

/// What the administrator may want to know.
#[derive(Clone, Copy, Debug)]
pub enum News {
    /// A group is out of service.
    Faulty {
        /// Which.
        group: GroupId,
        /// Why.
        fault: GroupFault,
    },
    /// The server of a group refused a request, as it has done a number of times before that is
    /// a power of two.
    Refused {
        /// Which.
        group: GroupId,
        /// What it was asked.
        command: Command,
        /// Bytes.
        len: u32,
        /// Where, in bytes.
        offset: u64,
        /// What it said.
        error: NbdError,
    },
    /// A group that is out of service has served a read that every group in sync has refused, as it
    /// has done a number of times before that is a power of two.
    Rescued {
        /// Which.
        group: GroupId,
        /// Where, in bytes.
        offset: u64,
        /// Bytes.
        len: u32,
    },
    /// The last group to be lost is back before any other one, and may have lost what was not
    /// flushed.
    BackAlone {
        /// Which.
        group: GroupId,
        /// How many regions it may have lost writes in.
        regions: u64,
        /// Sectors of a region.
        sectors: u64,
    },
    /// A connection leads to a server that does not hold what the group does.
    OtherData {
        /// Which.
        group: GroupId,
        /// Where, in bytes.
        offset: u64,
    },
    /// The group is back, no other one is there, and nothing shows that its server is the same.
    Unproved {
        /// Which.
        group: GroupId,
    },
    /// A server refuses to write zeroes again and again: users are not offered that any more.
    NoZeroes {
        /// Which.
        group: GroupId,
    },
    /// What was written to one group was found in another one, to which it was not sent.
    Twins {
        /// Which.
        groups: (GroupId, GroupId),
    },
    /// Another client has the mirror, by the beat on this group: nothing is written any more.
    Fenced {
        /// Which.
        group: GroupId,
    },
    /// All that are in sync have recorded who is.
    Recorded {
        /// The line.
        generation: Generation,
        /// Its number.
        event: u64,
        /// Who is.
        in_sync: GroupSet,
    },
    /// A group that was just connected is a member of a mirror.
    Member {
        /// Which.
        group: GroupId,
        /// The line of its record.
        generation: Generation,
        /// Its number.
        event: u64,
    },
    /// Somebody had the mirror and did not end in order: it is waited whether that one has it still.
    AwaitsOwner {
        /// How long, in milliseconds.
        ms: u64,
    },
    /// It is decided how the device starts.
    Starts {
        /// Why a generation is drawn, if one is.
        drawn: Option<Cause>,
    },
    /// What a group is at a start.
    Stands {
        /// Which.
        group: GroupId,
        /// As what.
        standing: Standing,
    },
    /// Two groups that are in sync do not hold the same.
    Unequal {
        /// Which.
        groups: (GroupId, GroupId),
        /// Where, in bytes.
        offset: u64,
    },
}

/// What a group is to a device that starts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// A member that is not there.
    Away,
    /// It has everything.
    Current,
    /// It is compared where it is marked.
    ComparedWhereMarked,
    /// It is compared from its beginning to its end.
    Compared,
    /// It gets what is marked.
    CopiedWhereMarked,
    /// It gets all.
    Copied,
    /// No member any more.
    Dropped,
}

impl Standing {
    /// For a log line that begins with the group.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Away => "is not there",
            Self::Current => "is current",
            Self::ComparedWhereMarked => "is compared where it is marked",
            Self::Compared => "is compared as a whole",
            Self::CopiedWhereMarked => "gets what is marked",
            Self::Copied => "gets all of the data",
            Self::Dropped => "is no member any more",
        }
    }
}

/// Something that a connection is asked for before it carries anything: what is in a chunk.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Where to read, in bytes.
    pub offset: u64,
    /// How many bytes: the chunk, or the block of the server that it is in.
    pub len: u32,
    /// Where in that the chunk begins.
    pub from: u32,
    /// The checksum of the chunk that was found; nothing while it was not read.
    pub found: Option<Sum>,
}

/// Reads these places over a connection that carries nothing else; false if it has ended.
pub type Probe<'a> = &'a mut dyn FnMut(&mut [Place]) -> bool;

/// What the decisions of a mirror need around them. All of it may be called from several threads at
/// once, where it may sleep, unless something else is said.
pub trait World: Sized {
    /// The memory of transfers.
    type Buffer: Carrier;
    /// The memory of [`Unflushed`].
    type Words: Deref<Target = [Word]>;

    /// The state.
    fn core(&self) -> &Core;
    /// One claim a request slot.
    fn claims(&self) -> &[Claim];
    /// What the server of a group has acknowledged and may not have made durable; nothing while the
    /// group never had a channel.
    fn unflushed(&self, group: GroupId) -> Option<&Unflushed<Self::Words>>;
    /// What is remembered of the content.
    fn evidence(&self) -> &Evidence<Self::Words>;
    /// Whether a write is to be remembered now. To remember all would cost too much.
    fn wants_evidence(&self) -> bool;
    /// Gives the place of a write that is tried to `f`, which does not sleep, under its lock.
    fn with_trial<R>(
        &self,
        f: impl FnOnce(&mut Trial<<Self::Buffer as Carrier>::Request>) -> R,
    ) -> R;
    /// Gives the states of the resyncs' transfers to `f`, which does not sleep, under their lock.
    fn with_copies<R>(&self, f: impl FnOnce(&mut Copies) -> R) -> R;

    /// Milliseconds of a clock that does not go back.
    fn now_ms(&self) -> u64;
    /// Milliseconds that a group may be without channels before it is faulted.
    fn timeout_ms(&self) -> u64;
    /// Whether requests fail, instead of waiting, when every group is gone.
    fn show_errs(&self) -> bool;
    /// Sectors of 512 bytes in a block.
    fn block_sectors(&self) -> u64;
    /// Whether the server of a group keeps writes in a cache that cannot be flushed.
    fn is_volatile(&self, group: GroupId) -> bool;

    /// Bytes that wait for an answer on a channel.
    fn load(&self, channel: ChannelId) -> u64;
    /// Whether as much is on its way on a channel as it should have, see
    /// [`pace`](crate::logic::session::pace); never if nothing is.
    fn is_full(&self, channel: ChannelId) -> bool;
    /// Lets a channel that is connected take transfers.
    fn open(&self, channel: ChannelId);
    /// Whether a channel takes transfers.
    fn is_open(&self, channel: ChannelId) -> bool;
    /// Gives a transfer of `group` to a channel, to be sent by the next [`World::kick`]. It comes
    /// back if the channel is not up.
    fn submit(
        &self,
        group: GroupId,
        channel: ChannelId,
        number: SlotId,
        transfer: Transfer<Self::Buffer>,
    ) -> Result<(), Transfer<Self::Buffer>>;
    /// Lets a channel send what it has.
    fn kick(&self, channel: ChannelId);

    /// Puts a transfer into the table of `group`, to wait for a channel. It comes back if the group
    /// has no table, or the slot is in use, which no caller lets happen.
    fn put_waiting(
        &self,
        group: GroupId,
        number: SlotId,
        transfer: Transfer<Self::Buffer>,
    ) -> Result<(), Transfer<Self::Buffer>>;
    /// Takes out a transfer that waits for a channel.
    fn take_waiting(&self, group: GroupId, number: SlotId) -> Option<Transfer<Self::Buffer>>;

    /// Puts a request aside, behind those that are, if `still`, asked under the lock of those, says
    /// so; else gives it back.
    fn park_if(
        &self,
        request: <Self::Buffer as Carrier>::Request,
        still: impl FnOnce() -> bool,
    ) -> Option<<Self::Buffer as Carrier>::Request>;
    /// How many requests are put aside.
    fn parked(&self) -> usize;
    /// Takes the request that was put aside first.
    fn unpark_first(&self) -> Option<<Self::Buffer as Carrier>::Request>;

    /// Gives a request back to whoever asked, to be asked again after
    /// [`Route::take_postponed`](super::Route::take_postponed) said so, if `still`, asked under the
    /// lock of [`World::postponing`], says so; else gives it back to the caller.
    fn postpone_if(
        &self,
        request: <Self::Buffer as Carrier>::Request,
        still: impl FnOnce() -> bool,
    ) -> Option<<Self::Buffer as Carrier>::Request>;
    /// Calls `f`, which does not sleep, while no request is being given back.
    fn postponing<R>(&self, f: impl FnOnce() -> R) -> R;

    /// Takes the one copy of a write's data that all groups are sent, however often: who sends what
    /// is in the submitter's memory at that moment may send each group something else. It comes back
    /// as the error if there is no room for that now; there may be when a request has ended.
    fn copy_once(
        &self,
        request: <Self::Buffer as Carrier>::Request,
    ) -> Result<<Self::Buffer as Carrier>::Request, <Self::Buffer as Carrier>::Request>;
    /// Whether there is room for a copy of so many bytes.
    fn has_room(&self, bytes: u32) -> bool;

    /// Marks `len` blocks from `first` on as missed by `group`.
    fn mark_blocks(&self, group: GroupId, first: u64, len: u64);
    /// Marks all blocks as missed by `group`.
    fn mark_all(&self, group: GroupId);

    /// Marks nothing as missed by `group`, which has all.
    fn clear_all(&self, group: GroupId);

    /// Whether any of `len` blocks from `first` on is marked as missed by `group`.
    fn is_marked(&self, group: GroupId, first: u64, len: u64) -> bool;

    /// Bytes of the smallest read that the server of a group takes.
    fn smallest_read(&self, group: GroupId) -> u32;
    /// Bytes of the largest write that the server of a group takes.
    fn largest_write(&self, group: GroupId) -> u32;
    /// Whether the server of a group offers to write zeroes that it is not sent.
    fn writes_zeroes(&self, group: GroupId) -> bool;
    /// Bytes of the largest request that the server of a group takes.
    fn largest_request(&self, group: GroupId) -> u32;
    /// Sectors of what the server of a group offers.
    fn export_sectors(&self, group: GroupId) -> u64;
    /// Memory for a read of `len` bytes; nothing if there is none now.
    fn memory(&self, len: u32) -> Option<Self::Buffer>;
    /// The checksum of the chunk that begins at byte `from` of a buffer: of a write's, in the copy
    /// that is sent. Nothing if the buffer ends before.
    fn checksum(&self, buffer: &Self::Buffer, from: u32) -> Option<Sum>;

    /// Waits at most `ms` milliseconds until `holds`, which is asked again whenever
    /// [`World::wake`] is called; whether it holds.
    fn wait(&self, ms: u32, holds: &mut dyn FnMut() -> bool) -> bool;
    /// Wakes up who waits for a change of a group's or a channel's state.
    fn wake(&self);
    /// The same, where programs that watch the device are told, too.
    fn changed(&self);
    /// Wakes up the resyncs.
    fn wake_resyncs(&self);
    /// Where writes may be on their way; nothing of a device that never kept intent pages.
    fn marks(&self) -> Option<&Marks<Self::Words>>;
    /// Milliseconds after which a mark that is idle is taken back.
    fn intent_idle_ms(&self) -> u64;
    /// Bytes that are to be marked at most; 0 for no bound.
    fn most_marked(&self) -> u64;
    /// Seconds between two beats of a device with metadata; 0 for none.
    fn owner_check_s(&self) -> u64;
    /// Any number.
    fn random(&self) -> u64;
    /// Something happened.
    fn tell(&self, news: News);

    /// Gives what is known of the metadata to `f`, which does not wait for anything, under its lock.
    fn with_notes<R>(&self, f: impl FnOnce(Notes<'_>) -> R) -> R;
    /// The same, without the room.
    fn with_memory<R>(&self, f: impl FnOnce(&mut Memory) -> R) -> R {
        self.with_notes(|notes| f(notes.memory))
    }
    /// Memory for a write, with these bytes; nothing if there is none now.
    fn holding(&self, bytes: &[u8]) -> Option<Self::Buffer>;
    /// Copies what was read to `to`, from byte `from` on; false if there is less.
    fn content(&self, buffer: &Self::Buffer, from: u32, to: &mut [u8]) -> bool;
    /// Whether the server of a group makes a write durable that has to be.
    fn has_fua(&self, group: GroupId) -> bool;
    /// Keeps a handle of a request, so that it does not end, if `still`, asked under the lock of
    /// those that are kept, says so; whether it did.
    fn keep_if(
        &self,
        request: &<Self::Buffer as Carrier>::Request,
        still: impl FnOnce() -> bool,
    ) -> bool;
    /// Takes one that was kept.
    fn take_kept(&self) -> Option<<Self::Buffer as Carrier>::Request>;
}
