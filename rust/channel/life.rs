// SPDX-License-Identifier: GPL-2.0

//! The life of a channel: its thread connects, negotiates, receives, and on loss starts over, until
//! it is told to stop.
//!
//! Who ends a channel: [`ChannelThreads::stop`] tells the thread, which waits for the answers to
//! what the channel has (bounded), and gives back what was not answered; then both threads are
//! joined.
//!
//! Lock order: see the head of the room.

use super::{
    inbox::Inbox,
    owed::Owed,
    probe::probe,
    receive::{Receiver, TICK_MS},
    Arrival, Channel, Fence, Home, Outcome, Spec, Tx, SLOTS,
};
use crate::kapi::{
    block::mq::Operations,
    iovec::{Incoming, Outgoing, MESSAGES},
    kthread::{KThread, Main},
    net::Socket,
    scope::NoIo,
};
use crate::logic::channel::{backoff_ms, ChannelEvent, DownReason};
use crate::logic::mirror::{
    hang_up::{hang_up, is_write},
    End, HangUp, Rest,
};
use crate::logic::wire::{
    handshake::Export,
    request::{self, Command, CommandFlags, REQUEST_LEN},
};
use kernel::{
    prelude::*,
    str::CString,
    sync::{
        atomic::{
            ordering::{Full, Release},
            Atomic,
        },
        Arc,
    },
    time::{Instant, Monotonic},
};

/// How long a channel that hangs up sleeps at most before it looks again what it waits for.
const PAUSE_MS: u32 = 500;

/// The request that ends a connection.
fn farewell() -> [u8; REQUEST_LEN] {
    request::encode(Command::Disconnect, CommandFlags::NONE, 0, 0, 0)
}

/// A connection that has ended.
struct Line<'a, H: Home> {
    channel: &'a Channel<H::Ops>,
    home: &'a H,
    group: u8,
    began: Instant<Monotonic>,
    receiver: Receiver<'a, H>,
    owed: Owed,
}

impl<H: Home> HangUp for Line<'_, H> {
    fn has_unanswered_writes(&self) -> bool {
        self.channel.has_unanswered_writes(self.home, self.group)
    }

    fn give_back(&mut self, fence: Fence, wanted: impl Fn(Command, bool) -> bool) {
        let Some(table) = self.home.table(self.group) else {
            return;
        };
        for number in 0..SLOTS as u32 {
            let taken = table.take(number, self.channel.index, &wanted);
            let Some((transfer, cookie)) = taken else {
                continue;
            };
            // What was not sent cannot be carried out.
            let fence = cookie.map_or(Fence::Fenced, |cookie| {
                self.owed.note(cookie, transfer.command, transfer.len);
                fence
            });
            self.receiver
                .give_back(number, transfer, Outcome::Lost(fence));
        }
    }

    fn is_settled(&self) -> bool {
        self.owed.is_settled()
    }

    fn collect(&mut self) -> bool {
        self.receiver.collect(&mut self.owed).is_ok()
    }

    fn abort(&mut self) {
        self.receiver.sock.abort();
    }

    fn pause(&mut self, ms: u32, heeds_stop: bool) {
        let channel = self.channel;
        let mut ended = || heeds_stop && channel.is_stopping();
        self.home.sleep(ms.min(PAUSE_MS), &mut ended);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(0)
    }

    fn timeout_ms(&self) -> u32 {
        self.home.request_timeout_s().saturating_mul(1000)
    }

    fn is_stopping(&self) -> bool {
        self.channel.is_stopping()
    }

    fn is_failing(&self) -> bool {
        self.home.is_failing()
    }

    fn suspect(&self, suspect: bool) {
        self.home.suspect(self.group, suspect);
    }

    fn suspect_for(&self, ms: u32) {
        self.home.suspect_for(self.group, ms);
    }

    fn give_up_group(&self) -> bool {
        self.home.give_up_group(self.group)
    }
}

struct Life<H: Home> {
    home: Arc<H>,
    index: u8,
    group: u8,
}

impl<H: Home> Main for Life<H> {
    fn main(self) {
        if let Some(channel) = self.home.channel(self.index) {
            channel.live(&*self.home, self.group);
        }
    }
}

struct Sender<H: Home> {
    home: Arc<H>,
    index: u8,
}

impl<H: Home> Main for Sender<H> {
    fn main(self) {
        if let Some(channel) = self.home.channel(self.index) {
            channel.run_sender(&*self.home);
        }
    }
}

/// The two threads of a channel that is in use.
pub(crate) struct ChannelThreads<H: Home> {
    home: Arc<H>,
    index: u8,
    life: Option<KThread<Life<H>>>,
    sender: Option<KThread<Sender<H>>>,
}

