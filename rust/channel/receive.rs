// SPDX-License-Identifier: GPL-2.0

//! Receiving: replies, and the data of reads into the pages of the requests.
//!
//! Context: the channel's own thread, the only one that receives. Every [`TICK_MS`] of silence, and
//! every [`BUSY_TICK`] replies, it looks whether a request has gone unanswered for too long.

use super::{inbox::Inbox, owed::Owed, Channel, Fence, Home, Outcome, Transfer};
use crate::kapi::{iovec::Incoming, net::Socket};
use crate::logic::channel::DownReason;
use crate::logic::mirror::{End, Rest};
use crate::logic::wire::{
    reply::{self, NbdError, Reply, REPLY_LEN},
    request::Command,
};
use kernel::{
    prelude::*,
    sync::atomic::{
        ordering::{Acquire, Relaxed},
        Atomic,
    },
    time::{Instant, Monotonic},
};

/// How long one receive waits.
pub(super) const TICK_MS: u32 = 500;
/// Replies between two looks at the time.
const BUSY_TICK: u32 = 256;
/// How long the server may take to answer what it has when the channel is to end, or to close after
/// we have closed our side, in milliseconds.
const DRAIN_MS: i64 = 5000;

/// ECONNRESET as a positive number.
const ECONNRESET_NO: i32 = 104;

/// How a connection ended, and why.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    /// Why.
    pub(super) reason: DownReason,
    /// How.
    pub(super) end: End,
}

/// The receiving side of a connection.
pub(super) struct Receiver<'a, H: Home> {
    channel: &'a Channel<H::Ops>,
    home: &'a H,
    group: u8,
    pub(super) sock: &'a Socket,
    inbox: Inbox,
    /// Since when the channel takes no more requests, and waits for the answers to those it has.
    draining_since: Option<Instant<Monotonic>>,
    /// Replies until the next look at the clock.
    until_tick: u32,
    last_tick: Instant<Monotonic>,
    /// Since when the data of a read is being received, which is in no table then.
    data_since: Option<Instant<Monotonic>>,
    /// Bytes of a read's data that nobody wants any more.
    unwanted: usize,
    /// Sending has failed.
    broken: &'a Atomic<bool>,
}

impl<'a, H: Home> Receiver<'a, H> {
    /// A receiver of `sock`; `broken` says that sending has failed.
    pub(super) fn new(
        channel: &'a Channel<H::Ops>,
        home: &'a H,
        group: u8,
        sock: &'a Socket,
        inbox: Inbox,
        broken: &'a Atomic<bool>,
    ) -> Self {
        Self {
            channel,
            home,
            group,
            sock,
            inbox,
            draining_since: None,
            until_tick: BUSY_TICK,
            last_tick: Instant::now(),
            data_since: None,
            unwanted: 0,
            broken,
        }
    }

    /// Serves replies until the connection ends.
    pub(super) fn run(&mut self, mut incoming: Incoming) -> Ending {
        let reason = self.serve(&mut incoming);
        let fence = match reason {
            // The server closed by itself: what it received was carried out before, or is not
            // carried out at all.
            // Not if sending had failed: then we closed our side first, and not every server that
            // sees that finishes what it has begun before it closes its own.
            DownReason::Closed | DownReason::Cut
                if !self.broken.load(Acquire) && self.sock.peer_closed() =>
            {
                Fence::Fenced
            }
            // Nothing is unanswered.
            DownReason::Removed => Fence::Fenced,
            // What it sent made no sense, but its closing still tells when it is through with what
            // it received.
            DownReason::Reply(_) | DownReason::UnknownCookie | DownReason::ServerShutdown => {
                self.drain_blindly()
            }
            _ => Fence::Open,
        };
        let rest = match reason {
            DownReason::RequestTimeout => Rest::Alive,
            // The server's host does not know the connection any more, so the process that had it
            // has closed it, or is gone; what it had begun it soon has done.
            DownReason::System(ECONNRESET_NO) => Rest::Gone,
            _ => Rest::Silent,
        };
        let end = End { fence, rest };
        Ending { reason, end }
    }

