// SPDX-License-Identifier: GPL-2.0

//! A channel: one socket to the server of a group, the requests on it, and the thread that keeps it
//! alive.
//!
//! | file | what |
//! |---|---|
//! | [`table`] | the transfers of a group, by number, whatever channel they are on |
//! | [`send`] | the sending (`logic::send_queue` says by whom) |
//! | [`connect`] | connecting and negotiating |
//! | [`probe`] | what a new connection has to show |
//! | [`receive`], [`inbox`] | the replies |
//! | [`owed`] | the replies that are still to come when nobody waits for them any more |
//! | [`life`] | the thread that connects, receives, and starts over |
//!
//! A transfer's life: the mirror puts it into the table of its group for a channel
//! ([`Channel::submit`]); a sender marks it as sent; whoever takes it out of the table, the
//! receiver with its reply or the channel's end with its loss, hands it back ([`Home::done`]).
//! Taking it out happens under the lock of its slot, so it happens once.
//!
//! Lock order: `tx` > { `link`, slot of a table, `queue` }. The last two are spin locks and never
//! nest; what is taken out under them is dropped after they are released, since the end of a
//! request may wait.

mod connect;
mod inbox;
mod life;
mod owed;
mod probe;
mod receive;
mod send;
mod table;

use crate::kapi::{
    block::mq::Operations,
    iovec::Outgoing,
    net::{Endpoint, Net, Socket},
};
use crate::logic::channel::{ChannelEvent, ChannelState, DownReason};
use crate::logic::command::{Address, Name, Zone};
use crate::logic::send_queue::{Batch, SendQueue};
use crate::logic::target::Target;
use crate::logic::wire::{handshake::Export, request::Command};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            ordering::{Acquire, Relaxed},
            Atomic,
        },
        new_condvar, new_mutex, new_spinlock, Arc, CondVar, Mutex, SpinLock,
    },
    time::{Instant, Monotonic},
};

pub(crate) use crate::logic::mirror::{Arrival, Fence, Outcome, Probe};
pub(crate) use life::ChannelThreads;
pub(crate) use probe::sum_of;
pub(crate) use table::{Table, Transfer, NO_CHANNEL, SLOTS};

/// What a channel needs from the mirror that it belongs to.
pub(crate) trait Home: Send + Sync + 'static {
    /// The driver whose requests are carried.
    type Ops: Operations;

    /// The letter of the device, for log lines.
    fn letter(&self) -> char;
    /// Channel number `index`.
    fn channel(&self, index: u8) -> Option<&Channel<Self::Ops>>;
    /// The transfers of a group.
    fn table(&self, group: u8) -> Option<&Table<Self::Ops>>;
    /// Seconds after which an unanswered request makes its channel suspect.
    fn request_timeout_s(&self) -> u32;
    /// Milliseconds after which an unanswered request of the group makes its channel suspect now.
    fn patience_ms(&self, group: u8) -> u64;
    /// Seconds that a connection may take until it is negotiated.
    fn connect_timeout_s(&self) -> u32;
    /// Whether a new channel to this export leads elsewhere than those of the group that are up.
    fn is_another(&self, group: u8, export: &Export) -> bool;
    /// Whether the group may have a channel to this export.
    fn admit(&self, group: u8, export: &Export) -> Result<(), DownReason>;
    /// The channel is connected, and carries requests if this says so; `ended` says that it is to
    /// end, and `probe` reads over it. Waits for the answers of others of the group.
    fn came_up(&self, index: u8, group: u8, ended: &dyn Fn() -> bool, probe: Probe<'_>) -> Arrival;
    /// The channel takes no more requests.
    fn leave(&self, index: u8, group: u8);
    /// Takes the group out of service, since its server may still carry out writes that it has not
    /// answered. False if no other one is in sync: then those writes must not be given back before
    /// the server will not carry them out any more.
    fn give_up_group(&self, group: u8) -> bool;
    /// From now on, or no longer, the server of the group may carry out writes that were given
    /// back.
    fn suspect(&self, group: u8, suspect: bool);
    /// The server of the group may do so for so many milliseconds more, whatever becomes of the
    /// channel.
    fn suspect_for(&self, group: u8, ms: u32);
    /// Whether requests that cannot be served fail now.
    fn is_failing(&self) -> bool;
    /// The channel was lost, or has ended. Its transfers come back afterwards.
    fn went_down(&self, index: u8, group: u8);
    /// A transfer has ended. Called in process context, without locks.
    fn done(&self, group: u8, number: u32, transfer: Transfer<Self::Ops>, outcome: Outcome);
    /// The state of a channel has changed.
    fn changed(&self);
    /// Waits for a change that makes `enough` true, at most `ms` milliseconds; gives what it says
    /// in the end.
    fn sleep(&self, ms: u32, enough: &mut dyn FnMut() -> bool) -> bool;
}

