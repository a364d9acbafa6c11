// SPDX-License-Identifier: GPL-2.0

//! The end of a walk: when nothing is left to copy the group is in sync, once that is durable, and
//! recorded where there is metadata (R3, `crate::logic::mirror::record`).

use super::{
    walk::{Begun, Walk},
    Ended, Overseer, Site,
};
use crate::logic::{
    barrier::Span,
    mirror::{CopyOutcome, Copying, Memories, Route, States},
};

impl<W: Site, O: Overseer> Walk<'_, W, O> {
    /// Makes durable what was copied: the users may have flushed it before it was copied, and count
    /// on that.
    fn flush(&self, index: usize) -> Result<(), Ended> {
        let Some(pages) = self.pages.get(index) else {
            return Ok(());
        };
        let buffer = self.site.buffer(pages);
        let Some(used) = self.site.copy_flush(self.group, index, buffer) else {
            return Ok(());
        };
        self.site.kick_all(used);
        let outcome = || self.site.copy_outcome(self.group, index);
        self.wait_for(|| outcome() != CopyOutcome::Going)?;
        match outcome() {
            CopyOutcome::Done => Ok(()),
            _ => Err(Ended::CopyFailed),
        }
    }

    /// With the barrier over the whole device raised: if the map is still empty, the group is in
    /// sync.
    pub(super) fn try_to_finish(&mut self, index: usize) -> Result<Begun, Ended> {
        let site = self.site;
        if core::mem::take(&mut self.disbelieves) {
            self.begin_comparing();
            return Ok(Begun::Window);
        }
        self.flush(index)?;
        let whole = Span::new(0, site.core().sectors());
        self.raise(index, whole);
        let clear = self.wait_for(|| site.is_clear(whole));
        let complete = clear.is_ok() && site.dirty(self.group) == 0;
        // From here on it gets all writes, so it stays complete, or is taken out of service.
        let named = complete && site.name(self.group);
        let synced = complete && !named && site.synced(self.group).is_ok();
        self.lower(index);
        clear?;
        if synced {
            return Ok(Begun::Synced);
        }
        if !named {
            return Ok(Begun::Window);
        }
        self.wait_for(|| site.is_recorded(self.group))?;
        match site.synced(self.group) {
            Ok(()) => Ok(Begun::Synced),
            Err(_) => Err(Ended::GroupLeft),
        }
    }

    /// The marked blocks are copied, and the rest is not believed.
    ///
    /// What was marked had to be written even if it can be read already: it may lie in a cache that no
    /// flush empties. The same holds for all blocks if a flush covers its own connection alone.
    pub(super) fn begin_comparing(&mut self) {
        self.compare_marked();
        self.site.mark_all(self.group);
    }

    /// The marked blocks are compared, and written where they differ, unless a flush covers its own
    /// connection alone.
    pub(super) fn compare_marked(&mut self) {
        let g = self.site.core().group(self.group);
        self.compares = !g.is_single();
    }
}
