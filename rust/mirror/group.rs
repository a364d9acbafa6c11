// SPDX-License-Identifier: GPL-2.0

//! One mirror group: its transfers, its export, its map; and which exports it may have.
//!
//! Its state, and what else the decisions need of it, is in `crate::logic::mirror::Core`.

use super::{map::GroupMap, words, Driver, Mirror};
use crate::channel::Table;
use crate::logic::{
    channel::DownReason,
    unflushed::{Unflushed, WORDS},
    wire::handshake::Export,
};
use crate::sync::Word;
use kernel::{
    prelude::*,
    sync::{new_mutex, Mutex, SetOnce},
};

/// One mirror group. A device has a fixed number of them, most of them absent.
#[pin_data]
pub(crate) struct Group {
    table: SetOnce<Table<Driver>>,
    /// What its server offers; set while it has channels.
    #[pin]
    pub(crate) export: Mutex<Option<Export>>,
    /// What the server has acknowledged and may not have made durable.
    unflushed: SetOnce<Unflushed<KVVec<Word>>>,
    /// What it misses.
    #[pin]
    pub(crate) map: GroupMap,
}

impl Group {
    pub(super) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            table: SetOnce::new(),
            export <- new_mutex!(None, "enbd::Group::export"),
            unflushed: SetOnce::new(),
            map <- GroupMap::new(),
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
            self.table.populate(Table::new()?);
        }
        if self.unflushed.as_ref().is_none() {
            self.unflushed
                .populate(Unflushed::new(words(WORDS)?).ok_or(EINVAL)?);
        }
        Ok(())
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

/// What an enabled device has promised its users, so that a server that joins later has to have it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Promise {
    /// FLUSH makes writes durable.
    pub(crate) flush: bool,
    /// Writes can be made durable one by one.
    pub(crate) fua: bool,
    /// There is a command to write zeroes.
    pub(crate) zeroes: bool,
    /// The disk can be written.
    pub(crate) write: bool,
    /// Bytes of the smallest request.
    pub(crate) block: u32,
    /// Bytes of the largest request.
    pub(crate) max_bytes: u32,
}

impl Promise {
    fn is_kept_by(&self, export: &Export) -> bool {
        let flags = export.flags;
        (flags.flush() || !self.flush)
            && (flags.fua() || !self.fua)
            && (flags.write_zeroes() || !self.zeroes)
            && (!flags.read_only() || !self.write)
            && export.block.min <= self.block
            && export.block.max_payload >= self.max_bytes
    }
}

impl Mirror {
    /// Whether a group may have a channel to `export`.
    pub(super) fn admit_export(&self, group: usize, export: &Export) -> Result<(), DownReason> {
        let g = self.groups.get(group).ok_or(DownReason::Removed)?;
        if !self.is_whole_blocks(export.size) {
            return Err(DownReason::OddSize);
        }
        // What was there once must not be cut off, be the device enabled or not.
        if export.size >> 9 < self.core.last_sectors() {
            return Err(DownReason::TooSmall);
        }
        if self.core.sectors() > 0 {
            let promise = *self.promise.lock();
            if promise.is_some_and(|p| !p.is_kept_by(export)) {
                return Err(DownReason::LacksFeature);
            }
        }
        let mut known = g.export.lock();
        match &*known {
            Some(known) if known != export => return Err(DownReason::OtherExport),
            Some(_) => {}
            None => *known = Some(*export),
        }
        drop(known);
        // A read-only export has nothing to flush.
        let single = !export.flags.can_multi_conn() && !export.flags.read_only();
        if let Some(g) = self.core.group(group) {
            g.set_single(single);
        }
        Ok(())
    }
}
