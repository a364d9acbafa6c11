// SPDX-License-Identifier: GPL-2.0

//! Servers that are lost, and what they may have lost with them.
//!
//! A server that crashes loses what it has acknowledged and not made durable. Whether it crashed
//! cannot be seen, so each new connection asks: it carries requests only after the server has
//! answered, on a connection that was there before, what it was asked when the new one was made.
//! Then all that was acknowledged before came from the same life of the server ([`super::greet`]). If
//! there is no such connection, or none that answers, the server is *lost*: what was not flushed is
//! marked, and copied to it before it is read.

use super::{
    health::Record,
    step::{self, Next},
    HealthEvent, News, Outcomes, Route, States, Transfer, World,
};
use crate::logic::{
    barrier::Span,
    group::{GroupFault, GroupSet, GroupState, Refusal},
    ids::{GroupId, Lane, SlotId},
    unflushed::{region_shift, Unflushed},
    wire::request::{Command, CommandFlags},
};

/// How long a request may go unanswered by a group that is out of service, in milliseconds: nobody
/// needs its answer, and whoever set the group faulty may have done so because it hangs.
const FAULTY_PATIENCE_MS: u64 = 2000;

/// What channels report of their servers, and what follows from it.
pub trait Losses: World {
    /// How long a request of `group` may go unanswered, in milliseconds, before its channel is
    /// given up.
    fn patience_ms(&self, group: GroupId) -> u64 {
        match self.core().view().state(group) {
            GroupState::Faulty => self.timeout_ms().min(FAULTY_PATIENCE_MS),
            _ => self.timeout_ms(),
        }
    }

    /// A channel takes no more requests.
    fn leave(&self, lane: Lane) {
        self.core().group(lane.group).remove_up(lane.channel);
    }

    /// A channel was lost, or has ended. Its transfers come back afterwards.
    ///
    /// If it was the last one, the next one that comes up knows nothing of the server's life, and
    /// accounts for what it may have lost. A group that is resyncing is taken out of service at
    /// once: nobody reads it, and users' writes would wait for it.
    fn went_down(&self, lane: Lane) {
        let Lane { group, channel } = lane;
        let g = self.core().group(group);
        // All answers that count have come.
        g.set_serving(channel, false);
        if g.up().is_empty() {
            g.note_down(self.now_ms());
        }
        if g.up().is_empty() {
            if self.core().view().state(group) == GroupState::Resyncing {
                // Refused if that has just happened.
                let _ = self.fault(group, GroupFault::Interrupted);
            }
            return;
        }
        // A channel may have come up in between, and not have seen what was noted.
        g.note_up();
    }

    /// Takes the group out of service, since its server may still carry out writes that it has not
    /// answered. False if no other one is in sync: then those writes must not be given back before
    /// the server will not carry them out any more.
    fn give_up_group(&self, group: GroupId) -> bool {
        matches!(
            self.fault(group, GroupFault::WriteLost),
            Ok(()) | Err(Refusal::AlreadyFaulty)
        )
    }

    /// From now on, or no longer, the server of the group may carry out writes that were given
    /// back.
    fn suspect(&self, group: GroupId, suspect: bool) {
        self.core().group(group).happened(if suspect {
            HealthEvent::SuspectBegan
        } else {
            HealthEvent::SuspectEnded
        });
    }

    /// The server of the group may do so for so many milliseconds more, whatever becomes of the
    /// channel.
    fn suspect_for(&self, group: GroupId, ms: u32) {
        let until = self.now_ms().saturating_add(u64::from(ms));
        self.core().group(group).suspect_until(until);
    }

    /// Takes a group out of service that was without a channel for the time limit. To be asked of
    /// each group again and again while the device is enabled, by a thread that waits for nothing:
    /// a channel may hang in its next connection for longer than the time limit.
    fn expire_if_down(&self, group: GroupId) {
        let g = self.core().group(group);
        if !g.up().is_empty() {
            return g.note_up();
        }
        let now = self.now_ms();
        let since = g.note_down(now);
        if !g.up().is_empty() {
            // A channel came up in between, and may not have seen what was noted.
            return g.note_up();
        }
        if now.saturating_sub(since) < self.timeout_ms() {
            return;
        }
        let refused = self.fault(group, GroupFault::NoChannel);
        if refused == Err(Refusal::LastInSync) && self.show_errs() {
            self.fail_group(group);
        }
    }

