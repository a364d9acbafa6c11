// SPDX-License-Identifier: GPL-2.0

//! What the end of a transfer means.

use super::{
    copy, greet, idle, member,
    pdu::EIO,
    route::sectors_of,
    step::{self, Next, Numbered, Unserved},
    zeroes, Carrier, Fence, Losses, Memories, News, Op, Outcome, Request, Route, States, Transfer,
    World,
};
use crate::logic::{
    group::{GroupFault, GroupState, Refusal},
    ids::{ChannelSet, GroupId, SlotId, SlotKind},
    wire::{reply::NbdError, request::Command},
};

/// So many connections may be lost with a transfer on the way until it is taken for what ends them.
pub(super) const MOST_LOSSES: u8 = 3;

/// What follows from the ends of transfers.
pub trait Outcomes: World {
    /// A transfer has ended. Called without locks.
    fn done(
        &self,
        group: GroupId,
        number: SlotId,
        transfer: Transfer<Self::Buffer>,
        outcome: Outcome,
    ) {
        let next = match number.kind() {
            SlotKind::Question(_) => {
                return greet::answered(self, group, transfer.question, outcome);
            }
            kind @ (SlotKind::Metadata | SlotKind::Flush) => {
                return own_done(self, group, kind, transfer, outcome);
            }
            SlotKind::Copy(index) => copy::done(self, group, index, transfer, outcome),
            SlotKind::Request(_) => match outcome {
                Outcome::Done if self.may_be_stale(group, &transfer) => read_again(transfer),
                Outcome::Done => match zeroes::after_piece(self, group, &transfer) {
                    Some(next) => next,
                    None => return done(self, group, &transfer),
                },
                Outcome::Refused(error) => refused(self, group, transfer, error),
                Outcome::Lost(fence) => lost(self, group, number, transfer, fence),
            },
        };
        if !matches!(next, Next::Done) {
            self.kick_all(step::run(self, next));
        }
    }

    /// Fails what waits for a channel of the last group: the administrator wants errors.
    fn fail_group(&self, group: GroupId) {
        let mut used = ChannelSet::default();
        self.each_waiting(group, |number| {
            if let Some(transfer) = self.take_waiting(group, number) {
                used |= step::run(self, fail(self, group, number, transfer));
            }
        });
        self.kick_all(used);
    }

    /// Fails what waits for a channel, of all groups: see [`States::set_failing`].
    fn fail_waiting(&self) {
        let mut used = ChannelSet::default();
        for group in GroupId::all() {
            self.each_waiting(group, |number| {
                if let Some(transfer) = self.take_waiting(group, number) {
                    let back = Numbered {
                        group,
                        number,
                        transfer,
                    };
                    used |= step::run(self, Next::Unserved(Unserved::MayNotWait, back));
                }
            });
        }
        self.kick_all(used);
    }
}

impl<W: World> Outcomes for W {}

type RequestOf<W> = <<W as World>::Buffer as Carrier>::Request;

/// A group has done it.
fn done<W: World>(w: &W, group: GroupId, transfer: &Transfer<W::Buffer>) {
    let Some(rq) = transfer.buffer.request() else {
        return;
    };
    w.note_done(group, transfer);
    if is_write(rq) && has_been_faulted(w, group, rq) {
        mark_missed(w, group, rq);
    }
    if transfer.command != Command::Read && w.core().view().state(group) != GroupState::InSync {
        // It was sent before the group was taken out of service, perhaps for what it had lost until then: as
        // long as the records call it in sync, nothing counts that another one has (R1).
        w.keep_unrecorded(rq);
    }
    rq.pdu().set_done_by(group);
    if w.core().is_trying() {
        w.wake();
    }
}

/// Sends a read once more.
fn read_again<B: Carrier>(transfer: Transfer<B>) -> Next<B> {
    transfer
        .buffer
        .into_request()
        .map_or(Next::Done, Next::ReadAgain)
}