impl<H: Home> ChannelThreads<H> {
    /// Takes unused channel `index` into use.
    pub(crate) fn start(home: Arc<H>, index: u8, spec: Arc<Spec>) -> Result<Self> {
        let group = spec.group;
        let channel = home.channel(index).ok_or(EINVAL)?;
        {
            let mut link = channel.link.lock();
            link.enter(ChannelEvent::Assign);
            link.spec = Some(spec);
            link.reason = None;
            link.reconnects = 0;
            link.ever_up = false;
        }
        channel.stop.store(false, Release);
        channel.queue.lock().quit(false);
        let mut threads = Self {
            home: home.clone(),
            index,
            life: None,
            sender: None,
        };
        let letter = home.letter();
        let name = CString::try_from_fmt(fmt!("enbd-{letter}{index}s"))?;
        let sender = Sender {
            home: home.clone(),
            index,
        };
        // Neither interrupts whoever makes work for it: what comes meanwhile is done in one go.
        threads.sender = Some(KThread::spawn_batch(&name, sender)?);
        let name = CString::try_from_fmt(fmt!("enbd-{letter}{index}"))?;
        threads.life = Some(KThread::spawn_batch(&name, Life { home, index, group })?);
        Ok(threads)
    }

    /// The channel's number.
    pub(crate) fn index(&self) -> u8 {
        self.index
    }

    /// Tells the channel to end, without waiting for it.
    pub(crate) fn stop(&self) {
        let Some(channel) = self.home.channel(self.index) else {
            return;
        };
        if channel.stop.xchg(true, Full) {
            return;
        }
        if let Some(group) = channel.with_link(|l| l.spec.as_ref().map(|s| s.group)) {
            self.home.leave(self.index, group);
        }
        channel.queue.lock().end();
        channel.wake_receiver();
        self.home.changed();
    }
}

impl<H: Home> Drop for ChannelThreads<H> {
    fn drop(&mut self) {
        self.stop();
        drop(self.life.take());
        if let Some(channel) = self.home.channel(self.index) {
            channel.quit_sender();
            drop(self.sender.take());
            channel.release();
        }
        self.home.changed();
    }
}

impl<T: Operations> Channel<T> {
    /// The channel's thread.
    fn live<H: Home<Ops = T>>(&self, home: &H, group: u8) {
        // What we allocate must not wait for what only we can bring back.
        let _scope = NoIo::enter();
        let mut tries = 0u32;
        while let Some(spec) = self.to_try() {
            match self.connect_admitted(home, &spec) {
                Ok((sock, _export)) => match self.serve(home, &spec, sock) {
                    Ok(()) => tries = 0,
                    Err(reason) => {
                        drop(self.tx.lock().take());
                        self.not_up(home, group, ChannelEvent::Failed, reason);
                        tries = tries.saturating_add(1);
                    }
                },
                Err(reason) => {
                    self.not_up(home, group, ChannelEvent::Failed, reason);
                    tries = tries.saturating_add(1);
                }
            }
            let ms = backoff_ms(tries, crate::kapi::random());
            let _ = home.sleep(ms, &mut || self.is_stopping());
        }
    }

    /// Where to connect to now, unless the channel is to stop.
    fn to_try(&self) -> Option<Arc<Spec>> {
        if self.is_stopping() {
            return None;
        }
        let mut link = self.link.lock();
        link.enter(ChannelEvent::Retry);
        link.spec.clone()
    }

    fn connect_admitted<H: Home<Ops = T>>(
        &self,
        home: &H,
        spec: &Spec,
    ) -> Result<(Arc<Socket>, Export), DownReason> {
        let (sock, export) = self.connect(home, spec)?;
        home.admit(spec.group, &export)?;
        Ok((sock, export))
    }

    /// Carries requests until the connection ends; or says why it does not.
    fn serve<H: Home<Ops = T>>(
        &self,
        home: &H,
        spec: &Spec,
        sock: Arc<Socket>,
    ) -> Result<(), DownReason> {
        let group = spec.group;
        let failed = |e: Error| DownReason::System(e.to_errno().saturating_neg());
        let broken = self.prepare(group, &sock).map_err(failed)?;
        let inbox = Inbox::new().map_err(failed)?;
        let incoming = Incoming::new().map_err(failed)?;
        let owed = Owed::new().map_err(failed)?;
        self.arrive(home, group, &sock)?;
        sock.set_timeouts(TICK_MS, TICK_MS);
        {
            let mut link = self.link.lock();
            link.enter(ChannelEvent::Negotiated);
            link.reason = None;
            if core::mem::replace(&mut link.ever_up, true) {
                link.reconnects = link.reconnects.saturating_add(1);
            }
        }
        home.changed();
        let mut receiver = Receiver::new(self, home, group, &sock, inbox, &broken);
        let ending = receiver.run(incoming);
        let reason = if self.is_stopping() {
            DownReason::Removed
        } else {
            ending.reason
        };
        home.leave(self.index, group);
        home.went_down(self.index, group);
        self.not_up(home, group, ChannelEvent::Lost, reason);
        self.hang_up(home, group, ending.end, receiver, owed);
        Ok(())
    }

