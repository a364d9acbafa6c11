// SPDX-License-Identifier: GPL-2.0

//! The law that groups which are in sync hold the same, looked up in the servers' own stores at
//! quiet moments in the time of faults.
//!
//! Reads do not show all of it: they go to one group, and a difference may be copied away before
//! one meets it. So now and then the users stop at a gate, and as soon as the mirror is quiet the
//! stores of all groups in sync have to be equal in every block, and hold what the oracle allows.
//!
//! What is not looked at, since enbd may be right though the stores differ:
//!
//! | state | why |
//! |---|---|
//! | a user is not at the gate, or a request is on its way | its write may be at one server and not yet at another |
//! | a write is on a wire to a server of a group in sync, or it has got one, be it that the client has hung up | the same; and a ghost that is still to come is kept away by enbd until it has come, not undone before |
//! | a client of a group in sync holds a connection that its server does not know (any more) | the server may have crashed, or be another one; enbd can know that only when it hears of the end |
//! | a group in sync has no channel up | whoever comes up next looks at what the server has lost before it serves; until then nothing is read there |
//!
//! Groups that are faulty or resyncing are not compared, and what goes to them does not matter.
//! Of a group in sync each store counts that a channel which is up leads to: there may be two if one
//! has gone astray.

use crate::channel::Channel;
use crate::clock::Clock;
use crate::logic::{ids::GroupId, mirror::World as _};
use crate::oracle::Snapshot;
use crate::store::Value;
use crate::wiring::Goal;
use crate::world::World;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// Milliseconds after which a moment that does not come is given up: some time limits of the
/// mirror.
const PATIENCE_MS: u64 = 3 * crate::channel::TIMEOUT_MS;
/// How long of that a moment with more than one group in sync is waited for, which says more.
const AMBITION_MS: u64 = crate::channel::TIMEOUT_MS;

/// Where users stop.
#[derive(Default)]
pub struct Gate {
    closed: AtomicBool,
    waiting: AtomicUsize,
}

impl Gate {
    /// A user with no request on its way comes by.
    pub fn pass(&self, clock: &Clock) {
        if !self.closed.load(Relaxed) {
            return;
        }
        self.waiting.fetch_add(1, Relaxed);
        clock.happened();
        clock.wait(u64::MAX, || !self.closed.load(Relaxed));
        self.waiting.fetch_sub(1, Relaxed);
    }

    /// Lets nobody by any more, or everybody.
    pub fn close(&self, closed: bool, clock: &Clock) {
        self.closed.store(closed, Relaxed);
        clock.happened();
    }

    /// Whether all users have stopped here.
    pub fn has_all(&self) -> bool {
        self.waiting.load(Relaxed) == crate::user::USERS
    }
}

/// Quiet moments that came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Looked {
    /// All.
    pub moments: u64,
    /// Those with more than one group in sync.
    pub compared: u64,
}

/// What was found at a quiet moment.
struct Found {
    /// What the oracle knew before.
    since: Snapshot,
    /// How many groups are in sync.
    groups: usize,
    /// Their stores.
    stores: Vec<Held>,
}

/// A store that channels of a group lead to.
struct Held {
    group: GroupId,
    goal: Goal,
    content: Vec<Value>,
}

/// Stops the users and waits for a quiet moment; if it comes, the law has to hold.
pub fn look(world: &World, looked: &mut Looked) {
    world.gate.close(true, &world.clock);
    let began_ms = world.clock.now_ms();
    let mut found = None;
    world.clock.wait(PATIENCE_MS, || {
        found = find(world);
        let is_ambitious = world.clock.now_ms() < began_ms + AMBITION_MS;
        let least = if is_ambitious { 2 } else { 1 };
        found.as_ref().is_some_and(|f| f.groups >= least)
    });
    if let Some(found) = found {
        looked.moments += 1;
        looked.compared += u64::from(found.groups > 1);
        judge(world, &found);
    } else {
        crate::trace!(world, "no quiet moment");
    }
    world.gate.close(false, &world.clock);
}

/// What the groups in sync hold, if the moment is quiet.
fn find(world: &World) -> Option<Found> {
    let is_still = || world.gate.has_all() && world.load.load(Relaxed) == 0;
    if !is_still() {
        return None;
    }
    let since = world.oracle.snapshot();
    let view = world.core().view();
    // From here on no other thread goes on until all is read: only shuttle's words are points
    // where it may, and here is none.
    let goals = [Goal::Right, Goal::Stray];
    let is_quiet =
        |group: GroupId| (goals.iter()).all(|&goal| world.hosts.server(group, goal).is_quiet());
    if !is_still() || !view.readable().iter().all(is_quiet) {
        return None;
    }
    let of_group = |group: GroupId| {
        goals.map(|goal| Held {
            group,
            goal,
            content: world.hosts.server(group, goal).content(),
        })
    };
    let mut stores: Vec<_> = view.readable().iter().flat_map(of_group).collect();
    let trips: Vec<_> = world.channels.iter().map(Channel::trip).collect();
    // To here. A channel that came up since has looked after its server before, and the view is
    // another one if that found something. So `up` is looked at before the view.
    let mut carrying = Vec::new();
    for group in view.readable().iter() {
        let up = world.core().group(group).up();
        for channel in up.iter() {
            let trip = trips[channel];
            if world.channels[channel].trip() != trip {
                return None;
            }
            carrying.push((group, trip.goal));
        }
        if up.is_empty() {
            return None;
        }
    }
    stores.retain(|held| carrying.contains(&(held.group, held.goal)));
    let groups = view.readable().len() as usize;
    (world.core().view() == view).then_some(Found {
        since,
        groups,
        stores,
    })
}

fn judge(world: &World, found: &Found) {
    let Some(first) = found.stores.first() else {
        panic!("no group is in sync");
    };
    for held in &found.stores {
        let (group, goal) = (held.group, held.goal);
        crate::trace!(world, "quiet: group {group} is in sync, {goal:?}");
        for (block, (value, wanted)) in held.content.iter().zip(&first.content).enumerate() {
            assert!(
                value == wanted,
                "at a quiet moment block {block} of groups {group} ({goal:?}) and {} ({:?}), which \
                 are in sync, holds {value} and {wanted}",
                first.group,
                first.goal
            );
            if let Err(what) = world.oracle.check(block, *value, &found.since) {
                panic!("at a quiet moment, group {group} ({goal:?}), which is in sync: {what}");
            }
        }
    }
}
