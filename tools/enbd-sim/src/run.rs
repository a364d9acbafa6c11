// SPDX-License-Identifier: GPL-2.0

//! One run: users and faults at the same time, then everything is healed, and the mirrors have to
//! become equal and hold what they should.

use crate::faults::FAULTS;
use crate::hosts::Hosts;
use crate::keeper::Control;
use crate::life::Life;
use crate::logic::{
    group::{GroupSet, GroupState},
    ids::GroupId,
    mirror::{Intents, Memories, World as _},
    resync::{Compare, Site},
};
use crate::oracle::Oracle;
use crate::quiet::Looked;
use crate::remember::{self, REGION_SHIFT};
use crate::scale::{Scale, Trouble};
use crate::user::User;
use crate::world::World;
use shuttle::rand::{thread_rng, Rng};
use shuttle::thread;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

/// Milliseconds that the mirror has to become whole, after all is healed.
const CONVERGE_MS: u64 = 600_000;

/// How often a start may end before it has succeeded.
const MOST_STARTS: usize = 50;
/// One of so many runs is calm.
const CALM: u32 = 4;

/// What happened in a run.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub steps: u64,
    pub lives: u64,
    pub ms: u64,
    pub resyncs: u64,
    pub looked: Looked,
    pub faults: [u64; FAULTS.len()],
}

/// One run, in the schedule that shuttle chooses.
pub fn run(trouble: Trouble) -> Tally {
    let scale = some_scale(trouble);
    let hosts = Hosts::new(&scale);
    let servers = start_servers(&scale, &hosts);
    let mut tally = Tally::default();
    let mut life = Life::first(scale, &hosts);
    crate::trace!(life.world, "{scale:?}");
    for number in 1..=scale.lives {
        tally.lives += 1;
        trouble_once(&life, &mut tally);
        if number < scale.lives {
            life = next(life, scale, &hosts, &mut tally);
        }
    }
    life.mischief().heal_all();
    life.end_users();
    finish(&life);
    tally.resyncs += life.control.synced.load(Relaxed);
    tally.ms = hosts.clock.now_ms();
    tally.steps = shuttle::current::context_switches() as u64;
    life.world.ending.store(true, Relaxed);
    life.join();
    hosts.over.store(true, Relaxed);
    hosts.clock.happened();
    for thread in servers {
        thread.join().expect("no panic");
    }
    hosts.clock.stop();
    tally
}

/// Makes some things go wrong.
fn trouble_once(life: &Life, tally: &mut Tally) {
    let (faults, looked) = life.mischief().run(thread_rng().gen_range(4..16));
    tally.looked.moments += looked.moments;
    tally.looked.compared += looked.compared;
    for (sum, n) in tally.faults.iter_mut().zip(faults) {
        *sum += n;
    }
}

/// The next life of the client, after the end of this one; it may take several until one lasts.
fn next(life: Life, scale: Scale, hosts: &Arc<Hosts>, tally: &mut Tally) -> Life {
    let world = life.world.clone();
    let mischief = life.mischief();
    let is_other = |g: GroupId| {
        hosts.servers[g].is_replaced() || hosts.wiring[g].is_astray() || hosts.may_differ(g)
    };
    if world.scale.all_groups().any(is_other) {
        // What such a server has, a client that starts cannot know.
        mischief.heal_all();
        life.connect_all();
        assert!(
            make_whole(&world, &life.control, CONVERGE_MS),
            "no convergence before the end of a life: {:?}",
            describe(&world)
        );
    }
    tally.resyncs += life.control.synced.load(Relaxed);
    let in_sync = world.core().view().readable();
    let is_disabled = thread_rng().gen();
    if is_disabled {
        let is_sound =
            |g: GroupId| hosts.servers[g].is_sound() && world.core().view().readable().has(g);
        if thread_rng().gen() || !scale.all_groups().any(is_sound) {
            mischief.heal_all();
        }
        if let Some(life) = life.disable() {
            return life;
        }
    } else {
        life.crash();
    }
    let group = GroupId::new(thread_rng().gen_range(0..scale.groups)).expect("there are so many");
    if thread_rng().gen_ratio(1, 3) {
        set_back(&world, group, in_sync);
    }
    for _ in 0..MOST_STARTS {
        for group in scale.all_groups() {
            mischief.trouble_between(group);
        }
        remember::look(&world);
        if let Some(life) = Life::again(scale, hosts) {
            return life;
        }
    }
    panic!("no start of {MOST_STARTS} has succeeded");
}

