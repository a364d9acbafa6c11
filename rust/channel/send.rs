// SPDX-License-Identifier: GPL-2.0

//! Sending.
//!
//! A submitter that finds nobody sending sends itself, its own transfers and those that others
//! queue meanwhile, as far as the socket takes them at once. When the socket is full, or after
//! [`ROUNDS`] calls of the network, it leaves the rest to the sender thread, which may wait: so a
//! slow server holds up nobody but itself. Where the server has several transfers to answer already,
//! or transfers come in bunches (`logic::send_queue`), all is left to the thread: it runs when the
//! submitters of its processor have queued what they have, and a call of the network costs about
//! the same for one transfer as for many.
//!
//! Context: process context; `tx` is held while sending, and only by the one that the queue calls
//! the sender.

use super::{Channel, Home, Tx};
use crate::kapi::{block::mq::Operations, iovec::Sent, scope::NoReclaim};
use crate::logic::{send_queue::Sender, wire::request::REQUEST_LEN};
use kernel::sync::atomic::ordering::Release;

/// How many calls of the network a submitter makes before it leaves the sending to the thread.
const ROUNDS: u32 = 8;

/// Why a pump stopped.
enum Stop {
    /// The queue was empty.
    Idle,
    /// The socket takes no more now, or it was enough for a submitter.
    HandOver,
    /// The socket is broken.
    Broken,
    /// The channel has gone down, and what was not sent is not to be sent any more.
    Closed,
}

impl<T: Operations> Channel<T> {
    /// Sees to it that what is queued gets sent.
    pub(crate) fn kick<H: Home<Ops = T>>(&self, home: &H) {
        let carried = self.carried.get() as usize;
        let sender = self.queue.lock().choose_sender(carried);
        match sender {
            Some(Sender::Active) => self.pump(home, false),
            Some(Sender::Thread) => self.sender.notify_one(),
            Some(Sender::Idle) | None => {}
        }
    }

    fn pump<H: Home<Ops = T>>(&self, home: &H, thread: bool) {
        let mut guard = self.tx.lock();
        // Without a socket the channel has just gone down, and its end has made the queue idle.
        let Some(tx) = &mut *guard else { return };
        let Some(table) = home.table(tx.group) else {
            return;
        };
        let stop = {
            let _scope = NoReclaim::enter();
            self.pump_socket(tx, table, thread)
        };
        match stop {
            Stop::Idle => {}
            Stop::Closed => self.queue.lock().give_up(),
            Stop::HandOver => {
                self.queue.lock().hand_to_thread();
                self.sender.notify_one();
            }
            Stop::Broken => {
                // What the socket did not take is left for the channel's end to see.
                tx.out.abandon();
                // The receiver takes the channel down. The receiving side stays as it is: what
                // comes there tells whether the server has closed.
                tx.broken.store(true, Release);
                tx.sock.shutdown_send();
                self.queue.lock().give_up();
            }
        }
    }

    fn pump_socket(&self, tx: &mut Tx<T>, table: &super::Table<T>, thread: bool) -> Stop {
        let mut rounds = 0u32;
        loop {
            while tx.out.has_room(REQUEST_LEN) {
                let Some(number) = tx.backlog.pop() else {
                    let idle_if_empty = tx.out.is_empty();
                    if self.queue.lock().take(&mut tx.backlog, idle_if_empty) {
                        continue;
                    }
                    if idle_if_empty {
                        return Stop::Idle;
                    }
                    break;
                };
                if let Some(message) = table.start(number, self.index) {
                    if tx.out.is_empty() {
                        tx.cookies.clear();
                    }
                    let noted = tx.cookies.push_within_capacity(message.cookie).is_ok();
                    if !noted || tx.out.push(&message.header, message.body).is_err() {
                        return Stop::Broken;
                    }
                }
            }
            match tx.out.send(&tx.sock, false, thread) {
                Ok(Sent::All) => {}
                Ok(Sent::Blocked) if thread => {}
                Ok(Sent::Blocked) => return Stop::HandOver,
                Err(_) => return Stop::Broken,
            }
            // The end of the channel waits for us, and has a time limit.
            if thread && self.queue.lock().is_closed() {
                return Stop::Closed;
            }
            rounds = rounds.saturating_add(1);
            if !thread && rounds >= ROUNDS {
                return Stop::HandOver;
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
            self.pump(home, true);
        }
    }

    /// Ends the sender thread.
    pub(super) fn quit_sender(&self) {
        self.queue.lock().quit(true);
        self.sender.notify_all();
    }
}
