// SPDX-License-Identifier: GPL-2.0

//! What channels report, and what follows from it.

use super::{request::sectors_of, Driver, GroupFault, Mirror, TAGS};
use crate::channel::{Channel, Fence, Home, Outcome, Table, Transfer};
use crate::kapi::{
    block::mq::{Op, Shared},
    iovec::Buffer,
};
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
        if g.is_doubted() {
            // No older connection has got an answer since: the server may have crashed.
            g.settle_doubt(g.doubt());
            g.set_lost();
        }
        self.look_after_loss(group);
        g.add_up(index);
        let mut used = 0;
        self.each_waiting(group, |table, number| {
            if let Some(transfer) = self.take_waiting(table, number, |_| true) {
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

    fn went_down(&self, group: u8, fence: Fence) {
        let Some(g) = self.group(usize::from(group)) else {
            return;
        };
        if fence == Fence::Open {
            g.raise_doubt();
        }
        if g.up() == 0 {
            g.info.lock().down_since.get_or_insert_with(Instant::now);
            g.set_lost();
        } else if g.is_single() {
            // The channels that stood by cannot flush what was written on this one.
            g.set_lost();
            self.look_after_loss(usize::from(group));
        }
    }

    fn doubt(&self, group: u8) -> u32 {
        self.group(usize::from(group)).map_or(0, |g| g.doubt())
    }

    fn dispel(&self, group: u8, doubt: u32) {
        if let Some(g) = self.group(usize::from(group)) {
            g.settle_doubt(doubt);
        }
    }

    fn give_up_group(&self, group: u8) -> bool {
        matches!(
            self.fault(usize::from(group), GroupFault::WriteLost),
            Ok(()) | Err(Refusal::AlreadyFaulty)
        )
    }

    fn suspect(&self, group: u8, suspect: bool) {
        if let Some(g) = self.group(usize::from(group)) {
            g.suspect(suspect);
        }
    }

    fn suspect_for(&self, group: u8, ms: u32) {
        if let Some(g) = self.group(usize::from(group)) {
            g.info.lock().suspect_for = Some((Instant::now(), ms));
        }
    }

    fn while_down(&self, group: u8) {
        let group = usize::from(group);
        let Some(g) = self.group(group) else { return };
        let limit = i64::from(self.request_timeout_s()).saturating_mul(1000);
        {
            let mut info = g.info.lock();
            if g.up() != 0 {
                info.down_since = None;
                return;
            }
            let since = info.down_since.get_or_insert_with(Instant::now);
            if since.elapsed().as_millis() < limit {
                return;
            }
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
    pub(super) fn flush_failed(&self, group: usize, transfer: &Transfer<Driver>) {
        if transfer.command == Command::Flush {
            if let Some(unflushed) = self.group(group).and_then(|g| g.unflushed()) {
                unflushed.end_flush(transfer.owns_flush, false);
            }
        }
    }

    /// The server refused a transfer.
    fn refused(&self, group: usize, transfer: Transfer<Driver>, error: NbdError) {
        self.tell_refused(group, &transfer, error);
        self.flush_failed(group, &transfer);
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
        if transfer.command == Command::Flush {
            // What the server could not make durable it may drop at any time, or has dropped.
            if let Some(g) = self.group(group) {
                g.set_lost();
            }
        }
        self.write_failed(group, &rq, GroupFault::Refused(error.errno()));
        if self.view().state(group) == GroupState::Faulty {
            // It may have been faulty before.
            self.mark_unflushed(group);
        }
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
    ///
    /// If the server may still carry it out, `Fence::Open`, the channel has given up the group
    /// before, and the write is marked here.
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
        match self.view().state(group) {
            GroupState::InSync | GroupState::Resyncing if fence == Fence::Fenced => {
                let used = self.dispatch(group, number, transfer);
                self.kick(used);
            }
            _ => {
                rq.pdu().fail(EIO);
                self.flush_failed(group, &transfer);
                self.write_failed(group, rq, GroupFault::WriteLost);
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
            self.flush_failed(group, &transfer);
            self.write_failed(group, rq, GroupFault::NoChannel);
        } else if !self.is_failing() {
            self.lost(group, number, transfer, Fence::Fenced);
        }
    }

    /// Fails what waits for a channel of the last group: the administrator wants errors.
    fn fail_group(&self, group: usize) {
        self.each_waiting(group, |table, number| {
            let Some(transfer) = self.take_waiting(table, number, |_| true) else {
                return;
            };
            match &transfer.buffer {
                Buffer::Request(rq) => {
                    rq.pdu().fail(EIO);
                    if transfer.command != Command::Read {
                        self.flush_failed(group, &transfer);
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
            Command::Flush => unflushed.end_flush(transfer.owns_flush, true),
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

    /// If the group's server was lost: marks what it may have lost with it. Only for a group that
    /// is faulty, so that no resync takes the marks away.
    pub(super) fn mark_unflushed(&self, group: usize) {
        let sectors = self.sectors();
        let Some(g) = self.group(group) else { return };
        if sectors == 0 || !g.take_lost() {
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

    /// The group's server is there again, for the first time since it was lost: what it may have
    /// lost is copied to it before it is read, if there is a group to copy from.
    fn look_after_loss(&self, group: usize) {
        let Some(g) = self.group(group) else { return };
        let Some(unflushed) = g.unflushed() else {
            return;
        };
        match self.view().state(group) {
            GroupState::Absent => return,
            GroupState::Faulty => return self.mark_unflushed(group),
            GroupState::InSync | GroupState::Resyncing => {}
        }
        if !g.is_lost() || unflushed.is_clear() {
            return;
        }
        let others_serve = self
            .view()
            .readable()
            .iter()
            .any(|other| other != group && self.group(other).is_some_and(|g| g.up() != 0));
        if others_serve && self.fault(group, GroupFault::CacheLost).is_ok() {
            return;
        }
        self.accept_loss(group);
    }

    /// The group comes back before any other one that is in sync, so it is the source from now on,
    /// whatever it has lost: what was not flushed was not promised to outlast a crash. The others
    /// are made equal to it.
    fn accept_loss(&self, group: usize) {
        for other in self.view().readable().iter().filter(|&g| g != group) {
            // Marks what that one may have lost, too.
            let _ = self.fault(other, GroupFault::NoChannel);
        }
        let Some(g) = self.group(group) else { return };
        let Some(unflushed) = g.unflushed() else {
            return;
        };
        g.take_lost();
        let shift = region_shift(self.sectors());
        let view = self.view();
        let mut regions = 0u64;
        unflushed.lose(|first, n| {
            regions = regions.saturating_add(n);
            for other in view.faulty().union(view.resyncing()).iter() {
                self.mark(other, first << shift, n << shift);
            }
        });
        // Nobody can tell a server that crashed from a network that was away. Whoever wants to go
        // on in any case does not want to see this; who asked for errors gets one.
        if regions > 0 && self.settings.show_errs.load(Relaxed) {
            self.fail_waiting_flushes(group);
        }
        pr_warn!(
            "[{}] group {} is back as the only one; it may have lost writes that were not \
             flushed, in {} regions of {} KiB\n",
            self.letter,
            group,
            regions,
            (1u64 << shift) / 2
        );
    }

    /// A flush that waited while what it was to make durable was lost must not succeed.
    fn fail_waiting_flushes(&self, group: usize) {
        self.each_waiting(group, |table, number| {
            let flush = self.take_waiting(table, number, |command| command == Command::Flush);
            let Some(transfer) = flush else { return };
            self.flush_failed(group, &transfer);
            if let Buffer::Request(rq) = &transfer.buffer {
                rq.pdu().fail(EIO);
            }
        });
    }

    /// Marks what `group` did not get.
    fn mark_missed(&self, group: usize, rq: &Shared<Driver>) {
        if matches!(rq.op(), Op::Write | Op::Discard | Op::WriteZeroes) {
            let (first, sectors) = sectors_of(rq);
            self.mark(group, first, sectors);
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
