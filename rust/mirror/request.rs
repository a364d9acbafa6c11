// SPDX-License-Identifier: GPL-2.0

//! A request's way to the groups and back.
//!
//! A read goes to one group in sync, and to another one if that fails. A write, like discards and
//! zeroes, goes to every group that is in sync or resyncing, after the maps of the faulty ones were
//! marked. It has succeeded if a group that is in sync when all copies have ended has it; a group
//! that failed was faulted, and its map marked, before that.
//!
//! Context: process context. A request is counted by its [`Shared`] handles: one here while it is
//! sent out, one in each transfer.

use super::{Mirror, TAGS};
use crate::channel::{Table, Transfer, NO_CHANNEL};
use crate::kapi::{
    block::mq::{Op, Operations, Owned, Shared},
    iovec::Buffer,
};
use crate::logic::{
    barrier::{Claim, Span},
    group::{GroupSet, GroupState, View},
    wire::request::{Command, CommandFlags},
};
use kernel::sync::atomic::ordering::{Acquire, Full};
use kernel::{
    prelude::*,
    sync::{
        atomic::{ordering::Relaxed, Atomic},
        ArcBorrow,
    },
};

/// The block driver.
pub(crate) struct Driver;

/// What is known of a request on its way.
pub(crate) struct Pdu {
    /// The groups that did it.
    done_by: Atomic<u32>,
    /// The groups that refused it (reads only).
    refused_by: Atomic<u32>,
    /// Why it failed; 0 if it did not. Negative errno.
    errno: Atomic<i32>,
    /// It has a claim.
    claimed: Atomic<bool>,
}

impl Default for Pdu {
    fn default() -> Self {
        Self {
            done_by: Atomic::new(0),
            refused_by: Atomic::new(0),
            errno: Atomic::new(0),
            claimed: Atomic::new(false),
        }
    }
}

impl Pdu {
    fn reset(&self) {
        self.done_by.store(0, Relaxed);
        self.refused_by.store(0, Relaxed);
        self.errno.store(0, Relaxed);
        self.claimed.store(false, Relaxed);
    }

    /// A group did it. Each group says so at most once.
    pub(super) fn done_by(&self, group: u8) {
        let set = GroupSet::default().with(usize::from(group));
        self.done_by.add(u32::from(set.bits()), Relaxed);
    }

    pub(super) fn refused_by(&self, group: u8) {
        let set = self.refusals().with(usize::from(group));
        // Reads are at one group at a time, so nobody else changes it now.
        self.refused_by.store(u32::from(set.bits()), Relaxed);
    }

    fn refusals(&self) -> GroupSet {
        GroupSet::from_bits(self.refused_by.load(Relaxed) as u8)
    }

    pub(super) fn fail(&self, e: Error) {
        self.errno.store(e.to_errno(), Relaxed);
    }

    fn error(&self) -> Error {
        match self.errno.load(Relaxed) {
            0 => EIO,
            errno => Error::from_errno(errno),
        }
    }
}

impl Operations for Driver {
    type Data = Mirror;
    type Pdu = Pdu;
    type Owner = crate::LocalModule;

    fn queue_rq(mirror: ArcBorrow<'_, Mirror>, rq: Shared<Self>, last: bool) {
        rq.pdu().reset();
        mirror.load.enter();
        let used = mirror.route(rq);
        if last {
            mirror.kick(used | mirror.take_unkicked());
        } else {
            mirror.add_unkicked(used);
        }
    }

    fn commit_rqs(mirror: ArcBorrow<'_, Mirror>) {
        mirror.kick(mirror.take_unkicked());
    }

    fn released(mirror: ArcBorrow<'_, Mirror>, rq: Owned<Self>) {
        let pdu = rq.pdu();
        let done_by = GroupSet::from_bits(pdu.done_by.load(Relaxed) as u8);
        let ok = if pdu.claimed.load(Relaxed) {
            let readable = mirror.view().readable();
            let ok = done_by.iter().any(|g| readable.has(g));
            mirror.withdraw(rq.tag());
            ok
        } else {
            !done_by.is_empty()
        };
        let result = if ok { Ok(()) } else { Err(pdu.error()) };
        mirror.load.leave();
        rq.end(result);
    }

    fn open(mirror: ArcBorrow<'_, Mirror>) -> Result {
        if mirror.is_sealed() {
            return Err(ENXIO);
        }
        Ok(())
    }
}

/// The blocks of a write, as sectors.
pub(super) fn sectors_of(rq: &Shared<Driver>) -> (u64, u64) {
    (rq.sector(), u64::from(rq.bytes() >> 9))
}

