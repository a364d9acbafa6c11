// SPDX-License-Identifier: GPL-2.0

//! What the end of a transfer means.

use super::{
    greet, pdu::EIO, route::sectors_of, Carrier, Copying, Fence, Losses, News, Op, Outcome,
    Request, Route, States, Transfer, World, TAGS,
};
use crate::logic::{
    group::{GroupFault, GroupState, Refusal},
    wire::{reply::NbdError, request::Command},
};

/// What follows from the ends of transfers.
pub trait Outcomes: World {
    /// A transfer has ended. Called without locks.
    fn done(&self, group: usize, number: u32, transfer: Transfer<Self::Buffer>, outcome: Outcome) {
        if number >= greet::FIRST {
            return greet::answered(self, group, transfer.question, outcome);
        }
        if number >= TAGS {
            return self.copy_done(group, number, transfer, outcome);
        }
        let Some(rq) = transfer.buffer.request() else {
            return;
        };
        match outcome {
            Outcome::Done if self.may_be_stale(group, &transfer) => read_again(self, transfer),
            Outcome::Done => {
                self.note_done(group, &transfer);
                if is_write(rq) && has_been_faulted(self, group, rq) {
                    mark_missed(self, group, rq);
                }
                rq.pdu().set_done_by(group);
                if self.core().is_trying() {
                    self.wake();
                }
            }
            Outcome::Refused(error) => refused(self, group, transfer, error),
            Outcome::Lost(fence) => lost(self, group, number, transfer, fence),
        }
    }

    /// A transfer found no channel, and its group is out of service.
    #[inline(never)] // Rare. Also, rustc 1.85 cannot decide by itself in this circle of calls.
    fn not_served(&self, group: usize, number: u32, mut transfer: Transfer<Self::Buffer>) {
        if number >= TAGS {
            return self.copy_done(group, number, transfer, Outcome::Lost(Fence::Fenced));
        }
        self.flush_failed(group, &mut transfer);
        let Some(rq) = transfer.buffer.request() else {
            return;
        };
        rq.pdu().fail(EIO);
        if transfer.command != Command::Read {
            write_failed(self, group, rq, GroupFault::NoChannel);
        } else if !self.core().is_failing() {
            lost(self, group, number, transfer, Fence::Fenced);
        }
    }

    /// Fails what waits for a channel of the last group: the administrator wants errors.
    fn fail_group(&self, group: usize) {
        self.each_waiting(group, |number| {
            let Some(mut transfer) = self.take_waiting(group, number) else {
                return;
            };
            self.flush_failed(group, &mut transfer);
            let Some(rq) = transfer.buffer.request() else {
                let error = Outcome::Refused(NbdError::Io);
                return self.copy_done(group, number, transfer, error);
            };
            rq.pdu().fail(EIO);
            if transfer.command != Command::Read {
                write_failed(self, group, rq, GroupFault::NoChannel);
            }
        });
    }
}

impl<W: World> Outcomes for W {}

type RequestOf<W> = <<W as World>::Buffer as Carrier>::Request;

/// Sends a read once more, to whichever group it may go to now.
fn read_again<W: World>(w: &W, transfer: Transfer<W::Buffer>) {
    if let Some(rq) = transfer.buffer.into_request() {
        w.kick_all(w.route_read(rq));
    }
}

/// The server refused a transfer.
fn refused<W: World>(w: &W, group: usize, mut transfer: Transfer<W::Buffer>, error: NbdError) {
    tell_refused(w, group, &transfer, error);
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
        return;
    };
    rq.pdu().fail(errno);
    if transfer.command == Command::Read {
        rq.pdu().set_refused_by(group);
        return read_again(w, transfer);
    }
    write_failed(w, group, rq, GroupFault::Refused(error.errno()));
    w.mark_unflushed_of_faulty(group);
}

/// A group did not carry out a write or a flush, and is not asked again.
fn write_failed<W: World>(w: &W, group: usize, rq: &RequestOf<W>, why: GroupFault) {
    match w.fault(group, why) {
        Ok(()) | Err(Refusal::AlreadyFaulty) => mark_missed(w, group, rq),
        // It was the last group in sync, so the request fails, and nobody knows what that group has
        // now. Any other one may have taken the write, be it that it was in sync then.
        Err(_) => {
            let view = w.core().view();
            for other in view.resyncing().union(view.faulty()).iter() {
                mark_missed(w, other, rq);
            }
            if is_write(rq) {
                let (first, sectors) = sectors_of(rq);
                let answered = matches!(why, GroupFault::Refused(_));
                w.note_perhaps_done(group, first, sectors, answered);
            }
        }
    }
}

/// A transfer's channel was lost before the answer.
///
/// If the server may still carry it out, `Fence::Open`, the channel has given up the group before,
/// and the write is marked here.
fn lost<W: World>(
    w: &W,
    group: usize,
    number: u32,
    mut transfer: Transfer<W::Buffer>,
    fence: Fence,
) {
    w.flush_failed(group, &mut transfer);
    if w.core().is_failing() {
        return w.not_served(group, number, transfer);
    }
    if transfer.command == Command::Read {
        return read_again(w, transfer);
    }
    match w.core().view().state(group) {
        GroupState::InSync | GroupState::Resyncing if fence == Fence::Fenced => {
            let used = w.dispatch(group, number, transfer);
            w.kick_all(used);
        }
        _ => {
            if let Some(rq) = transfer.buffer.request() {
                rq.pdu().fail(EIO);
                write_failed(w, group, rq, GroupFault::WriteLost);
            }
        }
    }
}

/// Whether the group was taken out of service while the write was on its way. If that was for a
/// flush that it refused, it may have carried the write out before, and never make it durable.
fn has_been_faulted<W: World>(w: &W, group: usize, rq: &RequestOf<W>) -> bool {
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
fn mark_missed<W: World>(w: &W, group: usize, rq: &RequestOf<W>) {
    if is_write(rq) {
        let (first, sectors) = sectors_of(rq);
        w.mark(group, first, sectors);
    }
}

fn tell_refused<W: World>(w: &W, group: usize, transfer: &Transfer<W::Buffer>, error: NbdError) {
    if w.core().group(group).is_some_and(|g| g.count_refused()) {
        w.tell(News::Refused {
            group,
            command: transfer.command,
            len: transfer.len,
            offset: transfer.offset,
            error,
        });
    }
}