    /// Notes what a transfer that the server has carried out means for its cache.
    fn note_done(&self, group: GroupId, transfer: &Transfer<Self::Buffer>) {
        let Some(unflushed) = self.unflushed(group) else {
            return;
        };
        match transfer.command {
            Command::Flush => {
                let covers_all = self.core().group(group).health().is_flushed_by_one();
                if let Some(ownership) = transfer.owns_flush {
                    unflushed.end_flush(ownership, covers_all);
                }
            }
            Command::Write | Command::WriteZeroes
                if transfer.flags.bits() & CommandFlags::FUA.bits() == 0 =>
            {
                let (first, sectors) = (transfer.offset >> 9, u64::from(transfer.len >> 9));
                note_written(self, unflushed, first, sectors);
            }
            _ => {}
        }
    }

    /// A write of `sectors` sectors from `first` on has failed, and the group stays in sync: it may
    /// hold it, though nobody else will count on that. If it was not answered it may be on a
    /// connection that has ended.
    fn note_perhaps_done(&self, group: GroupId, first: u64, sectors: u64, answered: bool) {
        let Some(unflushed) = self.unflushed(group) else {
            return;
        };
        if !answered {
            doubt_ended_connections(self, group);
        }
        note_written(self, unflushed, first, sectors);
    }

    /// A flush has ended without success, or has to be sent again: from now on it covers nothing.
    fn flush_failed(&self, group: GroupId, transfer: &mut Transfer<Self::Buffer>) {
        if let (Some(ownership), Some(unflushed)) =
            (transfer.owns_flush.take(), self.unflushed(group))
        {
            unflushed.end_flush(ownership, false);
        }
    }

    /// The server refused a flush: what it could not make durable it may drop at any time, or has
    /// dropped, and it may say that the next flush has succeeded, as fsync() does after an error.
    /// Whoever faults the group afterwards marks it.
    fn flush_refused(&self, group: GroupId, transfer: &mut Transfer<Self::Buffer>) {
        let g = self.core().group(group);
        g.happened(HealthEvent::FlushVoid);
        g.happened(HealthEvent::Deceives);
        g.happened(HealthEvent::ServerLost);
        // Not before: the next owner must find the doubt.
        self.flush_failed(group, transfer);
    }

    /// Takes doubted groups out of service if there is another one to copy from, with a channel: so
    /// they get what they hold once more.
    ///
    /// Who changes the view, or the channels that are up, asks this afterwards, so one of two sees
    /// the other.
    fn renew_doubted(&self) {
        let core = self.core();
        let is_doubted = |group: GroupId| core.group(group).health().is_doubted();
        let serves = |group: GroupId| !core.group(group).up().is_empty();
        for group in core.view().readable().iter().filter(|&g| is_doubted(g)) {
            let mut others = core.view().readable().iter().filter(|&g| g != group);
            if others.any(|g| serves(g) && !is_doubted(g)) {
                // Refused if the other one has just been faulted.
                let _ = self.fault(group, GroupFault::Doubted);
            }
        }
    }

    /// If the group's server was lost, or will not make durable what it holds: marks that. Only for
    /// a group that is faulty, so that no resync takes the marks away.
    fn mark_unflushed(&self, group: GroupId) {
        // Also of a device that is disabled now.
        let sectors = self.core().last_sectors();
        let g = self.core().group(group);
        let Some(unflushed) = self.unflushed(group) else {
            return;
        };
        g.happened(HealthEvent::MarkingBegan);
        if g.health().record() != Record::Sound {
            // Before the loss is taken: whoever sees that it was may let a channel carry requests.
            unflushed.disown();
        }
        if g.happened(HealthEvent::RecordTaken).record() != Record::Sound {
            let shift = region_shift(sectors);
            unflushed.lose(|first, regions| {
                let first = first << shift;
                let len = (regions << shift).min(sectors.saturating_sub(first));
                self.mark(group, first, len);
            });
        }
        g.happened(HealthEvent::MarkingEnded);
    }

    /// The same if the group is faulty, as it may have been before it was lost; otherwise whoever
    /// faults it does this.
    fn mark_unflushed_of_faulty(&self, group: GroupId) {
        if self.core().view().state(group) == GroupState::Faulty {
            self.mark_unflushed(group);
        }
    }

    /// Calls `f` with each number that may have a transfer waiting for a channel of `group`.
    fn each_waiting(&self, group: GroupId, mut f: impl FnMut(SlotId)) {
        if self.unflushed(group).is_none() {
            // It never had a channel.
            return;
        }
        for number in SlotId::all_that_may_wait() {
            f(number);
        }
    }

    /// Gives back the transfers that wait for a channel of `group`, which is out of service.
    fn return_waiting(&self, group: GroupId) {
        self.kick_all(step::run(self, Next::ReturnWaiting(group)));
    }
}

