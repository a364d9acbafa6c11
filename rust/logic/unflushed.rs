// SPDX-License-Identifier: GPL-2.0

//! Which parts of a server hold writes that it has acknowledged and may not have made durable yet.
//!
//! A server that is lost may have lost them; they have to be copied to it when it returns. The
//! device is divided into at most [`REGIONS`] regions, one bit each, in two generations: a write
//! that was acknowledged sets a bit of `current`; a FLUSH that is about to be sent moves `current`
//! to `flushing`; its success clears `flushing`. What is acknowledged while the FLUSH is on its way
//! is not covered by it, and stays in `current`.
//!
//! Only one FLUSH at a time does so, the *owner*: one that is sent while the owner is on its way
//! neither moves nor clears anything, so that nothing is cleared that the owner does not cover. In
//! doubt a bit stays.
//!
//! Lock-free. A bit that moves is set in `flushing` before it is cleared in `current`, and who
//! looks for all bits looks at `current` first: so a bit is always seen. The summaries are for
//! those who may miss a bit that is being set.

use super::{barrier::MAX_SECTORS, word::update};
use crate::sync::Word;
use core::ops::Deref;

/// Regions of a device at most.
pub const REGIONS: u64 = (GENERATION * 64) as u64;
/// Words that [`Unflushed`] needs.
pub const WORDS: usize = 2 * (GENERATION + SUMMARY) + 1;

/// Words of a generation, and the words that say which of those are not zero.
const GENERATION: usize = 512;
const SUMMARY: usize = GENERATION / 64;

/// The logarithm of the number of sectors in a region, for a device of `sectors` sectors; at least
/// that of a page.
pub fn region_shift(sectors: u64) -> u32 {
    let regions = sectors.min(MAX_SECTORS).div_ceil(REGIONS).max(8);
    regions.next_power_of_two().trailing_zeros()
}

/// The two generations of one server. `S` holds [`WORDS`] words that are zero at first.
pub struct Unflushed<S>(S);

/// The proof that a FLUSH is the owner.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ownership(u64);

#[derive(Clone, Copy)]
enum Generation {
    Current,
    Flushing,
}

impl<S: Deref<Target = [Word]>> Unflushed<S> {
    /// Generations in `words`; nothing if there are not [`WORDS`] of them.
    pub fn new(words: S) -> Option<Self> {
        (words.len() == WORDS).then_some(Self(words))
    }

    fn word(&self, generation: Generation, index: usize) -> Option<&Word> {
        match generation {
            Generation::Current => self.0.get(index),
            Generation::Flushing => self.0.get(GENERATION + index),
        }
    }

    fn summary(&self, generation: Generation, index: usize) -> Option<&Word> {
        let base = 2 * GENERATION;
        match generation {
            Generation::Current => self.0.get(base + index),
            Generation::Flushing => self.0.get(base + SUMMARY + index),
        }
    }

    /// Odd while a FLUSH that moved bits is on its way; another number each time.
    fn owner(&self) -> Option<&Word> {
        self.0.get(WORDS - 1)
    }

    /// A write of the regions `first` to `last` was acknowledged.
    pub fn note(&self, first: u64, last: u64) {
        let last = last.min(REGIONS - 1);
        let mut at = first.min(last);
        while at <= last {
            let bit = at % 64;
            let len = (64 - bit).min(last - at + 1);
            let mask = u64::MAX >> (64 - len) << bit;
            self.set(Generation::Current, (at / 64) as usize, mask);
            at += len;
        }
    }

    fn set(&self, generation: Generation, index: usize, mask: u64) {
        if let Some(word) = self.word(generation, index) {
            or(word, mask);
        }
        // Also where the word was not zero: who made it so may not have come to this yet.
        if let Some(summary) = self.summary(generation, index / 64) {
            or(summary, 1 << (index % 64));
        }
    }

    /// A FLUSH is about to be sent. If it is to be the owner, gives what proves that to
    /// [`Unflushed::end_flush`].
    #[must_use]
    pub fn begin_flush(&self) -> Option<Ownership> {
        let owner = self.owner()?;
        let old = owner.load();
        let new = old.wrapping_add(1);
        if old % 2 != 0 || owner.compare_exchange(old, new).is_err() {
            return None;
        }
        self.each_summarised(Generation::Current, |index| {
            let Some(word) = self.word(Generation::Current, index) else {
                return;
            };
            let bits = word.load();
            if bits != 0 {
                self.set(Generation::Flushing, index, bits);
                update(word, |n| n & !bits);
            }
        });
        Some(Ownership(new))
    }

    /// The owner has ended.
    pub fn end_flush(&self, ownership: Ownership, succeeded: bool) {
        let Some(owner) = self.owner().filter(|o| o.load() == ownership.0) else {
            // The server was lost meanwhile: nobody knows what the FLUSH covered.
            return;
        };
        if succeeded {
            self.each_summarised(Generation::Flushing, |index| {
                if let Some(word) = self.word(Generation::Flushing, index) {
                    word.swap(0);
                }
            });
        }
        // It fails only if the server is lost just now.
        let _ = owner.compare_exchange(ownership.0, ownership.0.wrapping_add(1));
    }

