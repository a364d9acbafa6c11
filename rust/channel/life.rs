// SPDX-License-Identifier: GPL-2.0

//! The life of a channel: its thread connects, negotiates, receives, and on loss starts over, until
//! it is told to stop.
//!
//! Who ends a channel: [`ChannelThreads::stop`] tells the thread, which waits for the answers to
//! what the channel has (bounded), and gives back what was not answered; then both threads are
//! joined.
//!
//! Lock order: see the head of the room.

use super::{probe::probe, receive::Served, send::Tx, Channel, Home, Spec};
use crate::kapi::{
    block::mq::Operations,
    iovec::Incoming,
    kthread::{KThread, Main},
    net::Socket,
    scope::noreclaim,
};
use crate::logic::{
    ids::{ChannelId, GroupId, Lane, SLOTS},
    mirror::Arrival,
    session::{
        serving::TICK_MS, ChannelEvent, Debt, DownReason, Event, Limits, Retry, Session, Told,
        INBOX_LEN,
    },
    wire::request::{self, Command, CommandFlags, REQUEST_LEN},
};
use kernel::{
    prelude::*,
    str::CString,
    sync::{
        atomic::{
            ordering::{Acquire, Full, Release},
            Atomic,
        },
        Arc,
    },
};

/// The request that ends a connection.
fn farewell() -> [u8; REQUEST_LEN] {
    request::encode(Command::Disconnect, CommandFlags::NONE, 0, 0, 0)
}

struct Life<H: Home> {
    home: Arc<H>,
    lane: Lane,
}

impl<H: Home> Main for Life<H> {
    fn main(self) {
        let channel = self.home.channel(self.lane.channel);
        // What we allocate must not wait for what only we can bring back: all that could be freed may
        // be dirty on this device, and a new connection be what that waits for.
        noreclaim(|| channel.live(&*self.home, self.lane));
        channel.ended.store(true, Release);
        self.home.changed();
    }
}

struct Sender<H: Home> {
    home: Arc<H>,
    id: ChannelId,
}

impl<H: Home> Main for Sender<H> {
    fn main(self) {
        self.home.channel(self.id).run_sender(&*self.home);
    }
}

/// The two threads of a channel that is in use.
pub(crate) struct ChannelThreads<H: Home> {
    home: Arc<H>,
    id: ChannelId,
    life: Option<KThread<Life<H>>>,
    sender: Option<KThread<Sender<H>>>,
}

impl<H: Home> ChannelThreads<H> {
    /// Takes an unused channel into use.
    pub(crate) fn start(home: Arc<H>, id: ChannelId, spec: Arc<Spec>) -> Result<Self> {
        let group = spec.group;
        let lane = Lane { group, channel: id };
        let channel = home.channel(id);
        {
            let mut link = channel.link.lock();
            link.enter(ChannelEvent::Assign);
            link.spec = Some(spec);
            link.reason = None;
            link.reconnects = 0;
            link.ever_up = false;
            link.told = Told::default();
        }
        channel.stop.store(false, Release);
        channel.ended.store(false, Release);
        channel.queue.lock().quit(false);
        let mut threads = Self {
            home: home.clone(),
            id,
            life: None,
            sender: None,
        };
        let letter = home.letter();
        let name = CString::try_from_fmt(fmt!("enbd-{letter}{}s", id.index()))?;
        let sender = Sender {
            home: home.clone(),
            id,
        };
        // Neither interrupts whoever makes work for it: what comes meanwhile is done in one go.
        threads.sender = Some(KThread::spawn_batch(&name, sender)?);
        let name = CString::try_from_fmt(fmt!("enbd-{letter}{}", id.index()))?;
        threads.life = Some(KThread::spawn_batch(&name, Life { home, lane })?);
        Ok(threads)
    }

    /// Which channel it is.
    pub(crate) fn id(&self) -> ChannelId {
        self.id
    }

    /// Whether the channel has ended, so that nobody waits for long who drops this.
    pub(crate) fn has_ended(&self) -> bool {
        self.home.channel(self.id).ended.load(Acquire)
    }