    fn serve(&mut self, incoming: &mut Incoming) -> DownReason {
        loop {
            let result = self.reply(incoming).and_then(|()| self.tick_if_due());
            if let Err(reason) = result {
                return reason;
            }
        }
    }

    /// Takes one reply.
    fn reply(&mut self, incoming: &mut Incoming) -> Result<(), DownReason> {
        let reply = self.next()?;
        let table = self
            .home
            .table(self.group)
            .ok_or(DownReason::UnknownCookie)?;
        let (number, transfer) = table
            .finish(reply.cookie, self.channel.index)
            .ok_or(DownReason::UnknownCookie)?;
        let outcome = reply.error.map_or(Outcome::Done, Outcome::Refused);
        if outcome == Outcome::Refused(NbdError::Shutdown) {
            // It has done nothing, and will do nothing more: that is the end of the channel, not of
            // the request.
            self.give_back(number, transfer, Outcome::Lost(Fence::Fenced));
            return Err(DownReason::ServerShutdown);
        }
        let has_data = outcome == Outcome::Done && transfer.command == Command::Read;
        self.inbox
            .expect_like(if has_data { transfer.len } else { 0 });
        if has_data {
            self.data_since = Some(Instant::now());
            let data = self.data(&transfer, incoming);
            self.data_since = None;
            if let Err(reason) = data {
                self.give_back(number, transfer, Outcome::Lost(Fence::Fenced));
                return Err(reason);
            }
        }
        self.give_back(number, transfer, outcome);
        Ok(())
    }

    /// Receives the next reply, without its data.
    fn next(&mut self) -> Result<Reply, DownReason> {
        let header = self.header()?;
        reply::parse(&header).map_err(DownReason::Reply)
    }

    /// Waits a moment for what the server owes. A write that was not given back yet is given back
    /// when its reply has come. An error if nothing more will come.
    pub(super) fn collect(&mut self, owed: &mut Owed) -> Result<(), DownReason> {
        let thrown_away = self.inbox.take(self.unwanted).len();
        self.unwanted = self.unwanted.saturating_sub(thrown_away);
        if self.unwanted > 0 || !self.inbox.has_header() {
            self.inbox.expect_like(0);
            return match self.inbox.recv(self.sock) {
                Ok(0) => Err(DownReason::Closed),
                Ok(_) => Ok(()),
                Err(e) if e == EAGAIN => Ok(()),
                Err(e) => Err(DownReason::System(e.to_errno().saturating_neg())),
            };
        }
        let reply = self.next()?;
        if let Some(len) = owed.settle(reply.cookie) {
            if reply.error.is_none() {
                self.unwanted = len as usize;
            }
            return Ok(());
        }
        let table = self.home.table(self.group);
        let late = table.and_then(|table| table.finish(reply.cookie, self.channel.index));
        let (number, transfer) = late.ok_or(DownReason::UnknownCookie)?;
        // Reads were given back at once. A write that was done is done once more: it may be known
        // already that what was written on this connection is not covered by a flush on another.
        let again = Outcome::Lost(Fence::Fenced);
        let outcome = reply.error.map_or(again, Outcome::Refused);
        self.give_back(number, transfer, outcome);
        Ok(())
    }

    /// Receives the header of the next reply.
    fn header(&mut self) -> Result<[u8; REPLY_LEN], DownReason> {
        loop {
            if let Some(header) = self.inbox.header() {
                return Ok(header);
            }
            match self.inbox.recv(self.sock) {
                Ok(0) if self.inbox.is_empty() => return Err(DownReason::Closed),
                other => self.more(other)?,
            }
        }
    }

