// SPDX-License-Identifier: GPL-2.0

//! The transfers of a resync: each returning group has [`COPIES_EACH`] windows, and each window one
//! transfer at a time, a read from a group in sync or a write to the returning one.

use super::{Balance, Fence, Losses, Outcome, Route, Transfer, World, COPIES, COPIES_EACH, TAGS};
use crate::logic::{
    group::{GroupSet, GroupState},
    wire::request::{Command, CommandFlags},
};

/// What became of a window's transfer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CopyOutcome {
    /// It goes on.
    Going,
    /// It is done.
    Done,
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
}

#[derive(Clone, Copy)]
struct Copy {
    outcome: CopyOutcome,
    source: Source,
    refused_by: GroupSet,
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
            };
        }
    }

    fn end(&mut self, index: usize, outcome: CopyOutcome) {
        if let Some(copy) = self.0.get_mut(index) {
            copy.outcome = outcome;
        }
    }

    fn note_refusal(&mut self, index: usize, group: usize) {
        if let Some(copy) = self.0.get_mut(index) {
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

fn index_of(target: usize, copy: usize) -> usize {
    target * COPIES_EACH + copy
}

/// The transfers of resyncs. Those that start one give the channels that have to be kicked, one bit
/// each, as for requests.
pub trait Copying: World {
    /// Starts to read `len` bytes at `offset` into `buffer`, from a group in sync.
    fn copy_read(
        &self,
        target: usize,
        copy: usize,
        offset: u64,
        len: u32,
        buffer: Self::Buffer,
    ) -> u32 {
        let index = index_of(target, copy);
        self.with_copies(|copies| copies.begin(index, Source::Any));
        let flags = CommandFlags::NONE;
        let transfer = Transfer::new(Command::Read, flags, offset, len, buffer);
        route_copy_read(self, index, transfer)
    }

    /// Starts to read or write `len` bytes at `offset` of the returning group itself.
    fn copy_own(
        &self,
        command: Command,
        target: usize,
        copy: usize,
        offset: u64,
        len: u32,
        buffer: Self::Buffer,
    ) -> u32 {
        let transfer = Transfer::new(command, CommandFlags::NONE, offset, len, buffer);
        send_copy(self, target, copy, transfer)
    }

    /// Starts to make durable what the returning group was given. Nothing if its server cannot.
    fn copy_flush(&self, target: usize, copy: usize, buffer: Self::Buffer) -> Option<u32> {
        if self.is_volatile(target) {
            return None;
        }
        let owns = self.unflushed(target)?.begin_flush();
        let transfer = Transfer::flush(owns, buffer);
        Some(send_copy(self, target, copy, transfer))
    }

    /// How the window's transfer stands.
    fn copy_outcome(&self, target: usize, copy: usize) -> CopyOutcome {
        self.with_copies(|copies| copies.get(index_of(target, copy)))
    }

    /// A window's transfer came back.
    fn copy_done(
        &self,
        group: usize,
        number: u32,
        mut transfer: Transfer<Self::Buffer>,
        outcome: Outcome,
    ) {
        let index = number.saturating_sub(TAGS) as usize;
        match outcome {
            Outcome::Done if self.may_be_stale(group, &transfer) => {
                self.kick_all(route_copy_read(self, index, transfer));
            }
            Outcome::Done => {
                self.note_done(group, &transfer);
                end_copy(self, index, CopyOutcome::Done);
            }
            Outcome::Refused(_) if transfer.command == Command::Read => {
                self.with_copies(|copies| copies.note_refusal(index, group));
                self.kick_all(route_copy_read(self, index, transfer));
            }
            Outcome::Refused(_) => {
                if transfer.command == Command::Flush {
                    // Before the resync hears of it, and faults the group for that.
                    self.flush_refused(group, &mut transfer);
                }
                end_copy(self, index, CopyOutcome::Failed);
                self.mark_unflushed_of_faulty(group);
            }
            Outcome::Lost(fence) => {
                self.flush_failed(group, &mut transfer);
                match transfer.command {
                    Command::Read => self.kick_all(route_copy_read(self, index, transfer)),
                    _ if fence == Fence::Fenced
                        && self.core().view().state(group) == GroupState::Resyncing
                        && !self.core().is_failing() =>
                    {
                        let used = self.dispatch(group, number, transfer);
                        self.kick_all(used);
                    }
                    _ => end_copy(self, index, CopyOutcome::Failed),
                }
            }
        }
    }
}

impl<W: World> Copying for W {}

/// Sends a window's transfer to the returning group.
fn send_copy<W: World>(w: &W, target: usize, copy: usize, transfer: Transfer<W::Buffer>) -> u32 {
    let index = index_of(target, copy);
    w.with_copies(|copies| copies.begin(index, Source::Own));
    w.dispatch(target, TAGS + index as u32, transfer)
}

/// Sends a window's read to a group in sync that has not refused it.
fn route_copy_read<W: World>(w: &W, index: usize, mut transfer: Transfer<W::Buffer>) -> u32 {
    let view = w.core().view();
    transfer.in_sync_at = Some(view.epoch());
    let candidates = w.with_copies(|copies| copies.sources(index, view.readable()));
    let source = w
        .least_loaded(candidates)
        .or_else(|| candidates.iter().next());
    match source {
        Some(group) if !w.core().is_failing() => w.dispatch(group, TAGS + index as u32, transfer),
        _ => {
            end_copy(w, index, CopyOutcome::Failed);
            0
        }
    }
}

fn end_copy<W: World>(w: &W, index: usize, outcome: CopyOutcome) {
    w.with_copies(|copies| copies.end(index, outcome));
    w.wake_resyncs();
}
