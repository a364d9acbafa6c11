// SPDX-License-Identifier: GPL-2.0

//! Where writes may be on their way, region by region, so that only that is compared after a crash.
//!
//! A write is sent once its regions are *durable*: in a page ([`super::intent`]) that all groups have
//! which a record may call in sync. One that finds them missing *wants* them, and waits for the next
//! page. A page holds what is durable and what is wanted, so a mark stays until it is taken back.
//!
//! | set | who sets | who clears |
//! |---|---|---|
//! | durable | the end of a round | who takes back |
//! | wanted | writes, and what a start has found | the end of a round |
//! | recent | writes that go | the next look for idle ones |
//! | before | that look: what was recent | the next one |
//! | noted | the thread of the rounds, for itself | it |
//!
//! # Taking back
//!
//! What was idle for a while is flushed on all groups, and then taken back. A write may begin, or have
//! begun, at any moment of that:
//!
//! ```text
//! write     claims   durable: goes   touches             answered, withdraws its claim
//! thread                                      clears it in durable      looks at claims, then at recent
//! ```
//!
//! The write publishes its claim before it looks whether its region is durable, and touches it before
//! it withdraws the claim; the thread looks in the opposite order, each step behind a full barrier. So a
//! write that has seen the mark is seen by its claim or by its touch, and its region is put back. What
//! was answered before the flush began is durable everywhere; so that this holds of all that has no
//! touch, what had a claim then counts as recent.

use super::layout::MOST_REGIONS;
use crate::logic::word::update;
use crate::sync::Word;
use core::ops::Deref;

/// The sets.
#[derive(Clone, Copy)]
enum Set {
    Durable,
    Wanted,
    Recent,
    Before,
    Noted,
}

/// How many there are.
const SETS: usize = 5;
/// Regions that a writer is ahead of when it asks for more, and how many it asks for.
const AHEAD_LEFT: u64 = 8;
const AHEAD: u64 = 16;

/// Words for the regions of a device.
pub fn words_for(regions: u64) -> usize {
    let each = regions.clamp(1, MOST_REGIONS).div_ceil(64);
    (each as usize).saturating_mul(SETS)
}

/// How much is taken back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Take {
    /// What nobody has written to since the last look.
    Idle,
    /// All that nobody writes to at this moment.
    All,
}

/// The marks of a device. `S` holds words that are zero at first: see [`words_for`].
pub struct Marks<S> {
    words: S,
    /// Bytes of a region, as a power of two; 0: nothing is marked, and nothing has to be.
    shift: Word,
    /// How many regions there are.
    regions: Word,
    /// Not 0: something is wanted that is in no page yet.
    asked: Word,
    /// Pages that were written, and writes that had to wait for one.
    rounds: Word,
    waits: Word,
}

impl<S: Deref<Target = [Word]>> Marks<S> {
    /// Marks in `words`, which are off.
    pub fn new(words: S) -> Self {
        Self {
            words,
            shift: Word::new(0),
            regions: Word::new(0),
            asked: Word::new(0),
            rounds: Word::new(0),
            waits: Word::new(0),
        }
    }

    /// Forgets all, for a device of `bytes` bytes with regions of at least `1 << shift` bytes. It stays
    /// off.
    pub fn prepare(&self, bytes: u64, shift: u32) {
        self.end();
        for word in &*self.words {
            word.store(0);
        }
        let room = (self.each() as u64).saturating_mul(64);
        let count = |shift: u32| (bytes.saturating_sub(1) >> shift).saturating_add(1);
        let fits = |&shift: &u32| count(shift) <= room;
        let shift = (shift..u64::BITS).find(fits).unwrap_or(u64::BITS - 1);
        self.regions.store(count(shift) | u64::from(shift) << 32);
    }

    /// Writes wait for their marks from now on. What was found is in the first page.
    pub fn begin(&self) {
        self.asked.swap(1);
        self.shift.swap(self.region_shift());
    }

    /// They do not, any more.
    pub fn end(&self) {
        self.shift.swap(0);
    }

