// SPDX-License-Identifier: GPL-2.0

//! One run: users and faults at the same time, then everything is healed, and the mirrors have to
//! become equal and hold what they should.

use crate::faults::{Mischief, FAULTS};
use crate::keeper::Control;
use crate::logic::{
    group::GroupState,
    mirror::{scout, Intents, Memories, World as _},
    resync::Site,
};
use crate::oracle::Oracle;
use crate::quiet::Looked;
use crate::scale::{Scale, Trouble};
use crate::user::{User, USERS};
use crate::world::World;
use shuttle::rand::{thread_rng, Rng};
use shuttle::thread;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;

use crate::remember::REGION_SHIFT;

/// Milliseconds that the mirror has to become whole, after all is healed.
const CONVERGE_MS: u64 = 600_000;

/// One of so many runs is calm.
const CALM: u32 = 4;

/// What happened in a run.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub steps: u64,
    pub ms: u64,
    pub resyncs: u64,
    pub looked: Looked,
    pub faults: [u64; FAULTS.len()],
}

/// One run, in the schedule that shuttle chooses.
pub fn run(trouble: Trouble) -> Tally {
    let scale = some_scale(trouble);
    let world = World::new(scale);
    let oracle = world.oracle.clone();
    let control = Control::new(world.clone());
    crate::trace!(world, "{scale:?}");
    let service = start_service(&world, &control);
    let over = Arc::new(AtomicBool::new(false));
    let users: Vec<_> = start_users(&world, &oracle, &over);
    let mischief = Mischief {
        world: world.clone(),
        control: control.clone(),
        oracle: oracle.clone(),
    };
    let (faults, looked) = mischief.run(thread_rng().gen_range(4..16));
    over.store(true, Relaxed);
    world.clock.happened();
    for user in users {
        user.join().expect("no panic");
    }
    converge(&world, &control);
    check(&world, &oracle);
    if world.scale.memory {
        crate::remember::check_whole(&world);
    }
    world.ending.store(true, Relaxed);
    world.clock.happened();
    for thread in service {
        thread.join().expect("no panic");
    }
    control.join();
    let tally = Tally {
        steps: shuttle::current::context_switches() as u64,
        ms: world.clock.now_ms(),
        resyncs: control.synced.load(Relaxed),
        looked,
        faults,
    };
    world.clock.stop();
    tally
}

fn some_scale(trouble: Trouble) -> Scale {
    let mut rng = thread_rng();
    let calm = rng.gen_ratio(1, CALM);
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
        memory: rng.gen(),
        intent: rng.gen_ratio(3, 4),
        intent_idle_ms: rng.gen_range(200..4000),
        most_marked: [0, 4 << REGION_SHIFT][rng.gen_range(0..2)],
        trouble,
    }
}

fn start_service(world: &Arc<World>, control: &Arc<Control>) -> Vec<thread::JoinHandle<()>> {
    let mut threads = Vec::new();
    let clock = world.clock.clone();
    // Not waited for: it ends last.
    thread::spawn(move || clock.run());
    for channel in 0..world.channels.len() {
        let (again, world) = (world.clone(), world.clone());
        threads.push(thread::spawn(move || world.channels[channel].run(&world)));
        let world = again.clone();
        threads.push(thread::spawn(move || {
            world.channels[channel].run_sender(&world);
        }));
    }
    for server in world.scale.all_groups() {
        let world = world.clone();
        threads.push(thread::spawn(move || {
            while !world.is_ending() {
                let server = &world.servers[server];
                if !server.work() {
                    world
                        .clock
                        .wait(1000, || server.has_work() || world.is_ending());
                }
            }
        }));
    }
    let again = world.clone();
    threads.push(thread::spawn(move || again.ask_again()));
    let looked_at = world.clone();
    threads.push(thread::spawn(move || {
        scout(&*looked_at, &|| looked_at.is_ending());
    }));
    if world.scale.memory {
        let recorder = world.clone();
        threads.push(thread::spawn(move || {
            recorder.keep_records(&|| recorder.is_ending());
        }));
    }
    let watched = world.clone();
    threads.push(thread::spawn(move || crate::late::watch(&watched)));
    let clock = control.clone();
    threads.push(thread::spawn(move || clock.look_at_clock()));
    let control = control.clone();
    threads.push(thread::spawn(move || control.keep()));
    threads
}

fn start_users(
    world: &Arc<World>,
    oracle: &Arc<Oracle>,
    over: &Arc<AtomicBool>,
) -> Vec<thread::JoinHandle<()>> {
    let share = world.scale.blocks / USERS;
    (0..USERS)
        .map(|number| {
            let user = User {
                world: world.clone(),
                oracle: oracle.clone(),
                own: number * share..(number + 1) * share,
                may_fail: true,
            };
            let over = over.clone();
            thread::spawn(move || user.run(&over))
        })
        .collect()
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
                && world.servers[g].knows_all()
                && world.wiring[g].stray().knows_all()
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
    let user = User {
        world: world.clone(),
        oracle: oracle.clone(),
        own: 0..blocks,
        may_fail: false,
    };
    for block in 0..blocks {
        user.read(block, 1);
    }
    let since = oracle.snapshot();
    let first = world.servers[0].content();
    for (group, server) in world.servers.iter().enumerate() {
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
    for (group, server) in world.servers.iter().enumerate() {
        assert_eq!(
            server.durable(),
            first,
            "group {group} after the last flush"
        );
    }
}