impl Mirror {
    /// Sends a request out; gives the channels that have to be kicked, one bit each.
    pub(super) fn route(&self, rq: Shared<Driver>) -> u32 {
        match rq.op() {
            Op::Read => self.route_read(rq),
            Op::Write | Op::Discard | Op::WriteZeroes | Op::Flush => self.route_write(rq),
            Op::Other => {
                rq.pdu().fail(EOPNOTSUPP);
                0
            }
        }
    }

    /// Sends a read to a group in sync that has not refused it yet: the one with the least to do.
    pub(super) fn route_read(&self, rq: Shared<Driver>) -> u32 {
        let candidates = self.view().readable().without(rq.pdu().refusals());
        let best = self
            .least_loaded(candidates)
            .or_else(|| candidates.iter().next());
        let Some(group) = best else {
            // All refused: the request ends with what the last one said.
            return 0;
        };
        let (number, offset, len) = (rq.tag(), rq.sector() << 9, rq.bytes());
        let flags = CommandFlags::NONE;
        let transfer = Transfer::new(Command::Read, flags, offset, len, Buffer::Request(rq));
        self.dispatch(group, number, transfer)
    }

    /// Sends a write, or a flush, to all groups that take writes.
    pub(super) fn route_write(&self, rq: Shared<Driver>) -> u32 {
        let is_flush = rq.op() == Op::Flush;
        let (first, sectors) = if is_flush { (0, 0) } else { sectors_of(&rq) };
        let span = Span::new(first, sectors);
        let Some(view) = self.claim(&rq, span) else {
            return self.park(rq, span);
        };
        if !is_flush {
            for group in view.faulty().iter() {
                self.mark(group, first, sectors);
            }
        }
        let mut used = 0;
        for group in view.writable().iter() {
            if let Some(transfer) = self.write_transfer(group, &rq) {
                used |= self.dispatch(group, rq.tag(), transfer);
            }
        }
        used
    }

    /// The transfer of a write for one group; nothing if the group need not be asked.
    fn write_transfer(&self, group: usize, rq: &Shared<Driver>) -> Option<Transfer<Driver>> {
        let mut flags = CommandFlags::NONE;
        if rq.fua() {
            flags = flags.with(CommandFlags::FUA);
        }
        let (command, offset, len) = match rq.op() {
            Op::Write => (Command::Write, rq.sector() << 9, rq.bytes()),
            Op::Flush => {
                if self.group(group)?.is_volatile() {
                    // It has no FLUSH, and said so: see `volatile` in the status.
                    rq.pdu().done_by(group as u8);
                    return None;
                }
                let owns = self.group(group)?.unflushed()?.begin_flush();
                let buffer = Buffer::Request(rq.clone());
                return Some(Transfer::flush(owns, buffer));
            }
            op => {
                // A discard is sent as zeroes, where holes are allowed: what is read afterwards is
                // the same in all groups.
                if op == Op::WriteZeroes && rq.no_unmap() {
                    flags = flags.with(CommandFlags::NO_HOLE);
                }
                (Command::WriteZeroes, rq.sector() << 9, rq.bytes())
            }
        };
        let buffer = Buffer::Request(rq.clone());
        Some(Transfer::new(command, flags, offset, len, buffer))
    }

    /// Publishes a write under the view that it then goes by; nothing if it has to wait for a
    /// window.
    fn claim(&self, rq: &Shared<Driver>, span: Span) -> Option<View> {
        let Some(claim) = self.claims.get(rq.tag() as usize) else {
            return Some(View::default());
        };
        rq.pdu().claimed.store(true, Relaxed);
        let mut view = self.view();
        loop {
            claim.publish(span, view.epoch());
            let now = self.view();
            if now == view {
                break;
            }
            view = now;
        }
        if self.is_held(view.resyncing(), span) {
            rq.pdu().claimed.store(false, Relaxed);
            self.withdraw(rq.tag());
            return None;
        }
        Some(view)
    }

    fn is_held(&self, resyncing: GroupSet, span: Span) -> bool {
        resyncing.iter().any(|g| {
            self.windows
                .get(g)
                .is_some_and(|windows| windows.iter().any(|w| w.holds(span)))
        })
    }

    fn withdraw(&self, tag: u32) {
        let span = self.claims.get(tag as usize).and_then(Claim::withdraw);
        // Only a resync that has raised a window over the write, or that waits for all older ones,
        // has been waiting for this.
        let is_waited_for = |span| self.is_held(self.view().resyncing(), span);
        if self.settling.load(Acquire) != 0 || span.is_some_and(is_waited_for) {
            self.resync_waiters.wake_all();
        }
    }

