// SPDX-License-Identifier: GPL-2.0

//! Whether a group that returns is the one that was lost.
//!
//! Its server has the right size and the right flags, or it would have no channel; but that has
//! many a disk. So before a block is copied, blocks that the group did not miss are read from it and
//! from a group in sync. They have to be equal: what the group may have lost with its cache was
//! marked, so is not clean. A group that differs is refused, and only the administrator can bring it
//! back, by `hotadd` with `full`.
//!
//! Where: at both ends of the device, where something was written or read before
//! ([`crate::logic::evidence`]), and at places chosen at random. Blocks of zeroes, as many a disk has,
//! show nothing. If the group's connections were all lost, more places are looked for that are not
//! zeroes; and if there is none, the map is not believed: all is compared.
//!
//! Each block is compared with its window raised, as it would be copied, so that no write comes in
//! between.

use super::walk::{Ended, Overseer, Site, Walk, COMPARES};
use crate::logic::{
    bitmap::Run,
    ids::ChannelSet,
    mirror::{proof::blocks_of_chunk, CopyOutcome, Copying, Route, States},
    wire::request::Command,
};

/// Blocks at random places that are compared, spread over the device.
pub const SAMPLES: u64 = 16;
/// Places of which something is remembered that are compared at most.
const REMEMBERED: usize = 48;
/// Blocks that are compared at most until one is found that is not zeroes.
const SEARCHED: u64 = 128;

impl<W: Site, O: Overseer> Walk<'_, W, O> {
    /// Compares clean blocks of the group with the others'. If its connections were lost, and
    /// nothing shows that it is the same server, the map is not believed.
    pub(super) fn compare_samples(&mut self) -> Result<(), Ended> {
        let (site, group) = (self.site, self.group);
        let blocks = self.blocks();
        let one = |first| Run { first, len: 1 };
        self.compare_runs(&mut [one(0), one(blocks.saturating_sub(1))].into_iter())?;
        let random = site.random() as u32;
        let pieces = site.evidence().pieces(random).take(REMEMBERED);
        self.compare_runs(&mut pieces.map(|piece| blocks_of_chunk(site, piece.chunk)))?;
        let samples = SAMPLES.min(blocks);
        // Each in a part of its own, at a place that is another one each time.
        let part = blocks.checked_div(samples).unwrap_or(0);
        let within = |n: u64| {
            let at = site.random().checked_rem(part).unwrap_or(0);
            one(n.saturating_mul(part).saturating_add(at))
        };
        self.compare_runs(&mut (0..samples).map(within))?;
        let is_unproved = || site.core().group(group).health().is_unproved();
        if self.shown > 0 || !is_unproved() {
            return Ok(());
        }
        let mut searched = 0;
        while self.shown == 0 && searched < SEARCHED {
            let anywhere = |_| one(site.random().checked_rem(blocks).unwrap_or(0));
            self.compare_runs(&mut (0..COMPARES as u64).map(anywhere))?;
            searched += COMPARES as u64;
        }
        self.disbelieves = self.shown == 0 && site.dirty(group) < blocks;
        Ok(())
    }

    /// Compares these runs, as many at once as there are windows for.
    fn compare_runs(&mut self, runs: &mut dyn Iterator<Item = Run>) -> Result<(), Ended> {
        loop {
            let mut batch = [None; COMPARES];
            for (place, run) in batch.iter_mut().zip(&mut *runs) {
                *place = Some(run);
            }
            if batch.iter().flatten().count() == 0 {
                return Ok(());
            }
            let result = self.compare_batch(&mut batch);
            for index in 0..COMPARES {
                self.lower(index);
            }
            result?;
        }
    }

    /// Compares these runs; blocks that are marked are left out.
    fn compare_batch(&mut self, batch: &mut [Option<Run>; COMPARES]) -> Result<(), Ended> {
        let (site, group) = (self.site, self.group);
        for (index, place) in batch.iter_mut().enumerate() {
            let Some(run) = *place else { continue };
            self.raise(index, self.span(run));
            // A write that is waited for may wait for room behind what was not sent yet.
            site.kick_all(core::mem::take(&mut self.unkicked));
            self.wait_for(|| site.is_clear(self.span(run)))?;
            if site.is_marked(group, run.first, run.len) {
                *place = None;
                continue;
            }
            // Whatever ends this early, they are kicked: they are waited for.
            self.unkicked |= self.read_both(index, run);
        }
        site.kick_all(core::mem::take(&mut self.unkicked));
        for (index, run) in batch.iter().enumerate() {
            let Some(run) = *run else { continue };
            let mut can_be_read = true;
            for copy in [index, index + COMPARES] {
                let outcome = || site.copy_outcome(group, copy);
                self.wait_for(|| outcome() != CopyOutcome::Going)?;
                match outcome() {
                    CopyOutcome::Done => {}
                    // It shows nothing. What the returning group cannot read it may have lost.
                    CopyOutcome::Unreadable => can_be_read = false,
                    CopyOutcome::Going | CopyOutcome::Failed => return Err(Ended::CopyFailed),
                }
            }
            if site.copy_outcome(group, index + COMPARES) == CopyOutcome::Unreadable {
                site.mark_blocks(group, run.first, run.len);
            }
            if !can_be_read {
                continue;
            }
            // What the mirror itself has lost meanwhile, with the last server in sync, is marked
            // before that server is read again.
            if site.is_marked(group, run.first, run.len) {
                continue;
            }
            if !self.is_same(index, run) {
                return Err(Ended::Differs);
            }
            self.compared = self.compared.saturating_add(1);
            let (_, len) = self.bytes(run);
            let is_telling = |pages| !site.is_zeroes(pages, len as usize);
            if self.pages.get(index).is_some_and(is_telling) {
                self.shown = self.shown.saturating_add(1);
            }
        }
        Ok(())
    }

    /// Starts to read a run from a group in sync, and from the returning one; gives the channels to
    /// be kicked.
    pub(super) fn read_both(&self, index: usize, run: Run) -> ChannelSet {
        let (site, group) = (self.site, self.group);
        let (Some(theirs), Some(ours)) = (
            self.pages.get(index),
            self.pages.get(index.saturating_add(COMPARES)),
        ) else {
            return ChannelSet::default();
        };
        let (offset, len) = self.bytes(run);
        let copy = index.saturating_add(COMPARES);
        let mut used = site.copy_read(group, index, offset, len, site.buffer(theirs));
        used |= site.copy_own(Command::Read, group, copy, offset, len, site.buffer(ours));
        used
    }

    /// Whether both have read the same.
    pub(super) fn is_same(&self, index: usize, run: Run) -> bool {
        let (_, len) = self.bytes(run);
        match (
            self.pages.get(index),
            self.pages.get(index.saturating_add(COMPARES)),
        ) {
            (Some(theirs), Some(ours)) => self.site.is_same(theirs, ours, len as usize),
            _ => false,
        }
    }
}
