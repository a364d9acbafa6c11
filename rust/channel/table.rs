// SPDX-License-Identifier: GPL-2.0

//! The transfers of a group: one slot for each request of the device, a few for resyncs, and one
//! for each channel that may be asked whether its server is there.
//!
//! Lock: each slot has a spin lock of its own, under which nothing is dropped, allocated or waited
//! for.
//!
//! The cookie that goes over the wire is the number of the slot and, in its upper half, how often
//! the slot was used: a reply to an earlier use is not taken for a reply to this one.

use crate::kapi::{block::mq::Operations, iovec::Buffer};
use crate::logic::{
    mirror,
    wire::request::{self, Command, REQUEST_LEN},
};
use kernel::{
    prelude::*,
    sync::{new_spinlock, SpinLock},
    time::{Instant, Monotonic},
};

pub(crate) use crate::logic::mirror::SLOTS;

/// The transfer waits for a channel.
pub(crate) const NO_CHANNEL: u8 = u8::MAX;

/// One NBD request, in the hands of whoever has the value.
pub(crate) type Transfer<T> = mirror::Transfer<Buffer<T>>;

struct Busy<T: Operations> {
    transfer: Transfer<T>,
    channel: u8,
    sent: Option<Instant<Monotonic>>,
}

struct Slot<T: Operations> {
    uses: u32,
    busy: Option<Busy<T>>,
}

type Slots<T> = [SpinLock<Slot<T>>; SLOTS];

/// The transfers of a group.
pub(crate) struct Table<T: Operations>(Pin<KVBox<Slots<T>>>);

/// What is sent for a transfer.
pub(super) struct Message<T: Operations> {
    pub(super) cookie: u64,
    pub(super) header: [u8; REQUEST_LEN],
    /// The data, with its length.
    pub(super) body: Option<(Buffer<T>, usize)>,
}

impl<T: Operations> Table<T> {
    /// An empty table.
    pub(crate) fn new() -> Result<Self> {
        let slots = pin_init::pin_init_array_from_fn(|_| {
            new_spinlock!(
                Slot {
                    uses: 0,
                    busy: None
                },
                "enbd::Table::slot"
            )
        });
        Ok(Self(KVBox::pin_init(slots, GFP_KERNEL)?))
    }

    fn slot(&self, number: u32) -> Option<&SpinLock<Slot<T>>> {
        self.0.get(number as usize)
    }

    /// Puts a transfer into its slot, for `channel`. It comes back if the slot is in use, which no
    /// caller lets happen.
    pub(crate) fn put(
        &self,
        number: u32,
        transfer: Transfer<T>,
        channel: u8,
    ) -> Result<(), Transfer<T>> {
        let Some(slot) = self.slot(number) else {
            return Err(transfer);
        };
        let mut slot = slot.lock();
        if slot.busy.is_some() {
            return Err(transfer);
        }
        slot.uses = slot.uses.wrapping_add(1);
        slot.busy = Some(Busy {
            transfer,
            channel,
            sent: None,
        });
        Ok(())
    }

    /// Marks a transfer of `channel` as sent, and says what to send. Nothing if it is not the
    /// channel's any more.
    pub(super) fn start(&self, number: u32, channel: u8) -> Option<Message<T>> {
        let mut slot = self.slot(number)?.lock();
        let cookie = u64::from(slot.uses) << 32 | u64::from(number);
        let busy = slot.busy.as_mut()?;
        if busy.channel != channel || busy.sent.is_some() {
            return None;
        }
        busy.sent = Some(Instant::now());
        let transfer = &busy.transfer;
        let header = request::encode(
            transfer.command,
            transfer.flags,
            cookie,
            transfer.offset,
            transfer.len,
        );
        let body = (transfer.command == Command::Write)
            .then(|| (transfer.buffer.clone(), transfer.len as usize));
        Some(Message {
            cookie,
            header,
            body,
        })
    }

    /// Takes out the transfer that a reply on `channel` is for; gives its number too.
    pub(super) fn finish(&self, cookie: u64, channel: u8) -> Option<(u32, Transfer<T>)> {
        let number = cookie as u32;
        let mut slot = self.slot(number)?.lock();
        if u64::from(slot.uses) != cookie >> 32 {
            return None;
        }
        let busy = slot
            .busy
            .take_if(|b| b.channel == channel && b.sent.is_some())?;
        Some((number, busy.transfer))
    }

    /// Whether there is any transfer of `channel`.
    pub(super) fn has_any(&self, channel: u8) -> bool {
        (0..SLOTS as u32).any(|number| self.is(number, channel, |_, _| true))
    }

    /// Whether there is a transfer of `channel` for which `wanted`, given its command and whether
    /// it was sent, says so.
    pub(super) fn is(
        &self,
        number: u32,
        channel: u8,
        wanted: impl FnOnce(Command, bool) -> bool,
    ) -> bool {
        let Some(slot) = self.slot(number) else {
            return false;
        };
        let slot = slot.lock();
        slot.busy
            .as_ref()
            .is_some_and(|b| b.channel == channel && wanted(b.transfer.command, b.sent.is_some()))
    }

    /// Takes out a transfer of `channel` if `wanted`, given its command and whether it was sent,
    /// says so; gives its cookie too, if it was sent.
    pub(crate) fn take(
        &self,
        number: u32,
        channel: u8,
        wanted: impl FnOnce(Command, bool) -> bool,
    ) -> Option<(Transfer<T>, Option<u64>)> {
        let mut slot = self.slot(number)?.lock();
        let busy = slot
            .busy
            .take_if(|b| b.channel == channel && wanted(b.transfer.command, b.sent.is_some()))?;
        let cookie = u64::from(slot.uses) << 32 | u64::from(number);
        Some((busy.transfer, busy.sent.map(|_| cookie)))
    }

    /// For how many milliseconds the oldest unanswered transfer of `channel` has been on its way.
    pub(super) fn longest_wait_ms(&self, channel: u8) -> i64 {
        let wait = |slot: &SpinLock<Slot<T>>| {
            let slot = slot.lock();
            let busy = slot.busy.as_ref().filter(|b| b.channel == channel)?;
            Some(busy.sent?.elapsed().as_millis())
        };
        self.0.iter().filter_map(wait).max().unwrap_or(0)
    }
}
