// SPDX-License-Identifier: GPL-2.0

//! Receiving: replies, and the data of reads straight into the pages of the requests.
//!
//! Context: the channel's own thread, the only one that receives. Every [`TICK_MS`] of silence, and
//! every [`BUSY_TICK`] replies, it looks whether a request has gone unanswered for too long.

use super::{Channel, Fence, Home, Outcome, Transfer};
use crate::kapi::{block::mq::Operations, iovec::Incoming, net::Socket};
use crate::logic::channel::DownReason;
use crate::logic::wire::{
    reply::{self, REPLY_LEN},
    request::Command,
};
use kernel::{
    prelude::*,
    sync::atomic::{ordering::Relaxed, Atomic},
    time::{Instant, Monotonic},
};

/// How long one receive waits.
pub(super) const TICK_MS: u32 = 500;
/// Replies between two looks at the time.
const BUSY_TICK: u32 = 1024;
/// How long the server may take to close after we have closed our side, in ticks.
const DRAIN_TICKS: u32 = 10;

/// How a connection ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// Why.
    pub(super) reason: DownReason,
    /// Whether the server may still carry out what it has not answered.
    pub(super) fence: Fence,
    /// The server's own closing may still be seen on the socket.
    pub(super) alive: bool,
}

impl<T: Operations> Channel<T> {
    /// Serves replies until the connection ends. `broken` says that sending has failed.
    pub(super) fn receive<H: Home<Ops = T>>(
        &self,
        home: &H,
        group: u8,
        sock: &Socket,
        incoming: &mut Incoming,
        broken: &Atomic<bool>,
    ) -> End {
        let mut receiver = Receiver {
            channel: self,
            home,
            group,
            sock,
            draining: false,
            ticks_left: 0,
            data_since: None,
        };
        let reason = receiver.serve(incoming);
        let fence = match reason {
            // Our own shutdown looks like the server's closing, but says nothing about the server.
            _ if broken.load(Relaxed) => Fence::Open,
            // The server closed by itself: what it received was carried out before, or is not
            // carried out at all.
            DownReason::Closed | DownReason::Cut => Fence::Fenced,
            // What it sent made no sense, but its closing still tells when it is through with what
            // it received.
            DownReason::Reply(_) | DownReason::UnknownCookie => match receiver.drain_blindly() {
                // A sender may have broken the socket meanwhile.
                _ if broken.load(Relaxed) => Fence::Open,
                fence => fence,
            },
            _ => Fence::Open,
        };
        let alive = reason == DownReason::RequestTimeout && !broken.load(Relaxed);
        End {
            reason,
            fence,
            alive,
        }
    }
}

struct Receiver<'a, H: Home> {
    channel: &'a Channel<H::Ops>,
    home: &'a H,
    group: u8,
    sock: &'a Socket,
    /// We have closed our side, and wait for the server to close its own.
    draining: bool,
    ticks_left: u32,
    /// Since when the data of a read is being received, which is in no table then.
    data_since: Option<Instant<Monotonic>>,
}

impl<H: Home> Receiver<'_, H> {
    fn serve(&mut self, incoming: &mut Incoming) -> DownReason {
        let mut until_tick = BUSY_TICK;
        loop {
            if let Err(reason) = self.reply(incoming) {
                return reason;
            }
            until_tick = until_tick.saturating_sub(1);
            if until_tick == 0 {
                until_tick = BUSY_TICK;
                if let Err(reason) = self.tick() {
                    return reason;
                }
            }
        }
    }

    /// Takes one reply.
    fn reply(&mut self, incoming: &mut Incoming) -> Result<(), DownReason> {
        let mut header = [0u8; REPLY_LEN];
        self.fill(REPLY_LEN, DownReason::Closed, |sock, from| {
            sock.recv(header.get_mut(from..).unwrap_or_default())
        })?;
        let reply = reply::parse(&header).map_err(DownReason::Reply)?;
        let table = self
            .home
            .table(self.group)
            .ok_or(DownReason::UnknownCookie)?;
        let (number, transfer) = table
            .finish(reply.cookie, self.channel.index)
            .ok_or(DownReason::UnknownCookie)?;
        let outcome = match reply.error {
            Some(error) => Outcome::Refused(error),
            None => Outcome::Done,
        };
        if outcome == Outcome::Done && transfer.command == Command::Read {
            let len = transfer.len as usize;
            self.data_since = Some(Instant::now());
            let data = self.fill(len, DownReason::Cut, |sock, from| {
                incoming.recv(sock, &transfer.buffer, from, len)
            });
            self.data_since = None;
            if let Err(reason) = data {
                self.give_back(number, transfer, Outcome::Lost(Fence::Fenced));
                return Err(reason);
            }
        }
        self.give_back(number, transfer, outcome);
        Ok(())
    }

    fn give_back(&self, number: u32, transfer: Transfer<H::Ops>, outcome: Outcome) {
        self.channel.count_done(&transfer, outcome);
        self.home.done(self.group, number, transfer, outcome);
    }

    /// Calls `recv` with the number of bytes that are there until there are `len`. `at_start` is
    /// the reason if the server closes before the first.
    fn fill(
        &mut self,
        len: usize,
        at_start: DownReason,
        mut recv: impl FnMut(&Socket, usize) -> Result<usize>,
    ) -> Result<(), DownReason> {
        let mut got = 0usize;
        while got < len {
            match recv(self.sock, got) {
                Ok(0) if got == 0 => return Err(at_start),
                Ok(0) => return Err(DownReason::Cut),
                Ok(n) => got = got.saturating_add(n),
                Err(e) if e == EAGAIN => self.tick()?,
                Err(e) => return Err(DownReason::System(e.to_errno().saturating_neg())),
            }
        }
        Ok(())
    }

    /// Looks at the clock: has the channel been told to stop, has a request waited too long?
    fn tick(&mut self) -> Result<(), DownReason> {
        if self.draining {
            self.ticks_left = self.ticks_left.saturating_sub(1);
            if self.ticks_left == 0 {
                return Err(DownReason::RequestTimeout);
            }
            return Ok(());
        }
        if self.channel.is_stopping() {
            self.start_draining();
            return Ok(());
        }
        let limit = i64::from(self.home.request_timeout_s()).saturating_mul(1000);
        let table = self.home.table(self.group);
        let longest = table.map_or(0, |t| t.longest_wait_ms(self.channel.index));
        let data = self.data_since.map_or(0, |s| s.elapsed().as_millis());
        if longest.max(data) >= limit {
            return Err(DownReason::RequestTimeout);
        }
        Ok(())
    }

    /// Closes our side, once what was begun has been sent: the server answers what it got and
    /// closes its own.
    fn start_draining(&mut self) {
        self.draining = true;
        self.ticks_left = DRAIN_TICKS;
        self.sock.shutdown_send();
    }

    /// Throws away what comes until the server closes.
    fn drain_blindly(&mut self) -> Fence {
        self.sock.shutdown_send();
        let mut scrap = [0u8; 64];
        let mut ticks = DRAIN_TICKS;
        // A server that talks without end is no fence either, so the bytes are counted too.
        for _ in 0..65536 {
            match self.sock.recv(&mut scrap) {
                Ok(0) => return Fence::Fenced,
                Ok(_) => {}
                Err(e) if e == EAGAIN && ticks > 0 => ticks = ticks.saturating_sub(1),
                Err(_) => return Fence::Open,
            }
        }
        Fence::Open
    }
}
