// SPDX-License-Identifier: GPL-2.0

//! The transfers of a group, as `rust/channel/table.rs` keeps them.

use crate::conn::{Ask, Message};
use crate::logic::wire::request::CommandFlags;
use crate::logic::{
    mirror::{self, SLOTS},
    wire::request::Command,
};
use crate::request::{Buffer, BLOCK_SECTORS};
use std::sync::Mutex;

pub type Transfer = mirror::Transfer<Buffer>;

/// The transfer waits for a channel.
pub const NO_CHANNEL: u32 = u32::MAX;

struct Busy {
    transfer: Transfer,
    channel: u32,
    sent_ms: Option<u64>,
}

#[derive(Default)]
struct Slot {
    uses: u32,
    busy: Option<Busy>,
}

pub struct Table(Mutex<Vec<Slot>>);

impl Table {
    pub fn new() -> Self {
        Self(Mutex::new((0..SLOTS).map(|_| Slot::default()).collect()))
    }

    fn with<R>(&self, number: u32, f: impl FnOnce(&mut Slot) -> R) -> R {
        f(&mut self.0.lock().unwrap()[number as usize])
    }

    pub fn put(&self, number: u32, transfer: Transfer, channel: u32) -> Result<(), Transfer> {
        self.with(number, |slot| {
            if slot.busy.is_some() {
                return Err(transfer);
            }
            slot.uses = slot.uses.wrapping_add(1);
            slot.busy = Some(Busy {
                transfer,
                channel,
                sent_ms: None,
            });
            Ok(())
        })
    }

    /// Marks a transfer as sent, and gives what to send.
    pub fn start(&self, number: u32, channel: u32, now_ms: u64) -> Option<Message> {
        self.with(number, |slot| {
            let cookie = u64::from(slot.uses) << 32 | u64::from(number);
            let busy = slot.busy.as_mut()?;
            if busy.channel != channel || busy.sent_ms.is_some() {
                return None;
            }
            busy.sent_ms = Some(now_ms);
            let transfer = &busy.transfer;
            let first = (transfer.offset / (BLOCK_SECTORS * 512)) as usize;
            let len = (u64::from(transfer.len) / (BLOCK_SECTORS * 512)) as usize;
            let fua = transfer.flags.bits() & CommandFlags::FUA.bits() != 0;
            let ask = match transfer.command {
                Command::Read => Ask::Read { first, len },
                Command::Write => Ask::Write {
                    first,
                    values: transfer.buffer.values(len),
                    fua,
                },
                Command::WriteZeroes => Ask::Write {
                    first,
                    values: vec![0; len],
                    fua,
                },
                _ => Ask::Flush,
            };
            Some(Message { cookie, ask })
        })
    }

    /// Takes out what a reply on `channel` is for.
    pub fn finish(&self, cookie: u64, channel: u32) -> Option<(u32, Transfer)> {
        let number = cookie as u32;
        if number as usize >= SLOTS {
            return None;
        }
        self.with(number, |slot| {
            if u64::from(slot.uses) != cookie >> 32 {
                return None;
            }
            let is_it = |b: &mut Busy| b.channel == channel && b.sent_ms.is_some();
            Some((number, slot.busy.take_if(is_it)?.transfer))
        })
    }

    /// Takes out a transfer of `channel` if `wanted`, given its command and whether it was sent;
    /// gives its cookie too, if it was.
    pub fn take(
        &self,
        number: u32,
        channel: u32,
        wanted: impl FnOnce(Command, bool) -> bool,
    ) -> Option<(Transfer, Option<u64>)> {
        self.with(number, |slot| {
            let busy = slot.busy.take_if(|b| {
                b.channel == channel && wanted(b.transfer.command, b.sent_ms.is_some())
            })?;
            let cookie = u64::from(slot.uses) << 32 | u64::from(number);
            Some((busy.transfer, busy.sent_ms.map(|_| cookie)))
        })
    }

    /// The numbers of the transfers of `channel` for which `wanted` says so.
    pub fn of(&self, channel: u32, wanted: impl Fn(Command, bool) -> bool) -> Vec<u32> {
        let slots = self.0.lock().unwrap();
        (0..SLOTS)
            .filter(|&n| {
                slots[n].busy.as_ref().is_some_and(|b| {
                    b.channel == channel && wanted(b.transfer.command, b.sent_ms.is_some())
                })
            })
            .map(|n| n as u32)
            .collect()
    }

    /// Since when the oldest unanswered transfer of `channel` has been on its way.
    pub fn oldest_ms(&self, channel: u32) -> Option<u64> {
        let slots = self.0.lock().unwrap();
        let of_channel = |slot: &Slot| slot.busy.as_ref().filter(|b| b.channel == channel)?.sent_ms;
        slots.iter().filter_map(of_channel).min()
    }
}
