// SPDX-License-Identifier: GPL-2.0

//! The steps of a session, carried out: replies come, and the data of reads goes into the pages of
//! the requests.
//!
//! Context: the channel's own thread, the only one that receives.

use super::{table::LockedSlots, Channel, Home};
use crate::kapi::{
    iovec::{Buffer, Incoming},
    net::Socket,
};
use crate::logic::{
    ids::Lane,
    session::{
        hang_up::Rest, Around, ChannelEvent, Debt, DownReason, Event, Probing, Received, Session,
        Step,
    },
};
use kernel::{
    prelude::*,
    sync::atomic::{ordering::Acquire, Atomic},
};

/// How long a channel sleeps at most before it looks again what it waits for.
const PAUSE_MS: u32 = 500;

/// The session over a socket.
pub(super) type Sitting<'a, H> = Session<'a, LockedSlots<<H as Home>::Ops>, KVVec<u8>, KVec<Debt>>;

/// A connection that carries requests.
pub(super) struct Served<'a, H: Home> {
    pub(super) channel: &'a Channel<H::Ops>,
    pub(super) home: &'a H,
    pub(super) lane: Lane,
    pub(super) sock: &'a Socket,
    /// Sending has failed.
    pub(super) broken: &'a Atomic<bool>,
}

impl<H: Home> Served<'_, H> {
    /// Carries out the steps of the session until it is over; gives for how many milliseconds it
    /// carried transfers.
    pub(super) fn run(&self, mut session: Sitting<'_, H>, mut incoming: Incoming) -> u64 {
        let mut probing = None;
        loop {
            match session.next(self) {
                Step::Recv => {
                    let got = received(self.sock.recv_some(session.room()));
                    if got == Received::Nothing {
                        self.probe_when_idle(&mut probing);
                    }
                    session.received(self, got);
                }
                Step::Fill(from, to) => {
                    let got = session
                        .buffer()
                        .ok_or(EINVAL)
                        .and_then(|buffer| incoming.recv(self.sock, buffer, from, to));
                    session.received(self, received(got));
                }
                Step::Copy => {
                    session.copy(|buffer, bytes| incoming.copy_in(buffer, bytes).is_ok());
                }
                Step::Drain => {
                    self.home.tell(self.lane, Event::Left);
                    // It may have come up when it was told already.
                    self.channel.queue.lock().end();
                }
                Step::Tell(event) => self.tell(event),
                Step::Close(reason, rest) => self.close(&session, reason, rest),
                Step::Abort => self.sock.abort(),
                Step::Pause(ms, heeds_stop) => {
                    let mut ended = || heeds_stop && self.channel.is_stopping();
                    self.home.sleep(ms.min(PAUSE_MS), &mut ended);
                }
                Step::Over => return session.lasted_ms(),
            }
        }
    }

    /// Has an idle connection probed as the time limit asks for that is set now.
    fn probe_when_idle(&self, now: &mut Option<Probing>) {
        let timeout_s = self.home.timeout_ms() / 1000;
        let probing = Probing::within(u32::try_from(timeout_s).unwrap_or(u32::MAX));
        if now.replace(probing) != Some(probing) {
            let Probing {
                idle_s,
                interval_s,
                count,
            } = probing;
            self.sock.set_keepalive(idle_s, interval_s, count);
        }
    }

    fn tell(&self, event: Event<Buffer<H::Ops>>) {
        if let Event::Ended {
            transfer, outcome, ..
        } = &event
        {
            self.channel.count_done(transfer, *outcome);
        }
        self.home.tell(self.lane, event);
    }

    /// Takes the socket away from whoever sends.
    fn close(&self, session: &Sitting<'_, H>, reason: DownReason, rest: Rest) {
        let channel = self.channel;
        channel.not_up(self.home, self.lane, ChannelEvent::Lost, reason);
        channel.queue.lock().close();
        if rest != Rest::Alive {
            self.sock.shutdown();
        }
        // Whoever sends finds the socket shut, or the queue closed, and lets go of it.
        let tx = channel.tx.lock().take();
        channel.queue.lock().give_up();
        let Some(mut tx) = tx else { return };
        for &cookie in tx.pipe.abandon() {
            if let Some(event) = session.never_sent(cookie) {
                self.tell(event);
            }
        }
    }
}

impl<H: Home> Around for Served<'_, H> {
    fn now_ms(&self) -> u64 {
        self.home.now_ms()
    }

    fn is_stopping(&self) -> bool {
        self.channel.is_stopping()
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Acquire)
    }

    fn has_peer_closed(&self) -> bool {
        self.sock.peer_closed()
    }

    fn patience_ms(&self) -> u64 {
        self.home.patience_ms(self.lane.group)
    }

    fn timeout_ms(&self) -> u64 {
        self.home.timeout_ms()
    }

    fn load(&self) -> u64 {
        self.channel.load()
    }

    fn set_bound(&self, bytes: u64) {
        self.channel.bound.set(bytes);
    }

    fn is_failing(&self) -> bool {
        self.home.is_failing()
    }

    fn give_up_group(&self) -> bool {
        self.home.give_up_group(self.lane.group)
    }
}

/// What a receive brought, to a session.
fn received(got: Result<usize>) -> Received {
    match got {
        Ok(0) => Received::End,
        Ok(len) => Received::Bytes(len),
        Err(e) if e == EAGAIN => Received::Nothing,
        Err(e) => Received::Failed(e.to_errno().saturating_neg()),
    }
}
