// SPDX-License-Identifier: GPL-2.0

//! The end of a connection: what was not answered is given back.
//!
//! What a server that was not seen to close may still carry out is a danger to newer writes of the
//! same blocks. If another group is in sync this one is faulted, and is not brought back before the
//! danger is over; else the writes are not given back before.
//!
//! ```text
//!   Begin --fenced, or no write unanswered--------------------------> GiveBack all --> Over
//!     |
//!   (Suspect) --> Suspected --> GiveBack all, or all but writes --> Await --answered-----+
//!                                                                     |                 |
//!                                     nothing more will come, or stop |                 |
//!                                                                     v                 v
//!                                             (Abort) --> Silence --over, stop--> GiveBack the rest
//!                                                                                       |
//!                                                                  Over <-- (Cleared) <-+
//! ```

use super::{
    is_write, Around, Debt, DownReason, Event, Fence, Outcome, Received, Session, Slots, Step,
};
use crate::logic::{
    ids::{SlotId, SlotIds},
    wire::{reply, request::Command},
};
use core::ops::DerefMut;

/// How long a server that runs may take at most to end what it had begun when its connection ended,
/// and what was on its way may take to arrive, in milliseconds.
pub const QUARANTINE_MS: u64 = 5000;

/// How long the answer to a write is waited for at most where nobody waits for it, in milliseconds. A
/// server that has forgotten one keeps its group out of service until then.
const FORGOTTEN_MS: u64 = 6 * 60 * 60 * 1000;

/// What is left of a connection that has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rest {
    /// The server may still answer.
    Alive,
    /// The server, or its host, has said that it knows the connection no more.
    Gone,
    /// Nothing will come, and nobody knows what the server does.
    Silent,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// Whether the server may still carry out what it has not answered.
    pub fence: Fence,
    /// What is left.
    pub rest: Rest,
}

/// How far the end of a connection has come.
#[derive(Clone, Copy)]
pub(super) enum HangUp {
    Begin(End),
    /// The mirror knows that the server may still carry out writes.
    Suspected(Rest),
    /// Transfers are given back, those in these slots, and then it goes on.
    GiveBack(SlotIds, What, Fence, Then),
    Await(Await),
    /// Nothing more will come.
    NoMore(Await),
    /// The connection was reset: from now on some time has to do.
    Reset(Await),
    /// Until then the server may carry out what it was sent.
    Silence(u64, Await),
    Cleared,
    Over,
}

/// Which transfers are given back.
#[derive(Clone, Copy)]
pub(super) enum What {
    All,
    /// All but the writes that were sent.
    NoSentWrites,
}

/// What comes after giving back.
#[derive(Clone, Copy)]
pub(super) enum Then {
    Await(Await),
    Cleared,
    Over,
}

/// Waiting for the answers to all writes.
#[derive(Clone, Copy)]
pub(super) struct Await {
    /// What is left of the connection.
    rest: Rest,
    since_ms: u64,
    /// The group was given up; else users' writes wait.
    given_up: bool,
}

impl HangUp {
    /// The end of a connection that takes no more.
    pub(super) fn new(end: End) -> Self {
        Self::Begin(end)
    }

    /// What came of a receive.
    pub(super) fn received(self, got: Received) -> Self {
        match (self, got) {
            (Self::Await(wait), Received::End | Received::Failed(_)) => Self::no_more(wait),
            (same, _) => same,
        }
    }

    /// The server's end of the connection says that it knows it no more.
    fn no_more(wait: Await) -> Self {
        let rest = Rest::Gone;
        Self::NoMore(Await { rest, ..wait })
    }
}

impl What {
    fn includes(self, command: Command, sent: bool) -> bool {
        match self {
            Self::All => true,
            Self::NoSentWrites => !sent || !is_write(command),
        }
    }
}

type Done<B> = (Option<Step<B>>, HangUp);

