// SPDX-License-Identifier: GPL-2.0

//! What goes wrong, and what of it must be survived.
//!
//! | fault | what enbd has to keep |
//! |---|---|
//! | a connection is reset, closed, or talks nonsense | everything |
//! | a server is stopped, cut off, or killed and started again | everything |
//! | a server refuses a write | everything, or that one write fails |
//! | a server refuses a flush, and never makes durable what it was to cover | everything, or that flush fails |
//! | a server closes a connection whenever it gets a write of one block | everything, and no request waits for it where another server is sound |
//! | a server is slow: a request takes longer than the time limit, and something is always answered | everything, and it is not given up for that |
//! | a server refuses to write zeroes that it is not sent | everything, and no group is faulted for it |
//! | blocks of a server cannot be read until they are written | everything, and what some group has can be read |
//! | the administrator sets a group faulty and adds it again | everything |
//! | all servers are cut off, about as long as enbd takes a silent server for fenced | everything |
//! | a server's host crashes while another one has everything | everything |
//! | a server's host crashes and no other one has everything | what was flushed |
//! | a server's host crashes in a write of metadata, which is there in part | the same |
//! | the same, where the other one is taken out of service before the crash is seen | what was flushed |
//! | a server comes back with an empty store, its store of some time ago, or one of other data | everything, or requests wait for the right store |
//! | a channel leads to another server than the others of its group, when it connects again | everything |
//!
//! # Other stores
//!
//! Sizes and flags agree, so nothing but the content tells. The right store is kept aside, and put
//! back when the fault is healed; all connections are lost again then. That is no second fault as
//! long as nothing which enbd counts on was written to the other one: a group that it has seen
//! through is faulty, and one that it has not looked at gets nothing.
//!
//! But if a *full copy* of the group has begun meanwhile, the store that is there is the right one
//! from then on, and the one that was kept aside is gone ([`Server::adopt`]). At that moment enbd
//! expects nothing of the store, since all blocks are marked and the group is not in sync, so any
//! store will do; afterwards each block that is copied is cleared in the map, which holds for this
//! store alone, even if the copy ends early. So it must not be earlier and not be later.
//!
//! The administrator begins a full copy only after all channels of the group lead to one server
//! again: what is written to the one and read from the other cannot be right, and there is nothing
//! by which that could be seen. And a group that was refused for what it holds is brought back by
//! a full copy alone, as its fault says.
//!
//! Only what can be noticed is asked for ([`World::is_knowable`]).
//!
//! # Sick servers
//!
//! See `sick.rs`.

use crate::channel::TIMEOUT_MS;
use crate::keeper::Control;
use crate::logic::{group::View, ids::GroupId, mirror::World as _};
use crate::quiet::{self, Looked};
use crate::remember;
use crate::scale::Trouble;
use crate::server::{Power, Server};
use crate::store::{Value, TAIL};
use crate::wiring::Goal;
use crate::world::World;
use shuttle::rand::{thread_rng, Rng};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

/// Something that goes wrong with one server or its group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    Reset,
    Close,
    Lie,
    Refuse,
    RefuseFlush,
    Poison,
    Slow,
    RefuseZeroes,
    BadSector,
    Stop,
    Cut,
    CutAll,
    Kill,
    Crash,
    Torn,
    SetFaulty,
    HotAdd,
    HotAddFull,
    Emptied,
    SetBack,
    Foreign,
    Stray,
}

/// All of them.
pub const FAULTS: [Fault; 22] = [
    Fault::Reset,
    Fault::Close,
    Fault::Lie,
    Fault::Refuse,
    Fault::RefuseFlush,
    Fault::Poison,
    Fault::Slow,
    Fault::RefuseZeroes,
    Fault::BadSector,
    Fault::Stop,
    Fault::Cut,
    Fault::CutAll,
    Fault::Kill,
    Fault::Crash,
    Fault::Torn,
    Fault::SetFaulty,
    Fault::HotAdd,
    Fault::HotAddFull,
    Fault::Emptied,
    Fault::SetBack,
    Fault::Foreign,
    Fault::Stray,
];

impl Fault {
    /// Whether it is one of a disk alone.
    fn is_of_disk(self) -> bool {
        matches!(
            self,
            Self::Refuse | Self::RefuseZeroes | Self::BadSector | Self::HotAdd
        )
    }

    /// Whether it happens in a run with this trouble.
    fn is_in(self, trouble: Trouble) -> bool {
        match self {
            Self::Emptied | Self::SetBack | Self::Foreign => trouble.replaced,
            Self::Stray => trouble.stray,
            _ => true,
        }
    }
}

