// SPDX-License-Identifier: GPL-2.0

//! Time, and waiting for something to happen.
//!
//! Milliseconds pass when the scheduler lets the clock's own thread go on: so a thread may take as
//! long as it likes, and every time limit may run out at any moment.

use shuttle::sync::{Condvar, Mutex};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Milliseconds of a tick.
const TICK_MS: u64 = 10;

/// The clock, and the place where everybody waits.
pub struct Clock {
    now: AtomicU64,
    stopped: AtomicBool,
    lock: Mutex<()>,
    wake: Condvar,
}

impl Clock {
    pub fn new() -> Self {
        Self {
            now: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            lock: Mutex::new(()),
            wake: Condvar::new(),
        }
    }

    pub fn now_ms(&self) -> u64 {
        self.now.load(Relaxed)
    }

    /// Something happened that somebody may wait for.
    pub fn happened(&self) {
        let guard = self.lock.lock().unwrap();
        self.wake.notify_all();
        drop(guard);
    }

    /// Waits until `holds`, at most `ms` milliseconds; whether it holds.
    pub fn wait(&self, ms: u64, mut holds: impl FnMut() -> bool) -> bool {
        let until = self.now_ms().saturating_add(ms);
        let mut guard = self.lock.lock().unwrap();
        loop {
            if holds() {
                return true;
            }
            if self.now_ms() >= until {
                return false;
            }
            guard = self.wake.wait(guard).unwrap();
        }
    }

    /// The clock's thread.
    pub fn run(&self) {
        while !self.stopped.load(Relaxed) {
            self.now.fetch_add(TICK_MS, Relaxed);
            self.happened();
            shuttle::thread::yield_now();
        }
    }

    pub fn stop(&self) {
        self.stopped.store(true, Relaxed);
    }
}
