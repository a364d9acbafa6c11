// SPDX-License-Identifier: GPL-2.0

//! A channel: its thread connects, receives, hangs up, and starts over, as `rust/channel` does.

use crate::conn::{Answer, Ask, Line, Message, Reply, SharedConn};
use crate::logic::{
    channel::backoff_ms,
    mirror::{
        hang_up, Arrival, Arrivals, End, Fence, HangUp, Losses, Outcome, Outcomes, Place, Rest,
        World as _,
    },
    wire::{reply::NbdError, request::Command},
};
use crate::request::BLOCK_SECTORS;
use crate::server::Server;
use crate::table::{Table, Transfer};
use crate::wiring::Goal;
use crate::world::{sum_of, World};
use shuttle::rand::{thread_rng, Rng};
use shuttle::sync::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Mutex as StdMutex;

/// How long a request may go unanswered, and a group be without channels.
pub const TIMEOUT_MS: u64 = 2000;
/// How long it takes to connect to a server from which nothing comes back.
const CONNECT_MS: u64 = 4 * TIMEOUT_MS;
/// How long a server may take to close after it talked nonsense.
const DRAIN_MS: u64 = 500;

#[derive(Default)]
struct Queue {
    conn: Option<SharedConn>,
    open: bool,
    numbers: VecDeque<u32>,
}

pub struct Channel {
    index: u32,
    pub group: usize,
    queue: Mutex<Queue>,
    load: AtomicU64,
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
    pub fn new(index: u32, group: usize) -> Self {
        Self {
            index,
            group,
            queue: Mutex::new(Queue::default()),
            load: AtomicU64::new(0),
            trip: StdMutex::new(Trip {
                number: 0,
                goal: Goal::Right,
            }),
        }
    }

    pub fn load(&self) -> u64 {
        self.load.load(Relaxed)
    }

    pub fn is_open(&self) -> bool {
        self.queue.lock().unwrap().open
    }

    /// Takes transfers from now on.
    pub fn open(&self) {
        self.queue.lock().unwrap().open = true;
    }

    pub fn submit(&self, table: &Table, number: u32, transfer: Transfer) -> Result<(), Transfer> {
        let bytes = u64::from(transfer.len);
        table.put(number, transfer, self.index)?;
        self.load.fetch_add(bytes, Relaxed);
        let mut queue = self.queue.lock().unwrap();
        if queue.open {
            queue.numbers.push_back(number);
            return Ok(());
        }
        drop(queue);
        // The channel went down after it was chosen. If its end has found the transfer already, it
        // has taken care of it.
        match table.take(number, self.index, |_, sent| !sent) {
            Some((transfer, _)) => {
                self.load.fetch_sub(bytes, Relaxed);
                Err(transfer)
            }
            None => Ok(()),
        }
    }

    /// The last connection that it has made.
    pub fn trip(&self) -> Trip {
        *self.trip.lock().unwrap()
    }

    /// Resets its connection, if it has one.
    pub fn reset(&self, world: &World) {
        let conn = self.queue.lock().unwrap().conn.clone();
        if let Some(conn) = conn {
            world.server(self.group, self.trip().goal).reset(&conn);
        }
    }

    /// Sends what is queued.
    pub fn pump(&self, world: &World) {
        loop {
            let mut queue = self.queue.lock().unwrap();
            let Some(conn) = queue.conn.clone() else {
                return;
            };
            let Some(number) = queue.numbers.pop_front() else {
                return;
            };
            // Sent under the lock, as one sends at a time.
            let now = world.clock.now_ms();
            if let Some(message) = world.tables[self.group].start(number, self.index, now) {
                conn.lock().unwrap().send(message);
            }
            drop(queue);
            world.clock.happened();
        }
    }

    /// The channel's thread.
    pub fn run(&self, world: &World) {
        let mut tries = 0;
        while !world.is_ending() {
            let goal = world.wiring[self.group].goal(self.index);
            let server = world.server(self.group, goal);
            if server.is_cut() {
                // Nobody says that nobody is there. Long after the group has to be given up.
                let is_over = || world.is_ending() || !server.is_cut();
                world.clock.wait(CONNECT_MS, is_over);
            }
            match server.connect() {
                Some(conn) => {
                    {
                        let mut trip = self.trip.lock().unwrap();
                        let number = trip.number + 1;
                        *trip = Trip { number, goal };
                    }
                    if self.serve(world, server, &conn) {
                        tries = 0;
                    } else {
                        tries += 1;
                    }
                }
                None => tries += 1,
            }
            self.rest(world, u64::from(backoff_ms(tries, thread_rng().gen())));
        }
    }