/// Where a channel connects to, and for which group.
pub(crate) struct Spec {
    /// The group it belongs to.
    pub(crate) group: u8,
    /// The server's address as it is shown.
    addr: KVec<u8>,
    place: Place,
    /// The name of the export.
    pub(crate) export: KVec<u8>,
    /// The same as it is shown.
    export_text: KVec<u8>,
    net: Net,
}

enum Place {
    Tcp4(core::net::Ipv4Addr, u16),
    Tcp6(core::net::Ipv6Addr, Option<Zone>, u16),
    Unix(KVec<u8>),
}

impl Spec {
    /// What a command asks for, in the network namespace of its writer, who calls this.
    pub(crate) fn here(group: u8, addr: Address<'_>, export: Name<'_>) -> Result<Self> {
        let mut text = KVec::new();
        let place = match addr {
            Address::Tcp4 { addr, port } => Place::Tcp4(addr, port),
            Address::Tcp6 { addr, zone, port } => Place::Tcp6(addr, zone, port),
            Address::Unix { path } => Place::Unix(collect(path.bytes())?),
        };
        text.extend_from_slice(addr.text().as_str().as_bytes(), GFP_KERNEL)?;
        Ok(Self {
            group,
            addr: text,
            place,
            export: collect(export.bytes())?,
            export_text: collect(export.spelled())?,
            net: Net::current().ok_or(ESRCH)?,
        })
    }

    /// Where to connect to now: an interface that comes back may have another number.
    fn endpoint(&self) -> Result<Endpoint<'_>, DownReason> {
        Ok(match &self.place {
            Place::Tcp4(ip, port) => Endpoint::Tcp4(*ip, *port),
            Place::Tcp6(ip, None, port) => Endpoint::Tcp6(*ip, *port, 0),
            Place::Tcp6(ip, Some(zone), port) => {
                let scope = self.net.interface(zone.as_str().as_bytes());
                Endpoint::Tcp6(*ip, *port, scope.ok_or(DownReason::NoInterface)?)
            }
            Place::Unix(path) => Endpoint::Unix(path),
        })
    }

    /// `tcp` or `unix`.
    pub(crate) fn transport(&self) -> &'static str {
        self.address().transport()
    }

    /// The address as it is shown.
    pub(crate) fn addr_str(&self) -> &str {
        core::str::from_utf8(&self.addr).unwrap_or("?")
    }

    /// The export's name as it is shown.
    pub(crate) fn export_str(&self) -> &str {
        core::str::from_utf8(&self.export_text).unwrap_or("?")
    }

    /// Whether it leads to `addr`.
    pub(crate) fn leads_to(&self, addr: &Address<'_>) -> bool {
        self.address() == *addr
    }

    fn address(&self) -> Address<'_> {
        match self.place {
            Place::Tcp4(addr, port) => Address::Tcp4 { addr, port },
            Place::Tcp6(addr, zone, port) => Address::Tcp6 { addr, zone, port },
            Place::Unix(ref path) => Address::Unix {
                path: Name::plain(path),
            },
        }
    }

    /// What it leads to.
    pub(crate) fn target(&self) -> Target<'_, &Net> {
        Target {
            group: self.group,
            addr: self.address(),
            export: Name::plain(&self.export),
            net: &self.net,
        }
    }
}

fn collect(bytes: impl Iterator<Item = u8>) -> Result<KVec<u8>> {
    let mut all = KVec::new();
    for byte in bytes {
        all.push(byte, GFP_KERNEL)?;
    }
    Ok(all)
}

/// The connection of a channel, as far as it is not on the fast path.
pub(crate) struct Link {
    /// What the channel does.
    pub(crate) state: ChannelState,
    /// Since when.
    pub(crate) since: Instant<Monotonic>,
    /// Where it leads; set while it belongs to a group.
    pub(crate) spec: Option<Arc<Spec>>,
    /// Why it was last down or could not come up.
    pub(crate) reason: Option<DownReason>,
    /// How often it came up again.
    pub(crate) reconnects: u64,
    /// What was found on the connection that is, or was last, up.
    pub(crate) export: Option<Export>,
    sock: Option<Arc<Socket>>,
    ever_up: bool,
}

impl Link {
    fn enter(&mut self, event: ChannelEvent) {
        if let Some(state) = self.state.after(event) {
            self.state = state;
            self.since = Instant::now();
        }
    }
}