    /// Lets the mirror have the connection, which has to show first where it leads to.
    fn arrive<H: Home<Ops = T>>(
        &self,
        home: &H,
        group: u8,
        sock: &Socket,
    ) -> Result<(), DownReason> {
        if self.is_stopping() {
            // Whoever stopped the channel may have shut the socket already.
            return Err(DownReason::Removed);
        }
        let mut broken = DownReason::Closed;
        let arrival =
            home.came_up(
                self.index,
                group,
                &|| self.is_stopping(),
                &mut |places| match probe(sock, home.connect_timeout_s(), places) {
                    Ok(()) => true,
                    Err(reason) => {
                        broken = reason;
                        false
                    }
                },
            );
        match arrival {
            Arrival::Up => Ok(()),
            Arrival::Stopped => Err(DownReason::Removed),
            Arrival::Broken => Err(broken),
            Arrival::OtherData => Err(DownReason::OtherData),
            Arrival::Unasked => Err(DownReason::Unasked),
        }
    }

    /// Makes ready for sending on a new connection.
    fn prepare(&self, group: u8, sock: &Arc<Socket>) -> Result<Arc<Atomic<bool>>> {
        let broken = Arc::new(Atomic::new(false), GFP_KERNEL)?;
        let tx = Tx {
            group,
            sock: sock.clone(),
            broken: broken.clone(),
            out: Outgoing::new(sock)?,
            cookies: KVec::with_capacity(MESSAGES, GFP_KERNEL)?,
            backlog: Default::default(),
        };
        *self.tx.lock() = Some(tx);
        // Before the mirror opens it: who chose the channel for another group may still come.
        self.queue.lock().assign(usize::from(group));
        Ok(broken)
    }

    /// Takes the socket away and gives back all that was not answered.
    fn hang_up<H: Home<Ops = T>>(
        &self,
        home: &H,
        group: u8,
        end: End,
        receiver: Receiver<'_, H>,
        owed: Owed,
    ) {
        self.queue.lock().close();
        if end.rest != Rest::Alive {
            receiver.sock.shutdown();
        }
        // Whoever sends finds the socket shut, or the queue closed, and lets go of it.
        let tx = self.tx.lock().take();
        self.queue.lock().give_up();
        if let (Some(mut tx), Some(table)) = (tx, home.table(group)) {
            tx.out.abandon();
            // Messages that were not sent as a whole are never carried out, and never answered.
            let sent = tx.cookies.len().saturating_sub(tx.out.unsent());
            for &cookie in tx.cookies.get(sent..).unwrap_or_default() {
                if let Some((number, transfer)) = table.finish(cookie, self.index) {
                    receiver.give_back(number, transfer, Outcome::Lost(Fence::Fenced));
                }
            }
        }
        let mut line = Line {
            channel: self,
            home,
            group,
            began: Instant::now(),
            receiver,
            owed,
        };
        hang_up(&mut line, end);
        home.changed();
    }

    fn has_unanswered_writes<H: Home<Ops = T>>(&self, home: &H, group: u8) -> bool {
        home.table(group).is_some_and(|table| {
            (0..SLOTS as u32).any(|number| {
                table.is(number, self.index, |command, sent| {
                    sent && is_write(command)
                })
            })
        })
    }

    /// Notes why the channel is not up.
    fn not_up<H: Home<Ops = T>>(
        &self,
        home: &H,
        group: u8,
        event: ChannelEvent,
        reason: DownReason,
    ) {
        let mut link = self.link.lock();
        link.enter(event);
        link.sock = None;
        // Trying again and again for the same reason is told once.
        let news = link.reason != Some(reason);
        link.reason = Some(reason);
        let spec = link.spec.clone();
        drop(link);
        if let (true, Some(spec)) = (news, spec) {
            pr_info!(
                "[{}] group {} channel {} ({} {}{}{}): {}\n",
                home.letter(),
                group,
                self.index,
                spec.transport(),
                spec.addr_str(),
                if spec.export.is_empty() { "" } else { " " },
                spec.export_str(),
                reason.as_str()
            );
        }
        home.changed();
    }

    /// Makes the receiver notice that the channel is to end. While it connects nothing was asked of
    /// the server yet; later the server is let answer what it got, and the receiver's next look at
    /// the clock, or the next reply, does this.
    fn wake_receiver(&self) {
        let Some(tx) = self.tx.try_lock() else {
            return;
        };
        match &*tx {
            // Counted before it is sent, which takes the lock that we have.
            Some(tx) if self.carried.get() == 0 => {
                // Good manners only: the end of what we send says the same.
                let _ = tx.sock.send(&farewell());
                tx.sock.shutdown_send();
            }
            Some(_) => {}
            None => {
                drop(tx);
                if let Some(sock) = &self.link.lock().sock {
                    sock.shutdown();
                }
            }
        }
    }

    /// Makes the channel unused again.
    fn release(&self) {
        let mut link = self.link.lock();
        link.enter(ChannelEvent::Release);
        link.spec = None;
        link.sock = None;
        drop(link);
        // What the channel carries is not set: a submitter that was late may still take back what it
        // has counted.
        let c = &self.counters;
        for count in [
            &c.read_requested,
            &c.write_requested,
            &c.read_done,
            &c.write_done,
            &c.errored,
        ] {
            count.set(0);
        }
    }
}
