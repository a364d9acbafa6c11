// SPDX-License-Identifier: GPL-2.0

//! Which parts of a server hold writes that it has acknowledged and may not have made durable yet.
//!
//! A server that is lost may have lost them; they have to be copied to it when it returns. The
//! device is divided into at most [`REGIONS`] regions, one bit each, in two generations: a write
//! that was acknowledged sets a bit of `current`; a FLUSH that is about to be sent moves `current`
//! to `flushing`; its success clears `flushing`. What is acknowledged while the FLUSH is on its way
//! is not covered by it, and stays in `current`.
//!
//! If two FLUSHes overlap, neither clears: one of them may have been sent before writes that the
//! other moved. The next one alone does. In doubt a bit stays.
//!
//! Lock-free; bits are set with a full barrier before the write's end is told to anybody.

use super::barrier::MAX_SECTORS;
use crate::sync::Word;
use core::ops::Deref;

/// Regions of a device at most.
pub const REGIONS: u64 = (GENERATION * 64) as u64;
/// Words that [`Unflushed`] needs.
pub const WORDS: usize = 2 * (GENERATION + SUMMARY) + 1;

/// Words of a generation, and the words that say which of those are not zero.
const GENERATION: usize = 512;
const SUMMARY: usize = GENERATION / 64;
/// In the word that counts FLUSHes on their way: some of them overlapped.
const MIXED: u64 = 1 << 63;

/// The logarithm of the number of sectors in a region, for a device of `sectors` sectors; at least
/// that of a page.
pub fn region_shift(sectors: u64) -> u32 {
    let regions = sectors.min(MAX_SECTORS).div_ceil(REGIONS).max(8);
    regions.next_power_of_two().trailing_zeros()
}

/// The two generations of one server. `S` holds [`WORDS`] words that are zero at first.
pub struct Unflushed<S>(S);

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

    fn flushes(&self) -> Option<&Word> {
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
            if or(word, mask) {
                if let Some(summary) = self.summary(generation, index / 64) {
                    or(summary, 1 << (index % 64));
                }
            }
        }
    }

    /// A FLUSH is about to be sent.
    pub fn begin_flush(&self) {
        if let Some(flushes) = self.flushes() {
            update(flushes, |n| match n & !MIXED {
                0 => 1,
                _ => (n | MIXED).wrapping_add(1),
            });
        }
        self.take(Generation::Current, |index, bits| {
            self.set(Generation::Flushing, index, bits);
        });
    }

    /// A FLUSH has ended.
    pub fn end_flush(&self, succeeded: bool) {
        let Some(flushes) = self.flushes() else {
            return;
        };
        if succeeded && flushes.load() == 1 {
            self.take(Generation::Flushing, |_, _| {});
        }
        update(flushes, |n| match n & !MIXED {
            0 | 1 => 0,
            _ => n.wrapping_sub(1),
        });
    }

    /// Whether nothing is noted.
    pub fn is_clear(&self) -> bool {
        // Only words whose summary was taken out a moment ago could be missed, and those are being
        // dealt with.
        (0..SUMMARY).all(|i| {
            [Generation::Current, Generation::Flushing]
                .iter()
                .all(|&generation| self.summary(generation, i).is_none_or(|s| s.load() == 0))
        })
    }

    /// The server was lost: takes out all regions, in runs of at most 64, as first region and
    /// number. A region may come twice.
    pub fn lose(&self, mut each: impl FnMut(u64, u64)) {
        for generation in [Generation::Flushing, Generation::Current] {
            self.take(generation, |index, mut bits| {
                while bits != 0 {
                    let first = bits.trailing_zeros();
                    let len = (!(bits >> first)).trailing_zeros().min(64 - first);
                    each(index as u64 * 64 + u64::from(first), u64::from(len));
                    bits &= !(u64::MAX >> (64 - len) << first);
                }
            });
        }
    }

    /// Takes out all bits of a generation. A bit that is set meanwhile is taken or stays, with its
    /// summary: whoever makes a word other than zero sets the summary afterwards.
    fn take(&self, generation: Generation, mut each: impl FnMut(usize, u64)) {
        for high in 0..SUMMARY {
            let Some(summary) = self.summary(generation, high) else {
                return;
            };
            if summary.load() == 0 {
                continue;
            }
            let mut words = summary.swap(0);
            while words != 0 {
                let index = high * 64 + words.trailing_zeros() as usize;
                words &= words - 1;
                let bits = self.word(generation, index).map_or(0, |word| word.swap(0));
                if bits != 0 {
                    each(index, bits);
                }
            }
        }
    }
}

/// Sets bits; whether none was set before.
fn or(word: &Word, mask: u64) -> bool {
    let old = word.load();
    if old & mask == mask {
        return false;
    }
    update(word, |n| n | mask) == 0
}

/// Replaces a word by a function of it; gives what stood there.
fn update(word: &Word, f: impl Fn(u64) -> u64) -> u64 {
    let mut old = word.load();
    loop {
        match word.compare_exchange(old, f(old)) {
            Ok(_) => return old,
            Err(now) => old = now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make() -> Unflushed<Vec<Word>> {
        Unflushed::new((0..WORDS).map(|_| Word::new(0)).collect()).unwrap()
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
        u.begin_flush();
        assert!(!u.is_clear());
        u.note(7, 7);
        u.end_flush(true);
        assert_eq!(all(&u), [7]);
        assert_eq!(all(&u), []);
    }

    #[test]
    fn a_failed_flush_clears_nothing() {
        let u = make();
        u.note(3, 4);
        u.begin_flush();
        u.end_flush(false);
        u.note(5, 5);
        u.begin_flush();
        assert_eq!(all(&u), [3, 4, 5]);
    }

    #[test]
    fn overlapping_flushes_clear_nothing_and_the_next_one_does() {
        let u = make();
        u.note(1, 1);
        u.begin_flush();
        u.note(2, 2);
        u.begin_flush();
        u.end_flush(true);
        u.end_flush(true);
        u.begin_flush();
        u.note(9, 9);
        u.end_flush(true);
        assert_eq!(all(&u), [9]);
        u.note(1, 2);
        u.begin_flush();
        u.begin_flush();
        u.end_flush(true);
        u.end_flush(true);
        assert_eq!(all(&u), [1, 2]);
    }

    #[test]
    fn runs_cross_words_and_the_end_is_cut() {
        let u = make();
        u.note(REGIONS - 70, REGIONS + 5);
        assert_eq!(all(&u), (REGIONS - 70..REGIONS).collect::<Vec<_>>());
    }
}
