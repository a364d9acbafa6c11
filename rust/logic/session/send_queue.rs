// SPDX-License-Identifier: GPL-2.0

//! Which transfers a channel has to send, and who is to send them.
//!
//! ```text
//!            kick, something queued            queue found empty
//!   Idle ----------------------------> Active -------------------> Idle
//!     |                                  |
//!     | kick, and the server has         | socket full
//!     | much to answer, or bunches       v
//!     +------------------------------> Thread ---queue found empty---> Idle
//! ```
//!
//! The thread of a server that has much to answer anyway is not in a hurry: it waits for a
//! processor that has nothing else to do, and what is queued until then goes out in one piece.
//!
//! How much the server has to answer does not tell all. Where it runs on the processor of a user
//! that has many requests to make, the first one wakes it up, and it interrupts the user, answers,
//! and has nothing to answer when the second one comes, and so on: each goes alone, though all
//! could have gone together. So where the thread has found a *bunch* of transfers it sends the next
//! ones too, in no hurry, until several times in a row it has found less.
//!
//! A queue is closed while the channel is down, and open while it carries requests; one that is to
//! end takes no more, and what it has is sent.
//!
//! A submitter chooses a channel first and queues its transfer later. Meanwhile the channel may have
//! ended, and its number may lead to another group: so the queue knows whose transfers it takes.
//!
//! All of this is decided under the queue's lock, so that what is queued is always seen by the one
//! who sends, and is left by none: who finds the queue empty becomes idle in the same step.
//!
//! Lock: the queue lies under a spin lock of its channel; nothing here allocates or waits.

use crate::logic::ids::{GroupId, SlotId, SLOTS};

/// Who sends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sender {
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
/// So many transfers that the thread sends in one go are a bunch.
const BUNCH: usize = 3;
/// After a bunch the thread is the sender until so often in a row it has found less than one.
const TURNS: u8 = 8;

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

/// What stands where no transfer is.
const FILLER: SlotId = SlotId::of_request(0);

/// Transfers that were taken from a queue, in order.
pub struct Batch {
    numbers: [SlotId; BATCH],
    next: usize,
    len: usize,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            numbers: [FILLER; BATCH],
            next: 0,
            len: 0,
        }
    }
}

impl Batch {
    /// The next transfer.
    pub fn pop(&mut self) -> Option<SlotId> {
        if self.next >= self.len {
            return None;
        }
        let number = self.numbers.get(self.next).copied();
        self.next += 1;
        number
    }
}

/// The transfers that a channel has to send.
pub struct SendQueue {
    ring: [SlotId; SLOTS],
    first: usize,
    len: usize,
    gate: Gate,
    /// Whose transfers it takes.
    group: Option<GroupId>,
    sender: Sender,
    /// What the sender has taken since it became that.
    taken: usize,
    /// How often the thread is to be the sender yet, whatever the server has to answer.
    turns: u8,
    quit: bool,
}

impl Default for SendQueue {
    /// The queue of a channel that is down.
    fn default() -> Self {
        Self {
            ring: [FILLER; SLOTS],
            first: 0,
            len: 0,
            gate: Gate::Closed,
            group: None,
            sender: Sender::Idle,
            taken: 0,
            turns: 0,
            quit: false,
        }
    }
}

impl SendQueue {
    /// Queues a transfer of `group`; false if the channel is not up, or belongs to another group by
    /// now. There is room for all that the table has.
    pub fn push(&mut self, group: GroupId, number: SlotId) -> bool {
        let takes = self.gate == Gate::Open && self.group == Some(group);
        if !takes || self.len >= SLOTS {
            return false;
        }
        let at = (self.first + self.len) % SLOTS;
        if let Some(entry) = self.ring.get_mut(at) {
            *entry = number;
        }
        self.len += 1;
        true
    }

    /// Chooses who sends, if there is something to send and nobody does: the caller, or the thread
    /// if the server has more than [`DIRECT`] transfers to answer or there were bunches of late.
    /// `carried` is the number of those that the channel has, in the queue or sent.
    pub fn choose_sender(&mut self, carried: usize) -> Option<Sender> {
        if self.sender != Sender::Idle || self.len == 0 {
            return None;
        }
        self.taken = 0;
        self.sender = if self.turns > 0 || carried.saturating_sub(self.len) > DIRECT {
            Sender::Thread
        } else {
            Sender::Active
        };
        Some(self.sender)
    }

