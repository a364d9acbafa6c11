// SPDX-License-Identifier: GPL-2.0

//! The memory of a group's table of transfers: each slot has a spin lock of its own.

use crate::kapi::{block::mq::Operations, iovec::Buffer};
use crate::logic::{
    ids::{SlotId, SLOTS},
    session::{self, Slot, Slots},
};
use kernel::{
    prelude::*,
    sync::{new_spinlock, SpinLock},
};

/// One NBD request, in the hands of whoever has the value.
pub(crate) type Transfer<T> = session::Transfer<Buffer<T>>;
/// The transfers of a group.
pub(crate) type Table<T> = session::Table<LockedSlots<T>>;

type Array<T> = [SpinLock<Slot<Buffer<T>>>; SLOTS];

/// The slots.
pub(crate) struct LockedSlots<T: Operations>(Pin<KVBox<Array<T>>>);

impl<T: Operations> Slots for LockedSlots<T> {
    type Buffer = Buffer<T>;

    fn with<R>(&self, number: SlotId, f: impl FnOnce(&mut Slot<Buffer<T>>) -> R) -> R {
        f(&mut number.pick(&self.0).lock())
    }
}

/// An empty table.
pub(crate) fn table<T: Operations>() -> Result<Table<T>> {
    let slots =
        pin_init::pin_init_array_from_fn(|_| new_spinlock!(Slot::default(), "enbd::Table::slot"));
    Ok(Table::new(LockedSlots(KVBox::pin_init(slots, GFP_KERNEL)?)))
}
