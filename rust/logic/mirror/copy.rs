// SPDX-License-Identifier: GPL-2.0

//! The transfers of a resync: each returning group has [`COPIES_EACH`] windows, and each window one
//! transfer at a time, a read from a group in sync or a write to the returning one.

use super::{
    outcome,
    step::{self, Next, Numbered, Unserved},
    zeroes, Balance, Fence, Losses, Outcome, Route, Transfer, World, COPIES, COPIES_EACH,
};
use crate::logic::{
    group::{GroupSet, GroupState},
    ids::{ChannelSet, GroupId, SlotId},
    wire::{
        reply::NbdError,
        request::{Command, CommandFlags},
    },
};

/// What became of a window's transfer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CopyOutcome {
    /// It goes on.
    Going,
    /// It is done.
    Done,
    /// A read: whoever could be asked has refused it.
    Unreadable,
    /// It failed.
    Failed,
}

/// Where a window's read may go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Source {
    /// To any group in sync.
    Any,
    /// To the returning group, to be compared.
    Own,
    /// Nowhere any more.
    Nobody,
}

#[derive(Clone, Copy)]
struct Copy {
    outcome: CopyOutcome,
    source: Source,
    refused_by: GroupSet,
    /// One of them said that the read has failed, and nothing else was said: the block may be bad.
    is_bad: bool,
}

/// What became of each window's transfer, and which groups refused it.
pub struct Copies([Copy; COPIES]);

impl Default for Copies {
    fn default() -> Self {
        Self(
            [Copy {
                outcome: CopyOutcome::Done,
                source: Source::Any,
                refused_by: GroupSet::default(),
                is_bad: false,
            }; COPIES],
        )
    }
}

impl Copies {
    /// A new transfer goes on.
    fn begin(&mut self, index: usize, source: Source) {
        if let Some(copy) = self.0.get_mut(index) {
            *copy = Copy {
                outcome: CopyOutcome::Going,
                source,
                refused_by: GroupSet::default(),
                is_bad: false,
            };
        }
    }

    fn end(&mut self, index: usize, outcome: CopyOutcome) {
        if let Some(copy) = self.0.get_mut(index) {
            copy.outcome = outcome;
        }
    }

    /// It goes to no group any more.
    fn give_up(&mut self, index: usize) {
        if let Some(copy) = self.0.get_mut(index) {
            copy.source = Source::Nobody;
        }
    }

    /// What it is to the window that a read goes to no group any more.
    fn end_of_read(&self, index: usize) -> CopyOutcome {
        match self.0.get(index) {
            Some(copy) if copy.source != Source::Nobody && copy.is_bad => CopyOutcome::Unreadable,
            _ => CopyOutcome::Failed,
        }
    }

    /// A group refused the read. Only an I/O error says something of the blocks.
    fn note_refusal(&mut self, index: usize, group: GroupId, error: NbdError) {
        if let Some(copy) = self.0.get_mut(index) {
            let is_first = copy.refused_by.is_empty();
            copy.is_bad = error == NbdError::Io && (is_first || copy.is_bad);
            copy.refused_by = copy.refused_by.with(group);
        }
    }

    /// The groups of `readable` that the read may go to still; none if it was meant for the
    /// returning one.
    fn sources(&self, index: usize, readable: GroupSet) -> GroupSet {
        match self.0.get(index) {
            Some(copy) if copy.source == Source::Any => readable.without(copy.refused_by),
            _ => GroupSet::default(),
        }
    }

    fn get(&self, index: usize) -> CopyOutcome {
        self.0.get(index).map_or(CopyOutcome::Failed, |c| c.outcome)
    }
}

fn index_of(target: GroupId, copy: usize) -> usize {
    target.index() * COPIES_EACH + copy
}

/// The transfers of resyncs. Those that start one give the channels that have to be kicked, as for
/// requests.
pub trait Copying: World {
    /// Starts to read `len` bytes at `offset` into `buffer`, from a group in sync.
    fn copy_read(
        &self,
        target: GroupId,
        copy: usize,
        offset: u64,
        len: u32,
        buffer: Self::Buffer,
    ) -> ChannelSet {
        let index = index_of(target, copy);
        self.with_copies(|copies| copies.begin(index, Source::Any));
        let flags = CommandFlags::NONE;
        let transfer = Transfer::new(Command::Read, flags, offset, len, buffer);
        match aim(self, index, transfer) {
            Some(sent) => step::send(self, sent),
            None => ChannelSet::default(),
        }
    }

    /// Starts to read or write `len` bytes at `offset` of the returning group itself.
    fn copy_own(
        &self,
        command: Command,
        target: GroupId,
        copy: usize,
        offset: u64,
        len: u32,
        buffer: Self::Buffer,
    ) -> ChannelSet {
        let transfer = Transfer::new(command, CommandFlags::NONE, offset, len, buffer);
        send_copy(self, target, copy, transfer)
    }

    /// Starts to make durable what the returning group was given. Nothing if its server cannot.
    fn copy_flush(&self, target: GroupId, copy: usize, buffer: Self::Buffer) -> Option<ChannelSet> {
        if self.is_volatile(target) {
            return None;
        }
        let owns = self.unflushed(target)?.begin_flush();
        let transfer = Transfer::flush(owns, buffer);
        Some(send_copy(self, target, copy, transfer))
    }