/// A transfer found no channel, and does not wait for one.
pub(super) fn unserved<W: World>(
    w: &W,
    why: Unserved,
    group: GroupId,
    transfer: Transfer<W::Buffer>,
) -> Next<W::Buffer> {
    let Some(rq) = transfer.buffer.request() else {
        return Next::Done;
    };
    rq.pdu().fail(EIO);
    if transfer.command != Command::Read {
        return write_failed(w, group, rq, GroupFault::NoChannel);
    }
    if w.core().is_failing() {
        return Next::Done;
    }
    let is_last = why == Unserved::MayNotWait;
    if is_last || transfer.in_sync_at == Some(w.core().view().epoch()) {
        // It was out of service before, and had a channel; or the last one has none, and another one that
        // is out of service may hold the blocks, and be there.
        rq.pdu().set_refused_by(group);
    }
    read_again(transfer)
}

/// A transfer that waits for a channel of the last group fails.
fn fail<W: World>(
    w: &W,
    group: GroupId,
    number: SlotId,
    mut transfer: Transfer<W::Buffer>,
) -> Next<W::Buffer> {
    w.flush_failed(group, &mut transfer);
    if let SlotKind::Copy(index) = number.kind() {
        return copy::unserved(w, Unserved::MayNotWait, index, transfer);
    }
    let Some(rq) = transfer.buffer.request() else {
        return Next::Done;
    };
    rq.pdu().fail(EIO);
    match transfer.command {
        // One that is out of service may hold the blocks, and be there.
        Command::Read => {
            rq.pdu().set_refused_by(group);
            read_again(transfer)
        }
        _ => write_failed(w, group, rq, GroupFault::NoChannel),
    }
}

/// The server refused a transfer.
fn refused<W: World>(
    w: &W,
    group: GroupId,
    mut transfer: Transfer<W::Buffer>,
    error: NbdError,
) -> Next<W::Buffer> {
    tell_refused(w, group, &transfer, error);
    if zeroes::are_refused(transfer.command, error) {
        return zeroes::write_instead(w, group, &transfer);
    }
    if transfer.command == Command::Flush {
        w.flush_refused(group, &mut transfer);
    }
    let errno = match error {
        // A lack of memory is the server's own; the block layer would take it for ours and try
        // again at once.
        NbdError::NoMem => EIO,
        error => error.errno(),
    };
    let Some(rq) = transfer.buffer.request() else {
        return Next::Done;
    };
    rq.pdu().fail(errno);
    if transfer.command == Command::Read {
        rq.pdu().set_refused_by(group);
        return read_again(transfer);
    }
    let next = write_failed(w, group, rq, GroupFault::Refused(error.errno()));
    w.mark_unflushed_of_faulty(group);
    next
}

/// Something that the mirror itself has asked for has ended. A flush counts at once if it was refused: a user's, which the
/// server gets next, may succeed without what this one was to make durable.
fn own_done<W: World>(
    w: &W,
    group: GroupId,
    kind: SlotKind,
    mut transfer: Transfer<W::Buffer>,
    outcome: Outcome,
) {
    if transfer.command == Command::Flush && matches!(outcome, Outcome::Refused(_)) {
        w.flush_refused(group, &mut transfer);
        // Refused if it is the last one: then it is doubted.
        let _ = w.fault(group, GroupFault::Metadata);
        w.mark_unflushed_of_faulty(group);
    }
    match kind {
        SlotKind::Flush => idle::flushed(w, group, outcome),
        _ => member::answered(w, group, outcome),
    }
}

/// A group did not carry out a write or a flush, and is not asked again.
pub(super) fn write_failed<W: World>(
    w: &W,
    group: GroupId,
    rq: &RequestOf<W>,
    why: GroupFault,
) -> Next<W::Buffer> {
    if let Some(next) = goes_without(w, group, rq, why) {
        return next;
    }
    // It was the last group in sync, so the request fails, and nobody knows what that group has now.
    mark_for_others(w, rq);
    if is_write(rq) {
        let (first, sectors) = sectors_of(rq);
        let answered = matches!(why, GroupFault::Refused(_));
        w.note_perhaps_done(group, first, sectors, answered);
    }
    Next::Done
}

