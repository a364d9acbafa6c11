// SPDX-License-Identifier: GPL-2.0

//! A channel: its threads connect, send and receive, and start over, as `rust/channel` does. What
//! they do with a connection is decided by the same session.

use crate::conn::{Answer, Ask, Line, Message, SharedConn};
use crate::logic::{
    ids::{ChannelId, GroupId, Lane, SlotId, SLOTS},
    mirror::{Arrival, Arrivals, Hears, Losses, Place, World as _},
    session::{
        self, send_queue::SendQueue, send_queue::Sender, Around, Debt, Event, Limits, Outcome,
        Retry, Session, Step, Stop, INBOX_LEN,
    },
    wire::request::Command,
};
use crate::pipe::Sending;
use crate::request::{Buffer, BLOCK_SECTORS};
use crate::server::Server;
use crate::stream::{values_of, Stream};
use crate::table::{Table, Transfer};
use crate::wiring::Goal;
use crate::world::{sum_of, World};
use shuttle::rand::{thread_rng, Rng};
use shuttle::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex as StdMutex};

/// How long a request may go unanswered, and a group be without channels.
pub const TIMEOUT_MS: u64 = 2000;
/// Some blocks, so that there is often no room.
const LIMITS: Limits = Limits {
    first: 4 * BLOCK_SECTORS * 512,
    least: BLOCK_SECTORS * 512,
};
/// How long it takes to connect to a server from which nothing comes back.
const CONNECT_MS: u64 = 4 * TIMEOUT_MS;

struct Queue(Mutex<SendQueue>);

impl session::Queue for Queue {
    fn with<R>(&self, f: impl FnOnce(&mut SendQueue) -> R) -> R {
        f(&mut self.0.lock().unwrap())
    }
}

pub struct Channel {
    lane: Lane,
    pub group: GroupId,
    queue: Queue,
    sending: Mutex<Option<Sending>>,
    load: AtomicU64,
    bound: AtomicU64,
    carried: AtomicU64,
    /// How many connections it has made, and where the last one leads.
    trip: StdMutex<Trip>,
}

/// One of the connections of a channel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Trip {
    pub number: u64,
    pub goal: Goal,
}

impl Channel {
    pub fn new(index: usize, group: usize) -> Self {
        let lane = Lane {
            group: GroupId::new(group).expect("there are so many"),
            channel: ChannelId::new(index).expect("there are so many"),
        };
        Self {
            lane,
            group: lane.group,
            queue: Queue(Mutex::new(SendQueue::default())),
            sending: Mutex::new(None),
            load: AtomicU64::new(0),
            bound: AtomicU64::new(0),
            carried: AtomicU64::new(0),
            trip: StdMutex::new(Trip {
                number: 0,
                goal: Goal::Right,
            }),
        }
    }

    fn index(&self) -> u32 {
        self.lane.channel.index() as u32
    }

    pub fn load(&self) -> u64 {
        self.load.load(Relaxed)
    }

    /// Whether as much is on its way as it should have.
    pub fn is_full(&self) -> bool {
        let load = self.load();
        load > 0 && load >= self.bound.load(Relaxed)
    }

    pub fn is_open(&self) -> bool {
        self.queue.0.lock().unwrap().is_open()
    }

    /// Takes transfers from now on.
    pub fn open(&self) {
        self.bound.store(LIMITS.first, Relaxed);
        self.queue.0.lock().unwrap().open();
    }

    pub fn submit(
        &self,
        table: &Table,
        number: SlotId,
        transfer: Transfer,
    ) -> Result<(), Transfer> {
        let bytes = u64::from(transfer.len);
        self.load.fetch_add(bytes, Relaxed);
        self.carried.fetch_add(1, Relaxed);
        let push = || self.queue.0.lock().unwrap().push(self.group, number);
        let submitted = table.submit(number, transfer, self.lane.channel, push);
        if submitted.is_err() {
            self.count_out(bytes);
        }
        submitted
    }

    fn count_out(&self, bytes: u64) {
        self.load.fetch_sub(bytes, Relaxed);
        self.carried.fetch_sub(1, Relaxed);
    }

    /// The last connection that it has made.
    pub fn trip(&self) -> Trip {
        *self.trip.lock().unwrap()
    }

    /// Resets its connection, if it has one.
    pub fn reset(&self, world: &World) {
        let conn = self.sending.lock().unwrap().as_ref().map(Sending::conn);
        if let Some(conn) = conn {
            world
                .hosts
                .server(self.group, self.trip().goal)
                .reset(&conn);
        }
    }

    /// Sees to it that what is queued gets sent.
    pub fn kick(&self, world: &World) {
        let carried = self.carried.load(Relaxed) as usize;
        let sender = self.queue.0.lock().unwrap().choose_sender(carried);
        match sender {
            Some(Sender::Active) => self.pump(world, Sender::Active),
            Some(Sender::Thread) => world.clock.happened(),
            Some(Sender::Idle) | None => {}
        }
    }

