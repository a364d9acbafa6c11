// SPDX-License-Identifier: GPL-2.0

//! Models of writes of the same blocks at once: one goes at a time, and none waits for ever.
//!
//! Claims and words are the driver's own; `claim()`, `postpone()`, `take_postponed()` of
//! `logic/mirror/route.rs` and the block layer's list of requests are retold here, step by step.

#![cfg(loom)]

mod loom_common;

use enbd_logic::{
    logic::barrier::{Claim, Crowd},
    sync::Word,
};
use loom::{
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        Arc, Mutex,
    },
    thread,
};
use loom_common::{chunk, explore};

/// What a model gets wrong on purpose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Slip {
    None,
    /// The writer looks at the other claims and only then publishes its own.
    LookFirst,
    /// The writer is counted before its claim can be seen.
    EnterFirst,
    /// The write is given back without a second look at the claims.
    PostponeBlindly,
    /// The flag is set after the second look.
    FlagAfterLook,
    /// Who ends a write does not wait for one that is being given back.
    TakeWithoutLock,
}

struct Device {
    slip: Slip,
    claims: [Claim; 3],
    crowd: Crowd,
    postponed: Word,
    /// The lock of `World::postponing()`.
    postponing: Mutex<()>,
    /// What was given back.
    list: Mutex<Vec<usize>>,
    inside: AtomicBool,
    written: AtomicU64,
}

impl Device {
    fn new(slip: Slip) -> Arc<Self> {
        Arc::new(Self {
            slip,
            claims: Default::default(),
            crowd: Crowd::default(),
            postponed: Word::new(0),
            postponing: Mutex::new(()),
            list: Mutex::new(Vec::new()),
            inside: AtomicBool::new(false),
            written: AtomicU64::new(0),
        })
    }

    fn is_overlapped(&self, tag: usize) -> bool {
        let mut claims = self.claims.iter().zip(0..);
        claims.any(|(claim, number)| claim.blocks(chunk(0)) && number != tag)
    }

    fn claim(&self, tag: usize) -> bool {
        if self.slip == Slip::LookFirst {
            let overlapped = self.is_overlapped(tag);
            self.claims[tag].publish(chunk(0), 0);
            self.crowd.enter(chunk(0));
            return !overlapped;
        }
        if self.slip == Slip::EnterFirst {
            let crowded = self.crowd.enter(chunk(0));
            self.claims[tag].publish(chunk(0), 0);
            return !(crowded && self.is_overlapped(tag));
        }
        self.claims[tag].publish(chunk(0), 0);
        !(self.crowd.enter(chunk(0)) && self.is_overlapped(tag))
    }

    fn withdraw(&self, tag: usize) {
        if let Some(span) = self.claims[tag].withdraw() {
            self.crowd.leave(span);
        }
    }

    /// Whether the write was given back.
    fn postpone(&self, tag: usize) -> bool {
        let _guard = self.postponing.lock().unwrap();
        let late = self.slip == Slip::FlagAfterLook;
        if !late {
            self.postponed.swap(1);
        }
        let still = self.slip == Slip::PostponeBlindly || self.is_overlapped(tag);
        if late {
            self.postponed.swap(1);
        }
        if still {
            self.list.lock().unwrap().push(tag);
        }
        still
    }

    /// What may be asked for again.
    fn take_postponed(&self) -> Vec<usize> {
        if self.postponed.load() == 0 {
            return Vec::new();
        }
        if self.slip == Slip::TakeWithoutLock {
            self.postponed.swap(0);
        } else {
            let _guard = self.postponing.lock().unwrap();
            self.postponed.swap(0);
        }
        core::mem::take(&mut *self.list.lock().unwrap())
    }

    fn route(&self, tag: usize) {
        while !self.claim(tag) {
            self.withdraw(tag);
            if self.postpone(tag) {
                return;
            }
        }
        assert!(!self.inside.swap(true, Relaxed), "two writes at once");
        self.inside.swap(false, Relaxed);
        self.written.fetch_add(1, Relaxed);
        self.withdraw(tag);
        for other in self.take_postponed() {
            self.route(other);
        }
    }
}

fn writers(count: usize, preemptions: Option<usize>, slip: Slip) {
    explore(preemptions, move || {
        let device = Device::new(slip);
        let others: Vec<_> = (1..count)
            .map(|tag| {
                let device = device.clone();
                thread::spawn(move || device.route(tag))
            })
            .collect();
        device.route(0);
        for other in others {
            other.join().unwrap();
        }
        let left = device.list.lock().unwrap().len();
        assert_eq!(left, 0, "a write was forgotten");
        assert_eq!(device.written.load(Relaxed), count as u64);
    });
}

#[test]
fn of_two_one_goes_after_the_other() {
    writers(2, Some(4), Slip::None);
}

#[test]
fn of_three_too() {
    writers(3, Some(2), Slip::None);
}

#[test]
#[should_panic(expected = "two writes at once")]
fn not_if_each_looks_before_it_claims() {
    writers(2, Some(3), Slip::LookFirst);
}

#[test]
#[should_panic(expected = "two writes at once")]
fn not_if_it_is_counted_before_it_claims() {
    writers(2, Some(3), Slip::EnterFirst);
}

#[test]
#[should_panic(expected = "a write was forgotten")]
fn not_if_it_is_given_back_without_a_second_look() {
    writers(2, Some(3), Slip::PostponeBlindly);
}

#[test]
#[should_panic(expected = "a write was forgotten")]
fn not_if_the_flag_is_set_after_the_look() {
    writers(2, Some(3), Slip::FlagAfterLook);
}

#[test]
#[should_panic(expected = "a write was forgotten")]
fn not_if_the_flag_is_taken_without_the_lock() {
    writers(2, Some(3), Slip::TakeWithoutLock);
}