    /// Whether writes wait for their marks.
    pub fn is_on(&self) -> bool {
        self.shift.load() != 0
    }

    /// Bytes of a region, as a power of two, for a page.
    pub fn shift(&self) -> u32 {
        u32::try_from(self.region_shift()).unwrap_or(u32::MAX)
    }

    /// The same, as it is kept.
    fn region_shift(&self) -> u64 {
        self.regions.load() >> 32
    }

    /// Bytes of a region.
    fn region_bytes(&self) -> u64 {
        1u64.checked_shl(self.shift()).unwrap_or(u64::MAX)
    }

    /// Words of a set.
    fn each(&self) -> usize {
        self.words.len() / SETS
    }

    fn word(&self, set: Set, index: usize) -> Option<&Word> {
        let each = self.each();
        let at = (set as usize).checked_mul(each)?.checked_add(index)?;
        self.words.get(at).filter(|_| index < each)
    }

    fn load(&self, set: Set, index: usize) -> u64 {
        self.word(set, index).map_or(0, Word::load)
    }

    /// Sets bits of a word. Full barrier if one was not set.
    fn set(&self, set: Set, index: usize, bits: u64) {
        if let Some(word) = self.word(set, index).filter(|w| w.load() & bits != bits) {
            update(word, |old| old | bits);
        }
    }

    /// Clears bits of a word. Full barrier if one was set.
    fn clear(&self, set: Set, index: usize, bits: u64) {
        if let Some(word) = self.word(set, index).filter(|w| w.load() & bits != 0) {
            update(word, |old| old & !bits);
        }
    }

    /// The regions that `bytes` bytes from `first` on touch, as the first and the last.
    fn regions_of(&self, first: u64, bytes: u64) -> Option<(u64, u64)> {
        regions_at(self.region_shift(), first, bytes)
    }

    /// Whether the regions of a write, of `bytes` bytes from `first` on, are durable, so that it may go.
    /// To be asked after its claim was published.
    pub fn covers(&self, first: u64, bytes: u64) -> bool {
        let Some((first, last)) = regions_at(self.shift.load(), first, bytes) else {
            return true;
        };
        masks(first, last).all(|(at, mask)| self.load(Set::Durable, at) & mask == mask)
    }

    /// The write goes. One that walks on from the region before asks for the next ones, so that it need
    /// not wait for them; whether it does.
    pub fn touch(&self, first: u64, bytes: u64) -> bool {
        let Some((first, last)) = regions_at(self.shift.load(), first, bytes) else {
            return false;
        };
        let mut is_new = false;
        for (at, mask) in masks(first, last) {
            if self.load(Set::Recent, at) & mask != mask {
                is_new = true;
                self.set(Set::Recent, at, mask);
            }
        }
        is_new && self.goes_ahead(first, last)
    }

    fn has(&self, set: Set, region: u64) -> bool {
        self.load(set, (region / 64) as usize) & (1 << (region % 64)) != 0
    }

    fn goes_ahead(&self, first: u64, last: u64) -> bool {
        let count = self.regions.load() & u64::from(u32::MAX);
        let Some(end) = count.checked_sub(1) else {
            return false;
        };
        let before = first.checked_sub(1);
        let goes_on = before.is_some_and(|before| self.has(Set::Recent, before));
        let left = last.saturating_add(AHEAD_LEFT).min(end);
        if !goes_on || last >= end || self.has(Set::Durable, left) {
            return false;
        }
        let next = last.saturating_add(1);
        self.want_regions(next, last.saturating_add(AHEAD).min(end));
        true
    }

    fn want_regions(&self, first: u64, last: u64) {
        for (at, mask) in masks(first, last) {
            self.set(Set::Wanted, at, mask);
        }
        // Full barrier: the round that clears this sees them.
        self.asked.swap(1);
    }

    /// A write has to wait for the marks of its regions.
    pub fn want(&self, first: u64, bytes: u64) {
        self.waits.fetch_add(1);
        if let Some((first, last)) = self.regions_of(first, bytes) {
            self.want_regions(first, last);
        }
    }

