// SPDX-License-Identifier: GPL-2.0

//! The transfers of a group, by slot, whatever channel they are on.
//!
//! A transfer's life: the mirror puts it into the table of its group for a channel
//! ([`Table::submit`]), or to wait for one; a sender marks it as sent ([`Table::start`]); whoever
//! takes it out, the receiver with its reply or the connection's end with its loss, hands it back.
//! Taking it out happens under the lock of its slot, so it happens once.
//!
//! The cookie that goes over the wire is the number of the slot and, in its upper half, how often
//! the slot was used: a reply to an earlier use is not taken for a reply to this one.
//!
//! Lock: each slot has a lock of its own ([`Slots`]), under which nothing is dropped, allocated or
//! waited for.

use super::{is_write, Transfer};
use crate::logic::{
    ids::{ChannelId, SlotId},
    wire::request::{self, Command, CommandFlags, REQUEST_LEN},
};

struct Busy<B> {
    transfer: Transfer<B>,
    /// The channel that has it; nothing while it waits for one.
    channel: Option<ChannelId>,
    /// When it was sent, if it was.
    sent_ms: Option<u64>,
}

/// Room for one transfer.
pub struct Slot<B> {
    uses: u32,
    busy: Option<Busy<B>>,
}

impl<B> Default for Slot<B> {
    fn default() -> Self {
        Self {
            uses: 0,
            busy: None,
        }
    }
}

impl<B> Slot<B> {
    fn cookie(&self, number: SlotId) -> u64 {
        u64::from(self.uses) << 32 | number.index() as u64
    }
}

/// The slots of a table, each under a lock.
pub trait Slots {
    /// The memory of transfers.
    type Buffer: Clone;

    /// Gives a slot to `f`, which does not sleep, under its lock.
    fn with<R>(&self, number: SlotId, f: impl FnOnce(&mut Slot<Self::Buffer>) -> R) -> R;
}

/// What is sent for a transfer.
pub struct Message<B> {
    /// What the reply will be known by.
    pub cookie: u64,
    /// What the server is asked for.
    pub command: Command,
    /// How.
    pub flags: CommandFlags,
    /// Bytes from the start of the export.
    pub offset: u64,
    /// Bytes; 0 where the command has none.
    pub len: u32,
    /// Where the data is that is sent with it.
    pub body: Option<B>,
}

impl<B> Message<B> {
    /// What goes over the wire before the data.
    pub fn header(&self) -> [u8; REQUEST_LEN] {
        request::encode(self.command, self.flags, self.cookie, self.offset, self.len)
    }
}

/// What a reply is for.
pub struct Finished<B> {
    /// The slot in which it was.
    pub slot: SlotId,
    /// The transfer.
    pub transfer: Transfer<B>,
    /// When it was sent.
    pub sent_ms: u64,
}

/// The transfers of a group.
pub struct Table<S>(S);

impl<S: Slots> Table<S> {
    /// A table with these slots, all empty.
    pub fn new(slots: S) -> Self {
        Self(slots)
    }

    /// Puts a transfer into its slot, for `channel` or to wait for one. It comes back if the slot
    /// is in use.
    pub fn put(
        &self,
        number: SlotId,
        transfer: Transfer<S::Buffer>,
        channel: Option<ChannelId>,
    ) -> Result<(), Transfer<S::Buffer>> {
        let mut transfer = Some(transfer);
        self.0.with(number, |slot| {
            if slot.busy.is_some() {
                return;
            }
            slot.uses = slot.uses.wrapping_add(1);
            slot.busy = transfer.take().map(|transfer| Busy {
                transfer,
                channel,
                sent_ms: None,
            });
        });
        transfer.map_or(Ok(()), Err)
    }

