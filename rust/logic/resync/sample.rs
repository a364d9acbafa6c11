// SPDX-License-Identifier: GPL-2.0

//! Whether a group that returns is the one that was lost.
//!
//! Its server has the right size and the right flags, or it would have no channel; but that has
//! many a disk. So before a block is copied, a few blocks that the group did not miss are read from
//! it and from a group in sync. They have to be equal: what the group may have lost with its cache
//! was marked, so is not clean. A group that differs is refused, and only the administrator can
//! bring it back, by `hotadd` with `full`.
//!
//! Each block is compared with its window raised, as it would be copied, so that no write comes in
//! between.

use super::walk::{Ended, Overseer, Site, Walk};
use crate::logic::{
    bitmap::Run,
    mirror::{CopyOutcome, Copying, Route, States},
    wire::request::Command,
};

/// Blocks that are compared, spread over the device.
pub const SAMPLES: u64 = 16;

/// The windows whose memory the block of the mirror, and that of the group, are read into.
const THEIRS: usize = 0;
const OURS: usize = 1;

impl<W: Site, O: Overseer> Walk<'_, W, O> {
    /// Compares clean blocks of the group with the others'.
    pub(super) fn compare_samples(&mut self) -> Result<(), Ended> {
        let blocks = self.blocks();
        let samples = SAMPLES.min(blocks);
        for sample in 0..samples {
            // Each in a part of its own, at a place that is another one each time.
            let part = blocks / samples;
            let first = sample * part + self.site.random() % part;
            let run = Run { first, len: 1 };
            self.raise(THEIRS, self.span(run));
            let result = self.compare(run);
            self.lower(THEIRS);
            result?;
        }
        Ok(())
    }

    fn compare(&mut self, run: Run) -> Result<(), Ended> {
        let (site, group) = (self.site, self.group);
        self.wait_for(|| site.is_clear(self.span(run)))?;
        let is_dirty = || {
            let dirty = site.next_dirty(group, run.first, 1);
            dirty.is_some_and(|dirty| dirty.first <= run.first)
        };
        if is_dirty() {
            return Ok(());
        }
        let [theirs, ours, ..] = &*self.pages else {
            return Err(Ended::CopyFailed);
        };
        let (offset, len) = self.bytes(run);
        let used = site.copy_read(group, THEIRS, offset, len, site.buffer(theirs))
            | site.copy_own(Command::Read, group, OURS, offset, len, site.buffer(ours));
        site.kick_all(used);
        let outcome = |copy| site.copy_outcome(group, copy);
        for copy in [THEIRS, OURS] {
            self.wait_for(|| outcome(copy) != CopyOutcome::Going)?;
            if outcome(copy) != CopyOutcome::Done {
                return Err(Ended::CopyFailed);
            }
        }
        let is_same = site.is_same(theirs, ours, len as usize);
        // What the mirror itself has lost meanwhile, with the last server in sync, is marked before
        // that server is read again.
        if is_dirty() {
            return Ok(());
        }
        if !is_same {
            return Err(Ended::Differs);
        }
        self.compared += 1;
        Ok(())
    }
}