    /// Whether a page is asked for.
    pub fn is_asked(&self) -> bool {
        self.is_on() && self.asked.load() != 0
    }

    /// A page is asked for.
    pub fn ask(&self) {
        self.asked.swap(1);
    }

    /// A region was found in a page of an earlier life: it is wanted.
    pub fn found(&self, first_byte: u64, shift: u32) {
        let bytes = 1u64.checked_shl(shift).unwrap_or(u64::MAX);
        if let Some((first, last)) = self.regions_of(first_byte, bytes) {
            let end = self.regions.load() & u64::from(u32::MAX);
            for (at, mask) in masks(first, last.min(end.saturating_sub(1))) {
                self.set(Set::Wanted, at, mask);
            }
        }
    }

    /// The device ends, and may be enabled again in this life: what is marked is found then.
    pub fn keep(&self) {
        self.end();
        for index in 0..self.each() {
            let bits = self.load(Set::Durable, index);
            self.set(Set::Wanted, index, bits);
            self.clear(Set::Durable, index, bits);
        }
    }

    /// What was found does not count.
    pub fn forget_found(&self) {
        for index in 0..self.each() {
            self.clear(Set::Wanted, index, u64::MAX);
        }
    }

    /// Calls `f` with the first byte and the bytes of each region that was found.
    pub fn each_found(&self, mut f: impl FnMut(u64, u64)) {
        let bytes = self.region_bytes();
        for region in self.bits_of(Set::Wanted) {
            f(region.saturating_mul(bytes), bytes);
        }
    }

    /// The regions of a set, in ascending order. Only of one that does not change meanwhile: else it may
    /// be another one each time.
    fn bits_of(&self, set: Set) -> impl Iterator<Item = u64> + Clone + '_ {
        (0..self.each()).flat_map(move |index| Bits {
            left: self.load(set, index),
            base: (index as u64).saturating_mul(64),
        })
    }

    /// Begins a page: what it has to hold, in ascending order, the same however often it is asked.
    pub fn begin_round(&self) -> impl Iterator<Item = u64> + Clone + '_ {
        self.asked.swap(0);
        for index in 0..self.each() {
            let bits = self.load(Set::Durable, index) | self.load(Set::Wanted, index);
            if let Some(noted) = self.word(Set::Noted, index) {
                noted.store(bits);
            }
        }
        self.bits_of(Set::Noted)
    }

    /// A region of a page is durable on all groups that it has to be on. Full barrier: who let a write
    /// wait looks for it afterwards.
    pub fn is_durable(&self, first_byte: u64, shift: u32) {
        let bytes = 1u64.checked_shl(shift).unwrap_or(u64::MAX);
        let Some((first, last)) = self.regions_of(first_byte, bytes) else {
            return;
        };
        for (at, mask) in masks(first, last) {
            self.set(Set::Durable, at, mask);
            self.clear(Set::Wanted, at, mask);
        }
    }

    /// A page is durable on all groups that it has to be on.
    pub fn end_round(&self) {
        self.rounds.fetch_add(1);
    }

    /// Looks for marks that are to be taken back, and keeps those that `busy` gives, in bytes, of the
    /// writes that are on their way; whether there are any.
    pub fn begin_taking(&self, take: Take, busy: impl Iterator<Item = (u64, u64)>) -> bool {
        for index in 0..self.each() {
            let recent = self.word(Set::Recent, index).map_or(0, |w| w.swap(0));
            if let Some(before) = self.word(Set::Before, index) {
                before.store(match take {
                    Take::Idle => recent,
                    Take::All => 0,
                });
            }
        }
        for (first, bytes) in busy {
            if let Some((first, last)) = self.regions_of(first, bytes) {
                for (at, mask) in masks(first, last) {
                    self.set(Set::Before, at, mask);
                }
            }
        }
        (0..self.each()).any(|index| self.idle(index) != 0)
    }

    fn idle(&self, index: usize) -> u64 {
        let kept = self.load(Set::Before, index) | self.load(Set::Recent, index);
        self.load(Set::Durable, index) & !kept
    }

    /// Takes back what [`Marks::begin_taking`] has found and nobody has touched since, after all groups
    /// have flushed. `busy` as there: it is asked after the marks were cleared.
    pub fn take<I: Iterator<Item = (u64, u64)>>(&self, busy: impl FnOnce() -> I) {
        for index in 0..self.each() {
            let bits = self.idle(index);
            if let Some(noted) = self.word(Set::Noted, index) {
                noted.store(bits);
            }
            self.clear(Set::Durable, index, bits);
        }
        for (first, bytes) in busy() {
            let Some((first, last)) = self.regions_of(first, bytes) else {
                continue;
            };
            for (at, mask) in masks(first, last) {
                let bits = self.load(Set::Noted, at) & mask;
                self.set(Set::Durable, at, bits);
            }
        }
        for index in 0..self.each() {
            let bits = self.load(Set::Noted, index) & self.load(Set::Recent, index);
            self.set(Set::Durable, index, bits);
        }
        self.ask();
    }

    /// How many regions are marked, or are to be.
    pub fn count(&self) -> u64 {
        (0..self.each()).fold(0, |sum, index| {
            let bits = self.load(Set::Durable, index) | self.load(Set::Wanted, index);
            sum.saturating_add(u64::from(bits.count_ones()))
        })
    }

    /// Bytes that are marked, or are to be.
    pub fn bytes(&self) -> u64 {
        self.count().saturating_mul(self.region_bytes())
    }

    /// Pages that were written, and writes that had to wait for one.
    pub fn counts(&self) -> (u64, u64) {
        (self.rounds.load(), self.waits.load())
    }
}