    /// Puts a write aside until the windows that it overlaps are lowered.
    fn park(&self, rq: Shared<Driver>, span: Span) -> u32 {
        let mut parked = self.parked.lock();
        // Who lowers a window looks for parked writes afterwards, under the lock.
        if self.is_held(self.view().resyncing(), span) {
            match parked.push_within_capacity(rq) {
                Ok(()) => return 0,
                // There is room for all requests, so this is not reached; an I/O error is better
                // than a lost request.
                Err(_) => return 0,
            }
        }
        drop(parked);
        self.route_write(rq)
    }

    /// Sends out the writes that were put aside, after a window was lowered.
    pub(crate) fn unpark(&self) {
        let count = self.parked.lock().len();
        let mut used = 0;
        for _ in 0..count {
            let Some(rq) = self.parked.lock().remove(0).ok() else {
                break;
            };
            used |= self.route_write(rq);
        }
        self.kick(used);
    }

    /// Marks the blocks that `sectors` sectors from `first` touch.
    pub(super) fn mark(&self, group: usize, first: u64, sectors: u64) {
        let unit = self.block_sectors();
        let start = self.blocks_of(first);
        let end = self.blocks_of(first.saturating_add(sectors).saturating_add(unit - 1));
        if let Some(g) = self.group(group) {
            g.map.mark(self.letter, start, end.saturating_sub(start));
        }
    }

    /// Gives a transfer to a channel of its group, or lets it wait in the table if none is up;
    /// gives the channel to be kicked, as a bit.
    pub(super) fn dispatch(
        &self,
        group: usize,
        number: u32,
        mut transfer: Transfer<Driver>,
    ) -> u32 {
        let Some((g, table)) = self.group(group).and_then(|g| Some((g, g.table()?))) else {
            self.not_served(group, number, transfer);
            return 0;
        };
        loop {
            if let Some(channel) = self.pick_channel(group) {
                let index = channel.index();
                match channel.submit(table, number, transfer) {
                    Ok(()) => {
                        self.last_active.store(u32::from(index), Relaxed);
                        return 1u32.checked_shl(u32::from(index)).unwrap_or(0);
                    }
                    Err(back) => transfer = back,
                }
                g.remove_up(index);
                if channel.is_open() {
                    // It came back in between.
                    g.add_up(index);
                }
                continue;
            }
            let bytes = u64::from(transfer.len);
            if let Err(back) = table.put(number, transfer, NO_CHANNEL) {
                self.not_served(group, number, back);
                return 0;
            }
            self.waiting.add(bytes);
            // A channel that comes up, a group that is faulted, and a device that fails look for
            // waiting transfers afterwards.
            self.full_barrier();
            let serves = matches!(
                self.view().state(group),
                GroupState::InSync | GroupState::Resyncing
            ) && !self.is_failing();
            if serves && g.up() == 0 {
                return 0;
            }
            match self.take_waiting(table, number, |_| true) {
                Some(back) if serves => transfer = back,
                Some(back) => {
                    self.not_served(group, number, back);
                    return 0;
                }
                None => return 0,
            }
        }
    }

    /// Takes out a transfer that waits for a channel, if `wanted`, given its command, says so.
    pub(super) fn take_waiting(
        &self,
        table: &Table<Driver>,
        number: u32,
        wanted: impl FnOnce(Command) -> bool,
    ) -> Option<Transfer<Driver>> {
        let (transfer, _) = table.take(number, NO_CHANNEL, |command, _| wanted(command))?;
        self.waiting.sub(u64::from(transfer.len));
        Some(transfer)
    }

    fn add_unkicked(&self, used: u32) {
        let mut old = self.unkicked.load(Relaxed);
        while old | used != old {
            match self.unkicked.cmpxchg(old, old | used, Full) {
                Ok(_) => return,
                Err(now) => old = now,
            }
        }
    }

    fn take_unkicked(&self) -> u32 {
        if self.unkicked.load(Relaxed) == 0 {
            return 0;
        }
        self.unkicked.xchg(0, Full)
    }

    /// Lets the channels in `used`, one bit each, send what they have.
    pub(super) fn kick(&self, mut used: u32) {
        while used != 0 {
            let index = used.trailing_zeros();
            used &= used.wrapping_sub(1);
            if let Some(channel) = self.channels.get(index as usize) {
                channel.kick(self);
            }
        }
    }
}

const _: () = assert!(TAGS as usize + super::copy::COPIES == crate::channel::SLOTS);