    /// Receives the data of a read into its buffer.
    fn data(
        &mut self,
        transfer: &Transfer<H::Ops>,
        incoming: &mut Incoming,
    ) -> Result<(), DownReason> {
        let len = transfer.len as usize;
        let here = self.inbox.take(len);
        let mut got = here.len();
        incoming
            .copy_in(&transfer.buffer, here)
            .map_err(|_| DownReason::Cut)?;
        while got < len {
            let result = incoming.recv(self.sock, &transfer.buffer, got, len);
            got = got.saturating_add(result.unwrap_or(0));
            self.unwanted = len.saturating_sub(got);
            self.more(result)?;
        }
        Ok(())
    }

    /// What the result of a receive in the middle of a message means.
    fn more(&mut self, result: Result<usize>) -> Result<(), DownReason> {
        match result {
            Ok(0) => Err(DownReason::Cut),
            // A server that sends a byte now and then must not keep us from looking at the clock.
            Ok(_) if self.last_tick.elapsed().as_millis() < i64::from(TICK_MS) => Ok(()),
            Ok(_) => self.tick(),
            Err(e) if e == EAGAIN => self.tick(),
            Err(e) => Err(DownReason::System(e.to_errno().saturating_neg())),
        }
    }

    /// A transfer of the channel, taken out of the table, has ended.
    pub(super) fn give_back(&self, number: u32, transfer: Transfer<H::Ops>, outcome: Outcome) {
        self.channel.count_done(&transfer, outcome);
        self.home.done(self.group, number, transfer, outcome);
    }

    fn tick_if_due(&mut self) -> Result<(), DownReason> {
        if self.channel.is_stopping() {
            return self.tick();
        }
        self.until_tick = self.until_tick.saturating_sub(1);
        if self.until_tick > 0 {
            return Ok(());
        }
        self.tick()
    }

    /// Looks at the clock: has the channel been told to stop, has a request waited too long?
    fn tick(&mut self) -> Result<(), DownReason> {
        self.until_tick = BUSY_TICK;
        self.last_tick = Instant::now();
        if self.broken.load(Relaxed) {
            return Err(DownReason::RequestTimeout);
        }
        if self.channel.is_stopping() {
            return self.drain();
        }
        let limit = self.home.patience_ms(self.group);
        let table = self.home.table(self.group);
        let longest = table.map_or(0, |t| t.longest_wait_ms(self.channel.index));
        let data = self.data_since.map_or(0, |s| s.elapsed().as_millis());
        if u64::try_from(longest.max(data)).is_ok_and(|ms| ms >= limit) {
            return Err(DownReason::RequestTimeout);
        }
        Ok(())
    }

    /// The channel is to end: it takes no more requests, and ends when those that it has are
    /// answered. Its own side is open until then, see Documentation/servers.rst.
    fn drain(&mut self) -> Result<(), DownReason> {
        let since = *self.draining_since.get_or_insert_with(Instant::now);
        self.home.leave(self.channel.index, self.group);
        // It may have come up when it was told already.
        self.channel.queue.lock().end();
        let table = self.home.table(self.group);
        if !table.is_some_and(|table| table.has_any(self.channel.index)) {
            return Err(DownReason::Removed);
        }
        if since.elapsed().as_millis() >= DRAIN_MS {
            return Err(DownReason::RequestTimeout);
        }
        Ok(())
    }

    /// Throws away what comes until the server closes.
    fn drain_blindly(&mut self) -> Fence {
        self.sock.shutdown_send();
        let mut scrap = [0u8; 64];
        let began = Instant::<Monotonic>::now();
        while began.elapsed().as_millis() < DRAIN_MS {
            match self.sock.recv(&mut scrap) {
                Ok(0) if self.sock.peer_closed() => return Fence::Fenced,
                Ok(0) => return Fence::Open,
                Ok(_) => {}
                Err(e) if e == EAGAIN => {}
                Err(_) => return Fence::Open,
            }
        }
        Fence::Open
    }
}