/// After one of so many faults a server's store is copied, to be set back to that later.
const BACKUPS: u32 = 3;
/// After one of so many faults the law is looked up.
const LOOKS: u32 = 2;
/// How long a host that is to crash in a write of metadata waits for one at most, in milliseconds.
const METADATA_MS: u64 = 3000;

/// Who makes things go wrong.
pub struct Mischief {
    pub world: Arc<World>,
    pub control: Arc<Control>,
}

impl Mischief {
    /// Makes so many things go wrong, each for some time, up to two at once; in between looks
    /// whether the law holds.
    pub fn run(&self, times: usize) -> ([u64; FAULTS.len()], Looked) {
        let mut counts = [0; FAULTS.len()];
        let mut looked = Looked::default();
        let trouble = self.world.scale.trouble;
        let only_disks = self.world.scale.calm;
        let is_possible =
            |fault: Fault| fault.is_in(trouble) && (!only_disks || fault.is_of_disk());
        let possible: Vec<_> = (0..FAULTS.len())
            .filter(|&which| is_possible(FAULTS[which]))
            .collect();
        for _ in 0..times {
            self.pause(1500);
            let which = possible[thread_rng().gen_range(0..possible.len())];
            let which_group = thread_rng().gen_range(0..self.world.scale.groups);
            let group = GroupId::new(which_group).expect("there are so many");
            crate::trace!(self.world, "{:?} of group {group}", FAULTS[which]);
            self.world.troubles.fetch_add(1, Relaxed);
            counts[which] += u64::from(self.inject(FAULTS[which], group));
            if thread_rng().gen() {
                self.pause(4000);
            }
            if thread_rng().gen_ratio(3, 4) || self.wears_out(FAULTS[which]) {
                self.heal(group);
            }
            remember::look(&self.world);
            if thread_rng().gen_ratio(1, BACKUPS) {
                self.world.hosts.servers[group].back_up();
            }
            if thread_rng().gen_ratio(1, LOOKS) {
                quiet::look(&self.world, &mut looked);
            }
        }
        (counts, looked)
    }

    /// Whether this can be noticed for some time only: requests that fail while no server is taken
    /// have enbd forget, before they are sent, what it knew of their blocks.
    fn wears_out(&self, fault: Fault) -> bool {
        let is_replaced = matches!(fault, Fault::Emptied | Fault::SetBack | Fault::Foreign);
        is_replaced && self.world.scale.show_errs
    }

    fn pause(&self, most_ms: u64) {
        let ms = thread_rng().gen_range(0..most_ms);
        self.world.clock.wait(ms, || false);
    }

    /// Makes this go wrong; whether it could.
    fn inject(&self, fault: Fault, group: GroupId) -> bool {
        let server = &self.world.hosts.servers[group];
        match fault {
            Fault::Reset => server.reset_one(),
            Fault::Close => server.close_one(),
            Fault::Lie => server.lie_once(),
            Fault::Refuse => server.refuse_one(),
            Fault::RefuseFlush => server.refuse_flush(),
            Fault::Poison => return self.poison(group),
            Fault::Slow => return self.slow_down(group),
            Fault::RefuseZeroes => server.refuse_zeroes(),
            Fault::BadSector => self.spoil(group),
            Fault::Stop if server.power() == Power::On => server.set_power(Power::Stopped),
            Fault::Stop => {}
            Fault::Cut => server.set_cut(true),
            Fault::CutAll => self.cut_all(),
            Fault::Kill => server.kill(),
            Fault::Crash => self.crash(group),
            Fault::Torn => return self.tear(group),
            Fault::SetFaulty => self.control.set_faulty(group),
            Fault::HotAdd => self.hot_add(group, self.control.is_refused(group)),
            Fault::HotAddFull => self.hot_add(group, true),
            Fault::Emptied => return self.replace(group, |s| vec![0; s.past().len()]),
            Fault::SetBack => return self.replace(group, Server::past),
            Fault::Foreign => return self.replace(group, |s| foreign(s.past().len())),
            Fault::Stray => return self.lead_astray(group),
        }
        true
    }

    /// Some blocks of the group become bad for some time, and often the other disks have trouble, too:
    /// they refuse a write, so that their groups are out of service for a while.
    fn spoil(&self, group: GroupId) {
        self.world.hosts.servers[group].spoil_some();
        if thread_rng().gen() {
            for other in self.world.scale.all_groups().filter(|&g| g != group) {
                self.world.hosts.servers[other].refuse_one();
            }
        }
        self.pause(6000);
    }

    fn hot_add(&self, group: GroupId, full: bool) {
        if full {
            self.lead_back(group);
        }
        self.control.hot_add(group, full);
    }