    fn rest(&self, world: &World, ms: u64) {
        let until = world.clock.now_ms() + ms.min(1000);
        while world.clock.now_ms() < until && !world.is_ending() {
            world.clock.wait(100, || world.is_ending());
        }
    }

    /// Carries requests until the connection ends; false if it does not come to that.
    fn serve(&self, world: &World, server: &Server, conn: &SharedConn) -> bool {
        self.queue.lock().unwrap().conn = Some(conn.clone());
        let ending = || world.is_ending();
        let mut ask = |places: &mut [Place]| probe(world, server, conn, places);
        let arrival = world.came_up(self.index, self.group, &ending, &mut ask);
        if arrival != Arrival::Up {
            crate::trace!(world, "channel {}: {arrival:?}", self.index);
            self.queue.lock().unwrap().conn = None;
            server.abort(conn);
            world.clock.happened();
            return false;
        }
        let end = self.receive(world, server, conn);
        crate::trace!(
            world,
            "channel {} of group {}: {end:?}",
            self.index,
            self.group
        );
        world.leave(self.index, self.group);
        world.went_down(self.index, self.group);
        {
            let mut queue = self.queue.lock().unwrap();
            queue.conn = None;
            queue.open = false;
            queue.numbers.clear();
        }
        let mut line = Hung {
            channel: self,
            world,
            server,
            conn,
            is_aborted: false,
            owed: Vec::new(),
        };
        hang_up(&mut line, end);
        // As it goes.
        server.abort(conn);
        world.clock.happened();
        true
    }

    fn receive(&self, world: &World, server: &Server, conn: &SharedConn) -> End {
        loop {
            let oldest = || world.tables[self.group].oldest_ms(self.index);
            let has_asked = || oldest().is_some() || thread_rng().gen_ratio(1, 8);
            let late = || {
                oldest()
                    .is_some_and(|ms| ms + world.patience_ms(self.group) <= world.clock.now_ms())
            };
            world
                .clock
                .wait(100, || server.has_news(conn) || late() || world.is_ending());
            let view = world.core().view();
            match server.receive(conn) {
                Ok(reply) => {
                    if matches!(reply.answer, Answer::NotFlushed) && server.give_up() {
                        world.loses(self.group, view);
                    }
                    let table = &world.tables[self.group];
                    let Some((number, transfer)) = table.finish(reply.cookie, self.index) else {
                        return self.drain_blindly(world, server, conn);
                    };
                    self.load.fetch_sub(u64::from(transfer.len), Relaxed);
                    let outcome = outcome_of(reply.answer, &transfer);
                    world.done(self.group, number, transfer, outcome);
                }
                Err(Line::Closed) => return end(Fence::Fenced, Rest::Silent),
                Err(Line::Reset) => return end(Fence::Open, Rest::Gone),
                Err(Line::Open) if world.is_ending() => return end(Fence::Fenced, Rest::Alive),
                Err(Line::Open) if server.is_forgotten(conn) && has_asked() => {
                    // What was sent, if only to keep the connection alive, is answered by a reset.
                    return end(Fence::Open, Rest::Gone);
                }
                Err(Line::Open) if late() => return end(Fence::Open, Rest::Alive),
                Err(Line::Open) => {}
            }
        }
    }

