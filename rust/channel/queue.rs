// SPDX-License-Identifier: GPL-2.0

//! Which transfers a channel has to send, and who is to send them.
//!
//! ```text
//!            kick, something queued            queue found empty
//!   Idle ----------------------------> Active -------------------> Idle
//!     |                                  |
//!     | kick, and the server             | socket full
//!     | has much to answer               v
//!     +------------------------------> Thread ---queue found empty---> Idle
//! ```
//!
//! The thread of a server that has much to answer anyway is not in a hurry: it waits for a
//! processor that has nothing else to do, and what is queued until then goes out in one piece.
//!
//! A queue is closed while the channel is down, and open while it carries requests; one that is to
//! end takes no more, and what it has is sent.
//!
//! All of this is decided under the queue's lock, so that what is queued is always seen by the one
//! who sends, and is left by none: who finds the queue empty becomes idle in the same step.
//!
//! Lock: the queue lies under a spin lock; nothing here allocates or waits.

use super::table::SLOTS;

/// Who sends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Sender {
    /// Nobody.
    Idle,
    /// A submitter that came along.
    Active,
    /// The sender thread.
    Thread,
}

/// While the server has at most so many transfers to answer, it would have to wait for the thread.
const DIRECT: usize = 1;
/// How many transfers a sender takes from the queue at a time.
const BATCH: usize = 16;

/// What the queue takes and gives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Gate {
    /// Nothing: the channel is down.
    Closed,
    /// It takes transfers, and they are sent.
    Open,
    /// It takes no more, and those that it has are sent: the channel is to end.
    Ending,
}

/// Transfers that were taken from a queue, in order.
#[derive(Default)]
pub(super) struct Batch {
    numbers: [u16; BATCH],
    next: usize,
    len: usize,
}

impl Batch {
    /// The next transfer.
    pub(super) fn pop(&mut self) -> Option<u32> {
        if self.next >= self.len {
            return None;
        }
        let number = self.numbers.get(self.next).copied();
        self.next += 1;
        number.map(u32::from)
    }
}

/// The transfers that a channel has to send.
pub(super) struct SendQueue {
    ring: [u16; SLOTS],
    first: usize,
    len: usize,
    gate: Gate,
    sender: Sender,
    quit: bool,
}

impl SendQueue {
    pub(super) fn new() -> Self {
        Self {
            ring: [0; SLOTS],
            first: 0,
            len: 0,
            gate: Gate::Closed,
            sender: Sender::Idle,
            quit: false,
        }
    }

    /// Queues a transfer; false if the channel is not up. There is room for all that the table has.
    pub(super) fn push(&mut self, number: u32) -> bool {
        if self.gate != Gate::Open || self.len >= SLOTS {
            return false;
        }
        let at = (self.first + self.len) % SLOTS;
        if let Some(entry) = self.ring.get_mut(at) {
            *entry = number as u16;
        }
        self.len += 1;
        true
    }

    /// Chooses who sends, if there is something to send and nobody does: the caller, or the thread
    /// if the server has more than [`DIRECT`] transfers to answer. `carried` is the number of those
    /// that the channel has, in the queue or sent.
    pub(super) fn choose_sender(&mut self, carried: usize) -> Option<Sender> {
        if self.sender != Sender::Idle || self.len == 0 {
            return None;
        }
        self.sender = if carried.saturating_sub(self.len) > DIRECT {
            Sender::Thread
        } else {
            Sender::Active
        };
        Some(self.sender)
    }

    /// The sender takes the next transfers. If there are none, and `idle_if_empty`, it is the
    /// sender no more.
    pub(super) fn take(&mut self, batch: &mut Batch, idle_if_empty: bool) -> bool {
        let count = self.len.min(BATCH);
        for to in batch.numbers.iter_mut().take(count) {
            *to = self.ring.get(self.first).copied().unwrap_or(u16::MAX);
            self.first = (self.first + 1) % SLOTS;
        }
        self.len -= count;
        batch.next = 0;
        batch.len = count;
        if count == 0 && idle_if_empty {
            self.sender = Sender::Idle;
        }
        count > 0
    }

    /// The sender leaves the sending to the thread.
    pub(super) fn hand_to_thread(&mut self) {
        self.sender = Sender::Thread;
    }

    /// The sender sends no more, whatever is queued: the socket is broken.
    pub(super) fn give_up(&mut self) {
        self.sender = Sender::Idle;
        self.gate = Gate::Closed;
    }

    /// Whether the thread is to send.
    pub(super) fn is_threads(&self) -> bool {
        self.sender == Sender::Thread
    }

    /// Takes transfers from now on.
    pub(super) fn open(&mut self) {
        self.gate = Gate::Open;
        self.first = 0;
        self.len = 0;
    }

    /// Whether it takes transfers.
    pub(super) fn is_open(&self) -> bool {
        self.gate == Gate::Open
    }

    /// Whether what is queued is not to be sent any more.
    pub(super) fn is_closed(&self) -> bool {
        self.gate == Gate::Closed
    }

    /// Takes no more transfers; those that it has are sent.
    pub(super) fn end(&mut self) {
        if self.gate == Gate::Open {
            self.gate = Gate::Ending;
        }
    }

    /// Takes no more transfers, and forgets those that it has: they are found in the table.
    pub(super) fn close(&mut self) {
        self.gate = Gate::Closed;
        self.len = 0;
    }

    /// Tells the sender thread to end.
    pub(super) fn quit(&mut self, quit: bool) {
        self.quit = quit;
    }

    /// Whether the sender thread is to end.
    pub(super) fn is_quitting(&self) -> bool {
        self.quit
    }
}
