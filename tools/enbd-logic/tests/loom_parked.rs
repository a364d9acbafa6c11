// SPDX-License-Identifier: GPL-2.0

//! Models of writes that are put aside while a window is over them: none stays there for ever.

#![cfg(loom)]

mod loom_common;

use enbd_logic::logic::{
    group::GroupEvent::{self, *},
    ids::GroupId,
};
use loom::{
    sync::{
        atomic::{AtomicU64, Ordering::Relaxed},
        Arc,
    },
    thread,
};
use loom_common::{chunk, explore, Mirror, Parked, Slip, SOURCE, TARGET};

const ONE: [(GroupId, GroupEvent); 3] =
    [(SOURCE, JoinWhole), (TARGET, JoinStale), (TARGET, HotAdd)];
const THIRD: GroupId = GroupId::new(2).unwrap();
/// Both groups that have windows here return; the third one is in sync.
const BOTH: [(GroupId, GroupEvent); 5] = [
    (THIRD, JoinWhole),
    (SOURCE, JoinStale),
    (TARGET, JoinStale),
    (SOURCE, HotAdd),
    (TARGET, HotAdd),
];

struct Device {
    mirror: Mirror,
    written: AtomicU64,
}

impl Device {
    fn new(events: &[(GroupId, GroupEvent)], slip: Slip) -> Arc<Self> {
        Arc::new(Self {
            mirror: Mirror::new(events, slip),
            written: AtomicU64::new(0),
        })
    }

    /// `Mirror::route_write()`, with the call that `park()` makes to it as a loop.
    fn route(&self, write: Parked) {
        while self.mirror.claim(write.tag, write.span).is_none() {
            if self.mirror.park(write) {
                return;
            }
        }
        self.written.fetch_add(1, Relaxed);
        self.mirror.withdraw(write.tag);
    }

    /// `Walk::lower()` after a window was raised; the wait for claims is another model's.
    fn window(&self, group: GroupId, raise: impl Fn()) {
        raise();
        if self.mirror.slip == Slip::LowerAfterUnpark {
            self.mirror.unpark(|write| self.route(write));
            self.mirror.lower(group);
        } else {
            self.mirror.lower(group);
            self.mirror.unpark(|write| self.route(write));
        }
    }

    fn check(&self, writes: u64) {
        assert_eq!(self.mirror.parked_now(), 0, "a write was forgotten");
        assert_eq!(self.written.load(Relaxed), writes);
    }
}

fn write_of(tag: usize) -> Parked {
    Parked {
        tag,
        span: chunk(0),
    }
}

fn one_window(slip: Slip) {
    explore(None, move || {
        let device = Device::new(&ONE, slip);
        let writer = {
            let device = device.clone();
            thread::spawn(move || device.route(write_of(0)))
        };
        device.window(TARGET, || device.mirror.raise_only(TARGET, chunk(0)));
        writer.join().unwrap();
        device.check(1);
    });
}

#[test]
fn a_write_that_was_put_aside_is_sent_out() {
    one_window(Slip::None);
}

#[test]
#[should_panic(expected = "a write was forgotten")]
fn not_if_it_is_put_aside_without_a_second_look() {
    one_window(Slip::ParkBlindly);
}

#[test]
#[should_panic(expected = "a write was forgotten")]
fn not_if_the_window_is_lowered_last() {
    one_window(Slip::LowerAfterUnpark);
}

/// Two windows one after the other over the same write.
#[test]
fn a_write_may_be_put_aside_twice() {
    explore(Some(3), || {
        let device = Device::new(&ONE, Slip::None);
        let writer = {
            let device = device.clone();
            thread::spawn(move || device.route(write_of(0)))
        };
        for _ in 0..2 {
            device.window(TARGET, || device.mirror.raise_only(TARGET, chunk(0)));
        }
        writer.join().unwrap();
        device.check(1);
    });
}

/// Two groups return, and each has a window over the write: who lowers the first one may put the
/// write aside again, for the other to find.
#[test]
fn two_resyncs_hand_a_write_on() {
    explore(Some(2), || {
        let device = Device::new(&BOTH, Slip::None);
        let others = [
            {
                let device = device.clone();
                thread::spawn(move || device.route(write_of(0)))
            },
            {
                let device = device.clone();
                thread::spawn(move || {
                    device.window(SOURCE, || device.mirror.raise_only(SOURCE, chunk(0)));
                })
            },
        ];
        device.window(TARGET, || device.mirror.raise_only(TARGET, chunk(0)));
        for other in others {
            other.join().unwrap();
        }
        device.check(1);
    });
}