impl<S: Slots, V, D> Session<'_, S, V, D>
where
    V: DerefMut<Target = [u8]>,
    D: DerefMut<Target = [Debt]>,
{
    /// Gives back all that was not answered: what is to be done next for that, if there is
    /// something, and how far it has come then.
    pub(super) fn hang_up(&mut self, around: &impl Around, state: HangUp) -> Done<S::Buffer> {
        match state {
            HangUp::Begin(end) => {
                if end.fence == Fence::Fenced || !self.table.has_unanswered_writes(self.channel) {
                    let all = HangUp::GiveBack(SlotId::all(), What::All, Fence::Fenced, Then::Over);
                    return (None, all);
                }
                let suspected = HangUp::Suspected(end.rest);
                (Some(Step::Tell(Event::Suspect)), suspected)
            }
            HangUp::Suspected(rest) => {
                let given_up = around.give_up_group();
                let then = Then::Await(Await {
                    rest,
                    since_ms: around.now_ms(),
                    given_up,
                });
                let give_back = if given_up {
                    HangUp::GiveBack(SlotId::all(), What::All, Fence::Open, then)
                } else {
                    HangUp::GiveBack(SlotId::all(), What::NoSentWrites, Fence::Fenced, then)
                };
                (None, give_back)
            }
            HangUp::GiveBack(left, what, fence, then) => self.give_back(left, what, fence, then),
            HangUp::Await(wait) => self.await_answers(around, wait),
            HangUp::NoMore(wait) => {
                // The time begins with the reset. While TCP holds what the server has not
                // acknowledged it sends it again and again, so that an old write would arrive
                // whenever the network heals, be it a moment after the newer one.
                (Some(Step::Abort), HangUp::Reset(wait))
            }
            HangUp::Reset(wait) => {
                let timeout_ms = around.timeout_ms();
                let limit_ms = match wait.rest {
                    Rest::Gone => timeout_ms.min(QUARANTINE_MS),
                    Rest::Alive | Rest::Silent => timeout_ms,
                };
                let until_ms = around.now_ms().saturating_add(limit_ms);
                (None, HangUp::Silence(until_ms, wait))
            }
            HangUp::Silence(until_ms, wait) => await_silence(around, until_ms, wait),
            HangUp::Cleared => (Some(Step::Tell(Event::Cleared)), HangUp::Over),
            HangUp::Over => (Some(Step::Over), HangUp::Over),
        }
    }

    fn give_back(
        &mut self,
        mut left: SlotIds,
        what: What,
        fence: Fence,
        then: Then,
    ) -> Done<S::Buffer> {
        while let Some(slot) = left.next() {
            let wanted = |command, sent| what.includes(command, sent);
            let taken = self.table.take(slot, Some(self.channel), wanted);
            let Some((mut transfer, cookie)) = taken else {
                continue;
            };
            if let Some(cookie) = cookie {
                self.owed.note(cookie, transfer.command, transfer.len);
                transfer.losses = transfer.losses.saturating_add(1);
            }
            // What was not sent cannot be carried out.
            let outcome = Outcome::Lost(cookie.map_or(Fence::Fenced, |_| fence));
            let event = Event::Ended {
                slot,
                transfer,
                outcome,
            };
            let rest = HangUp::GiveBack(left, what, fence, then);
            return (Some(Step::Tell(event)), rest);
        }
        let next = match then {
            Then::Await(wait) => HangUp::Await(wait),
            Then::Cleared => HangUp::Cleared,
            Then::Over => HangUp::Over,
        };
        (None, next)
    }

    /// Waits for the answers to all writes, as long as they can come, the channel is not to end, and
    /// users' writes have not waited for too long.
    fn await_answers(&mut self, around: &impl Around, wait: Await) -> Done<S::Buffer> {
        if wait.rest != Rest::Alive {
            return (None, HangUp::NoMore(wait));
        }
        if self.owed.is_settled() && !self.table.has_unanswered_writes(self.channel) {
            return (None, give_back_rest(Fence::Fenced));
        }
        if around.is_stopping() {
            let rest = Rest::Silent;
            return (None, HangUp::NoMore(Await { rest, ..wait }));
        }
        let limit_ms = if wait.given_up {
            FORGOTTEN_MS
        } else {
            around.timeout_ms()
        };
        if around.now_ms().saturating_sub(wait.since_ms) >= limit_ms {
            return (None, HangUp::no_more(wait));
        }
        match self.collect() {
            Ok(step) => (step, HangUp::Await(wait)),
            Err(_) => (None, HangUp::no_more(wait)),
        }
    }

    /// Takes what the server owes. A write that was not given back yet is given back when its reply
    /// has come. An error if what comes makes no sense.
    fn collect(&mut self) -> Result<Option<Step<S::Buffer>>, DownReason> {
        let thrown_away = self.inbox.take(self.unwanted).len();
        self.unwanted = self.unwanted.saturating_sub(thrown_away);
        if self.unwanted > 0 {
            self.inbox.expect_like(0);
            return Ok(Some(Step::Recv));
        }
        let Some(header) = self.inbox.header() else {
            self.inbox.expect_like(0);
            return Ok(Some(Step::Recv));
        };
        let reply = reply::parse(&header).map_err(DownReason::Reply)?;
        if let Some(len) = self.owed.settle(reply.cookie) {
            if reply.error.is_none() {
                self.unwanted = len as usize;
            }
            return Ok(None);
        }
        let late = self.table.finish(reply.cookie, self.channel);
        let mut late = late.ok_or(DownReason::UnknownCookie)?;
        late.transfer.losses = late.transfer.losses.saturating_add(1);
        // Reads were given back at once. A write that was done is done once more: it may be known
        // already that what was written on this connection is not covered by a flush on another.
        let again = Outcome::Lost(Fence::Fenced);
        let outcome = reply.error.map_or(again, Outcome::Refused);
        Ok(Some(Step::Tell(Event::Ended {
            slot: late.slot,
            transfer: late.transfer,
            outcome,
        })))
    }
}

/// Waits until the server will carry out nothing more of what it was sent. That cannot be seen any
/// more, so some time has to do; what is left of it, if the channel has to end before, is left to
/// the mirror.
///
/// That may be only if the group was given up, or nobody writes any more. Where the group goes on
/// over other channels, whoever waits for the end of this one waits longer: a write that was given
/// back too early would be repeated over one of those, and then be undone by the old one.
fn await_silence<B>(around: &impl Around, until_ms: u64, wait: Await) -> Done<B> {
    let left_ms = u32::try_from(until_ms.saturating_sub(around.now_ms())).unwrap_or(u32::MAX);
    if left_ms == 0 {
        return (None, give_back_rest(Fence::Fenced));
    }
    let heeds_stop = wait.given_up || around.is_failing();
    if heeds_stop && around.is_stopping() {
        let told = Step::Tell(Event::SuspectFor(left_ms));
        return (Some(told), give_back_rest(Fence::Open));
    }
    let pause = Step::Pause(left_ms, heeds_stop);
    (Some(pause), HangUp::Silence(until_ms, wait))
}

fn give_back_rest(fence: Fence) -> HangUp {
    HangUp::GiveBack(SlotId::all(), What::All, fence, Then::Cleared)
}
