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

    /// Calls `f` with the barrier over the whole device raised, and with whether the map is empty while no
    /// write is on its way.
    fn at_rest<R>(&mut self, index: usize, f: impl FnOnce(bool) -> R) -> Result<R, Ended> {
        let site = self.site;
        let whole = Span::new(0, site.core().sectors());
        self.raise(index, whole);
        let clear = self.wait_for(|| site.is_clear(whole));
        let result = f(clear.is_ok() && site.dirty(self.group) == 0);
        self.lower(index);
        clear.map(|()| result)
    }

    /// If the map is still empty, the group is in sync.
    pub(super) fn try_to_finish(&mut self, index: usize) -> Result<Begun, Ended> {
        let (site, group) = (self.site, self.group);
        if core::mem::take(&mut self.disbelieves) {
            self.begin_comparing();
            return Ok(Begun::Window);
        }
        self.flush(index)?;
        let (named, synced) = self.at_rest(index, |complete| {
            let named = complete && site.name(group);
            (named, complete && !named && site.synced(group).is_ok())
        })?;
        if synced {
            return Ok(Begun::Synced);
        }
        if !named {
            return Ok(Begun::Window);
        }
        self.wait_for(|| site.is_recorded(group))?;
        // From the moment that it was named it gets all writes. One that the last group in sync has
        // refused it may have taken, and lacks then what that one has.
        let (complete, synced) = self.at_rest(index, |complete| {
            (complete, complete && site.synced(group).is_ok())
        })?;
        match (complete, synced) {
            (_, true) => Ok(Begun::Synced),
            (true, false) => Err(Ended::GroupLeft),
            (false, false) => Err(Ended::CopyFailed),
        }
    }
}
