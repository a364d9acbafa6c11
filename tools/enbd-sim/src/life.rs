// SPDX-License-Identifier: GPL-2.0

//! The life of a client: it finds its mirror on the servers, enables the device, has users, and ends, in
//! order or not. What it finds is read over connections, and decided, by what the driver runs.

use crate::faults::Mischief;
use crate::hosts::Hosts;
use crate::keeper::Control;
use crate::logic::{
    ids::GroupId,
    meta::{Ask, Owner},
    mirror::{
        decide::joined, scout, Decides, Memories, NotStarted, Start, Starter, States, World as _,
    },
};
use crate::remember::{self, REGION_SHIFT};
use crate::scale::Scale;
use crate::server::Server;
use crate::user::{User, USERS};
use crate::world::World;
use shuttle::rand::{thread_rng, Rng};
use shuttle::thread::{self, JoinHandle};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;

/// Milliseconds in which a server that can be reached has a channel, and a command gets an answer.
const COMMAND_MS: u64 = 4 * crate::channel::TIMEOUT_MS;
/// How often a start is tried, at most, before all servers are there and well.
const MOST_TRIES: usize = 4;
/// Milliseconds of a start in which the client may crash.
const MOST_START_MS: u64 = 20_000;

/// The life of a client.
pub struct Life {
    pub world: Arc<World>,
    pub control: Arc<Control>,
    /// What carries requests.
    channels: Vec<JoinHandle<()>>,
    /// What looks after a device that is enabled.
    companions: Vec<JoinHandle<()>>,
    users: Vec<JoinHandle<()>>,
    /// The users' time is over.
    over: Arc<AtomicBool>,
    /// Intent pages are kept.
    intent: bool,
}

impl Life {
    fn new(world: Arc<World>) -> Self {
        let intent = world.scale.intent ^ thread_rng().gen_ratio(1, 16);
        Self {
            control: Control::new(world.clone()),
            world,
            channels: Vec::new(),
            companions: Vec::new(),
            users: Vec::new(),
            over: Arc::new(AtomicBool::new(false)),
            intent,
        }
    }

    /// The first one, whose device is enabled.
    pub fn first(scale: Scale, hosts: &Arc<Hosts>) -> Self {
        let mut life = Self::new(World::first(scale, hosts.clone()));
        life.connect_channels();
        life.look_after();
        life.start_users();
        life
    }

    /// A later one, which finds what its forerunners have left. Nothing if it has ended before its device
    /// was enabled.
    pub fn again(scale: Scale, hosts: &Arc<Hosts>) -> Option<Self> {
        let mut life = Self::new(World::new(scale, hosts.clone()));
        life.connect_channels();
        let crash = thread_rng().gen_ratio(1, 3).then(|| {
            let (world, over) = (life.world.clone(), life.over.clone());
            thread::spawn(move || {
                let ms = thread_rng().gen_range(0..MOST_START_MS);
                if !world.clock.wait(ms, || over.load(Relaxed)) {
                    crate::trace!(world, "the client crashes while it starts");
                    world.crash();
                }
            })
        });
        let has_started = life.start();
        if has_started && thread_rng().gen_ratio(1, 4) {
            // Nobody was brought back yet, nor has anybody written.
            life.world.crash();
        }
        life.over.store(true, Relaxed);
        life.world.clock.happened();
        if let Some(crash) = crash {
            crash.join().expect("no panic");
        }
        if !has_started || life.world.has_crashed() {
            life.join();
            return None;
        }
        life.over.store(false, Relaxed);
        life.start_users();
        Some(life)
    }

    fn connect_channels(&mut self) {
        for channel in 0..self.world.channels.len() {
            let world = self.world.clone();
            let run = move || world.channels[channel].run(&world);
            self.channels.push(thread::spawn(run));
            let world = self.world.clone();
            let send = move || world.channels[channel].run_sender(&world);
            self.channels.push(thread::spawn(send));
        }
    }

    /// The threads of a device that is enabled.
    fn look_after(&mut self) {
        let world = &self.world;
        let mut start = |f: Box<dyn FnOnce() + Send>| self.companions.push(thread::spawn(f));
        let again = world.clone();
        start(Box::new(move || again.ask_again()));
        let looked_at = world.clone();
        start(Box::new(move || {
            scout(&*looked_at, &|| looked_at.is_closing());
        }));
        if world.scale.memory {
            let recorder = world.clone();
            start(Box::new(move || {
                recorder.keep_records(&|| recorder.is_closing());
            }));
        }
        let watched = world.clone();
        start(Box::new(move || crate::late::watch(&watched)));
        let clock = self.control.clone();
        start(Box::new(move || clock.look_at_clock()));
        let control = self.control.clone();
        start(Box::new(move || control.keep()));
    }

