// SPDX-License-Identifier: GPL-2.0

//! What shared words can do beyond what `crate::sync` gives them.

use crate::sync::Word;

/// Replaces a word by a function of it. Full barrier.
pub(super) fn update(word: &Word, f: impl Fn(u64) -> u64) {
    let mut old = word.load();
    loop {
        match word.compare_exchange(old, f(old)) {
            Ok(_) => return,
            Err(now) => old = now,
        }
    }
}