/// Marks a write, which the last group in sync has not done, for all others: any of them may have taken
/// it, be it that it was in sync then.
pub(super) fn mark_for_others<W: World>(w: &W, rq: &RequestOf<W>) {
    let view = w.core().view();
    for other in view.resyncing().union(view.faulty()).iter() {
        mark_missed(w, other, rq);
    }
}

/// A write or a flush ends without a group, which is taken out of service for that: what comes next;
/// nothing if it is the last one in sync.
fn goes_without<W: World>(
    w: &W,
    group: GroupId,
    rq: &RequestOf<W>,
    why: GroupFault,
) -> Option<Next<W::Buffer>> {
    let next = match w.take_out(group, why) {
        Ok(()) => Next::ReturnWaiting(group),
        Err(Refusal::AlreadyFaulty) => Next::Done,
        Err(_) => return None,
    };
    mark_missed(w, group, rq);
    w.keep_unrecorded(rq);
    Some(next)
}

/// A transfer's channel was lost before the answer.
///
/// If the server may still carry it out, `Fence::Open`, the channel has given up the group before,
/// and the write is marked here.
fn lost<W: World>(
    w: &W,
    group: GroupId,
    number: SlotId,
    mut transfer: Transfer<W::Buffer>,
    fence: Fence,
) -> Next<W::Buffer> {
    w.flush_failed(group, &mut transfer);
    if w.core().is_failing() {
        return unserved(w, Unserved::MayNotWait, group, transfer);
    }
    if transfer.command == Command::Read {
        return read_again(transfer);
    }
    match w.core().view().state(group) {
        GroupState::InSync | GroupState::Resyncing if fence == Fence::Fenced => {
            again_or_not(w, group, number, transfer)
        }
        _ => match transfer.buffer.request() {
            Some(rq) => {
                rq.pdu().fail(EIO);
                write_failed(w, group, rq, GroupFault::WriteLost)
            }
            None => Next::Done,
        },
    }
}

/// Sends a write or a flush once more to a group whose connection was lost with it, if it was not
/// lost so often that it may be what ends the connections: then the group is taken out of service,
/// if another one is in sync.
fn again_or_not<W: World>(
    w: &W,
    group: GroupId,
    number: SlotId,
    transfer: Transfer<W::Buffer>,
) -> Next<W::Buffer> {
    let is_fatal = transfer.losses >= MOST_LOSSES;
    if let Some(rq) = transfer.buffer.request().filter(|_| is_fatal) {
        if let Some(next) = goes_without(w, group, rq, GroupFault::Fatal) {
            rq.pdu().fail(EIO);
            return next;
        }
        // It is the last one in sync: its users wait.
        if transfer.command == Command::WriteZeroes {
            return zeroes::write_instead(w, group, &transfer);
        }
    }
    Next::Send(Numbered {
        group,
        number,
        transfer,
    })
}

/// Whether the group was taken out of service while the write was on its way. If that was for a
/// flush that it refused, it may have carried the write out before, and never make it durable.
fn has_been_faulted<W: World>(w: &W, group: GroupId, rq: &RequestOf<W>) -> bool {
    let view = w.core().view();
    match view.state(group) {
        GroupState::InSync | GroupState::Absent => false,
        GroupState::Resyncing => {
            let claim = w.claims().get(rq.tag() as usize);
            claim.is_some_and(|claim| claim.age(view.epoch()) != 0)
        }
        GroupState::Faulty => true,
    }
}

fn is_write(rq: &impl Request) -> bool {
    matches!(rq.op(), Op::Write | Op::Discard | Op::WriteZeroes)
}

/// Marks what `group` did not get.
fn mark_missed<W: World>(w: &W, group: GroupId, rq: &RequestOf<W>) {
    if is_write(rq) {
        let (first, sectors) = sectors_of(rq);
        w.mark(group, first, sectors);
    }
}

fn tell_refused<W: World>(w: &W, group: GroupId, transfer: &Transfer<W::Buffer>, error: NbdError) {
    if w.core().group(group).count_refused() {
        w.tell(News::Refused {
            group,
            command: transfer.command,
            len: transfer.len,
            offset: transfer.offset,
            error,
        });
    }
}