    /// The sender takes the next transfers. If there are none, and `idle_if_empty`, it is the
    /// sender no more.
    pub fn take(&mut self, batch: &mut Batch, idle_if_empty: bool) -> bool {
        let count = self.len.min(BATCH);
        for to in batch.numbers.iter_mut().take(count) {
            if let Some(entry) = self.ring.get(self.first) {
                *to = *entry;
            }
            self.first = (self.first + 1) % SLOTS;
        }
        self.len -= count;
        batch.next = 0;
        batch.len = count;
        self.taken = self.taken.saturating_add(count);
        if count == 0 && idle_if_empty {
            self.rest();
        }
        count > 0
    }

    /// The sender has found nothing more.
    fn rest(&mut self) {
        if self.sender == Sender::Thread {
            self.turns = if self.taken >= BUNCH {
                TURNS
            } else {
                self.turns.saturating_sub(1)
            };
        }
        self.sender = Sender::Idle;
    }

    /// The sender leaves the sending to the thread.
    pub fn hand_to_thread(&mut self) {
        self.taken = 0;
        self.sender = Sender::Thread;
    }

    /// The sender sends no more, whatever is queued: the socket is broken.
    pub fn give_up(&mut self) {
        self.close();
        self.sender = Sender::Idle;
    }

    /// Whether the thread is to send.
    pub fn is_threads(&self) -> bool {
        self.sender == Sender::Thread
    }

    /// Belongs to `group` from now on, for the next [`SendQueue::open`]. Only while the channel is
    /// down: what was queued for another group is forgotten.
    pub fn assign(&mut self, group: GroupId) {
        self.close();
        self.group = Some(group);
    }

    /// Takes transfers of its group from now on.
    pub fn open(&mut self) {
        self.gate = Gate::Open;
        self.first = 0;
        self.len = 0;
        self.turns = 0;
    }

    /// Whether it takes transfers.
    pub fn is_open(&self) -> bool {
        self.gate == Gate::Open
    }

    /// Whether what is queued is not to be sent any more.
    pub fn is_closed(&self) -> bool {
        self.gate == Gate::Closed
    }

    /// Takes no more transfers; those that it has are sent.
    pub fn end(&mut self) {
        if self.gate == Gate::Open {
            self.gate = Gate::Ending;
        }
    }

    /// Takes no more transfers, and forgets those that it has: they are found in the table.
    pub fn close(&mut self) {
        self.gate = Gate::Closed;
        self.len = 0;
    }

    /// Tells the sender thread to end.
    pub fn quit(&mut self, quit: bool) {
        self.quit = quit;
    }

