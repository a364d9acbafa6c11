// SPDX-License-Identifier: GPL-2.0

//! Control: the administrator's commands, the threads that fault groups which are down and bring
//! groups back, and the resyncs, as `rust/device` has them.

use crate::logic::{
    group::{GroupFault, GroupState},
    ids::GroupId,
    mirror::{adopt::NotAdopted, Adopts, Asker, Losses, Memory, States, World as _, COPIES_EACH},
    resync::{walk, Ended, Line, Overseer},
};
use crate::request::Pages;
use crate::world::World;
use shuttle::rand::{thread_rng, Rng};
use shuttle::sync::Mutex;
use shuttle::thread::JoinHandle;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::Arc;

/// Milliseconds until a group is brought back once more, at most.
const MOST_PATIENCE_MS: u64 = 5000;
/// Milliseconds that a command may take.
const COMMAND_MS: u64 = 4 * crate::channel::TIMEOUT_MS;

struct Running {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// The control of a device.
pub struct Control {
    world: Arc<World>,
    resyncs: Mutex<Vec<Option<Running>>>,
    /// Which groups are no members, or not of this line: what they hold has to be given up.
    estranged: Vec<AtomicBool>,
    pub synced: AtomicU64,
}

struct Silent<'a>(&'a World);

impl Overseer for Silent<'_> {
    fn is_stopped(&self) -> bool {
        self.0.is_closing()
    }

    fn begins(&mut self, _: u64, _: u64, _: u64) {}

    fn came_to(&mut self, _: u64, _: u64, _: u64, _: u64) {}

    fn tell(&mut self, _: Line) {}
}

impl Control {
    pub fn new(world: Arc<World>) -> Arc<Self> {
        let groups = world.scale.groups;
        Arc::new(Self {
            world,
            resyncs: Mutex::new((0..groups).map(|_| None).collect()),
            estranged: (0..groups).map(|_| AtomicBool::new(false)).collect(),
            synced: AtomicU64::new(0),
        })
    }

    /// The thread that looks which groups have been down for too long.
    pub fn look_at_clock(&self) {
        while !self.world.is_closing() {
            for group in self.world.scale.all_groups() {
                self.world.expire_if_down(group);
            }
            self.world.clock.wait(200, || self.world.is_closing());
        }
    }

    /// The thread that brings back the groups which enbd itself faulted.
    pub fn keep(self: &Arc<Self>) {
        let mut next_ms = vec![0; self.world.scale.groups];
        while !self.world.is_closing() {
            for group in self.world.scale.all_groups() {
                let now_ms = self.world.now_ms();
                if self.wants_back(group) && now_ms >= next_ms[group] {
                    self.bring_back(group, false, Asker::Keeper);
                    next_ms[group] = now_ms + thread_rng().gen_range(0..MOST_PATIENCE_MS);
                }
            }
            self.world.clock.wait(200, || self.world.is_closing());
        }
    }

    fn wants_back(&self, group: GroupId) -> bool {
        let core = self.world.core();
        let g = core.group(group);
        core.view().state(group) == GroupState::Faulty
            && !g.up().is_empty()
            && !g.is_suspect(self.world.now_ms())
            && !g.health().is_unmarked()
            && !core.named().has(group)
            && g.fault().is_some_and(GroupFault::is_own)
    }

    /// Whether the group was refused for what it holds: only the administrator brings it back, and
    /// has it copied as a whole.
    pub fn is_refused(&self, group: GroupId) -> bool {
        let core = self.world.core();
        let differs = core.group(group).fault() == Some(GroupFault::Differs);
        core.view().state(group) == GroupState::Faulty
            && (differs || self.estranged[group].load(Relaxed))
    }

    pub fn set_faulty(&self, group: GroupId) {
        let _ = self.world.set_faulty(group);
    }

    /// Starts to bring a group back, if that can be.
    pub fn hot_add(self: &Arc<Self>, group: GroupId, full: bool) {
        self.bring_back(group, full, Asker::Administrator);
    }

