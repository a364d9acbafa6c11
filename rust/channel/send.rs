// SPDX-License-Identifier: GPL-2.0

//! The sending side of a socket, and the thread for it. Who sends, and how much, is decided in
//! `crate::logic::session::{send_queue, sending}`.
//!
//! Context: process context; `tx` is held while sending, and only by the one that the queue calls
//! the sender.

use super::{Channel, Home};
use crate::kapi::{
    block::mq::Operations,
    iovec::{self, Buffer, Outgoing, MESSAGES},
    net::Socket,
    scope::noreclaim,
};
use crate::logic::{
    ids::GroupId,
    session::{
        pump,
        send_queue::{Batch, SendQueue, Sender},
        Message, Pipe, Queue, Sent, Stop,
    },
    wire::request::REQUEST_LEN,
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{ordering::Release, Atomic},
        Arc,
    },
    time::{delay::fsleep, Delta},
};

/// How long the thread waits for memory that a socket did not get, in milliseconds.
const SHORTAGE_MS: i64 = 20;

/// The sending side of a connection.
pub(super) struct Tx<T: Operations> {
    /// The group whose transfers are sent.
    group: GroupId,
    /// Sending failed: what the receiver sees next is not the server's doing.
    broken: Arc<Atomic<bool>>,
    pub(super) pipe: SocketPipe<T>,
    /// Transfers that were taken from the queue and not yet collected.
    backlog: Batch,
}

impl<T: Operations> Tx<T> {
    pub(super) fn new(
        group: GroupId,
        sock: &Arc<Socket>,
        broken: &Arc<Atomic<bool>>,
    ) -> Result<Self> {
        Ok(Self {
            group,
            broken: broken.clone(),
            pipe: SocketPipe {
                out: Outgoing::new(sock.clone())?,
                cookies: KVec::with_capacity(MESSAGES, GFP_KERNEL)?,
            },
            backlog: Batch::default(),
        })
    }
}

/// A socket, and what is collected for it.
pub(super) struct SocketPipe<T: Operations> {
    out: Outgoing<T>,
    /// The cookies of the messages in `out`, in order.
    cookies: KVec<u64>,
}

impl<T: Operations> SocketPipe<T> {
    /// Where it leads.
    pub(super) fn socket(&self) -> &Socket {
        self.out.socket()
    }

    /// Nothing more is sent: gives the cookies of what was not sent as a whole.
    pub(super) fn abandon(&mut self) -> &[u64] {
        self.out.abandon();
        let sent = self.cookies.len().saturating_sub(self.out.unsent());
        self.cookies.get(sent..).unwrap_or_default()
    }
}

impl<T: Operations> Pipe for SocketPipe<T> {
    type Buffer = Buffer<T>;

    fn has_room(&self) -> bool {
        self.out.has_room(REQUEST_LEN)
    }

    fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    fn push(&mut self, message: Message<Buffer<T>>) -> bool {
        if self.out.is_empty() {
            self.cookies.clear();
        }
        let header = message.header();
        let body = message.body.map(|body| (body, message.len as usize));
        self.cookies.push_within_capacity(message.cookie).is_ok()
            && self.out.push(&header, body).is_ok()
    }

    fn send(&mut self, may_wait: bool) -> Option<Sent> {
        match self.out.send(may_wait) {
            Ok(iovec::Sent::All) => Some(Sent::All),
            Ok(iovec::Sent::Blocked) => Some(Sent::Blocked),
            // A unix socket says so where TCP would wait: there is no memory just now. The connection
            // is as good as before, and only the thread has the time to try again later.
            Err(e) if e == ENOBUFS || e == ENOMEM => {
                if may_wait {
                    fsleep(Delta::from_millis(SHORTAGE_MS));
                }
                Some(Sent::Blocked)
            }
            Err(_) => None,
        }
    }
}

impl<T: Operations> Queue for Channel<T> {
    fn with<R>(&self, f: impl FnOnce(&mut SendQueue) -> R) -> R {
        f(&mut self.queue.lock())
    }
}

impl<T: Operations> Channel<T> {
    /// Sees to it that what is queued gets sent.
    pub(crate) fn kick<H: Home<Ops = T>>(&self, home: &H) {
        let carried = self.carried.get() as usize;
        let sender = self.queue.lock().choose_sender(carried);
        match sender {
            Some(Sender::Active) => self.pump(home, Sender::Active),
            Some(Sender::Thread) => self.sender.notify_one(),
            Some(Sender::Idle) | None => {}
        }
    }

    fn pump<H: Home<Ops = T>>(&self, home: &H, sender: Sender) {
        let mut guard = self.tx.lock();
        // Without a socket the channel has just gone down, and its end has made the queue idle.
        let Some(tx) = &mut *guard else { return };
        let Some(table) = home.table(tx.group) else {
            return;
        };
        let to = (table, self.id);
        let stop = noreclaim(|| {
            pump(&mut tx.pipe, &mut tx.backlog, self, to, sender, || {
                home.now_ms()
            })
        });
        match stop {
            Stop::Idle => {}
            Stop::Closed => self.queue.lock().give_up(),
            Stop::HandOver => {
                self.queue.lock().hand_to_thread();
                self.sender.notify_one();
            }
            Stop::Broken => {
                // What the socket did not take is left for the channel's end to see.
                tx.pipe.out.abandon();
                // The receiver takes the channel down. The receiving side stays as it is: what
                // comes there tells whether the server has closed.
                tx.broken.store(true, Release);
                tx.pipe.socket().shutdown_send();
                self.queue.lock().give_up();
            }
        }
    }

    /// The sender thread: sends when a submitter could not.
    pub(super) fn run_sender<H: Home<Ops = T>>(&self, home: &H) {
        loop {
            let mut queue = self.queue.lock();
            while !queue.is_threads() {
                if queue.is_quitting() {
                    return;
                }
                // A kthread gets no signals.
                let _ = self.sender.wait_interruptible(&mut queue);
            }
            drop(queue);
            self.pump(home, Sender::Thread);
        }
    }

    /// Ends the sender thread.
    pub(super) fn quit_sender(&self) {
        self.queue.lock().quit(true);
        self.sender.notify_all();
    }
}