    /// Tells the channel to end, without waiting for it.
    pub(crate) fn stop(&self) {
        let channel = self.home.channel(self.id);
        if channel.stop.xchg(true, Full) {
            return;
        }
        if let Some(group) = channel.with_link(|l| l.spec.as_ref().map(|s| s.group)) {
            let channel = self.id;
            self.home.tell(Lane { group, channel }, Event::Left);
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
        let channel = self.home.channel(self.id);
        channel.quit_sender();
        drop(self.sender.take());
        channel.release();
        self.home.changed();
    }
}

impl<T: Operations> Channel<T> {
    /// The channel's thread.
    fn live<H: Home<Ops = T>>(&self, home: &H, lane: Lane) {
        let mut retry = Retry::default();
        while let Some(spec) = self.to_try() {
            let served = self
                .connect(home, &spec)
                .and_then(|sock| self.serve(home, lane, sock));
            match served {
                Ok(lasted_ms) => retry.was_up(lasted_ms),
                Err(reason) => {
                    drop(self.tx.lock().take());
                    self.not_up(home, lane, ChannelEvent::Failed, reason);
                    retry.failed();
                }
            }
            let ms = retry.wait_ms(crate::kapi::random());
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

    /// Carries requests until the connection ends, and gives for how many milliseconds it did; or
    /// says why it does not.
    fn serve<H: Home<Ops = T>>(
        &self,
        home: &H,
        lane: Lane,
        sock: Arc<Socket>,
    ) -> Result<u64, DownReason> {
        let failed = |e: Error| DownReason::System(e.to_errno().saturating_neg());
        let table = home.table(lane.group).ok_or(DownReason::Removed)?;
        let broken = self.prepare(lane.group, &sock).map_err(failed)?;
        let inbox = KVVec::from_elem(0, INBOX_LEN, GFP_KERNEL).map_err(|_| failed(ENOMEM))?;
        let debts = KVec::from_elem(Debt::NONE, SLOTS, GFP_KERNEL).map_err(|_| failed(ENOMEM))?;
        let incoming = Incoming::new().map_err(failed)?;
        self.arrive(home, lane, &sock)?;
        sock.set_timeouts(TICK_MS, TICK_MS);
        {
            let mut link = self.link.lock();
            link.enter(ChannelEvent::Negotiated);
            link.told.up();
            if core::mem::replace(&mut link.ever_up, true) {
                link.reconnects = link.reconnects.saturating_add(1);
            }
        }
        home.changed();
        let session = Session::new(
            table,
            lane.channel,
            inbox,
            debts,
            Limits::USUAL,
            home.now_ms(),
        );
        let served = Served {
            channel: self,
            home,
            lane,
            sock: &sock,
            broken: &broken,
        };
        let lasted_ms = served.run(session, incoming);
        home.changed();
        Ok(lasted_ms)
    }

    /// Lets the mirror have the connection, which has to show first where it leads to.
    fn arrive<H: Home<Ops = T>>(
        &self,
        home: &H,
        lane: Lane,
        sock: &Socket,
    ) -> Result<(), DownReason> {
        if self.is_stopping() {
            // Whoever stopped the channel may have shut the socket already.
            return Err(DownReason::Removed);
        }
        let mut broken = DownReason::Closed;
        let arrival = home.came_up(lane, &|| self.is_stopping(), &mut |places| match probe(
            sock,
            home.connect_timeout_s(),
            places,
        ) {
            Ok(()) => true,
            Err(reason) => {
                broken = reason;
                false
            }
        });
        match arrival {
            Arrival::Up => Ok(()),
            Arrival::Stopped => Err(DownReason::Removed),
            Arrival::Broken => Err(broken),
            Arrival::OtherData => Err(DownReason::OtherData),
            Arrival::Unasked => Err(DownReason::Unasked),
            Arrival::Lacks(lack) => Err(DownReason::Lacks(lack)),
        }
    }

    /// Makes ready for sending on a new connection.
    fn prepare(&self, group: GroupId, sock: &Arc<Socket>) -> Result<Arc<Atomic<bool>>> {
        let broken = Arc::new(Atomic::new(false), GFP_KERNEL)?;
        let tx = Tx::new(group, sock, &broken)?;
        *self.tx.lock() = Some(tx);
        // Before the mirror opens it: who chose the channel for another group may still come.
        self.queue.lock().assign(group);
        Ok(broken)
    }

    /// Notes why the channel is not up.
    pub(super) fn not_up<H: Home<Ops = T>>(
        &self,
        home: &H,
        lane: Lane,
        event: ChannelEvent,
        reason: DownReason,
    ) {
        let mut link = self.link.lock();
        link.enter(event);
        link.sock = None;
        let news = link.told.is_news(reason, home.now_ms());
        link.reason = Some(reason);
        let spec = link.spec.clone();
        drop(link);
        if let (true, Some(spec)) = (news, spec) {
            pr_info!(
                "[{}] group {} channel {} ({} {}{}{}): {}\n",
                home.letter(),
                lane.group.index(),
                lane.channel.index(),
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
                let _ = tx.pipe.socket().send(&farewell());
                tx.pipe.socket().shutdown_send();
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