    /// Nobody wants the window's transfer any more: it is not sent again, and ends now if it waits for
    /// a channel. To be asked until it has ended, as one that is being given back may wait a moment
    /// later.
    fn give_up_copy(&self, target: GroupId, copy: usize) {
        let index = index_of(target, copy);
        self.with_copies(|copies| copies.give_up(index));
        for group in GroupId::all() {
            if self.take_waiting(group, SlotId::of_copy(index)).is_some() {
                end_copy(self, index, CopyOutcome::Failed);
            }
        }
    }

    /// How the window's transfer stands.
    fn copy_outcome(&self, target: GroupId, copy: usize) -> CopyOutcome {
        self.with_copies(|copies| copies.get(index_of(target, copy)))
    }
}

impl<W: World> Copying for W {}

/// A window's transfer came back.
pub(super) fn done<W: World>(
    w: &W,
    group: GroupId,
    index: usize,
    mut transfer: Transfer<W::Buffer>,
    outcome: Outcome,
) -> Next<W::Buffer> {
    match outcome {
        Outcome::Done if w.may_be_stale(group, &transfer) => Next::CopyAgain { index, transfer },
        Outcome::Done => {
            w.note_done(group, &transfer);
            end(w, index, CopyOutcome::Done)
        }
        Outcome::Refused(error) if transfer.command == Command::Read => {
            w.with_copies(|copies| copies.note_refusal(index, group, error));
            Next::CopyAgain { index, transfer }
        }
        Outcome::Refused(error) if zeroes::are_refused(transfer.command, error) => {
            // The window has them to send.
            transfer.command = Command::Write;
            Next::Send(Numbered {
                group,
                number: SlotId::of_copy(index),
                transfer,
            })
        }
        Outcome::Refused(_) => {
            if transfer.command == Command::Flush {
                // Before the resync hears of it, and faults the group for that.
                w.flush_refused(group, &mut transfer);
            }
            let next = end(w, index, CopyOutcome::Failed);
            w.mark_unflushed_of_faulty(group);
            next
        }
        Outcome::Lost(fence) => {
            w.flush_failed(group, &mut transfer);
            match transfer.command {
                Command::Read => Next::CopyAgain { index, transfer },
                // What ends the connections may be this write: then the resync fails.
                _ if fence == Fence::Fenced
                    && transfer.losses < outcome::MOST_LOSSES
                    && w.core().view().state(group) == GroupState::Resyncing
                    && !w.core().is_failing() =>
                {
                    Next::Send(Numbered {
                        group,
                        number: SlotId::of_copy(index),
                        transfer,
                    })
                }
                _ => end(w, index, CopyOutcome::Failed),
            }
        }
    }
}

/// A window's transfer found no channel, and does not wait for one.
pub(super) fn unserved<W: World>(
    w: &W,
    why: Unserved,
    index: usize,
    transfer: Transfer<W::Buffer>,
) -> Next<W::Buffer> {
    if why == Unserved::GroupIsOut && transfer.command == Command::Read {
        Next::CopyAgain { index, transfer }
    } else {
        // The resync of a group that is out of service has ended.
        end(w, index, CopyOutcome::Failed)
    }
}

/// Sends a window's transfer to the returning group.
fn send_copy<W: World>(
    w: &W,
    target: GroupId,
    copy: usize,
    transfer: Transfer<W::Buffer>,
) -> ChannelSet {
    let index = index_of(target, copy);
    w.with_copies(|copies| copies.begin(index, Source::Own));
    let sent = Numbered {
        group: target,
        number: SlotId::of_copy(index),
        transfer,
    };
    step::send(w, sent)
}

/// Where a window's read goes now: to a group in sync that has not refused it. If there is none the
/// window's transfer has failed, or what it was to read cannot be read.
pub(super) fn aim<W: World>(
    w: &W,
    index: usize,
    mut transfer: Transfer<W::Buffer>,
) -> Option<Numbered<W::Buffer>> {
    let view = w.core().view();
    transfer.in_sync_at = Some(view.epoch());
    let candidates = w.with_copies(|copies| copies.sources(index, view.readable()));
    let source = w
        .least_loaded(candidates)
        .or_else(|| candidates.iter().next());
    match source {
        Some(group) if !w.core().is_failing() => Some(Numbered {
            group,
            number: SlotId::of_copy(index),
            transfer,
        }),
        _ => {
            let outcome = match w.core().is_failing() {
                true => CopyOutcome::Failed,
                false => w.with_copies(|copies| copies.end_of_read(index)),
            };
            end_copy(w, index, outcome);
            None
        }
    }
}

fn end<W: World>(w: &W, index: usize, outcome: CopyOutcome) -> Next<W::Buffer> {
    end_copy(w, index, outcome);
    Next::Done
}

fn end_copy<W: World>(w: &W, index: usize, outcome: CopyOutcome) {
    w.with_copies(|copies| copies.end(index, outcome));
    w.wake_resyncs();
}
