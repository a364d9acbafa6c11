// SPDX-License-Identifier: GPL-2.0

//! Models of marks that are taken back while a write of their region begins, goes on, or ends: one that
//! has gone by its mark, and was not answered before the flush, keeps it.
//!
//! What was also changed by hand to see these fail: who takes back looks at claims before he clears the
//! marks, does not look at claims, does not look at what is recent afterwards, or forgets what is recent
//! after he has looked at claims; a write that touches its mark after it has withdrawn its claim.

#![cfg(loom)]

mod loom_common;

use enbd_logic::{
    logic::{
        barrier::{Claim, Span, CHUNK_SECTORS},
        meta::marks::{words_for, Marks, Take},
    },
    sync::Word,
};
use loom::{
    sync::{
        atomic::{AtomicBool, Ordering::SeqCst},
        Arc,
    },
    thread,
};
use loom_common::explore;

/// Bytes of a region, as a power of two, and the first byte of the one that is written to.
const SHIFT: u32 = 20;
const FIRST: u64 = 5 << SHIFT;
const BYTES: u64 = CHUNK_SECTORS << 9;

struct Device {
    marks: Marks<Vec<Word>>,
    claim: Claim,
    /// The write was answered.
    answered: AtomicBool,
}

impl Device {
    /// A device with one mark, as a round leaves it.
    fn new() -> Arc<Self> {
        let words = (0..words_for(64)).map(|_| Word::new(0)).collect();
        let marks = Marks::new(words);
        marks.prepare(64 << SHIFT, SHIFT);
        marks.begin();
        marks.is_durable(FIRST, SHIFT);
        Arc::new(Self {
            marks,
            claim: Claim::default(),
            answered: AtomicBool::new(false),
        })
    }

    /// `claim()`, `route_write()` and `withdraw()`: whether the write has gone.
    fn write(&self) -> bool {
        self.claim.publish(Span::new(FIRST >> 9, CHUNK_SECTORS), 0);
        let goes = self.marks.covers(FIRST, BYTES);
        if goes {
            self.marks.touch(FIRST, BYTES);
            self.answered.store(true, SeqCst);
        }
        self.claim.withdraw();
        goes
    }

    fn busy(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let claims = [&self.claim].into_iter().filter_map(Claim::span);
        claims.map(|_| (FIRST, BYTES))
    }

    /// `idle::begin()` and `idle::end()`: whether the write was answered before the groups were flushed.
    fn take_back(&self, take: Take) -> bool {
        let is_idle = self.marks.begin_taking(take, self.busy());
        let is_flushed = self.answered.load(SeqCst);
        if is_idle {
            self.marks.take(|| self.busy());
        }
        is_flushed
    }
}

fn race(take: Take, is_recent: bool, exchanged: bool) {
    explore(Some(3), move || {
        let device = Device::new();
        if is_recent {
            device.marks.touch(FIRST, BYTES);
        }
        let other = device.clone();
        let (went, is_flushed) = if exchanged {
            let taker = thread::spawn(move || other.take_back(take));
            (device.write(), taker.join().unwrap())
        } else {
            let writer = thread::spawn(move || other.write());
            let is_flushed = device.take_back(take);
            (writer.join().unwrap(), is_flushed)
        };
        let is_kept = device.marks.covers(FIRST, BYTES);
        assert!(!went || is_flushed || is_kept, "a write has lost its mark");
    });
}

#[test]
fn a_write_keeps_its_mark_while_idle_ones_are_taken_back() {
    for is_recent in [false, true] {
        for exchanged in [false, true] {
            race(Take::Idle, is_recent, exchanged);
        }
    }
}

#[test]
fn a_write_keeps_its_mark_while_all_are_taken_back() {
    for is_recent in [false, true] {
        for exchanged in [false, true] {
            race(Take::All, is_recent, exchanged);
        }
    }
}

/// A writer that has found its mark missing sees that it is there, or the round sees that it waits.
#[test]
fn a_write_that_waits_is_found_by_a_round() {
    explore(Some(3), || {
        let device = Device::new();
        device.marks.begin_taking(Take::All, device.busy());
        device.marks.take(|| device.busy());
        let other = device.clone();
        let recorder = thread::spawn(move || {
            let page: Vec<_> = other.marks.begin_round().collect();
            for region in page {
                other.marks.is_durable(region << SHIFT, SHIFT);
            }
            other.marks.end_round();
        });
        device.marks.want(FIRST, BYTES);
        recorder.join().unwrap();
        let is_marked = device.marks.covers(FIRST, BYTES);
        assert!(
            is_marked || device.marks.is_asked(),
            "nobody writes the page"
        );
    });
}
