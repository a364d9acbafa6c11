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

/// A shared word that holds a number below [`u64::MAX`], or none.
pub(super) struct OptWord(Word);

impl Default for OptWord {
    fn default() -> Self {
        Self(Word::new(0))
    }
}

impl OptWord {
    /// The number. Acquire.
    pub(super) fn get(&self) -> Option<u64> {
        self.0.load().checked_sub(1)
    }

    /// Puts a number there. Release.
    pub(super) fn set(&self, number: u64) {
        self.0.store(number.saturating_add(1));
    }

    /// Puts a number there if there is none; gives the one that is there then. Full barrier if it
    /// was put there.
    pub(super) fn get_or_set(&self, number: u64) -> u64 {
        match self.0.compare_exchange(0, number.saturating_add(1)) {
            Ok(_) => number,
            Err(there) => there.saturating_sub(1),
        }
    }

    /// Leaves none there. Release.
    pub(super) fn clear(&self) {
        self.0.store(0);
    }

    /// The same, with a full barrier; gives the number that was there.
    pub(super) fn take(&self) -> Option<u64> {
        self.0.swap(0).checked_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_is_no_number() {
        let word = OptWord::default();
        assert_eq!((word.get(), word.take()), (None, None));
        word.set(0);
        assert_eq!(word.get(), Some(0));
        assert_eq!(word.get_or_set(7), 0);
        word.clear();
        assert_eq!(word.get_or_set(7), 7);
        assert_eq!((word.take(), word.get()), (Some(7), None));
        word.set(u64::MAX - 1);
        assert_eq!(word.get(), Some(u64::MAX - 1));
    }
}
