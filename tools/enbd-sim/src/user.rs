// SPDX-License-Identifier: GPL-2.0

//! Users of the device: each writes blocks of its own, and reads everybody's.

use crate::logic::mirror::{Op, Route};
use crate::oracle::Oracle;
use crate::remember;
use crate::request::{Ending, Handle, Memory, Slip, Wish};
use crate::world::World;
use shuttle::rand::{thread_rng, Rng};
use shuttle::thread;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// How many there are.
pub const USERS: usize = 4;
/// Blocks of the largest request.
pub const LARGEST: usize = 4;
/// Numbers of errors.
const EIO: i32 = 5;
const ENOSPC: i32 = 28;
/// Milliseconds between two requests at most.
const MOST_IDLE_MS: u64 = 500;
/// How often the memory of a write on its way changes at most, and after how many milliseconds.
const MOST_CHANGES: usize = 4;
const MOST_UNCHANGED_MS: u64 = 50;

/// A user.
pub struct User {
    pub world: Arc<World>,
    pub oracle: Arc<Oracle>,
    /// The blocks that it writes.
    pub own: Range<usize>,
    /// It is a time of faults.
    pub may_fail: bool,
}

impl User {
    /// One who writes these blocks.
    pub fn new(world: &Arc<World>, own: Range<usize>, may_fail: bool) -> Self {
        Self {
            world: world.clone(),
            oracle: world.oracle.clone(),
            own,
            may_fail,
        }
    }

    /// Does one thing after the other, some at once and some later, until `over`.
    pub fn run(&self, over: &AtomicBool) {
        while !over.load(Relaxed) {
            self.world.gate.pass(&self.world.clock);
            if thread_rng().gen() {
                let ms = thread_rng().gen_range(0..MOST_IDLE_MS);
                self.world.clock.wait(ms, || over.load(Relaxed));
            }
            let choices = if self.world.scale.calm { 0..200 } else { 0..20 };
            match thread_rng().gen_range(choices) {
                0 if self.world.scale.trouble.changing => self.write_changing(),
                0..=7 => self.write(Op::Write),
                8 | 9 => self.write_twice(),
                10 if thread_rng().gen() => self.write(Op::Discard),
                10 => self.write(Op::WriteZeroes),
                11 | 12 => _ = self.flush(),
                _ => {
                    let (first, len) = some(0..self.world.scale.blocks);
                    self.read(first, len);
                }
            }
        }
    }

    /// Writes some of its blocks, or clears them.
    pub fn write(&self, op: Op) {
        let (first, len) = some(self.own.clone());
        let fua = thread_rng().gen_ratio(1, 8);
        let wish = Wish {
            op,
            first,
            len,
            fua,
        };
        let since = self.oracle.snapshot();
        let values = self.oracle.issue(first, len, op != Op::Write);
        match self.ask(wish, values) {
            // What is discarded may be there still, or be zeroes.
            Ok(_) if op == Op::Discard => {}
            Ok(_) => {
                self.oracle.acknowledge(first, len, fua, &since);
                remember::look(&self.world);
            }
            // Either value may be there.
            Err(errno) if self.may_see(errno) => {}
            Err(errno) => panic!("a write of blocks {first}+{len} failed: errno {errno}"),
        }
    }

    /// Two writes of the same blocks at once: in the end it may be either.
    fn write_twice(&self) {
        let (first, len) = some(self.own.clone());
        let wish = Wish {
            op: Op::Write,
            first,
            len,
            fua: false,
        };
        let since = self.oracle.snapshot();
        let slips = [(); 2].map(|()| {
            let values = self.oracle.issue(first, len, false);
            self.send(wish, Arc::new(Mutex::new(values)))
        });
        let endings = slips.map(|slip| self.wait(&slip));
        match endings {
            [Ok(_), Ok(_)] => {
                self.oracle.acknowledge_any(2, first, len, false, &since);
                remember::look(&self.world);
            }
            [_, Err(errno)] | [Err(errno), _] if self.may_see(errno) => {}
            _ => panic!("two writes of blocks {first}+{len} failed: {endings:?}"),
        }
    }