    /// The server ends and comes back with another store, if that can be known.
    fn replace(&self, group: GroupId, other: impl FnOnce(&Server) -> Vec<Value>) -> bool {
        let server = &self.world.hosts.servers[group];
        if server.is_replaced() || self.world.hosts.wiring[group].is_astray() {
            return false;
        }
        server.kill();
        let content = other(server);
        let is_knowable = self.world.is_knowable(group, &content);
        if is_knowable {
            crate::trace!(self.world, "group {group} comes back with {content:?}");
            self.world.hosts.strange[group].fetch_add(1, Relaxed);
            server.replace(content);
        }
        self.pause(1000);
        server.set_power(Power::On);
        is_knowable
    }

    /// One channel of several leads to another server when it connects again, if that can be known.
    fn lead_astray(&self, group: GroupId) -> bool {
        let world = &self.world;
        if world.scale.serving_each() < 2
            || world.hosts.wiring[group].is_astray()
            || world.hosts.servers[group].is_replaced()
        {
            return false;
        }
        let content = foreign(world.scale.blocks + TAIL);
        if !world.is_knowable(group, &content) {
            return false;
        }
        let mut of_group = (0..world.channels.len()).filter(|&c| world.channels[c].group == group);
        let which = thread_rng().gen_range(0..world.scale.channels_each);
        let Some(channel) = of_group.nth(which) else {
            return false;
        };
        crate::trace!(world, "channel {channel} goes astray");
        world.hosts.strange[group].fetch_add(1, Relaxed);
        world.hosts.wiring[group].mislead(channel as u32, content);
        if thread_rng().gen_ratio(3, 4) {
            world.channels[channel].reset(world);
            let is_there = || world.channels[channel].trip().goal == Goal::Stray;
            world.clock.wait(2 * TIMEOUT_MS, is_there);
            self.pause(1000);
        }
        true
    }

    fn lead_back(&self, group: GroupId) {
        let wiring = &self.world.hosts.wiring[group];
        if wiring.is_astray() {
            wiring.lead_back();
        }
    }

    fn cut_all(&self) {
        let servers = &self.world.hosts.servers;
        servers.iter().for_each(|server| server.set_cut(true));
        self.pause(6 * TIMEOUT_MS);
        servers.iter().for_each(|server| server.set_cut(false));
    }

    /// The same, in a write of metadata. The group's own, or a record that another one is out of service.
    fn tear(&self, group: GroupId) -> bool {
        let world = &self.world;
        let server = &world.hosts.servers[group];
        if !world.scale.memory || server.power() != Power::On {
            return false;
        }
        server.stop_in_metadata();
        if thread_rng().gen() {
            let other = GroupId::new(thread_rng().gen_range(0..world.scale.groups));
            if let Some(other) = other.filter(|&other| other != group) {
                self.control.set_faulty(other);
            }
        }
        world
            .clock
            .wait(METADATA_MS, || server.power() != Power::On);
        self.crash(group);
        true
    }

    fn crash(&self, group: GroupId) {
        let view = self.world.core().view();
        self.world.hosts.shaken[group].store(true, Relaxed);
        if self.world.hosts.crash(group) {
            self.world.hosts.loses(group, view);
        }
        self.world.hosts.shaken[group].store(false, Relaxed);
    }

    /// Something may happen to a server while there is no client.
    pub fn trouble_between(&self, group: GroupId) {
        let server = &self.world.hosts.servers[group];
        match thread_rng().gen_range(0..6) {
            0 => server.kill(),
            1 if self.world.hosts.crash(group) => self.world.hosts.loses(group, View::default()),
            2 => server.set_power(Power::Stopped),
            3 => server.set_cut(true),
            4 => self.heal(group),
            _ => {}
        }
        self.pause(1000);
        // Nothing that the last client has sent is carried out any more, unless a start waits for that.
        if self.world.scale.owner_check_s == 0 {
            server.end_of_client();
        }
    }

    /// Puts all right again.
    pub fn heal_all(&self) {
        self.world.scale.all_groups().for_each(|g| self.heal(g));
    }

    pub fn heal(&self, group: GroupId) {
        self.world.troubles.fetch_add(1, Relaxed);
        let server = &self.world.hosts.servers[group];
        server.set_cut(false);
        self.lead_back(group);
        if server.is_replaced() {
            server.kill();
            server.put_back();
        }
        server.set_power(Power::On);
        server.behave();
    }
}

/// A store of other data: no value of it was ever written here. It has no superblock.
fn foreign(blocks: usize) -> Vec<Value> {
    let highest: Value = 1 << 63;
    let device = (TAIL..blocks).map(|_| highest | thread_rng().gen::<Value>());
    device.chain([0; TAIL]).collect()
}
