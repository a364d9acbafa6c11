// SPDX-License-Identifier: GPL-2.0

//! The transfers of a resync: each returning group has a few windows, and each window one transfer
//! at a time, a read from a group in sync or a write to the returning one.
//!
//! Lock: `states`, what became of each window's transfer and which groups refused it, is a spin
//! lock.

use super::{Driver, Mirror, TAGS};
use crate::channel::{Fence, Outcome, Transfer};
use crate::kapi::iovec::{Buffer, Pages};
use crate::logic::{
    barrier::{Span, Window},
    group::{GroupSet, GroupState},
    wire::request::{Command, CommandFlags},
    MAX_GROUPS,
};
use kernel::{
    prelude::*,
    sync::{new_spinlock, Arc, SpinLock},
};

/// Windows of one returning group.
pub(crate) const COPIES_EACH: usize = 4;
/// Windows of all groups.
pub(crate) const COPIES: usize = COPIES_EACH * MAX_GROUPS;

/// What became of a window's transfer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum CopyOutcome {
    /// It goes on.
    Going,
    /// It is done.
    Done,
    /// It failed.
    Failed,
}

/// The transfers of all windows.
#[pin_data]
pub(super) struct Copies {
    #[pin]
    states: SpinLock<[(CopyOutcome, GroupSet); COPIES]>,
}

impl Copies {
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            states <- new_spinlock!(
                [(CopyOutcome::Done, GroupSet::default()); COPIES],
                "enbd::Copies::states"
            ),
        })
    }

    /// A new transfer goes on.
    fn begin(&self, index: usize) {
        if let Some(state) = self.states.lock().get_mut(index) {
            *state = (CopyOutcome::Going, GroupSet::default());
        }
    }

    fn end(&self, index: usize, outcome: CopyOutcome) {
        if let Some((state, _)) = self.states.lock().get_mut(index) {
            *state = outcome;
        }
    }

    fn note_refusal(&self, index: usize, group: usize) {
        if let Some((_, refused_by)) = self.states.lock().get_mut(index) {
            *refused_by = refused_by.with(group);
        }
    }

    fn refused_by(&self, index: usize) -> GroupSet {
        let states = self.states.lock();
        states
            .get(index)
            .map_or(GroupSet::default(), |state| state.1)
    }

    fn get(&self, index: usize) -> CopyOutcome {
        let states = self.states.lock();
        states
            .get(index)
            .map_or(CopyOutcome::Failed, |state| state.0)
    }
}

fn index_of(target: usize, copy: usize) -> usize {
    target * COPIES_EACH + copy
}

impl Mirror {
    /// Window number `copy` of the resync of `target`.
    pub(crate) fn window(&self, target: usize, copy: usize) -> Option<&Window> {
        self.windows.get(target)?.get(copy)
    }

    /// Whether no write overlaps `span` any more. To be asked after the window was raised.
    pub(crate) fn is_clear(&self, span: Span) -> bool {
        !self.claims.iter().any(|claim| claim.blocks(span))
    }

    /// Starts to read `len` bytes at `offset` from a group in sync into `pages`.
    pub(crate) fn copy_read(
        &self,
        target: usize,
        copy: usize,
        offset: u64,
        len: u32,
        pages: &Arc<Pages>,
    ) {
        let index = index_of(target, copy);
        self.copies.begin(index);
        self.route_copy_read(index, copy_transfer(Command::Read, offset, len, pages));
    }

    /// Starts to write `len` bytes at `offset` from `pages` to the returning group.
    pub(crate) fn copy_write(
        &self,
        target: usize,
        copy: usize,
        offset: u64,
        len: u32,
        pages: &Arc<Pages>,
    ) {
        self.send_copy(
            target,
            copy,
            copy_transfer(Command::Write, offset, len, pages),
        );
    }

    /// Starts to make durable what the returning group was given. False if its server cannot.
    pub(crate) fn copy_flush(&self, target: usize, copy: usize, pages: &Arc<Pages>) -> bool {
        let Some(g) = self.group(target) else {
            return false;
        };
        let Some(unflushed) = g.unflushed().filter(|_| !g.is_volatile()) else {
            return false;
        };
        let owns = unflushed.begin_flush();
        let buffer = Buffer::Pages(pages.clone());
        self.send_copy(target, copy, Transfer::flush(owns, buffer));
        true
    }

    /// Sends a window's transfer to the returning group.
    fn send_copy(&self, target: usize, copy: usize, transfer: Transfer<Driver>) {
        let index = index_of(target, copy);
        self.copies.begin(index);
        let used = self.dispatch(target, TAGS + index as u32, transfer);
        self.kick(used);
    }

    /// How the window's transfer stands.
    pub(crate) fn copy_outcome(&self, target: usize, copy: usize) -> CopyOutcome {
        self.copies.get(index_of(target, copy))
    }

    /// Sends a window's read to a group in sync that has not refused it.
    fn route_copy_read(&self, index: usize, transfer: Transfer<Driver>) {
        let candidates = self
            .view()
            .readable()
            .without(self.copies.refused_by(index));
        let source = self
            .least_loaded(candidates)
            .or_else(|| candidates.iter().next());
        match source {
            Some(group) if !self.is_failing() => {
                let used = self.dispatch(group, TAGS + index as u32, transfer);
                self.kick(used);
            }
            _ => self.end_copy(index, CopyOutcome::Failed),
        }
    }

    fn end_copy(&self, index: usize, outcome: CopyOutcome) {
        self.copies.end(index, outcome);
        self.resync_waiters.wake_all();
    }

    /// A window's transfer came back.
    pub(super) fn copy_done(
        &self,
        group: usize,
        number: u32,
        transfer: Transfer<Driver>,
        outcome: Outcome,
    ) {
        let index = number.saturating_sub(TAGS) as usize;
        match outcome {
            Outcome::Done => {
                self.note_done(group, &transfer);
                self.end_copy(index, CopyOutcome::Done);
            }
            Outcome::Refused(_) if transfer.command == Command::Read => {
                self.copies.note_refusal(index, group);
                self.route_copy_read(index, transfer);
            }
            Outcome::Refused(_) => {
                self.flush_failed(group, &transfer);
                self.end_copy(index, CopyOutcome::Failed);
            }
            Outcome::Lost(fence) => match transfer.command {
                Command::Read => self.route_copy_read(index, transfer),
                _ if fence == Fence::Fenced
                    && self.view().state(group) == GroupState::Resyncing
                    && !self.is_failing() =>
                {
                    let used = self.dispatch(group, number, transfer);
                    self.kick(used);
                }
                _ => {
                    self.flush_failed(group, &transfer);
                    self.end_copy(index, CopyOutcome::Failed);
                }
            },
        }
    }
}

fn copy_transfer(command: Command, offset: u64, len: u32, pages: &Arc<Pages>) -> Transfer<Driver> {
    let buffer = Buffer::Pages(pages.clone());
    Transfer::new(command, CommandFlags::NONE, offset, len, buffer)
}