    fn start_users(&mut self) {
        let share = self.world.scale.blocks / USERS;
        for number in 0..USERS {
            let own = number * share..(number + 1) * share;
            let user = User::new(&self.world, own, true);
            let over = self.over.clone();
            self.users.push(thread::spawn(move || user.run(&over)));
        }
    }

    /// Enables the device by what is found; false if the client has ended before.
    fn start(&mut self) -> bool {
        for tries in 1.. {
            self.connect_some(tries >= MOST_TRIES);
            if self.world.has_crashed() {
                return false;
            }
            let ask = self.choose(tries);
            match self.try_to_start(ask) {
                Ok(()) => return true,
                Err(why) => self.judge_refusal(tries, why),
            }
            self.world.clock.wait(500, || self.world.is_ending());
        }
        false
    }

    /// What an administrator asks for, who wants the device more than some of its data now and then. Where
    /// that was so before, what counts since then has to be there, and is preferred.
    fn choose(&self, tries: usize) -> Ask {
        let joined = joined(&*self.world);
        let hosts = &self.world.hosts;
        let most = if hosts.has_older() { MOST_TRIES } else { 1 };
        if let Some(holder) = hosts.holder().filter(|_| tries > most) {
            return Ask::Source(holder);
        }
        if hosts.has_older() {
            return Ask::Certain;
        }
        let one = thread_rng().gen_range(0..self.world.scale.groups);
        let one = GroupId::new(one).filter(|&group| joined.has(group));
        match (thread_rng().gen_range(0..16), one) {
            (0, Some(one)) if self.world.hosts.holder().is_none() => Ask::Source(one),
            (1..4, _) => Ask::Degraded,
            _ => Ask::Certain,
        }
    }

    /// Connects groups that are not there yet, but for some, whose servers may be gone; or all.
    fn connect_some(&self, all: bool) {
        let (world, mischief) = (&self.world, self.mischief());
        for group in world.scale.all_groups() {
            let counts = world.hosts.holder() == Some(group);
            if all || counts || world.hosts.has_older() || thread_rng().gen_ratio(3, 4) {
                mischief.heal(group);
                self.connect(group);
            }
        }
    }

    /// Has all groups join, whose servers are well. It is tried again where a connection is lost.
    pub fn connect_all(&self) {
        for _ in 0..MOST_TRIES {
            for group in self.world.scale.all_groups() {
                self.connect(group);
            }
            if self.has_all() {
                return;
            }
        }
        panic!("not all groups can be connected");
    }

    /// Whether all groups have joined.
    fn has_all(&self) -> bool {
        joined(&*self.world).len() as usize == self.world.scale.groups
    }

    /// Has a group join, if its server can be reached.
    fn connect(&self, group: GroupId) {
        let world = &self.world;
        if joined(&**world).has(group) || world.is_ending() {
            return;
        }
        world.set_linked(group, true);
        let is_up = || !world.core().group(group).up().is_empty();
        world
            .clock
            .wait(COMMAND_MS, || is_up() || world.is_ending());
        let found = is_up().then(|| world.with_room(|| self.look_at_metadata(group)));
        crate::trace!(world, "group {group} is connected: {found:?}");
        if found == Some(Ok(true)) {
            world.join(group).expect("it was absent");
            if world.core().last_sectors() == 0 {
                world.wait_for_start(group);
            }
            return;
        }
        world.set_linked(group, false);
        world.clock.wait(u64::MAX, || !is_up() || world.is_ending());
    }

    fn try_to_start(&mut self, ask: Ask) -> Result<(), NotStarted> {
        self.world.with_room(|| {
            let start = self.decide(ask)?.ok_or(NotStarted::NoMetadata)?;
            crate::trace!(self.world, "the device starts: {start:?}");
            self.note_losses(ask, &start);
            self.record_start(&start)
        })?;
        self.look_after();
        self.world.enabled();
        Ok(())
    }

