// SPDX-License-Identifier: GPL-2.0

//! What channels report, and what follows from it.

use super::{request::sectors_of, Driver, GroupFault, Mirror, TAGS};
use crate::channel::{Channel, Fence, Home, Outcome, Table, Transfer, NO_CHANNEL};
use crate::kapi::{block::mq::Shared, iovec::Buffer};
use crate::logic::{
    channel::DownReason,
    group::{GroupState, Refusal},
    unflushed::region_shift,
    wire::{
        handshake::Export,
        reply::NbdError,
        request::{Command, CommandFlags},
    },
};
use crate::wait::Woken;
use kernel::{prelude::*, sync::atomic::ordering::Relaxed, time::Instant};

impl Home for Mirror {
    type Ops = Driver;

    fn letter(&self) -> char {
        self.letter
    }

    fn channel(&self, index: u8) -> Option<&Channel<Driver>> {
        self.channels.get(usize::from(index))
    }

    fn table(&self, group: u8) -> Option<&Table<Driver>> {
        self.group(usize::from(group))?.table()
    }

    fn request_timeout_s(&self) -> u32 {
        self.settings.timeout.load(Relaxed)
    }

    fn connect_timeout_s(&self) -> u32 {
        self.settings.connect_timeout.load(Relaxed)
    }

    fn admit(&self, group: u8, export: &Export) -> Result<(), DownReason> {
        self.admit_export(usize::from(group), export)
    }

    fn came_up(&self, index: u8, group: u8) {
        let group = usize::from(group);
        let Some(g) = self.group(group) else { return };
        g.info.lock().down_since = None;
        self.look_after_loss(group);
        g.add_up(index);
        let mut used = 0;
        self.each_waiting(group, |table, number| {
            if let Some((transfer, _)) = table.take(number, NO_CHANNEL, |_, _| true) {
                used |= self.dispatch(group, number, transfer);
            }
        });
        self.kick(used);
    }

    fn leave(&self, index: u8, group: u8) {
        if let Some(g) = self.group(usize::from(group)) {
            g.remove_up(index);
        }
    }

    fn went_down(&self, _index: u8, group: u8, _reason: DownReason) {
        let Some(g) = self.group(usize::from(group)) else {
            return;
        };
        if g.up() == 0 {
            g.info.lock().down_since.get_or_insert_with(Instant::now);
            self.mark_unflushed(usize::from(group));
        }
    }

    fn must_hold(&self, group: u8) -> bool {
        let readable = self.view().readable();
        readable.len() <= 1 && readable.has(usize::from(group))
    }

    fn suspect(&self, group: u8, suspect: bool) {
        if let Some(g) = self.group(usize::from(group)) {
            g.suspect(suspect);
        }
    }

    fn while_down(&self, group: u8) {
        let group = usize::from(group);
        let Some(g) = self.group(group) else { return };
        let limit = i64::from(self.request_timeout_s()).saturating_mul(1000);
        let too_long = g
            .info
            .lock()
            .down_since
            .is_some_and(|since| since.elapsed().as_millis() >= limit);
        if g.up() != 0 || !too_long {
            return;
        }
        let refused = self.fault(group, GroupFault::NoChannel);
        if refused == Err(Refusal::LastInSync) && self.settings.show_errs.load(Relaxed) {
            self.fail_group(group);
        }
    }

    fn done(&self, group: u8, number: u32, transfer: Transfer<Driver>, outcome: Outcome) {
        let group = usize::from(group);
        if number >= TAGS {
            return self.copy_done(group, number, transfer, outcome);
        }
        let Buffer::Request(rq) = &transfer.buffer else {
            return;
        };
        match outcome {
            Outcome::Done => {
                self.note_done(group, &transfer);
                rq.pdu().done_by(group as u8);
            }
            Outcome::Refused(error) => self.refused(group, transfer, error),
            Outcome::Lost(fence) => self.lost(group, number, transfer, fence),
        }
    }

    fn changed(&self) {
        self.waiters.wake_all();
    }

    fn sleep(&self, ms: u32, enough: &mut dyn FnMut() -> bool) -> bool {
        self.wait(ms, enough) == Woken::Holds
    }
}

impl Mirror {
    /// A flush has ended without success.
    fn flush_failed(&self, group: usize, command: Command) {
        if command == Command::Flush {
            if let Some(unflushed) = self.group(group).and_then(|g| g.unflushed()) {
                unflushed.end_flush(false);
            }
        }
    }

    /// The server refused a transfer.
    fn refused(&self, group: usize, transfer: Transfer<Driver>, error: NbdError) {
        self.tell_refused(group, &transfer, error);
        self.flush_failed(group, transfer.command);
        let errno = match error {
            // A lack of memory is the server's own; the block layer would take it for ours and try
            // again at once.
            NbdError::NoMem => EIO,
            error => Error::from_errno(error.errno().saturating_neg()),
        };
        let Buffer::Request(rq) = transfer.buffer else {
            return;
        };
        rq.pdu().fail(errno);
        if transfer.command == Command::Read {
            rq.pdu().refused_by(group as u8);
            let used = self.route_read(rq);
            return self.kick(used);
        }
        self.write_failed(group, &rq, GroupFault::Refused(error.errno()));
    }

    /// A group did not carry out a write or a flush, and is not asked again.
    fn write_failed(&self, group: usize, rq: &Shared<Driver>, why: GroupFault) {
        match self.fault(group, why) {
            Ok(()) | Err(Refusal::AlreadyFaulty) => self.mark_missed(group, rq),
            // It was the last group in sync, so the request fails, and nobody knows what that group
            // has now. Any other one may have taken the write, be it that it was in sync then.
            Err(_) => {
                let view = self.view();
                for other in view.resyncing().union(view.faulty()).iter() {
                    self.mark_missed(other, rq);
                }
            }
        }
    }