    /// Whether the sender thread is to end.
    pub fn is_quitting(&self) -> bool {
        self.quit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId::new(2).unwrap();
    const OTHER: GroupId = GroupId::new(3).unwrap();

    fn slot(index: usize) -> SlotId {
        SlotId::new(index).unwrap()
    }

    fn open() -> SendQueue {
        let mut queue = SendQueue::default();
        queue.assign(GROUP);
        queue.open();
        queue
    }

    /// What the sender sends until the queue is empty.
    fn drain(queue: &mut SendQueue) -> Vec<usize> {
        let mut batch = Batch::default();
        let mut sent = Vec::new();
        while queue.take(&mut batch, true) {
            while let Some(number) = batch.pop() {
                sent.push(number.index());
            }
        }
        sent
    }

    #[test]
    fn what_is_queued_goes_out_in_order() {
        let mut queue = open();
        // More than once around the ring.
        for round in 0..5 {
            let numbers: Vec<usize> = (0..300).map(|i| (round * 100 + i) % 400).collect();
            assert!(numbers
                .iter()
                .all(|&number| queue.push(GROUP, slot(number))));
            assert_eq!(queue.choose_sender(300), Some(Sender::Active));
            assert_eq!(drain(&mut queue), numbers);
        }
    }

    #[test]
    fn there_is_one_sender_until_it_finds_nothing() {
        let mut queue = open();
        assert_eq!(queue.choose_sender(0), None);
        queue.push(GROUP, slot(1));
        assert_eq!(queue.choose_sender(1), Some(Sender::Active));
        queue.push(GROUP, slot(2));
        assert_eq!(queue.choose_sender(2), None);
        let mut batch = Batch::default();
        assert!(queue.take(&mut batch, true));
        // With something left to send it does not become idle.
        assert!(!queue.take(&mut batch, false));
        queue.push(GROUP, slot(3));
        assert_eq!(queue.choose_sender(3), None);
        assert_eq!(drain(&mut queue), [3]);
        queue.push(GROUP, slot(4));
        assert_eq!(queue.choose_sender(1), Some(Sender::Active));
    }

    #[test]
    fn the_thread_sends_where_the_server_is_busy() {
        let mut queue = open();
        queue.push(GROUP, slot(1));
        assert_eq!(queue.choose_sender(2), Some(Sender::Active));
        drain(&mut queue);
        queue.push(GROUP, slot(2));
        assert_eq!(queue.choose_sender(3), Some(Sender::Thread));
        assert!(queue.is_threads());
    }

    #[test]
    fn the_thread_goes_on_after_a_bunch() {
        let mut queue = open();
        let mut send = |carried: usize, count: usize| {
            (0..count).for_each(|number| assert!(queue.push(GROUP, slot(number))));
            let sender = queue.choose_sender(carried + count);
            assert_eq!(drain(&mut queue).len(), count);
            sender
        };
        // Single ones, each after the other: no reason to wait for the thread.
        assert_eq!(send(0, 1), Some(Sender::Active));
        // A submitter that finds many has no need of the thread either.
        assert_eq!(send(0, BUNCH), Some(Sender::Active));
        assert_eq!(send(0, 1), Some(Sender::Active));
        // The thread was chosen as the server is busy, and found a bunch.
        assert_eq!(send(2, BUNCH), Some(Sender::Thread));
        for _ in 1..TURNS {
            assert_eq!(send(0, 1), Some(Sender::Thread));
        }
        assert_eq!(send(0, BUNCH), Some(Sender::Thread));
        for _ in 0..TURNS {
            assert_eq!(send(0, BUNCH - 1), Some(Sender::Thread));
        }
        assert_eq!(send(0, 1), Some(Sender::Active));
    }

    #[test]
    fn a_gate_lets_in_and_out_what_it_should() {
        let mut queue = SendQueue::default();
        queue.assign(GROUP);
        assert!(!queue.push(GROUP, slot(1)));
        queue.open();
        assert!(queue.is_open() && queue.push(GROUP, slot(1)));
        queue.end();
        assert!(!queue.push(GROUP, slot(2)) && !queue.is_closed());
        assert_eq!(queue.choose_sender(1), Some(Sender::Active));
        assert_eq!(drain(&mut queue), [1]);
        queue.open();
        queue.push(GROUP, slot(3));
        queue.close();
        queue.end();
        assert!(queue.is_closed() && !queue.push(GROUP, slot(4)));
        assert_eq!(queue.choose_sender(1), None);
        // What was left is found in the table.
        queue.open();
        assert_eq!(drain(&mut queue), []);
        queue.push(GROUP, slot(5));
        assert_eq!(queue.choose_sender(1), Some(Sender::Active));
        queue.push(GROUP, slot(6));
        queue.give_up();
        assert_eq!(queue.choose_sender(2), None);
        queue.open();
        assert_eq!(drain(&mut queue), []);
    }

    #[test]
    fn a_full_queue_refuses() {
        let mut queue = open();
        assert!(SlotId::all().all(|slot| queue.push(GROUP, slot)));
        assert!(!queue.push(GROUP, slot(0)));
        assert_eq!(drain(&mut queue).len(), SLOTS);
    }

    #[test]
    fn a_late_transfer_of_another_group_is_refused() {
        let mut queue = open();
        assert!(queue.push(GROUP, slot(1)));
        // The channel ends, and its number goes to another group.
        queue.end();
        queue.give_up();
        queue.assign(OTHER);
        assert!(!queue.push(GROUP, slot(2)) && !queue.push(OTHER, slot(2)));
        queue.open();
        assert!(!queue.push(GROUP, slot(3)));
        assert_eq!(queue.choose_sender(1), None);
        assert!(queue.push(OTHER, slot(4)));
        assert!(!queue.push(GROUP, slot(5)));
        assert_eq!(queue.choose_sender(2), Some(Sender::Active));
        assert_eq!(drain(&mut queue), [4]);
        // The same group may have it back.
        queue.close();
        queue.assign(GROUP);
        queue.open();
        assert!(queue.push(GROUP, slot(6)) && !queue.push(OTHER, slot(7)));
        assert_eq!(drain(&mut queue), [6]);
    }

    #[test]
    fn a_queue_of_no_group_takes_nothing() {
        let mut queue = SendQueue::default();
        queue.open();
        assert!(GroupId::all().all(|group| !queue.push(group, slot(1))));
    }
}
