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

use crate::clock::Clock;
use crate::logic::mirror::World as _;
use crate::oracle::Snapshot;
use crate::store::Value;
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

    fn close(&self, closed: bool, clock: &Clock) {
        self.closed.store(closed, Relaxed);
        clock.happened();
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
    /// The groups in sync, with what they hold.
    groups: Vec<(usize, Vec<Value>)>,
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
        found.as_ref().is_some_and(|f| f.groups.len() >= least)
    });
    if let Some(found) = found {
        looked.moments += 1;
        looked.compared += u64::from(found.groups.len() > 1);
        judge(world, &found);
    } else {
        crate::trace!(world, "no quiet moment");
    }
    world.gate.close(false, &world.clock);
}

/// What the groups in sync hold, if the moment is quiet.
fn find(world: &World) -> Option<Found> {
    let is_still = || {
        let waiting = world.gate.waiting.load(Relaxed);
        waiting == crate::user::USERS && world.load.load(Relaxed) == 0
    };
    if !is_still() {
        return None;
    }
    let since = world.oracle.snapshot();
    let view = world.core().view();
    // From here on no other thread goes on until all is read: only shuttle's words are points
    // where it may, and here is none.
    let is_quiet = |group: usize| world.servers[group].is_quiet();
    if !is_still() || !view.readable().iter().all(is_quiet) {
        return None;
    }
    let content = |group: usize| (group, world.servers[group].content());
    let groups: Vec<_> = view.readable().iter().map(content).collect();
    // To here. A channel that came up since has looked after its server before, and the view is
    // another one if that found something. So `up` is looked at before the view.
    let is_up = |group: usize| world.core().group(group).is_some_and(|g| g.up() != 0);
    let all_up = view.readable().iter().all(is_up);
    (all_up && world.core().view() == view).then_some(Found { since, groups })
}

fn judge(world: &World, found: &Found) {
    let Some((first, expected)) = found.groups.first() else {
        panic!("no group is in sync");
    };
    crate::trace!(world, "quiet: {:?} are in sync", found.numbers());
    for (group, content) in &found.groups {
        for (block, (value, wanted)) in content.iter().zip(expected).enumerate() {
            assert_eq!(
                value, wanted,
                "at a quiet moment block {block} of groups {group} and {first}, which are in sync, \
                 differs"
            );
            if let Err(what) = world.oracle.check(block, *value, &found.since) {
                panic!("at a quiet moment, group {group}, which is in sync: {what}");
            }
        }
    }
}

impl Found {
    fn numbers(&self) -> Vec<usize> {
        self.groups.iter().map(|(group, _)| *group).collect()
    }
}