    fn pump(&self, world: &World, sender: Sender) {
        let mut sending = self.sending.lock().unwrap();
        // Without a connection the channel has just gone down, and its end has made the queue idle.
        let Some(sending) = &mut *sending else { return };
        let mut backlog = std::mem::take(&mut sending.backlog);
        let table = &world.tables[self.group];
        let stop = session::pump(
            sending,
            &mut backlog,
            &self.queue,
            (table, self.lane.channel),
            sender,
            || world.clock.now_ms(),
        );
        sending.backlog = backlog;
        if stop == Stop::Broken {
            sending.break_off();
        }
        let then = |queue: &mut SendQueue| match stop {
            Stop::Idle => {}
            Stop::Closed | Stop::Broken => queue.give_up(),
            Stop::HandOver => queue.hand_to_thread(),
        };
        session::Queue::with(&self.queue, then);
        world.clock.happened();
    }

    /// The sender thread.
    pub fn run_sender(&self, world: &World) {
        while !world.is_ending() {
            let is_threads = || self.queue.0.lock().unwrap().is_threads();
            world.clock.wait(1000, || is_threads() || world.is_ending());
            if is_threads() {
                self.pump(world, Sender::Thread);
            }
        }
    }

    /// The channel's thread.
    pub fn run(&self, world: &World) {
        let mut retry = Retry::default();
        while !world.is_ending() {
            if !world.is_linked(self.group) {
                let is_over = || world.is_ending() || world.is_linked(self.group);
                world.clock.wait(u64::MAX, is_over);
                continue;
            }
            let goal = world.hosts.wiring[self.group].goal(self.index());
            let server = world.hosts.server(self.group, goal);
            if server.is_cut() {
                // Nobody says that nobody is there. Long after the group has to be given up.
                let is_over = || world.is_ending() || !server.is_cut();
                world.clock.wait(CONNECT_MS, is_over);
            }
            // No other thread goes on in between: a client that has crashed connects to nobody.
            let conn = (!world.has_crashed()).then(|| server.connect()).flatten();
            let was_up = conn.and_then(|conn| {
                let mut trip = self.trip.lock().unwrap();
                let number = trip.number + 1;
                *trip = Trip { number, goal };
                drop(trip);
                self.serve(world, server, &conn)
            });
            match was_up {
                Some(ms) => retry.was_up(ms),
                None => retry.failed(),
            }
            self.rest(world, u64::from(retry.wait_ms(thread_rng().gen())));
        }
    }

    fn rest(&self, world: &World, ms: u64) {
        let until = world.clock.now_ms() + ms.min(1000);
        while world.clock.now_ms() < until && !world.is_ending() {
            world.clock.wait(100, || world.is_ending());
        }
    }

    /// Carries requests until the connection ends, and gives for how many milliseconds it did, if it
    /// comes to that.
    fn serve(&self, world: &World, server: &Server, conn: &SharedConn) -> Option<u64> {
        let broken = Arc::new(AtomicBool::new(false));
        let sending = Sending::new(conn, &world.clock, &broken);
        *self.sending.lock().unwrap() = Some(sending);
        self.queue.0.lock().unwrap().assign(self.group);
        let ending = || world.is_ending();
        let mut ask = |places: &mut [Place]| probe(world, server, conn, places);
        let arrival = world.came_up(self.lane, &ending, &mut ask);
        let mut lasted_ms = None;
        if arrival == Arrival::Up {
            let mut served = Served {
                channel: self,
                world,
                server,
                conn,
                broken: &broken,
                data: Vec::new(),
                is_reset: false,
            };
            lasted_ms = Some(served.run());
        } else {
            crate::trace!(world, "channel {}: {arrival:?}", self.index());
            *self.sending.lock().unwrap() = None;
        }
        server.abort(conn);
        world.clock.happened();
        lasted_ms
    }
}

/// A connection that carries requests.
struct Served<'a> {
    channel: &'a Channel,
    world: &'a World,
    server: &'a Server,
    conn: &'a SharedConn,
    broken: &'a AtomicBool,
    /// The data of the read that is being received.
    data: Vec<u8>,
    is_reset: bool,
}

