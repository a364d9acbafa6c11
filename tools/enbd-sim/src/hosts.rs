// SPDX-License-Identifier: GPL-2.0

//! What stays when a client is gone: the servers, what went wrong with them, and what is known of their
//! data apart from the mirror.

use crate::blocks::Blocks;
use crate::clock::Clock;
use crate::logic::{group::View, ids::GroupId};
use crate::oracle::Oracle;
use crate::scale::Scale;
use crate::server::Server;
use crate::wiring::{Goal, Wiring};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// The servers of a run, which several clients may have one after the other.
pub struct Hosts {
    pub clock: Arc<Clock>,
    pub oracle: Arc<Oracle>,
    pub servers: Vec<Server>,
    /// One for each group.
    pub wiring: Vec<Wiring>,
    /// Which servers lost something that was not copied back since.
    pub lossy: Vec<AtomicBool>,
    /// Which servers' hosts are crashing at this moment.
    pub shaken: Vec<AtomicBool>,
    /// How often each server has lost something.
    pub losses: Vec<AtomicU64>,
    /// How often each group was led to another store than it had, and how often it had been when
    /// it was last copied as a whole.
    pub strange: Vec<AtomicU64>,
    pub accounted: Vec<AtomicU64>,
    /// Which groups may know of more than what counts: a client has started without them, or by force.
    pub parted: Vec<AtomicBool>,
    /// Which stores were set back while there was no client, and were not made equal since.
    pub set_back: Vec<AtomicBool>,
    /// The group that counts, while there are such.
    pub holder: Mutex<Option<GroupId>>,
    /// The bytes of the metadata that is on the servers.
    pub blocks: Blocks,
    /// The run is over: the servers end.
    pub over: AtomicBool,
}

impl Hosts {
    pub fn new(scale: &Scale) -> Arc<Self> {
        let clock = Arc::new(Clock::new());
        let flags = || (0..scale.groups).map(|_| AtomicBool::new(false)).collect();
        let counts = || (0..scale.groups).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self {
            servers: (0..scale.groups)
                .map(|_| Server::new(scale.blocks, scale.multi_conn, clock.clone()))
                .collect(),
            wiring: (0..scale.groups)
                .map(|_| Wiring::new(scale.blocks, scale.multi_conn, clock.clone()))
                .collect(),
            oracle: Arc::new(Oracle::new(scale.blocks)),
            lossy: flags(),
            shaken: flags(),
            losses: counts(),
            strange: counts(),
            accounted: counts(),
            parted: flags(),
            set_back: flags(),
            holder: Mutex::new(None),
            blocks: Blocks::default(),
            over: AtomicBool::new(false),
            clock,
        })
    }

    /// Where a connection of `group` leads.
    pub fn server(&self, group: GroupId, goal: Goal) -> &Server {
        match goal {
            Goal::Right => &self.servers[group],
            Goal::Stray => self.wiring[group].stray(),
        }
    }

    /// The host of a server crashes. Whether something that was not durable is lost.
    pub fn crash(&self, group: GroupId) -> bool {
        self.servers[group].crash(&self.blocks)
    }

    /// The server of `group` has lost something, or will lose it in the next crash, when the groups
    /// stood as in `view`.
    pub fn loses(&self, group: GroupId, view: View) {
        let has_everything = |g: GroupId| g != group && !self.lossy[g].load(Relaxed);
        let others = view.readable().iter().any(has_everything);
        self.losses[group].fetch_add(1, Relaxed);
        self.lossy[group].store(true, Relaxed);
        if view.readable().has(group) && !others {
            self.oracle.lose();
        }
    }

    /// Whether a store that is not the one that `group` had may have been written to, or compared,
    /// since the group was last copied as a whole.
    pub fn may_differ(&self, group: GroupId) -> bool {
        self.strange[group].load(Relaxed) != self.accounted[group].load(Relaxed)
    }

    /// Whether a store is of the line that counts, and not an older one.
    pub fn is_of_line(&self, group: GroupId) -> bool {
        !self.parted[group].load(Relaxed) && !self.set_back[group].load(Relaxed)
    }

    /// Whether a store holds what the records of the mirror say of it.
    pub fn is_as_recorded(&self, group: GroupId) -> bool {
        !self.may_differ(group) && self.is_of_line(group)
    }

    /// All of a group was made equal to the others.
    pub fn is_equal_again(&self, group: GroupId) {
        self.parted[group].store(false, Relaxed);
        self.set_back[group].store(false, Relaxed);
    }

    /// From now on it counts what `holder` has, whatever the others know.
    pub fn part_from(&self, holder: GroupId) {
        for (group, parted) in GroupId::all().zip(&self.parted) {
            parted.store(group != holder, Relaxed);
        }
        *self.holder.lock().unwrap() = Some(holder);
        let server = &self.servers[holder];
        self.oracle.go_back(&server.content(), &server.durable());
    }

    /// A store is an older one when the next client comes. Whoever starts has to find `other`, that had
    /// everything: nobody could know otherwise. One that is so old that the other one has forgotten its line
    /// passes for one that has gone on alone.
    pub fn set_back(&self, group: GroupId, other: GroupId) {
        *self.holder.lock().unwrap() = Some(other);
        let server = &self.servers[group];
        server.kill();
        server.replace(server.past());
        server.adopt();
        self.set_back[group].store(true, Relaxed);
    }

    /// Whether some store was.
    pub fn has_older(&self) -> bool {
        self.set_back.iter().any(|older| older.load(Relaxed))
    }

    /// The group that a client must have, if it is not to start with what does not count any more.
    pub fn holder(&self) -> Option<GroupId> {
        let any = self.parted.iter().any(|parted| parted.load(Relaxed));
        self.holder
            .lock()
            .unwrap()
            .filter(|_| any || self.has_older())
    }

    /// The work of a server, until the run is over.
    pub fn serve(&self, group: GroupId) {
        let is_over = || self.over.load(Relaxed);
        while !is_over() {
            let server = &self.servers[group];
            if !server.work() {
                self.clock.wait(1000, || server.has_work() || is_over());
            }
        }
    }
}