/// Gives a server an older store, where those that were in sync when the client ended show that.
fn set_back(world: &World, group: GroupId, in_sync: GroupSet) {
    // One that had everything is left as it is.
    let is_good = |&other: &GroupId| other != group && world.hosts.is_of_line(other);
    let others: GroupSet = in_sync.iter().filter(is_good).collect();
    let other = others.iter().next();
    if let Some(other) = other.filter(|_| remember::shows_age(world, group, others)) {
        crate::trace!(world, "group {group} is set back");
        world.hosts.set_back(group, other);
    }
}

/// All becomes whole, and is as it should be.
fn finish(life: &Life) {
    let world = &life.world;
    life.connect_all();
    converge(world, &life.control);
    check(world, &world.oracle);
    if world.scale.memory {
        remember::check_whole(world);
    }
}

fn start_servers(scale: &Scale, hosts: &Arc<Hosts>) -> Vec<thread::JoinHandle<()>> {
    let clock = hosts.clock.clone();
    // Not waited for: it ends last.
    thread::spawn(move || clock.run());
    let serve = |group| {
        let hosts = hosts.clone();
        thread::spawn(move || hosts.serve(group))
    };
    scale.all_groups().map(serve).collect()
}

fn some_scale(trouble: Trouble) -> Scale {
    let mut rng = thread_rng();
    let calm = rng.gen_ratio(1, CALM);
    let memory = rng.gen();
    Scale {
        groups: rng.gen_range(2..=3),
        channels_each: rng.gen_range(1..=2),
        blocks: [16, 24, 48][rng.gen_range(0..3)],
        multi_conn: rng.gen(),
        show_errs: rng.gen(),
        no_page: if calm {
            0
        } else {
            [0, 300][rng.gen_range(0..2)]
        },
        calm,
        memory,
        intent: rng.gen_ratio(3, 4),
        compare: Compare::ALL[rng.gen_range(0..3)],
        intent_idle_ms: rng.gen_range(200..4000),
        most_marked: [0, 4 << REGION_SHIFT][rng.gen_range(0..2)],
        owner_check_s: [0, 1][rng.gen_range(0..2)],
        lives: if memory { rng.gen_range(1..=4) } else { 1 },
        trouble,
    }
}

/// Waits until all is whole, after all is healed.
fn converge(world: &Arc<World>, control: &Arc<Control>) {
    assert!(
        make_whole(world, control, CONVERGE_MS),
        "no convergence: {:?}",
        describe(world)
    );
}

/// Brings all groups back, at most so many milliseconds long; whether all is whole then.
pub fn make_whole(world: &Arc<World>, control: &Arc<Control>, ms: u64) -> bool {
    let until = world.now_ms() + ms;
    while !is_whole(world) {
        if world.now_ms() >= until {
            return false;
        }
        for group in world.scale.all_groups() {
            // Those that the administrator faulted, and those that were refused.
            control.hot_add(group, control.is_refused(group));
        }
        world.clock.wait(500, || is_whole(world));
    }
    true
}

/// Whether all groups are in sync, and have all their channels.
fn is_whole(world: &World) -> bool {
    let view = world.core().view();
    let is_recorded = !world.wants_record() && !world.wants_round();
    is_recorded
        && world.scale.all_groups().all(|g| {
            let group = world.core().group(g);
            let up = group.up().len();
            view.state(g) == GroupState::InSync
                && world.dirty(g) == 0
                && !group.health().is_doubted()
                && up as usize == world.scale.serving_each()
                && world.hosts.servers[g].knows_all()
                && world.hosts.wiring[g].stray().knows_all()
        })
}

fn describe(world: &World) -> Vec<(GroupState, u32, u64)> {
    let view = world.core().view();
    (world.scale.all_groups())
        .map(|g| {
            let up = world.core().group(g).up().bits();
            (view.state(g), up, world.dirty(g))
        })
        .collect()
}

/// The mirrors are equal, hold what was acknowledged, and after a flush all of it is durable.
fn check(world: &Arc<World>, oracle: &Arc<Oracle>) {
    let blocks = world.scale.blocks;
    let user = User::new(world, 0..blocks, false);
    for block in 0..blocks {
        user.read(block, 1);
    }
    let since = oracle.snapshot();
    let first = world.hosts.servers[0].content();
    for (group, server) in world.hosts.servers.iter().enumerate() {
        for (block, value) in server.content().into_iter().enumerate() {
            assert_eq!(
                value, first[block],
                "block {block} of groups {group} and 0 differs at the end"
            );
            if let Err(what) = oracle.check(block, value, &since) {
                panic!("at the end, group {group}: {what}");
            }
        }
    }
    user.flush();
    for (group, server) in world.hosts.servers.iter().enumerate() {
        assert_eq!(
            server.durable(),
            first,
            "group {group} after the last flush"
        );
    }
}