    /// The server talks nonsense: its closing tells when it is through.
    fn drain_blindly(&self, world: &World, server: &Server, conn: &SharedConn) -> End {
        conn.lock().unwrap().shutdown_send();
        let until = world.clock.now_ms() + DRAIN_MS;
        while world.clock.now_ms() < until {
            world.clock.wait(100, || server.has_news(conn));
            match server.receive(conn) {
                Err(Line::Closed) => return end(Fence::Fenced, Rest::Silent),
                Err(Line::Reset) => break,
                _ => {}
            }
        }
        end(Fence::Open, Rest::Silent)
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
    while places.iter().any(|place| place.found.is_none()) {
        world
            .clock
            .wait(100, || server.has_news(conn) || world.is_ending());
        match server.receive(conn) {
            Ok(reply) => {
                let Some(place) = places.get_mut(reply.cookie as usize) else {
                    return false;
                };
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

fn end(fence: Fence, rest: Rest) -> End {
    End { fence, rest }
}

fn outcome_of(answer: Answer, transfer: &Transfer) -> Outcome {
    match answer {
        Answer::NoSpace | Answer::NotFlushed => Outcome::Refused(NbdError::NoSpc),
        Answer::Done(values) => {
            if transfer.command == Command::Read {
                transfer.buffer.fill(values);
            }
            Outcome::Done
        }
    }
}

struct Hung<'a> {
    channel: &'a Channel,
    world: &'a World,
    server: &'a Server,
    conn: &'a SharedConn,
    is_aborted: bool,
    /// The cookies of what was given back, and whether it was a write.
    owed: Vec<(u64, bool)>,
}

impl Hung<'_> {
    /// A reply came when the channel had hung up.
    fn settle(&mut self, reply: Reply) -> bool {
        let before = self.owed.len();
        self.owed.retain(|&(cookie, _)| cookie != reply.cookie);
        if self.owed.len() < before {
            return true;
        }
        let (world, group) = (self.world, self.channel.group);
        let late = world.tables[group].finish(reply.cookie, self.channel.index);
        let Some((number, transfer)) = late else {
            return false;
        };
        self.channel
            .load
            .fetch_sub(u64::from(transfer.len), Relaxed);
        let outcome = match outcome_of(reply.answer, &transfer) {
            Outcome::Done => Outcome::Lost(Fence::Fenced),
            refused => refused,
        };
        world.done(group, number, transfer, outcome);
        true
    }
}

impl HangUp for Hung<'_> {
    fn has_unanswered_writes(&self) -> bool {
        let is_write = |command, sent| sent && mirror_is_write(command);
        let table = &self.world.tables[self.channel.group];
        !table.of(self.channel.index, is_write).is_empty()
    }

    fn give_back(&mut self, fence: Fence, wanted: impl Fn(Command, bool) -> bool) {
        let (world, group) = (self.world, self.channel.group);
        let table = &world.tables[group];
        if self.is_aborted {
            self.server.end_of_quarantine(self.conn);
        }
        for number in table.of(self.channel.index, &wanted) {
            let taken = table.take(number, self.channel.index, &wanted);
            let Some((transfer, cookie)) = taken else {
                continue;
            };
            self.channel
                .load
                .fetch_sub(u64::from(transfer.len), Relaxed);
            let is_write = mirror_is_write(transfer.command);
            self.owed.extend(cookie.map(|cookie| (cookie, is_write)));
            // What was not sent cannot be carried out.
            let fence = cookie.map_or(Fence::Fenced, |_| fence);
            world.done(group, number, transfer, Outcome::Lost(fence));
        }
    }

    fn is_settled(&self) -> bool {
        !self.owed.iter().any(|&(_, is_write)| is_write)
    }

    fn collect(&mut self) -> bool {
        let world = self.world;
        world.clock.wait(100, || self.server.has_news(self.conn));
        match self.server.receive(self.conn) {
            Ok(reply) => self.settle(reply),
            Err(Line::Open) => !self.server.is_forgotten(self.conn),
            Err(_) => false,
        }
    }

    fn abort(&mut self) {
        self.is_aborted = true;
        self.server.abort(self.conn);
    }

    fn pause(&mut self, ms: u32, _heeds_stop: bool) {
        self.world.clock.wait(u64::from(ms.min(100)), || false);
    }

    fn now_ms(&self) -> u64 {
        self.world.clock.now_ms()
    }

    fn timeout_ms(&self) -> u32 {
        TIMEOUT_MS as u32
    }

    fn is_stopping(&self) -> bool {
        self.world.is_ending()
    }

    fn is_failing(&self) -> bool {
        self.world.is_ending()
    }

    fn suspect(&self, suspect: bool) {
        self.world.suspect(self.channel.group, suspect);
    }

    fn suspect_for(&self, ms: u32) {
        self.world.suspect_for(self.channel.group, ms);
    }

    fn give_up_group(&self) -> bool {
        self.world.give_up_group(self.channel.group)
    }
}

fn mirror_is_write(command: Command) -> bool {
    crate::logic::mirror::hang_up::is_write(command)
}