    /// A transfer's channel was lost before the answer.
    fn lost(&self, group: usize, number: u32, transfer: Transfer<Driver>, fence: Fence) {
        let Buffer::Request(rq) = &transfer.buffer else {
            return;
        };
        if self.is_failing() {
            return self.not_served(group, number, transfer);
        }
        if transfer.command == Command::Read {
            let Buffer::Request(rq) = transfer.buffer else {
                return;
            };
            let used = self.route_read(rq);
            return self.kick(used);
        }
        // A write that may still be carried out later could overwrite a newer one, so the group is
        // left alone from now on, if another one is in sync; its blocks are copied when it returns.
        if fence == Fence::Open && transfer.command != Command::Flush {
            let _ = self.fault(group, GroupFault::WriteLost);
        }
        match self.view().state(group) {
            GroupState::InSync | GroupState::Resyncing => {
                let used = self.dispatch(group, number, transfer);
                self.kick(used);
            }
            _ => {
                self.flush_failed(group, transfer.command);
                self.mark_missed(group, rq);
            }
        }
    }

    /// A transfer found no channel, and its group is out of service.
    pub(super) fn not_served(&self, group: usize, number: u32, transfer: Transfer<Driver>) {
        let outcome = Outcome::Lost(Fence::Fenced);
        if number >= TAGS {
            return self.copy_done(group, number, transfer, outcome);
        }
        let Buffer::Request(rq) = &transfer.buffer else {
            return;
        };
        rq.pdu().fail(EIO);
        if transfer.command != Command::Read {
            self.flush_failed(group, transfer.command);
            self.write_failed(group, rq, GroupFault::NoChannel);
        } else if !self.is_failing() {
            self.lost(group, number, transfer, Fence::Fenced);
        }
    }

    /// Fails what waits for a channel of the last group: the administrator wants errors.
    fn fail_group(&self, group: usize) {
        self.each_waiting(group, |table, number| {
            let waiting = table.take(number, NO_CHANNEL, |_, _| true);
            let Some((transfer, _)) = waiting else { return };
            match &transfer.buffer {
                Buffer::Request(rq) => {
                    rq.pdu().fail(EIO);
                    if transfer.command != Command::Read {
                        self.flush_failed(group, transfer.command);
                        self.write_failed(group, rq, GroupFault::NoChannel);
                    }
                }
                Buffer::Pages(_) => {
                    let error = Outcome::Refused(NbdError::Io);
                    self.copy_done(group, number, transfer, error);
                }
            }
        });
    }

    /// Notes what a transfer that the server has carried out means for its cache.
    pub(super) fn note_done(&self, group: usize, transfer: &Transfer<Driver>) {
        let Some(unflushed) = self.group(group).and_then(|g| g.unflushed()) else {
            return;
        };
        match transfer.command {
            Command::Flush => unflushed.end_flush(true),
            Command::Write | Command::WriteZeroes
                if transfer.flags.bits() & CommandFlags::FUA.bits() == 0 =>
            {
                let shift = region_shift(self.sectors());
                let first = transfer.offset >> 9;
                let last = first.saturating_add(u64::from(transfer.len >> 9).saturating_sub(1));
                unflushed.note(first >> shift, last >> shift);
            }
            _ => {}
        }
    }

    /// The group's server is gone, and with it perhaps what it had not made durable.
    fn mark_unflushed(&self, group: usize) {
        let Some(g) = self.group(group) else { return };
        let sectors = self.sectors();
        if sectors == 0 {
            return;
        }
        let shift = region_shift(sectors);
        if let Some(unflushed) = g.unflushed() {
            unflushed.lose(|first, regions| {
                let first = first << shift;
                let len = (regions << shift).min(sectors.saturating_sub(first));
                self.mark(group, first, len);
            });
        }
    }

    /// The group's server is there again, for the first time since it was gone: what it may have
    /// lost is copied to it before it is read, if there is a group to copy from.
    fn look_after_loss(&self, group: usize) {
        let Some(g) = self.group(group) else { return };
        if self.view().state(group) != GroupState::InSync || g.map.dirty() == 0 {
            return;
        }
        if self.fault(group, GroupFault::CacheLost) == Err(Refusal::LastInSync) {
            pr_warn!(
                "[{}] group {} is back; it may have lost {} blocks that were not flushed, \
                 and no other group has them\n",
                self.letter,
                group,
                g.map.dirty()
            );
            g.map.clear_all();
        }
    }

    /// Marks what `group` did not get. What a failed flush left in its server's cache is unknown,
    /// so that is everything.
    fn mark_missed(&self, group: usize, rq: &Shared<Driver>) {
        use crate::kapi::block::mq::Op;
        match rq.op() {
            Op::Read => {}
            Op::Flush => {
                if let Some(g) = self.group(group) {
                    g.map.mark_all();
                }
            }
            _ => {
                let (first, sectors) = sectors_of(rq);
                self.mark(group, first, sectors);
            }
        }
    }

    fn tell_refused(&self, group: usize, transfer: &Transfer<Driver>, error: NbdError) {
        let rare = self.group(group).is_some_and(|g| g.count_refused());
        if rare {
            pr_info!(
                "[{}] group {}: {} of {} bytes at {} refused: {}\n",
                self.letter,
                group,
                transfer.command.as_str(),
                transfer.len,
                transfer.offset,
                error.as_str()
            );
        }
    }
}
