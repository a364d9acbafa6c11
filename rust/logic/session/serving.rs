// SPDX-License-Identifier: GPL-2.0

//! Replies, one after the other, and what they are to.
//!
//! Every [`TICK_MS`] of silence, and every [`BUSY_TICK`] replies, it is looked whether the server is
//! still there. How long a request takes says little: where many are asked for over a slow line, the
//! last one is answered long after the first one, however steadily the data flows. So the connection
//! is given up where something is owed and
//!
//! - *nothing* has come for the patience that the mirror has, or
//! - something was answered that was asked [`LONGER`] times as much later than what is owed: that was
//!   passed over, or
//! - the data of one read has been coming for as long.

use super::{
    hang_up::{End, HangUp, Rest},
    inbox::Inbox,
    owed::Owed,
    pace::{Limits, Pace},
    table::Finished,
    Around, Debt, DownReason, Event, Fence, Outcome, Slots, Table, Transfer,
};
use crate::logic::{
    ids::{ChannelId, SlotId},
    wire::{
        errno::ECONNRESET,
        reply::{self, NbdError, REPLY_LEN},
        request::Command,
    },
};
use core::ops::DerefMut;

/// How long one receive waits, in milliseconds.
pub const TICK_MS: u32 = 500;
/// Replies between two looks at the time.
const BUSY_TICK: u32 = 256;
/// How long the server may take to answer what it has when the channel is to end, or to close after
/// it has sent nonsense, in milliseconds.
pub(super) const DRAIN_MS: u64 = 5000;

/// So many times the patience may the data of one read take to come, and may what was asked later be
/// answered before something: a server that works on many at once, each with a share of a slow line,
/// may leave one behind for a while.
const LONGER: u64 = 4;

/// What is to be done next for a connection.
pub enum Step<B> {
    /// Receive into [`Session::room`], waiting [`TICK_MS`] at most, and tell [`Session::received`].
    Recv,
    /// Receive into [`Session::buffer`], from this byte on up to that one, and tell the same.
    Fill(usize, usize),
    /// Copy to the start of a buffer what came already: [`Session::copy`].
    Copy,
    /// The channel takes no more transfers; those that it has are sent.
    Drain,
    /// Tell the mirror.
    Tell(Event<B>),
    /// Say why the channel is down, see to it that nobody sends any more, and hand back what was
    /// not sent as a whole: [`Session::never_sent`].
    Close(DownReason, Rest),
    /// Reset the connection: what was not sent yet will not be, and what was lost on its way is not
    /// sent again.
    Abort,
    /// Wait at most so many milliseconds; less if the channel is to end and the second one is set.
    Pause(u32, bool),
    /// That was all.
    Over,
}

/// What a receive brought.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Received {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing within the time.
    Nothing,
    /// The connection has ended.
    End,
    /// It failed, with this positive errno.
    Failed(i32),
}

/// What the connection does.
#[derive(Clone, Copy)]
enum Phase {
    Serving,
    /// It cannot go on. The data of a read may be underway.
    Failed(DownReason),
    /// What it sent made no sense, but its closing still tells when it is through with what it
    /// received.
    Babble(DownReason, Option<u64>),
    /// It takes no more transfers.
    Leaving(DownReason, End),
    /// It has been lost.
    Lost(DownReason, End),
    /// Nobody is to send any more.
    Closing(DownReason, End),
    HangUp(HangUp),
}

/// Whether the channel is to end.
#[derive(Clone, Copy)]
enum Drain {
    No,
    Begins,
    Since(u64),
}

/// The data of a read, which is in no table while it arrives.
struct Arriving<B> {
    slot: SlotId,
    transfer: Transfer<B>,
    got: usize,
    since_ms: u64,
}

/// A connection that carries transfers, until all that it had was given back.
pub struct Session<'a, S: Slots, V, D> {
    pub(super) table: &'a Table<S>,
    pub(super) channel: ChannelId,
    pub(super) inbox: Inbox<V>,
    pub(super) owed: Owed<D>,
    phase: Phase,
    drain: Drain,
    arriving: Option<Arriving<S::Buffer>>,
    /// Replies until the next look at the clock.
    until_tick: u32,
    last_tick_ms: u64,
    began_ms: u64,
    /// When it was lost; when it began while it is not.
    lost_ms: u64,
    /// When something came last.
    last_came_ms: u64,
    /// When the youngest of the transfers was sent that were answered.
    answered_ms: u64,
    pace: Pace,
    /// Bytes of a read's data that nobody wants any more.
    pub(super) unwanted: usize,
}