impl<W: World> Losses for W {}

/// Notes what a write of `sectors` sectors from `first` on covers.
fn note_written<W: World>(w: &W, unflushed: &Unflushed<W::Words>, first: u64, sectors: u64) {
    let shift = region_shift(w.core().last_sectors());
    let last = first.saturating_add(sectors.saturating_sub(1));
    unflushed.note(first >> shift, last >> shift);
}

/// Something that is noted was written on a connection that has ended: where a flush covers its own
/// connection alone, none covers that any more.
pub(super) fn doubt_ended_connections<W: World>(w: &W, group: GroupId) {
    let g = w.core().group(group);
    if g.is_single() && !w.is_volatile(group) {
        g.happened(HealthEvent::FlushVoid);
    }
}

/// The group's server may have crashed. If nothing was unflushed until now it has lost nothing.
pub(super) fn note_loss<W: World>(w: &W, group: GroupId) {
    if w.unflushed(group).is_some_and(|u| !u.is_clear()) {
        w.core().group(group).happened(HealthEvent::ServerLost);
    }
}

/// The group's server is there again, for the first time since it was lost: what it may have lost
/// is copied to it before it is read, if there is a group to copy from.
pub(super) fn look_after_loss<W: World>(w: &W, group: GroupId) {
    let core = w.core();
    let g = core.group(group);
    let Some(unflushed) = w.unflushed(group) else {
        return;
    };
    // Again if the state has changed in between.
    loop {
        let state = core.view().state(group);
        match state {
            GroupState::Absent => return,
            GroupState::Faulty => return w.mark_unflushed(group),
            GroupState::InSync | GroupState::Resyncing => {}
        }
        if !g.health().is_lost() || unflushed.is_clear() {
            return;
        }
        let serves = |other: GroupId| !core.group(other).up().is_empty();
        let mut others = core.view().readable().iter().filter(|&g| g != group);
        if state == GroupState::Resyncing || others.any(serves) {
            match w.fault(group, GroupFault::CacheLost) {
                Ok(()) => return,
                Err(Refusal::LastInSync) => {}
                // Another channel of the group, which came up at the same time, has just done so.
                Err(_) => continue,
            }
        }
        if accept_loss(w, group) {
            return;
        }
    }
}

/// The group, which is in sync, comes back before any other one that is, so it is the source from
/// now on, whatever it has lost: what was not flushed was not promised to outlast a crash. The
/// others are made equal to it. False if it is not to be the source after all.
fn accept_loss<W: World>(w: &W, group: GroupId) -> bool {
    let core = w.core();
    let g = core.group(group);
    let Some(unflushed) = w.unflushed(group) else {
        return true;
    };
    // No other one may be brought back before it is marked; and then this one cannot be faulted.
    let others = || GroupId::all().filter(move |&other| other != group);
    let each = |event: HealthEvent| {
        for other in others() {
            core.group(other).happened(event);
        }
    };
    each(HealthEvent::MarkingBegan);
    while let Some(other) = others().find(|&g| core.view().writable().has(g)) {
        // Marks what that one may have lost, too.
        if w.fault(other, GroupFault::Outrun) == Err(Refusal::LastInSync) {
            break;
        }
    }
    if core.view().writable() != GroupSet::of(group)
        || core.view().state(group) != GroupState::InSync
    {
        each(HealthEvent::MarkingEnded);
        return false;
    }
    doubt_ended_connections(w, group);
    unflushed.disown();
    g.happened(HealthEvent::LossAccepted);
    let shift = region_shift(core.last_sectors());
    let mut regions = 0u64;
    unflushed.lose(|first, n| {
        regions = regions.saturating_add(n);
        // Whatever it holds there now is what the mirror holds.
        w.evidence().forget(Span::new(first << shift, n << shift));
        // Also one that somebody tries to bring back at this moment, in vain.
        let view = core.view();
        let behind = view.faulty().union(view.resyncing());
        for other in others().filter(|&g| behind.has(g)) {
            w.mark(other, first << shift, n << shift);
        }
        // If the server did not crash it has them still, and they are as volatile as before.
        unflushed.note(first, first.saturating_add(n).saturating_sub(1));
    });
    each(HealthEvent::MarkingEnded);
    if regions > 0 {
        // Before a channel carries flushes that waited: they cover nothing of it.
        core.losses.fetch_add(1);
    }
    w.tell(News::BackAlone {
        group,
        regions,
        sectors: 1 << shift,
    });
    true
}