    /// What a source has lost is lost from now on, and what its server has not flushed on connections of
    /// another client may be beyond any flush.
    fn note_losses(&self, ask: Ask, start: &Start) {
        let (hosts, oracle) = (&self.world.hosts, &self.world.oracle);
        let has_all = self.has_all();
        let is_choice = matches!(ask, Ask::Source(_)) || (ask == Ask::Degraded && !has_all);
        if let Some(source) = start.sources.iter().next().filter(|_| is_choice) {
            crate::trace!(self.world, "what group {source} has counts");
            hosts.part_from(source);
        }
        if start.sources.iter().any(|g| hosts.lossy[g].load(Relaxed)) {
            crate::trace!(self.world, "a source had lost data");
            oracle.lose();
        }
        if (start.is_unclean || is_choice) && !self.world.scale.multi_conn {
            oracle.doubt();
        }
    }

    /// Where all servers are there and well, nothing but a lost answer keeps a device from starting.
    fn judge_refusal(&self, tries: usize, why: NotStarted) {
        let world = &self.world;
        crate::trace!(world, "the device does not start: {why:?}");
        let is_last = tries > MOST_TRIES && !world.has_crashed();
        let has_all = self.has_all();
        let is_certain = world.hosts.holder().is_none();
        let is_fault = matches!(why, NotStarted::Refused(_)) && has_all && is_certain;
        assert!(
            !(is_last && is_fault) && tries < 10 * MOST_TRIES,
            "all servers are there, but the device does not start: {why:?}"
        );
    }

    pub fn mischief(&self) -> Mischief {
        Mischief {
            world: self.world.clone(),
            control: self.control.clone(),
        }
    }

    /// The users' time is over.
    pub fn end_users(&mut self) {
        self.over.store(true, Relaxed);
        self.world.clock.happened();
        for user in self.users.drain(..) {
            user.join().expect("no panic");
        }
    }

    /// The client's host crashes.
    pub fn crash(self) {
        crate::trace!(self.world, "the client crashes");
        self.world.crash();
        self.join();
    }

    /// The device is disabled in order; then it is enabled again, or the client's host goes.
    pub fn disable(mut self) -> Option<Self> {
        let world = self.world.clone();
        self.end_users();
        let is_flushed = User::new(&world, 0..world.scale.blocks, true).flush();
        world.set_closing(true);
        self.control.join();
        for thread in self.companions.drain(..) {
            thread.join().expect("no panic");
        }
        let is_recorded = if is_flushed {
            self.in_time(|ended| world.end_records(ended))
        } else {
            world.stop_records();
            false
        };
        crate::trace!(world, "disabled: {is_flushed} {is_recorded}");
        world.set_sectors(0);
        if thread_rng().gen_ratio(2, 3) && self.enable_again() {
            return Some(self);
        }
        self.crash();
        None
    }

    /// Enables the device once more.
    fn enable_again(&mut self) -> bool {
        self.world.set_closing(false);
        let result = self.try_to_start(Ask::Certain);
        crate::trace!(self.world, "enabled again: {result:?}");
        if result.is_ok() {
            self.over.store(false, Relaxed);
            self.start_users();
        }
        result.is_ok()
    }

    /// Waits for the end of all threads, after the end of the client.
    pub fn join(mut self) {
        self.world.ending.store(true, Relaxed);
        self.end_users();
        for thread in self.channels.drain(..).chain(self.companions.drain(..)) {
            thread.join().expect("no panic");
        }
        self.control.join();
        self.world.drop_held();
    }
}

impl Starter for Life {
    type Mirror = World;

    fn mirror(&self) -> &World {
        &self.world
    }

    fn patience_ms(&self) -> u64 {
        COMMAND_MS
    }

    fn is_ending(&self) -> bool {
        self.world.is_ending()
    }

    fn pause(&self, ms: u32) -> bool {
        let world = &self.world;
        world.clock.wait(u64::from(ms), || world.is_ending());
        if u64::from(ms) >= world.scale.owner_check_s * 2000 {
            // What was on its way when the last client ended has arrived, or never will.
            world.hosts.servers.iter().for_each(Server::end_of_client);
        }
        !world.is_ending()
    }

    fn is_unread(&self, _group: GroupId) -> bool {
        false
    }

    fn prepare_marks(&self, bytes: u64) -> bool {
        let marks = self.world.marks();
        marks
            .inspect(|marks| marks.prepare(bytes, REGION_SHIFT))
            .is_some()
    }

    fn keep_marks(&self, _bytes: u64) -> bool {
        self.world.marks().inspect(|marks| marks.keep()).is_some()
    }

    fn owner(&self) -> Owner {
        remember::owner()
    }

    fn keeps_intent(&self) -> bool {
        self.intent
    }
}