impl<'a, S: Slots, V, D> Session<'a, S, V, D>
where
    V: DerefMut<Target = [u8]>,
    D: DerefMut<Target = [Debt]>,
{
    /// The session of a channel that has just come up. `inbox` is memory of [`INBOX_LEN`] bytes,
    /// `debts` of [`SLOTS`] times [`Debt::NONE`].
    ///
    /// [`INBOX_LEN`]: super::INBOX_LEN
    /// [`SLOTS`]: crate::logic::ids::SLOTS
    pub fn new(
        table: &'a Table<S>,
        channel: ChannelId,
        inbox: V,
        debts: D,
        limits: Limits,
        now_ms: u64,
    ) -> Self {
        Self {
            table,
            channel,
            inbox: Inbox::new(inbox),
            owed: Owed::new(debts),
            phase: Phase::Serving,
            drain: Drain::No,
            arriving: None,
            until_tick: BUSY_TICK,
            last_tick_ms: now_ms,
            began_ms: now_ms,
            lost_ms: now_ms,
            last_came_ms: now_ms,
            answered_ms: 0,
            pace: Pace::new(limits, now_ms),
            unwanted: 0,
        }
    }

    /// What is to be done next.
    pub fn next(&mut self, around: &impl Around) -> Step<S::Buffer> {
        loop {
            let step = match self.phase {
                Phase::Serving => self.serve(around).unwrap_or_else(|reason| {
                    self.phase = Phase::Failed(reason);
                    None
                }),
                Phase::Failed(reason) => self.failed(around, reason),
                Phase::Babble(reason, until_ms) => self.babble(around, reason, until_ms),
                Phase::Leaving(reason, end) => {
                    self.phase = Phase::Lost(reason, end);
                    Some(Step::Tell(Event::Left))
                }
                Phase::Lost(reason, end) => {
                    self.phase = Phase::Closing(reason, end);
                    Some(Step::Tell(Event::Down))
                }
                Phase::Closing(reason, end) => {
                    self.phase = Phase::HangUp(HangUp::new(end));
                    self.lost_ms = around.now_ms();
                    let is_removed = around.is_stopping();
                    let reason = if is_removed {
                        DownReason::Removed
                    } else {
                        reason
                    };
                    Some(Step::Close(reason, end.rest))
                }
                Phase::HangUp(hang_up) => {
                    let (step, next) = self.hang_up(around, hang_up);
                    self.phase = Phase::HangUp(next);
                    step
                }
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    /// For how many milliseconds it carried transfers, once it is over.
    pub fn lasted_ms(&self) -> u64 {
        self.lost_ms.saturating_sub(self.began_ms)
    }

    /// Where to receive to after [`Step::Recv`].
    pub fn room(&mut self) -> &mut [u8] {
        self.inbox.room()
    }

    /// Where to receive to after [`Step::Fill`].
    pub fn buffer(&self) -> Option<&S::Buffer> {
        self.arriving.as_ref().map(|data| &data.transfer.buffer)
    }

    /// After [`Step::Copy`]: `copy` gets the buffer of a read, and bytes for its start; says whether
    /// the buffer took them.
    pub fn copy(&mut self, copy: impl FnOnce(&S::Buffer, &[u8]) -> bool) {
        let Some(data) = &mut self.arriving else {
            return;
        };
        let here = self.inbox.take(data.transfer.len as usize);
        data.got = here.len();
        if !here.is_empty() && !copy(&data.transfer.buffer, here) {
            self.phase = Phase::Failed(DownReason::Cut);
        }
    }

    /// After [`Step::Recv`] and [`Step::Fill`]: what came.
    pub fn received(&mut self, around: &impl Around, got: Received) {
        match (&mut self.arriving, got) {
            (Some(data), Received::Bytes(len)) => data.got = data.got.saturating_add(len),
            (None, Received::Bytes(len)) => self.inbox.came(len),
            _ => {}
        }
        match self.phase {
            Phase::Serving => {
                if let Err(reason) = self.more(around, got) {
                    self.phase = Phase::Failed(reason);
                }
            }
            Phase::Babble(reason, _) => {
                self.inbox.clear();
                let fence = match got {
                    Received::End if around.has_peer_closed() => Fence::Fenced,
                    Received::End | Received::Failed(_) => Fence::Open,
                    Received::Bytes(_) | Received::Nothing => return,
                };
                self.end(reason, fence, Rest::Silent);
            }
            Phase::HangUp(hang_up) => self.phase = Phase::HangUp(hang_up.received(got)),
            Phase::Failed(_) | Phase::Leaving(..) | Phase::Lost(..) | Phase::Closing(..) => {}
        }
    }

    /// A message that was not sent as a whole, by its cookie: it is never carried out, and never
    /// answered.
    pub fn never_sent(&self, cookie: u64) -> Option<Event<S::Buffer>> {
        let never = self.table.finish(cookie, self.channel)?;
        Some(Event::Ended {
            slot: never.slot,
            transfer: never.transfer,
            outcome: Outcome::Lost(Fence::Fenced),
        })
    }

    fn serve(&mut self, around: &impl Around) -> Result<Option<Step<S::Buffer>>, DownReason> {
        if let Drain::Begins = self.drain {
            self.drain = Drain::Since(around.now_ms());
            return Ok(Some(Step::Drain));
        }
        if let Some(step) = self.arrive() {
            return Ok(Some(step));
        }
        if self.until_tick == 0 || around.is_stopping() {
            self.tick(around)?;
            if let Drain::Begins = self.drain {
                return Ok(None);
            }
        }
        match self.inbox.header() {
            Some(header) => self.reply(around, &header),
            None => Ok(Some(Step::Recv)),
        }
    }

    /// Goes on with the data of a read, if there is one.
    fn arrive(&mut self) -> Option<Step<S::Buffer>> {
        // Looked at where it is: it is too large to be moved each time.
        let data = self.arriving.as_ref()?;
        let len = data.transfer.len as usize;
        if data.got < len {
            return Some(Step::Fill(data.got, len));
        }
        let data = self.arriving.take()?;
        Some(self.ended(data.slot, data.transfer, Outcome::Done))
    }

    /// Takes one reply.
    fn reply(
        &mut self,
        around: &impl Around,
        header: &[u8; REPLY_LEN],
    ) -> Result<Option<Step<S::Buffer>>, DownReason> {
        let reply = reply::parse(header).map_err(DownReason::Reply)?;
        let Finished {
            slot,
            transfer,
            sent_ms,
        } = self
            .table
            .finish(reply.cookie, self.channel)
            .ok_or(DownReason::UnknownCookie)?;
        self.answered_ms = self.answered_ms.max(sent_ms);
        if transfer.command != Command::Read {
            self.pace.came(u64::from(transfer.len));
        }
        let outcome = match reply.error {
            None if transfer.command == Command::Read => {
                self.inbox.expect_like(transfer.len);
                self.arriving = Some(Arriving {
                    slot,
                    transfer,
                    got: 0,
                    since_ms: around.now_ms(),
                });
                return Ok(Some(Step::Copy));
            }
            None => Outcome::Done,
            Some(NbdError::Shutdown) => {
                // It has done nothing, and will do nothing more: that is the end of the channel,
                // not of the request.
                self.phase = Phase::Failed(DownReason::ServerShutdown);
                Outcome::Lost(Fence::Fenced)
            }
            Some(error) => Outcome::Refused(error),
        };
        self.inbox.expect_like(0);
        Ok(Some(self.ended(slot, transfer, outcome)))
    }

    fn ended(
        &mut self,
        slot: SlotId,
        transfer: Transfer<S::Buffer>,
        outcome: Outcome,
    ) -> Step<S::Buffer> {
        self.until_tick = self.until_tick.saturating_sub(1);
        Step::Tell(Event::Ended {
            slot,
            transfer,
            outcome,
        })
    }

    /// What the result of a receive means.
    fn more(&mut self, around: &impl Around, got: Received) -> Result<(), DownReason> {
        match got {
            Received::End if self.arriving.is_none() && self.inbox.is_empty() => {
                Err(DownReason::Closed)
            }
            Received::End => Err(DownReason::Cut),
            Received::Failed(errno) => Err(DownReason::System(errno)),
            Received::Nothing => self.tick(around),
            // A server that sends a byte now and then must not keep us from looking at the clock.
            Received::Bytes(len) => {
                self.pace.came(len as u64);
                self.last_came_ms = around.now_ms();
                let since_ms = self.last_came_ms.saturating_sub(self.last_tick_ms);
                if since_ms < u64::from(TICK_MS) {
                    return Ok(());
                }
                self.tick(around)
            }
        }
    }

    /// Looks at the clock: has the channel been told to stop, has a request waited too long?
    fn tick(&mut self, around: &impl Around) -> Result<(), DownReason> {
        let now_ms = around.now_ms();
        self.until_tick = BUSY_TICK;
        self.last_tick_ms = now_ms;
        if let Some(bound) = self.pace.look(now_ms, around.load()) {
            around.set_bound(bound);
        }
        if around.is_broken() {
            return Err(DownReason::RequestTimeout);
        }
        if around.is_stopping() {
            return self.drain(now_ms);
        }
        if self.has_fallen_silent(now_ms, around.patience_ms()) {
            return Err(DownReason::RequestTimeout);
        }
        Ok(())
    }

    /// Whether the server has left unanswered what is owed, see the head of the file.
    fn has_fallen_silent(&self, now_ms: u64, patience_ms: u64) -> bool {
        let oldest_ms = self.table.oldest_ms(self.channel);
        let arriving_ms = self.arriving.as_ref().map(|data| data.since_ms);
        let Some(owed_ms) = oldest_ms.into_iter().chain(arriving_ms).min() else {
            return false;
        };
        let silent_ms = now_ms.saturating_sub(owed_ms.max(self.last_came_ms));
        let passed_ms = oldest_ms.map_or(0, |sent_ms| self.answered_ms.saturating_sub(sent_ms));
        let trickling_ms = arriving_ms.map_or(0, |since_ms| now_ms.saturating_sub(since_ms));
        silent_ms >= patience_ms
            || passed_ms.max(trickling_ms) >= patience_ms.saturating_mul(LONGER)
    }

    /// The channel is to end: it takes no more requests, and ends when those that it has are
    /// answered. Its own side is open until then, see Documentation/servers.rst.
    fn drain(&mut self, now_ms: u64) -> Result<(), DownReason> {
        let Drain::Since(since_ms) = self.drain else {
            // What it has counts from when it takes no more: else something could be sent after it
            // was looked for, and be taken for answered.
            self.drain = Drain::Begins;
            return Ok(());
        };
        if self.arriving.is_none() && !self.table.has_any(self.channel) {
            return Err(DownReason::Removed);
        }
        if now_ms.saturating_sub(since_ms) >= DRAIN_MS {
            return Err(DownReason::RequestTimeout);
        }
        Ok(())
    }

    /// It cannot go on, for this reason.
    fn failed(&mut self, around: &impl Around, reason: DownReason) -> Option<Step<S::Buffer>> {
        if let Some(data) = self.arriving.take() {
            let len = data.transfer.len as usize;
            self.unwanted = len.saturating_sub(data.got);
            let outcome = Outcome::Lost(Fence::Fenced);
            return Some(self.ended(data.slot, data.transfer, outcome));
        }
        match reason {
            // The server closed by itself: what it received was carried out before, or is not
            // carried out at all.
            // Not if sending had failed: then we closed our side first, and not every server that
            // sees that finishes what it has begun before it closes its own.
            DownReason::Closed | DownReason::Cut
                if !around.is_broken() && around.has_peer_closed() =>
            {
                self.end(reason, Fence::Fenced, Rest::Silent);
            }
            // Nothing is unanswered.
            DownReason::Removed => self.end(reason, Fence::Fenced, Rest::Silent),
            DownReason::Reply(_) | DownReason::UnknownCookie | DownReason::ServerShutdown => {
                self.phase = Phase::Babble(reason, None);
            }
            DownReason::RequestTimeout => self.end(reason, Fence::Open, Rest::Alive),
            // The server's host does not know the connection any more, so the process that had it
            // has closed it, or is gone; what it had begun it soon has done.
            DownReason::System(ECONNRESET) => self.end(reason, Fence::Open, Rest::Gone),
            _ => self.end(reason, Fence::Open, Rest::Silent),
        }
        None
    }

    fn end(&mut self, reason: DownReason, fence: Fence, rest: Rest) {
        self.phase = Phase::Leaving(reason, End { fence, rest });
    }

    /// Throws away what comes until the server closes. Our side stays open: the end of a server that
    /// only answers ours is no fence (Documentation/servers.rst).
    fn babble(
        &mut self,
        around: &impl Around,
        reason: DownReason,
        until_ms: Option<u64>,
    ) -> Option<Step<S::Buffer>> {
        let now_ms = around.now_ms();
        match until_ms {
            None => {
                let until_ms = now_ms.saturating_add(DRAIN_MS);
                self.phase = Phase::Babble(reason, Some(until_ms));
                self.inbox.clear();
                Some(Step::Drain)
            }
            Some(until_ms) if now_ms < until_ms => Some(Step::Recv),
            Some(_) => {
                self.end(reason, Fence::Open, Rest::Silent);
                None
            }
        }
    }
}
