// SPDX-License-Identifier: GPL-2.0

//! Servers that are sick, not dead: one that does not survive a write, and one that is slow.
//!
//! They are healed like all others, but only after some time, in which nothing else goes wrong, since
//! more is asked for then: that a sick server costs its own group at most, and that a slow one costs
//! nothing but time. `late.rs` has the third law of these.

use crate::channel::{Trip, TIMEOUT_MS};
use crate::faults::Mischief;
use crate::late::LATE_MS;
use crate::logic::{
    ids::GroupId,
    mirror::{Op, World as _},
};
use crate::run::make_whole;
use crate::user::User;
use shuttle::rand::{thread_rng, Rng};
use std::sync::atomic::Ordering::Relaxed;

/// Milliseconds that a server does not survive a write: it would be too late before they are over.
const SICK_MS: u64 = LATE_MS * 3 / 2;
/// Milliseconds that a server is slow.
const SLOW_MS: u64 = 10 * TIMEOUT_MS;
/// How often a server that does not survive a write is sent it at most until that has ended: one more
/// than the connections that a transfer may cost, since the resync that follows may be as fast.
const MOST_SENDS: u64 = 4;

impl Mischief {
    /// All is well; whether it came to that.
    fn settle(&self) -> bool {
        let world = &self.world;
        self.heal_all();
        // What was wrong before has been noticed then.
        world.clock.wait(2 * TIMEOUT_MS, || false);
        make_whole(world, &self.control, SICK_MS)
    }

    /// For some time the server does not survive a write of a block, while the others are well. The
    /// first such write meets it when nothing else is on its way and all is flushed: a server that
    /// has writes which it has not flushed is given up at the end of its connection for these. And the
    /// group has more time than that takes to come back, so it is not given up for that either.
    pub fn poison(&self, group: GroupId) -> bool {
        let world = &self.world;
        if !self.settle() {
            return false;
        }
        let block = thread_rng().gen_range(0..world.scale.blocks);
        crate::trace!(world, "a write of block {block} is poisonous");
        let user = User::new(world, block..block + 1, true);
        world.gate.close(true, &world.clock);
        world.clock.wait(u64::MAX, || world.gate.has_all());
        user.flush();
        let server = &world.hosts.servers[group];
        server.poison(block);
        world.patient.store(true, Relaxed);
        user.write(Op::Write);
        let sent = server.poisoned();
        assert!(
            sent <= MOST_SENDS,
            "the server of group {group} was sent {sent} times what it does not survive"
        );
        // It is brought back, and gets the same once more: from the resync, too.
        let is_back = || world.core().view().resyncing().has(group);
        world.clock.wait(4 * TIMEOUT_MS, is_back);
        user.write(Op::Write);
        world.gate.close(false, &world.clock);
        world.clock.wait(SICK_MS, || false);
        world.patient.store(false, Relaxed);
        true
    }

    /// For some time a server is slow while all is well: it stays in sync, and its channels keep
    /// their connections, so that it is asked for nothing twice.
    pub fn slow_down(&self, group: GroupId) -> bool {
        let world = &self.world;
        if !self.settle() {
            return false;
        }
        let trips = || -> Vec<Trip> {
            let up = world.core().group(group).up();
            up.iter().map(|c| world.channels[c].trip()).collect()
        };
        let before = trips();
        world.hosts.servers[group].slow_down();
        world.clock.wait(SLOW_MS, || false);
        assert!(
            world.core().view().readable().has(group) && trips() == before,
            "group {group} was given up, or a connection of it, though its server was only slow"
        );
        true
    }
}