    /// Gives a transfer to a channel: puts it into its slot and then into the channel's queue, by
    /// `push`, which says whether it took it. It comes back if it did not.
    pub fn submit(
        &self,
        number: SlotId,
        transfer: Transfer<S::Buffer>,
        channel: ChannelId,
        push: impl FnOnce() -> bool,
    ) -> Result<(), Transfer<S::Buffer>> {
        self.put(number, transfer, Some(channel))?;
        if push() {
            return Ok(());
        }
        // The channel went down after it was chosen, and may lead to another group by now. If its
        // end has found the transfer already, it has taken care of it.
        match self.take(number, Some(channel), |_, sent| !sent) {
            Some((transfer, _)) => Err(transfer),
            None => Ok(()),
        }
    }

    /// Marks a transfer of `channel` as sent now, and says what to send. Nothing if it is not the
    /// channel's any more.
    pub fn start(
        &self,
        number: SlotId,
        channel: ChannelId,
        now_ms: u64,
    ) -> Option<Message<S::Buffer>> {
        let start = |slot: &mut Slot<S::Buffer>| {
            let cookie = slot.cookie(number);
            let busy = slot.busy.as_mut()?;
            if busy.channel != Some(channel) || busy.sent_ms.is_some() {
                return None;
            }
            busy.sent_ms = Some(now_ms);
            let transfer = &busy.transfer;
            Some(Message {
                cookie,
                command: transfer.command,
                flags: transfer.flags,
                offset: transfer.offset,
                len: transfer.len,
                body: (transfer.command == Command::Write).then(|| transfer.buffer.clone()),
            })
        };
        self.0.with(number, start)
    }

    /// Takes out the transfer that a reply on `channel` is for.
    pub fn finish(&self, cookie: u64, channel: ChannelId) -> Option<Finished<S::Buffer>> {
        let number = SlotId::new(cookie as u32 as usize)?;
        let finish = |slot: &mut Slot<S::Buffer>| {
            if u64::from(slot.uses) != cookie >> 32 {
                return None;
            }
            let is_it = |b: &mut Busy<_>| b.channel == Some(channel) && b.sent_ms.is_some();
            let busy = slot.busy.take_if(is_it)?;
            Some(Finished {
                slot: number,
                transfer: busy.transfer,
                sent_ms: busy.sent_ms?,
            })
        };
        self.0.with(number, finish)
    }

    /// Takes out a transfer of `channel`, or one that waits, if `wanted`, given its command and
    /// whether it was sent, says so; gives its cookie too, if it was sent.
    pub fn take(
        &self,
        number: SlotId,
        channel: Option<ChannelId>,
        wanted: impl FnOnce(Command, bool) -> bool,
    ) -> Option<(Transfer<S::Buffer>, Option<u64>)> {
        let take = |slot: &mut Slot<S::Buffer>| {
            let busy = slot.busy.take_if(|b| {
                b.channel == channel && wanted(b.transfer.command, b.sent_ms.is_some())
            })?;
            let cookie = slot.cookie(number);
            Some((busy.transfer, busy.sent_ms.map(|_| cookie)))
        };
        self.0.with(number, take)
    }

    /// Whether there is any transfer of `channel`.
    pub fn has_any(&self, channel: ChannelId) -> bool {
        self.any(channel, |_| true)
    }

    /// Whether `channel` was sent writes that were not answered.
    pub fn has_unanswered_writes(&self, channel: ChannelId) -> bool {
        self.any(channel, |b| {
            b.sent_ms.is_some() && is_write(b.transfer.command)
        })
    }

    fn any(&self, channel: ChannelId, wanted: impl Fn(&Busy<S::Buffer>) -> bool) -> bool {
        let is_it = |slot: &mut Slot<S::Buffer>| {
            let busy = slot.busy.as_ref();
            busy.is_some_and(|b| b.channel == Some(channel) && wanted(b))
        };
        SlotId::all().any(|number| self.0.with(number, is_it))
    }

    /// When the oldest unanswered transfer of `channel` was sent, if there is one.
    pub fn oldest_ms(&self, channel: ChannelId) -> Option<u64> {
        let sent_ms = |slot: &mut Slot<S::Buffer>| {
            let busy = slot.busy.as_ref()?;
            busy.sent_ms.filter(|_| busy.channel == Some(channel))
        };
        let sent = SlotId::all().filter_map(|number| self.0.with(number, sent_ms));
        sent.min()
    }
}