    /// The server is lost: a FLUSH that was begun before clears nothing any more, even if the
    /// server carries it out when it is back. To be called before a new connection carries
    /// anything.
    pub fn disown(&self) {
        if let Some(owner) = self.owner() {
            update(owner, |n| n.wrapping_add(1) & !1);
        }
    }

    /// Whether a region is noted.
    pub fn is_noted(&self, region: u64) -> bool {
        // In this order: a bit that moves is set in `flushing` first.
        [Generation::Current, Generation::Flushing]
            .iter()
            .any(|&generation| {
                let word = self.word(generation, (region / 64) as usize);
                region < REGIONS && word.is_some_and(|w| w.load() >> (region % 64) & 1 != 0)
            })
    }

    /// Whether nothing is noted.
    pub fn is_clear(&self) -> bool {
        [Generation::Current, Generation::Flushing]
            .iter()
            .all(|&generation| {
                (0..GENERATION).all(|i| self.word(generation, i).is_none_or(|w| w.load() == 0))
            })
    }

    /// The server was lost: takes out all regions, in runs of at most 64, as first region and
    /// number. A region may come twice.
    pub fn lose(&self, mut each: impl FnMut(u64, u64)) {
        for generation in [Generation::Current, Generation::Flushing] {
            for index in 0..GENERATION {
                let Some(word) = self.word(generation, index).filter(|w| w.load() != 0) else {
                    continue;
                };
                let mut bits = word.swap(0);
                while bits != 0 {
                    let first = bits.trailing_zeros();
                    let len = (!(bits >> first)).trailing_zeros().min(64 - first);
                    each(index as u64 * 64 + u64::from(first), u64::from(len));
                    bits &= !(u64::MAX >> (64 - len) << first);
                }
            }
        }
    }

    /// Calls `f` with each word that the summary says may not be zero, and clears the summary.
    fn each_summarised(&self, generation: Generation, mut f: impl FnMut(usize)) {
        for high in 0..SUMMARY {
            let Some(summary) = self.summary(generation, high) else {
                return;
            };
            if summary.load() == 0 {
                continue;
            }
            let mut words = summary.swap(0);
            while words != 0 {
                f(high * 64 + words.trailing_zeros() as usize);
                words &= words - 1;
            }
        }
    }
}

/// Sets bits.
fn or(word: &Word, mask: u64) {
    if word.load() & mask != mask {
        update(word, |n| n | mask);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make() -> Unflushed<Vec<Word>> {
        Unflushed::new((0..WORDS).map(|_| Word::new(0)).collect()).unwrap()
    }

    fn begin(unflushed: &Unflushed<Vec<Word>>) -> Ownership {
        unflushed.begin_flush().expect("no other one is on its way")
    }

    fn all(unflushed: &Unflushed<Vec<Word>>) -> Vec<u64> {
        let mut regions = Vec::new();
        unflushed.lose(|first, len| regions.extend(first..first + len));
        regions.sort_unstable();
        regions
    }

    #[test]
    fn regions_cover_every_device() {
        for sectors in [1, 8, 8192, 1 << 21, 1 << 31, (1 << 31) + 1, MAX_SECTORS - 1] {
            let shift = region_shift(sectors);
            assert!(shift >= 3);
            assert!((sectors - 1) >> shift < REGIONS, "{sectors}");
        }
    }

    #[test]
    fn a_flush_clears_what_was_acknowledged_before() {
        let u = make();
        assert!(u.is_clear());
        u.note(3, 3);
        u.note(60, 130);
        assert!(!u.is_clear());
        let owns = begin(&u);
        assert!(!u.is_clear());
        u.note(7, 7);
        u.end_flush(owns, true);
        assert_eq!(all(&u), [7]);
        assert_eq!(all(&u), []);
        assert!(u.is_clear());
    }

    #[test]
    fn a_failed_flush_clears_nothing() {
        let u = make();
        u.note(3, 4);
        let owns = begin(&u);
        u.end_flush(owns, false);
        u.note(5, 5);
        begin(&u);
        assert_eq!(all(&u), [3, 4, 5]);
    }

    #[test]
    fn of_overlapping_flushes_only_the_first_clears_and_only_what_it_covers() {
        let u = make();
        u.note(1, 1);
        let first = begin(&u);
        u.note(2, 2);
        assert_eq!(u.begin_flush(), None);
        u.end_flush(first, true);
        assert_eq!(all(&u), [2]);
        u.note(9, 9);
        let third = begin(&u);
        u.end_flush(third, true);
        assert_eq!(all(&u), []);
    }

    #[test]
    fn a_flush_from_before_the_loss_clears_nothing() {
        let u = make();
        u.note(1, 1);
        let before = begin(&u);
        u.disown();
        u.end_flush(before, true);
        assert_eq!(all(&u), [1]);
        u.note(2, 2);
        let after = begin(&u);
        u.end_flush(before, true);
        u.end_flush(after, true);
        assert_eq!(all(&u), []);
        u.disown();
        assert!(u.begin_flush().is_some());
    }

    #[test]
    fn runs_cross_words_and_the_end_is_cut() {
        let u = make();
        u.note(REGIONS - 70, REGIONS + 5);
        assert_eq!(all(&u), (REGIONS - 70..REGIONS).collect::<Vec<_>>());
    }
}
