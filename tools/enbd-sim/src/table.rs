// SPDX-License-Identifier: GPL-2.0

//! The memory of a group's table of transfers.

use crate::logic::{
    ids::{SlotId, SLOTS},
    session::{self, Slot, Slots},
};
use crate::request::Buffer;
use std::sync::Mutex;

/// Slots whose locks are no points where another thread may go on: there are too many of them.
pub struct HostSlots(Vec<Mutex<Slot<Buffer>>>);

impl Slots for HostSlots {
    type Buffer = Buffer;

    fn with<R>(&self, number: SlotId, f: impl FnOnce(&mut Slot<Buffer>) -> R) -> R {
        f(&mut self.0[number.index()].lock().unwrap())
    }
}

pub type Table = session::Table<HostSlots>;
pub type Transfer = session::Transfer<Buffer>;
pub type Message = session::Message<Buffer>;

/// An empty table.
pub fn table() -> Table {
    let slots = (0..SLOTS).map(|_| Mutex::default());
    Table::new(HostSlots(slots.collect()))
}
