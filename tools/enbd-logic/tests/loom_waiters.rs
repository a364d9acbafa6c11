// SPDX-License-Identifier: GPL-2.0

//! A model of `rust/wait.rs`, whose lock and condition variable are the kernel's: no wakeup is
//! lost. A lost one leaves a thread asleep for ever, which loom reports as a deadlock. There are no
//! time limits here, which would hide it.

#![cfg(loom)]

mod loom_common;

use loom::{
    sync::{
        atomic::{
            fence, AtomicBool, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
        },
        Arc, Condvar, Mutex,
    },
    thread,
};
use loom_common::explore;

/// What the protocol gets wrong on purpose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Slip {
    None,
    /// The waiter looks before it counts itself.
    CountAfterLook,
    /// The one who wakes looks at the count without a barrier.
    NoBarrier,
    /// The one who wakes does not take the lock.
    NoLock,
    /// The one who wakes does so before the change.
    WakeFirst,
}

struct Waiters {
    count: AtomicUsize,
    lock: Mutex<()>,
    wake: Condvar,
    slip: Slip,
}

impl Waiters {
    fn new(slip: Slip) -> Self {
        Self {
            count: AtomicUsize::new(0),
            lock: Mutex::new(()),
            wake: Condvar::new(),
            slip,
        }
    }

    /// The kernel's fetch_add with full ordering.
    fn add(&self, n: usize) -> usize {
        fence(SeqCst);
        let old = self.count.fetch_add(n, AcqRel);
        fence(SeqCst);
        old
    }

    fn wait(&self, holds: impl Fn() -> bool) {
        let counts_late = self.slip == Slip::CountAfterLook;
        if !counts_late {
            self.add(1);
        }
        let mut guard = self.lock.lock().unwrap();
        while !holds() {
            if counts_late {
                self.add(1);
            }
            guard = self.wake.wait(guard).unwrap();
        }
        drop(guard);
        fence(SeqCst);
        self.count.fetch_sub(1, AcqRel);
        fence(SeqCst);
    }

    fn wake_all(&self) {
        let count = match self.slip {
            Slip::NoBarrier => self.count.load(Acquire),
            _ => self.add(0),
        };
        if count == 0 {
            return;
        }
        let guard = (self.slip != Slip::NoLock).then(|| self.lock.lock().unwrap());
        self.wake.notify_all();
        drop(guard);
    }
}

/// One thread waits for what another one brings about, as when a resync is told to stop.
fn one_waiter(slip: Slip) {
    explore(None, move || {
        let waiters = Arc::new(Waiters::new(slip));
        let flag = Arc::new(AtomicBool::new(false));
        let waiter = {
            let (waiters, flag) = (waiters.clone(), flag.clone());
            thread::spawn(move || waiters.wait(|| flag.load(Acquire)))
        };
        if slip == Slip::WakeFirst {
            waiters.wake_all();
        }
        flag.store(true, Release);
        if slip != Slip::WakeFirst {
            waiters.wake_all();
        }
        waiter.join().unwrap();
    });
}

#[test]
fn no_wakeup_is_lost() {
    one_waiter(Slip::None);
}

/// The slips, by name. A deadlock is a panic inside of the lock, from which nothing returns, so each
/// runs in a process of its own.
const SLIPS: [(&str, Slip); 4] = [
    ("count_after_look", Slip::CountAfterLook),
    ("no_barrier", Slip::NoBarrier),
    ("no_lock", Slip::NoLock),
    ("wake_first", Slip::WakeFirst),
];
const SLIP: &str = "ENBD_LOOM_SLIP";

#[test]
#[ignore = "ends in a deadlock; run by every_slip_loses_a_wakeup"]
fn the_slip_of_the_environment() {
    let name = std::env::var(SLIP).expect("the name of a slip");
    let slip = SLIPS.iter().find(|(known, _)| *known == name);
    one_waiter(slip.expect("a known slip").1);
}

#[test]
fn every_slip_loses_a_wakeup() {
    for (name, _) in SLIPS {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--ignored",
                "--exact",
                "the_slip_of_the_environment",
                "--nocapture",
            ])
            .env(SLIP, name)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stderr);
        assert!(!child.status.success(), "{name} was not found");
        assert!(said.contains("deadlock"), "{name}: {said}");
    }
}

/// A condition that takes a lock of its own, as that of a copy's outcome does.
#[test]
fn a_condition_may_take_a_lock() {
    explore(None, || {
        let waiters = Arc::new(Waiters::new(Slip::None));
        let state = Arc::new(Mutex::new(false));
        let waiter = {
            let (waiters, state) = (waiters.clone(), state.clone());
            thread::spawn(move || waiters.wait(|| *state.lock().unwrap()))
        };
        *state.lock().unwrap() = true;
        waiters.wake_all();
        waiter.join().unwrap();
    });
}

/// Two threads wait for different things, each brought about once.
#[test]
fn two_waiters_both_wake() {
    explore(Some(2), || {
        let waiters = Arc::new(Waiters::new(Slip::None));
        let flags = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
        let threads = [0, 1].map(|i| {
            let (waiters, flags) = (waiters.clone(), flags.clone());
            thread::spawn(move || waiters.wait(|| flags[i].load(Acquire)))
        });
        for flag in flags.iter() {
            flag.store(true, Release);
            waiters.wake_all();
        }
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(waiters.count.load(Relaxed), 0);
    });
}