/// The numbers of the bits that are set in a word, of which the lowest one has number `base`.
#[derive(Clone)]
struct Bits {
    left: u64,
    base: u64,
}

impl Iterator for Bits {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let lowest = self.left.checked_sub(1)?;
        let bit = u64::from(self.left.trailing_zeros());
        self.left &= lowest;
        Some(self.base.saturating_add(bit))
    }
}

/// The regions of `1 << shift` bytes that `bytes` bytes from `first` on touch, as the first and the last;
/// nothing if the marks are off, or there are no bytes.
fn regions_at(shift: u64, first: u64, bytes: u64) -> Option<(u64, u64)> {
    if shift == 0 {
        return None;
    }
    let last = first.saturating_add(bytes.checked_sub(1)?);
    Some((first >> shift, last >> shift))
}

/// The words of the bits `first` to `last`, each with its mask.
fn masks(first: u64, last: u64) -> impl Iterator<Item = (usize, u64)> {
    (first / 64..=last / 64).map(move |word| {
        let base = word.saturating_mul(64);
        let low = first.saturating_sub(base);
        let high = last.saturating_sub(base).min(63);
        let mask = u64::MAX >> 63u64.saturating_sub(high) & u64::MAX << low;
        (word as usize, mask)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const MIB: u64 = 1 << 20;
    const NOBODY: [(u64, u64); 0] = [];

    fn marks(mib: u64) -> Marks<Vec<Word>> {
        let words = (0..words_for(mib)).map(|_| Word::new(0)).collect();
        let marks = Marks::new(words);
        marks.prepare(mib * MIB, 20);
        marks.begin();
        marks
    }

    /// A round that all groups answer; gives what the page held.
    fn round(marks: &Marks<Vec<Word>>) -> Vec<u64> {
        let page: Vec<_> = marks.begin_round().collect();
        for region in &page {
            marks.is_durable(region * MIB, 20);
        }
        marks.end_round();
        page
    }

    #[test]
    fn a_write_goes_once_all_of_its_regions_are_durable() {
        let marks = marks(200);
        let (first, bytes) = (63 * MIB + 5, 2 * MIB);
        assert!(!marks.covers(first, bytes));
        marks.want(first, bytes);
        assert!(marks.is_asked() && !marks.covers(first, bytes));
        assert_eq!(round(&marks), [63, 64, 65]);
        assert!(marks.covers(first, bytes) && !marks.is_asked());
        assert!(!marks.covers(first, bytes + MIB) && marks.covers(66 * MIB - 1, 1));
        assert!(!marks.covers(62 * MIB, 1) && marks.covers(0, 0));
        assert_eq!(marks.counts(), (1, 1));
        // Off, nothing has to be marked.
        marks.end();
        assert!(marks.covers(0, 200 * MIB) && !marks.touch(0, MIB));
    }

    #[test]
    fn what_comes_during_a_round_is_in_the_next() {
        let marks = marks(200);
        marks.want(0, 1);
        let page = marks.begin_round();
        marks.want(MIB, 1);
        assert_eq!(page.clone().collect::<Vec<_>>(), [0]);
        assert_eq!(page.collect::<Vec<_>>(), [0]);
        marks.is_durable(0, 20);
        assert!(marks.is_asked() && !marks.covers(MIB, 1));
        assert_eq!(round(&marks), [0, 1]);
    }

    #[test]
    fn a_mark_that_is_idle_is_taken_back_and_one_that_is_not_stays() {
        let marks = marks(200);
        for region in [10, 20, 30, 40] {
            marks.want(region * MIB, 1);
        }
        round(&marks);
        for region in [10, 20, 30] {
            marks.touch(region * MIB, 1);
        }
        // The first look finds those recent, but for 40.
        assert!(marks.begin_taking(Take::Idle, NOBODY.into_iter()));
        marks.take(|| NOBODY.into_iter());
        assert_eq!(round(&marks), [10, 20, 30]);
        // 20 is on its way; 30 is touched while the groups flush.
        assert!(marks.begin_taking(Take::Idle, [(20 * MIB, 4096)].into_iter()));
        marks.touch(30 * MIB, 1);
        marks.take(|| NOBODY.into_iter());
        assert_eq!(round(&marks), [20, 30]);
        // 20 begins while the marks are cleared.
        assert!(marks.begin_taking(Take::Idle, NOBODY.into_iter()));
        marks.take(|| [(20 * MIB, 4096)].into_iter());
        assert!(marks.covers(20 * MIB, 1));
        assert_eq!(round(&marks), [20, 30]);
        // 30 was touched before the last look. All are taken back that nobody writes to.
        assert!(marks.begin_taking(Take::All, NOBODY.into_iter()));
        marks.take(|| NOBODY.into_iter());
        assert!(round(&marks).is_empty() && !marks.covers(30 * MIB, 1));
        assert!(!marks.begin_taking(Take::All, NOBODY.into_iter()));
    }

    #[test]
    fn who_walks_on_does_not_wait() {
        let marks = marks(100);
        let mut waits = 0;
        for region in 0..100 {
            if !marks.covers(region * MIB, MIB) {
                waits += 1;
                marks.want(region * MIB, MIB);
                round(&marks);
            }
            marks.touch(region * MIB, MIB);
            if marks.is_asked() {
                round(&marks);
            }
        }
        assert_eq!(waits, 2);
        // Nor does one that jumps about ask for more than it needs.
        let marks = self::marks(10_000);
        for region in (0..10_000).step_by(100) {
            marks.want(region * MIB, 1);
            round(&marks);
            assert!(!marks.touch(region * MIB, 1));
        }
        assert_eq!((marks.count(), marks.bytes()), (100, 100 * MIB));
    }

    #[test]
    fn what_was_found_is_in_the_first_page_and_small_memory_takes_large_regions() {
        let words = (0..words_for(64)).map(|_| Word::new(0)).collect();
        let marks: Marks<Vec<Word>> = Marks::new(words);
        marks.prepare(1000 * MIB, 20);
        marks.found(17 * MIB, 20);
        marks.found(999 * MIB, 30);
        let mut found = Vec::new();
        marks.each_found(|first, bytes| found.push((first / MIB, bytes / MIB)));
        assert_eq!(found, [(16, 16), (992, 16)]);
        marks.begin();
        assert!(!marks.covers(17 * MIB, 1));
        assert_eq!(marks.begin_round().collect::<Vec<_>>(), [1, 62]);
        assert_eq!(words_for(u64::MAX), 5 << 14);
    }
}