/// What was sent and answered, in bytes. Only for the status text.
#[derive(Default)]
pub(crate) struct Counters {
    /// Bytes of reads that were given to the channel.
    pub(crate) read_requested: Count,
    /// Bytes of writes that were given to the channel.
    pub(crate) write_requested: Count,
    /// Bytes of reads that were answered.
    pub(crate) read_done: Count,
    /// Bytes of writes that were answered.
    pub(crate) write_done: Count,
    /// Bytes of requests that were refused or lost.
    pub(crate) errored: Count,
}

impl Counters {
    fn requested(&self, side: Command) -> &Count {
        match side {
            Command::Read => &self.read_requested,
            _ => &self.write_requested,
        }
    }
}

/// A number that only grows, for the status text.
pub(crate) struct Count(Atomic<u64>);

impl Default for Count {
    fn default() -> Self {
        Self(Atomic::new(0))
    }
}

impl Count {
    /// Adds.
    pub(crate) fn add(&self, n: u64) {
        self.0.add(n, Relaxed);
    }

    /// Adds one and gives the sum.
    pub(crate) fn increment(&self) -> u64 {
        self.0.fetch_add(1, Relaxed).wrapping_add(1)
    }

    /// Sets it.
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// Subtracts.
    pub(crate) fn sub(&self, n: u64) {
        self.0.add(n.wrapping_neg(), Relaxed);
    }

    /// The number now.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

struct Tx<T: Operations> {
    /// The group whose transfers are sent.
    group: u8,
    sock: Arc<Socket>,
    /// Sending failed: what the receiver sees next is not the server's doing.
    broken: Arc<Atomic<bool>>,
    out: Outgoing<T>,
    /// The cookies of the messages in `out`, in order.
    cookies: KVec<u64>,
    /// Transfers that were taken from the queue and not yet collected.
    backlog: Batch,
}

/// One channel. A device has a fixed number of them, most of them unused.
#[pin_data]
pub(crate) struct Channel<T: Operations> {
    index: u8,
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
    /// Bytes that were given to the channel and are not answered.
    load: Count,
    /// Transfers that were given to the channel and are not answered.
    carried: Count,
    /// What it did.
    pub(crate) counters: Counters,
}

impl<T: Operations> Channel<T> {
    /// Unused channel number `index`.
    pub(crate) fn new(index: u8) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            index,
            link <- new_mutex!(Link {
                state: ChannelState::Unused,
                since: Instant::now(),
                spec: None,
                reason: None,
                reconnects: 0,
                export: None,
                sock: None,
                ever_up: false,
            }, "enbd::Channel::link"),
            queue <- new_spinlock!(SendQueue::default(), "enbd::Channel::queue"),
            sender <- new_condvar!("enbd::Channel::sender"),
            tx <- new_mutex!(None, "enbd::Channel::tx"),
            stop: Atomic::new(false),
            load: Count::default(),
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

    /// Looks at the state, for control and status.
    pub(crate) fn with_link<R>(&self, f: impl FnOnce(&Link) -> R) -> R {
        f(&self.link.lock())
    }

    /// Gives a transfer of `group`, whose table `table` is, to the channel, to be sent by the next
    /// [`Channel::kick`]. It comes back as the error if the channel is not up, or leads to another
    /// group by now.
    pub(crate) fn submit(
        &self,
        group: usize,
        table: &Table<T>,
        number: u32,
        transfer: Transfer<T>,
    ) -> Result<(), Transfer<T>> {
        let bytes = weight(&transfer);
        let side = counted_as(&transfer);
        table.put(number, transfer, self.index)?;
        self.enqueue(group, table, number, bytes, side)
    }

    /// Takes transfers from now on, for the connection that `tx` has.
    pub(crate) fn open(&self) {
        self.queue.lock().open();
    }

    /// Whether it takes transfers now.
    pub(crate) fn is_open(&self) -> bool {
        self.queue.lock().is_open()
    }

    fn enqueue(
        &self,
        group: usize,
        table: &Table<T>,
        number: u32,
        bytes: u64,
        side: Option<Command>,
    ) -> Result<(), Transfer<T>> {
        self.count_in(bytes, side);
        if self.queue.lock().push(group, number) {
            return Ok(());
        }
        // The channel went down after it was chosen, and may lead to another group by now. If its
        // end has found the transfer already, it has taken care of it.
        match table.take(number, self.index, |_, sent| !sent) {
            Some((transfer, _)) => {
                self.count_out(bytes);
                if let Some(side) = side {
                    self.counters.requested(side).sub(bytes);
                }
                Err(transfer)
            }
            None => Ok(()),
        }
    }

    fn count_in(&self, bytes: u64, side: Option<Command>) {
        self.load.add(bytes);
        self.carried.add(1);
        if let Some(side) = side {
            self.counters.requested(side).add(bytes);
        }
    }

    fn count_out(&self, bytes: u64) {
        self.load.sub(bytes);
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