    /// A write whose memory changes while it is on its way, as that of direct I/O may and a mapped
    /// page does: in the end it may be any of what stood there, but the same in all groups.
    fn write_changing(&self) {
        let (first, len) = some(self.own.clone());
        let wish = Wish {
            op: Op::Write,
            first,
            len,
            fua: thread_rng().gen_ratio(1, 8),
        };
        let since = self.oracle.snapshot();
        let data: Memory = Arc::new(Mutex::new(self.oracle.issue(first, len, false)));
        let ended = Arc::new(AtomicBool::new(false));
        let changer = {
            let (world, oracle) = (self.world.clone(), self.oracle.clone());
            let (data, ended) = (data.clone(), ended.clone());
            thread::spawn(move || {
                let mut times = 0;
                for _ in 0..thread_rng().gen_range(1..=MOST_CHANGES) {
                    let ms = thread_rng().gen_range(0..MOST_UNCHANGED_MS);
                    if world.clock.wait(ms, || ended.load(Relaxed)) {
                        break;
                    }
                    *data.lock().unwrap() = oracle.issue(first, len, false);
                    times += 1;
                }
                times
            })
        };
        let slip = self.send(wish, data);
        let ending = self.wait(&slip);
        ended.store(true, Relaxed);
        self.world.clock.happened();
        let times = changer.join().expect("no panic");
        match ending {
            Ok(_) => {
                let count = 1 + times;
                self.oracle
                    .acknowledge_any(count, first, len, wish.fua, &since);
                remember::look(&self.world);
            }
            Err(errno) if self.may_see(errno) => {}
            Err(errno) => panic!("a write of blocks {first}+{len} failed: errno {errno}"),
        }
    }

    /// Reads and checks.
    pub fn read(&self, first: usize, len: usize) {
        let since = self.oracle.snapshot();
        let before = self.world.who_serves(first, len);
        let wish = Wish {
            op: Op::Read,
            first,
            len,
            fua: false,
        };
        let ending = self.ask(wish, Vec::new());
        if ending.is_err() {
            let why = self.world.who_has(first, len);
            crate::trace!(self.world, "blocks {first}+{len} cannot be read: {why}");
        }
        let values = match ending {
            Ok(values) => values,
            Err(_) if self.world.has_crashed() => return,
            Err(EIO) if self.may_fail => {
                let after = self.world.who_serves(first, len);
                if let Some(group) = before.all_the_time(&after) {
                    panic!("blocks {first}+{len} cannot be read, though group {group} has them");
                }
                return;
            }
            Err(errno) => panic!("a read of blocks {first}+{len} failed: errno {errno}"),
        };
        assert_eq!(values.len(), len, "a read of {len} blocks");
        for (block, value) in (first..).zip(values) {
            if let Err(what) = self.oracle.check(block, value, &since) {
                panic!("{what}");
            }
        }
    }

    /// Makes durable what was acknowledged; whether that succeeded. The block layer never sends two at once.
    pub fn flush(&self) -> bool {
        let world = &self.world;
        let is_next = || world.has_crashed() || !world.flushing.swap(true, Relaxed);
        world.clock.wait(u64::MAX, is_next);
        let covers = self.oracle.snapshot();
        let wish = Wish {
            op: Op::Flush,
            first: 0,
            len: 0,
            fua: false,
        };
        let ending = self.ask(wish, Vec::new());
        match &ending {
            Ok(_) => {
                self.oracle.flushed(&covers);
                remember::look(&self.world);
            }
            Err(errno) if self.may_see(*errno) => {}
            Err(errno) => panic!("a flush failed: errno {errno}"),
        }
        world.flushing.store(false, Relaxed);
        world.clock.happened();
        ending.is_ok()
    }

    /// Whether a request may fail so: the last server in sync has no space, or all are gone.
    fn may_see(&self, errno: i32) -> bool {
        self.world.has_crashed()
            || self.may_fail && (errno == ENOSPC || errno == EIO && self.world.scale.show_errs)
    }

    fn ask(&self, wish: Wish, data: Vec<u64>) -> Ending {
        let slip = self.send(wish, Arc::new(Mutex::new(data)));
        self.wait(&slip)
    }

    fn send(&self, wish: Wish, data: Memory) -> Slip {
        let world = &self.world;
        let slip = Slip::default();
        let Some(tag) = world.take_tag() else {
            return slip;
        };
        crate::trace!(
            world,
            "asks with tag {tag}: {wish:?} {:?}",
            data.lock().unwrap()
        );
        let used = world.route(Handle::new(world, wish, tag, data, slip.clone()));
        if thread_rng().gen() {
            world.kick_all(used.union(world.take_unkicked()));
        } else {
            world.add_unkicked(used);
            world.kick_all(world.take_unkicked());
        }
        slip
    }

    fn wait(&self, slip: &Slip) -> Ending {
        let mut ending = None;
        self.world.clock.wait(u64::MAX, || {
            ending = slip.lock().unwrap().take();
            ending.is_some() || self.world.has_crashed()
        });
        crate::trace!(self.world, "ends: {ending:?}");
        ending.unwrap_or(Err(EIO))
    }
}

fn some(blocks: Range<usize>) -> (usize, usize) {
    let mut rng = thread_rng();
    let first = rng.gen_range(blocks.clone());
    let len = rng.gen_range(1..=LARGEST.min(blocks.end - first));
    (first, len)
}
