// SPDX-License-Identifier: GPL-2.0

//! Who finds that nothing was noted since it looked has seen all that there is.

#![cfg(loom)]

mod loom_common;

use enbd_logic::{logic::tell::Changes, sync::Word};
use loom::{sync::Arc, thread};
use loom_common::explore;

/// What a reader gets wrong on purpose.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Slip {
    None,
    /// It looks before it takes the number.
    LooksFirst,
    /// Who changes something notes it before.
    NotesFirst,
}

/// Two threads change a word each. Whether a reader that finds the same number again may have missed
/// a change that was noted by then.
fn misses(slip: Slip) -> bool {
    let missed = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let found = missed.clone();
    explore(Some(3), move || {
        let changes = Arc::new(Changes::default());
        let words = Arc::new([Word::new(0), Word::new(0)]);
        let threads = [0, 1].map(|at: usize| {
            let (changes, words) = (changes.clone(), words.clone());
            thread::spawn(move || {
                if slip == Slip::NotesFirst {
                    changes.note();
                }
                words[at].store(1);
                if slip != Slip::NotesFirst {
                    changes.note();
                }
            })
        });
        let look = || [words[0].load(), words[1].load()];
        let early = look();
        let number = changes.now();
        let seen = match slip {
            Slip::LooksFirst => early,
            _ => look(),
        };
        for thread in threads {
            thread.join().unwrap();
        }
        if changes.now() == number && seen != look() {
            found.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    });
    missed.load(std::sync::atomic::Ordering::Relaxed)
}

#[test]
fn nothing_is_missed() {
    assert!(!misses(Slip::None));
}

#[test]
fn each_slip_misses_a_change() {
    assert!(misses(Slip::LooksFirst));
    assert!(misses(Slip::NotesFirst));
}