    fn bring_back(self: &Arc<Self>, group: GroupId, full: bool, asker: Asker) {
        let world = &self.world;
        let core = world.core();
        let g = core.group(group);
        let is_faulty = || core.view().state(group) == GroupState::Faulty;
        if !is_faulty() || g.up().is_empty() || world.holds_old_write() {
            crate::trace!(world, "group {group} is not to be added now");
            return;
        }
        let mut resyncs = self.resyncs.lock().unwrap();
        if resyncs[group]
            .as_ref()
            .is_some_and(|r| !r.ended.load(Relaxed))
        {
            return;
        }
        if let Some(last) = resyncs[group].take() {
            last.thread.join().expect("no panic");
        }
        if full && is_faulty() {
            world.mark_all(group);
        }
        let Some(full) = self.adopt(group, full) else {
            return;
        };
        let epoch = match world.hot_add(group, asker) {
            Ok(epoch) => epoch,
            Err(refusal) => {
                crate::trace!(world, "group {group} is not added: {refusal:?}");
                return;
            }
        };
        if full {
            // See `faults.rs`.
            world.hosts.servers[group].adopt();
        }
        let ended = Arc::new(AtomicBool::new(false));
        let control = self.clone();
        let flag = ended.clone();
        let thread = shuttle::thread::spawn(move || {
            control.resync(group, epoch, full);
            flag.store(true, Relaxed);
            control.world.clock.happened();
        });
        resyncs[group] = Some(Running { ended, thread });
    }

    /// Makes a member of a group that is to be copied to, where there is metadata; whether it gets
    /// all then. Nothing if it cannot be one now.
    fn adopt(&self, group: GroupId, full: bool) -> Option<bool> {
        let world = &self.world;
        if world.core().named().has(group) {
            crate::trace!(world, "group {group} is still recorded as in sync");
            return None;
        }
        let until_ms = world.now_ms() + COMMAND_MS;
        let ended = || world.is_closing() || world.now_ms() >= until_ms;
        if let Err(why) = world.adopt(group, full, &ended) {
            crate::trace!(world, "group {group} is not adopted: {why:?}");
            let is_estranged = matches!(why, NotAdopted::Split | NotAdopted::Lost);
            self.estranged[group].store(is_estranged, Relaxed);
            return None;
        }
        self.estranged[group].store(false, Relaxed);
        let is_full = |memory: &mut Memory| memory.record.is_some_and(|r| r.full().has(group));
        Some(full || world.with_memory(is_full))
    }

    fn resync(&self, group: GroupId, epoch: u32, full: bool) {
        let world = &self.world;
        let strange = world.hosts.strange[group].load(Relaxed);
        let losses = world.hosts.losses[group].load(Relaxed);
        let mut pages: Vec<_> = (0..COPIES_EACH).map(|_| Pages::default()).collect();
        let walked = walk(&**world, &mut Silent(world), group, epoch, &mut pages);
        crate::trace!(world, "resync of group {group}: {walked:?}");
        match walked.result {
            Ok(()) => {
                self.synced.fetch_add(1, Relaxed);
                if world.hosts.losses[group].load(Relaxed) == losses {
                    world.hosts.lossy[group].store(false, Relaxed);
                }
                if full {
                    world.hosts.accounted[group].store(strange, Relaxed);
                }
                world.hosts.is_equal_again(group);
            }
            Err(Ended::Differs) if world.hosts.is_as_recorded(group) => {
                for (g, server) in world.hosts.servers.iter().enumerate() {
                    crate::trace!(world, "group {g} holds {:?}", server.content());
                }
                panic!("group {group} differs where it missed nothing")
            }
            Err(_) => {}
        }
    }

    /// Waits for the resyncs that run.
    pub fn join(&self) {
        for group in self.world.scale.all_groups() {
            let running = self.resyncs.lock().unwrap()[group].take();
            if let Some(running) = running {
                running.thread.join().expect("no panic");
            }
        }
    }
}