impl Served<'_> {
    fn run(&mut self) -> u64 {
        let (world, channel) = (self.world, self.channel);
        let table = &world.tables[channel.group];
        let inbox = vec![0u8; INBOX_LEN];
        let debts = vec![Debt::NONE; SLOTS];
        let now_ms = world.clock.now_ms();
        let mut session = Session::new(table, channel.lane.channel, inbox, debts, LIMITS, now_ms);
        let mut stream = Stream::new(world, self.server, self.conn);
        let has_asked = || table.has_any(channel.lane.channel) || thread_rng().gen_ratio(1, 8);
        loop {
            match session.next(&*self) {
                Step::Recv => {
                    let room = session.room();
                    let (got, bytes) = stream.receive(room.len(), has_asked);
                    room[..bytes.len()].copy_from_slice(&bytes);
                    session.received(&*self, got);
                }
                Step::Fill(from, to) => {
                    self.data.truncate(from);
                    assert_eq!(from, self.data.len());
                    let (got, bytes) = stream.receive(to - from, has_asked);
                    self.data.extend(bytes);
                    session.received(&*self, got);
                }
                Step::Copy => session.copy(|_, bytes| {
                    self.data = bytes.to_vec();
                    true
                }),
                Step::Drain => {
                    self.tell(Event::Left);
                    channel.queue.0.lock().unwrap().end();
                }
                Step::Tell(event) => self.tell(event),
                Step::Close(reason, rest) => {
                    crate::trace!(
                        world,
                        "channel {} of group {}: {reason:?} {rest:?}",
                        channel.index(),
                        channel.group
                    );
                    channel.queue.0.lock().unwrap().close();
                    if rest != session::hang_up::Rest::Alive {
                        self.conn.lock().unwrap().shutdown_send();
                        world.clock.happened();
                    }
                    let sending = channel.sending.lock().unwrap().take();
                    channel.queue.0.lock().unwrap().give_up();
                    let unsent = sending.map_or(Vec::new(), |sending| sending.unsent());
                    let events = unsent
                        .iter()
                        .filter_map(|&cookie| session.never_sent(cookie));
                    events.for_each(|event| self.tell(event));
                }
                Step::Abort => {
                    self.is_reset = true;
                    self.server.abort(self.conn);
                }
                Step::Pause(ms, _) => {
                    world.clock.wait(u64::from(ms.min(100)), || false);
                }
                Step::Over => return session.lasted_ms(),
            }
        }
    }

    fn tell(&mut self, event: Event<Buffer>) {
        let world = self.world;
        if std::mem::take(&mut self.is_reset) && !world.has_crashed() {
            // The time is over.
            self.server.end_of_quarantine(self.conn);
        }
        if let Event::Ended {
            transfer, outcome, ..
        } = &event
        {
            self.channel.count_out(u64::from(transfer.len));
            match (transfer.command, outcome) {
                (Command::Read, Outcome::Done) => transfer.buffer.fill(values_of(&self.data)),
                (Command::Flush, Outcome::Refused(_)) => {
                    let view = world.core().view();
                    if self.server.give_up() {
                        world.hosts.loses(self.channel.group, view);
                    }
                }
                _ => {}
            }
        }
        world.hear(self.channel.lane, event);
    }
}

impl Around for Served<'_> {
    fn now_ms(&self) -> u64 {
        self.world.clock.now_ms()
    }

    fn is_stopping(&self) -> bool {
        self.world.is_ending() || !self.world.is_linked(self.channel.group)
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Relaxed)
    }

    fn has_peer_closed(&self) -> bool {
        self.conn.lock().unwrap().line == Line::Closed
    }

    fn patience_ms(&self) -> u64 {
        self.world.patience_ms(self.channel.group)
    }

    fn timeout_ms(&self) -> u64 {
        TIMEOUT_MS
    }

    fn load(&self) -> u64 {
        self.channel.load()
    }

    fn set_bound(&self, bytes: u64) {
        self.channel.bound.store(bytes, Relaxed);
    }

    fn is_failing(&self) -> bool {
        self.world.is_ending()
    }

    fn give_up_group(&self) -> bool {
        self.world.give_up_group(self.channel.group)
    }
}

/// Reads over a connection that carries nothing yet.
fn probe(world: &World, server: &Server, conn: &SharedConn, places: &mut [Place]) -> bool {
    for (cookie, place) in places.iter().enumerate() {
        let first = (place.offset / (BLOCK_SECTORS * 512)) as usize;
        let cookie = cookie as u64;
        let ask = Ask::Read { first, len: 1 };
        conn.lock().unwrap().send(Message { cookie, ask });
    }
    world.clock.happened();
    let until = world.clock.now_ms() + TIMEOUT_MS;
    let mut left = places.len();
    while left > 0 {
        world
            .clock
            .wait(100, || server.has_news(conn) || world.is_ending());
        match server.receive(conn) {
            Ok(reply) => {
                let Some(place) = places.get_mut(reply.cookie as usize) else {
                    return false;
                };
                left -= 1;
                if let Answer::Done(values) = reply.answer {
                    place.found = values.first().copied().map(sum_of);
                }
            }
            Err(Line::Open) if world.clock.now_ms() < until && !world.is_ending() => {}
            Err(_) => return false,
        }
    }
    true
}
