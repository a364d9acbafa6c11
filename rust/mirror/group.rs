// SPDX-License-Identifier: GPL-2.0

//! One mirror group: its transfers, its export, its map; and which exports it may have.
//!
//! Its state, and what else the decisions need of it, is in `crate::logic::mirror::Core`.

use super::{map::GroupMap, words, Driver, Mirror};
use crate::channel::{table, Table};
use crate::logic::{
    export::{may_replace, Lack},
    ids::Lane,
    session::DownReason,
    unflushed::{Unflushed, WORDS},
    wire::handshake::Export,
};
use crate::sync::Word;
use kernel::{
    prelude::*,
    sync::{
        atomic::{ordering::Relaxed, Atomic},
        new_mutex, Mutex, SetOnce,
    },
};

/// One mirror group. A device has a fixed number of them, most of them absent.
#[pin_data]
pub(crate) struct Group {
    table: SetOnce<Table<Driver>>,
    /// What all of its channels can do; set while it has channels.
    #[pin]
    pub(crate) export: Mutex<Option<Export>>,
    /// What the server has acknowledged and may not have made durable.
    unflushed: SetOnce<Unflushed<KVVec<Word>>>,
    /// What it misses.
    #[pin]
    pub(crate) map: GroupMap,
    /// Its metadata is not looked at.
    unread: Atomic<bool>,
}

impl Group {
    pub(super) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            table: SetOnce::new(),
            export <- new_mutex!(None, "enbd::Group::export"),
            unflushed: SetOnce::new(),
            map <- GroupMap::new(),
            unread: Atomic::new(false),
        })
    }

    /// The group's transfers; nothing while it never had a channel.
    pub(crate) fn table(&self) -> Option<&Table<Driver>> {
        self.table.as_ref()
    }

    /// Makes what the group needs while it has channels, if it is not there yet.
    pub(crate) fn prepare(&self) -> Result {
        // Commands for one device come one at a time, so nobody else populates these now.
        if self.table.as_ref().is_none() {
            self.table.populate(table()?);
        }
        if self.unflushed.as_ref().is_none() {
            self.unflushed
                .populate(Unflushed::new(words(WORDS)?).ok_or(EINVAL)?);
        }
        Ok(())
    }

    /// Whether its metadata is not looked at: the administrator has said so.
    pub(crate) fn is_unread(&self) -> bool {
        self.unread.load(Relaxed)
    }

    /// Says so, or not.
    pub(crate) fn set_unread(&self, unread: bool) {
        self.unread.store(unread, Relaxed);
    }

    /// What the server has acknowledged and may not have made durable.
    pub(super) fn unflushed(&self) -> Option<&Unflushed<KVVec<Word>>> {
        self.unflushed.as_ref()
    }

    /// Whether the server keeps writes in a cache that cannot be flushed.
    pub(crate) fn is_volatile(&self) -> bool {
        let export = *self.export.lock();
        export.is_some_and(|e| !e.flags.flush() && !e.flags.read_only())
    }
}

impl Mirror {
    /// Whether a channel of a group may lead to `export`, which becomes a part of what the group has.
    pub(super) fn admit_export(&self, lane: Lane, export: &Export) -> Result<(), DownReason> {
        let Lane { group, channel } = lane;
        let g = self.group(group);
        let core = self.core.group(group);
        // What was there once must not be cut off, be the device enabled or not.
        if export.size >> 9 < self.core.last_sectors() {
            return Err(DownReason::Lacks(Lack::Size));
        }
        let promise = match self.core.sectors() {
            0 => None,
            _ => *self.promise.lock(),
        };
        let mut known = g.export.lock();
        if known.is_none() && !self.is_whole_blocks(export.size) {
            return Err(DownReason::OddSize);
        }
        let noted =
            may_replace(known.as_ref(), export, promise.as_ref()).map_err(DownReason::Lacks)?;
        core.set_apart(channel, export.flags.flushes_apart());
        core.may_serve(channel).map_err(DownReason::Lacks)?;
        let before = known.replace(noted);
        core.set_single(noted.flags.flushes_apart());
        drop(known);
        if core.up().is_empty() && before.is_some_and(|before| before != *export) {
            pr_info!(
                "[{}] group {} has another export than before: what both can do is used\n",
                self.letter,
                group.index()
            );
        }
        Ok(())
    }
}
