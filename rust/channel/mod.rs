// SPDX-License-Identifier: GPL-2.0

//! A channel: one socket to the server of a group, the requests on it, and the thread that keeps it
//! alive. What is done with a connection is decided in `crate::logic::session`; here is what that
//! stands on in the kernel.
//!
//! | file | what |
//! |---|---|
//! | [`spec`] | where a channel leads to |
//! | [`link`] | its connection, for control and status |
//! | [`home`] | what a channel asks of its mirror, and tells it |
//! | [`table`] | the memory of a group's table of transfers |
//! | [`connect`] | connecting and negotiating |
//! | [`probe`] | what a new connection has to show |
//! | [`send`] | the sending side of a socket, and the thread for it |
//! | [`receive`] | the steps of a session, carried out |
//! | [`life`] | the thread that connects, receives, and starts over |
//! | [`counters`] | numbers for the status text |
//!
//! Lock order: `tx` > { `link`, slot of a table, `queue` }. The last two are spin locks and never
//! nest; what is taken out under them is dropped after they are released, since the end of a
//! request may wait.

mod connect;
mod counters;
mod home;
mod life;
mod link;
mod probe;
mod receive;
mod send;
mod spec;
mod table;

use crate::kapi::block::mq::Operations;
use crate::logic::{
    ids::{ChannelId, GroupId, SlotId},
    session::{send_queue::SendQueue, Limits, Outcome},
    wire::request::Command,
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{ordering::Acquire, Atomic},
        new_condvar, new_mutex, new_spinlock, CondVar, Mutex, SpinLock,
    },
};
use send::Tx;

pub(crate) use counters::{Count, Counters};
pub(crate) use home::Home;
pub(crate) use life::ChannelThreads;
pub(crate) use link::Link;
pub(crate) use probe::sum_of;
pub(crate) use spec::Spec;
pub(crate) use table::{table, Table, Transfer};

/// One channel. A device has a fixed number of them, most of them unused.
#[pin_data]
pub(crate) struct Channel<T: Operations> {
    id: ChannelId,
    /// The state, for control and status.
    #[pin]
    link: Mutex<Link>,
    /// What is to be sent. Spin lock: taken by submitters.
    #[pin]
    queue: SpinLock<SendQueue>,
    /// Wakes the sender thread up.
    #[pin]
    sender: CondVar,
    /// The sending side of the socket. Held by the one who sends, and by the life of the channel
    /// when it changes the socket.
    #[pin]
    tx: Mutex<Option<Tx<T>>>,
    /// The channel is to end. Set before `link` is looked at for a socket to shut, looked at after
    /// one was put there.
    stop: Atomic<bool>,
    /// It has ended, all but its threads.
    ended: Atomic<bool>,
    /// Bytes that were given to the channel and are not answered.
    load: Count,
    /// So many of them are enough.
    bound: Count,
    /// Transfers that were given to the channel and are not answered.
    carried: Count,
    /// What it did.
    pub(crate) counters: Counters,
}

impl<T: Operations> Channel<T> {
    /// Unused channel number `index`.
    pub(crate) fn new(index: usize) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            id: ChannelId::new(index).ok_or(EINVAL)?,
            link <- new_mutex!(Link::unused(), "enbd::Channel::link"),
            queue <- new_spinlock!(SendQueue::default(), "enbd::Channel::queue"),
            sender <- new_condvar!("enbd::Channel::sender"),
            tx <- new_mutex!(None, "enbd::Channel::tx"),
            stop: Atomic::new(false),
            ended: Atomic::new(false),
            load: Count::default(),
            bound: Count::default(),
            carried: Count::default(),
            counters: Counters::default(),
        })
    }

    fn is_stopping(&self) -> bool {
        self.stop.load(Acquire)
    }

    /// Bytes that wait for an answer.
    pub(crate) fn load(&self) -> u64 {
        self.load.get()
    }

    /// Whether as much is on its way as it should have.
    pub(crate) fn is_full(&self) -> bool {
        let load = self.load();
        load > 0 && load >= self.bound.get()
    }

    /// Looks at the state, for control and status.
    pub(crate) fn with_link<R>(&self, f: impl FnOnce(&Link) -> R) -> R {
        f(&self.link.lock())
    }

    /// Gives a transfer of `group`, whose table `table` is, to the channel, to be sent by the next
    /// [`Channel::kick`]. It comes back as the error if the channel is not up, or leads to another
    /// group by now.
    pub(crate) fn submit(
        &self,
        group: GroupId,
        table: &Table<T>,
        number: SlotId,
        transfer: Transfer<T>,
    ) -> Result<(), Transfer<T>> {
        let bytes = weight(&transfer);
        let side = counted_as(&transfer);
        self.count_in(bytes, side);
        let push = || self.queue.lock().push(group, number);
        let submitted = table.submit(number, transfer, self.id, push);
        if submitted.is_err() {
            self.count_out(bytes);
            if let Some(side) = side {
                self.counters.requested(side).sub(bytes);
            }
        }
        submitted
    }

    /// Takes transfers from now on, for the connection that `tx` has.
    pub(crate) fn open(&self) {
        self.bound.set(Limits::USUAL.first);
        self.queue.lock().open();
    }

    /// Whether it takes transfers now.
    pub(crate) fn is_open(&self) -> bool {
        self.queue.lock().is_open()
    }

    fn count_in(&self, bytes: u64, side: Option<Command>) {
        self.load.add(bytes);
        self.carried.add(1);
        if let Some(side) = side {
            self.counters.requested(side).add(bytes);
        }
    }

    fn count_out(&self, bytes: u64) {
        // Before it is looked whether a transfer waits for room.
        self.load.sub_fully(bytes);
        self.carried.sub(1);
    }

    /// Counts a transfer that left the channel.
    fn count_done(&self, transfer: &Transfer<T>, outcome: Outcome) {
        let bytes = weight(transfer);
        self.count_out(bytes);
        match (outcome, counted_as(transfer)) {
            (_, None) => {}
            (Outcome::Done, Some(Command::Read)) => self.counters.read_done.add(bytes),
            (Outcome::Done, Some(_)) => self.counters.write_done.add(bytes),
            _ => self.counters.errored.add(bytes),
        }
    }
}

/// The bytes that a transfer counts for.
fn weight<T: Operations>(transfer: &Transfer<T>) -> u64 {
    counted_as(transfer).map_or(0, |_| u64::from(transfer.len))
}

/// What the status text counts a transfer as: questions to the server are no I/O of the device.
fn counted_as<T: Operations>(transfer: &Transfer<T>) -> Option<Command> {
    (transfer.question == 0).then_some(transfer.command)
}
