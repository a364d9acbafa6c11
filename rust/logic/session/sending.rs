// SPDX-License-Identifier: GPL-2.0

//! Sending: from the queue of a channel into its connection.
//!
//! A submitter that finds nobody sending sends itself, its own transfers and those that others
//! queue meanwhile, as far as the socket takes them at once. When the socket is full, or after
//! [`ROUNDS`] calls of the network, it leaves the rest to the sender thread, which may wait: so a
//! slow server holds up nobody but itself. Where the server has several transfers to answer already,
//! or transfers come in bunches ([`send_queue`](super::send_queue)), all is left to the thread: it
//! runs when the submitters of its processor have queued what they have, and a call of the network
//! costs about the same for one transfer as for many.

use super::{
    send_queue::{Batch, SendQueue, Sender},
    Message, Slots, Table,
};
use crate::logic::ids::ChannelId;

/// How many calls of the network a submitter makes before it leaves the sending to the thread.
const ROUNDS: u32 = 8;

/// How much of what a pipe has was sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sent {
    /// All.
    All,
    /// Not all: the connection takes no more now.
    Blocked,
}

/// The sending side of a connection: it collects messages, and sends them together.
pub trait Pipe {
    /// The memory of transfers.
    type Buffer;

    /// Whether it takes another message.
    fn has_room(&self) -> bool;
    /// Whether it has nothing to send.
    fn is_empty(&self) -> bool;
    /// Takes a message, which it has room for; false if it cannot.
    fn push(&mut self, message: Message<Self::Buffer>) -> bool;
    /// Sends what it has: as far as that goes at once, or, if it `may_wait`, within some time.
    /// Nothing if the connection is broken.
    fn send(&mut self, may_wait: bool) -> Option<Sent>;
}

/// The queue of a channel, under its lock.
pub trait Queue {
    /// Gives the queue to `f`, which does not sleep, under its lock.
    fn with<R>(&self, f: impl FnOnce(&mut SendQueue) -> R) -> R;
}

/// Why a sender stopped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stop {
    /// The queue was empty, and the sender is the sender no more.
    Idle,
    /// The socket takes no more now, or it was enough for a submitter: the thread is to go on.
    HandOver,
    /// The connection is broken, or the channel has gone down: what was not sent is not to be sent
    /// any more.
    Broken,
    /// The same, but the connection may be whole.
    Closed,
}

/// Sends what is queued, as the [`Sender`] that the queue says: a submitter, or the thread.
/// `backlog` is what was taken from the queue and not sent yet.
pub fn pump<S: Slots>(
    pipe: &mut impl Pipe<Buffer = S::Buffer>,
    backlog: &mut Batch,
    queue: &impl Queue,
    (table, channel): (&Table<S>, ChannelId),
    sender: Sender,
    now_ms: impl Fn() -> u64,
) -> Stop {
    let is_thread = sender == Sender::Thread;
    let mut rounds = 0u32;
    loop {
        while pipe.has_room() {
            let Some(number) = backlog.pop() else {
                let idle_if_empty = pipe.is_empty();
                if queue.with(|queue| queue.take(backlog, idle_if_empty)) {
                    continue;
                }
                if idle_if_empty {
                    return Stop::Idle;
                }
                break;
            };
            if let Some(message) = table.start(number, channel, now_ms()) {
                if !pipe.push(message) {
                    return Stop::Broken;
                }
            }
        }
        match pipe.send(is_thread) {
            Some(Sent::All) => {}
            Some(Sent::Blocked) if is_thread => {}
            Some(Sent::Blocked) => return Stop::HandOver,
            None => return Stop::Broken,
        }
        // The end of the channel waits for us, and has a time limit.
        if is_thread && queue.with(|queue| queue.is_closed()) {
            return Stop::Closed;
        }
        rounds = rounds.saturating_add(1);
        if !is_thread && rounds >= ROUNDS {
            return Stop::HandOver;
        }
    }
}
