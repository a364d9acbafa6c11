// SPDX-License-Identifier: GPL-2.0

//! What is remembered of a device's content, so that a server that returns can be asked for it: at
//! which places something was written and acknowledged, or was read from all groups alike, and its
//! checksum. A server that does not have it there, and may not have lost it, is not the one that was
//! lost, or not any more.
//!
//! # Which places
//!
//! The unit is the chunk of [`CHUNK_SECTORS`]. The device is divided into [`PARTS`] equal parts, and
//! of each up to [`SLOTS_EACH`] chunks are kept: half of them *early* ones, which stay until they are
//! written again, and half *late* ones, in place of which newer ones come. So there is something old
//! and something new of each part that was ever written. Which places were noted last is known over
//! all parts, too: what a server has forgotten that was restored from an old copy is among the last.
//!
//! # Why it is true
//!
//! Each slot is one word:
//!
//! ```text
//!           propose, watch              confirm, settle
//!   empty -----------------> proposed -----------------> known
//!     ^                          |                         |
//!     +-------- forget, withdraw-+-------------------------+
//! ```
//!
//! - A write forgets all slots that it overlaps before it is sent, and proposes one of its chunks. If
//!   it ends well, and the proposal still stands, its checksum is known.
//! - Two writes of one chunk at once may end in any order. So who proposes looks at the claims
//!   ([`Claim`](super::barrier::Claim)) of others afterwards, and withdraws if one overlaps. A write
//!   publishes its claim, with a full barrier, before it looks for slots to forget: at least one of
//!   two sees the other.
//! - Who has found a place known, has read it, and finds the word unchanged then, knows that no write
//!   of it was sent in between. The same holds for who watches a place.
//!
//! What a server may have lost is not for here: see [`super::mirror::proof`].

use super::barrier::{Span, CHUNK_SECTORS};
use crate::sync::Word;
use core::ops::Deref;

/// Equal parts of a device.
pub const PARTS: u64 = 256;
/// Places that are kept of each.
pub const SLOTS_EACH: usize = 4;
/// Of them, those that stay.
const EARLY: usize = 2;
/// The last places that were noted.
pub const LATEST: usize = 8;
/// Slots of a device.
const SLOTS: usize = PARTS as usize * SLOTS_EACH;
/// From slot to slot so that one after the other is in a part far away.
const STRIDE: u32 = 389;
/// Words that [`Evidence`] needs.
pub const WORDS: usize = SLOTS + LATEST + 2;

/// Bytes of a chunk.
pub const CHUNK_BYTES: u32 = (CHUNK_SECTORS as u32) << 9;

/// The checksum of a chunk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sum(pub u32);

impl Sum {
    /// That of zeroes: many a disk has them, so they show nothing.
    pub const ZEROES: Self = Self(0);
}

/// The number of a slot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SlotId(u16);

/// A proposal that a write has made, for [`Evidence::confirm`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Proposal {
    slot: SlotId,
    word: u64,
}

impl Proposal {
    /// As a number for an atomic word, with the checksum; never 0.
    pub fn to_bits(self, sum: Sum) -> u64 {
        (u64::from(self.slot.0) + 1) << 32 | u64::from(sum.0)
    }
}

/// A place whose content is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Piece {
    /// The chunk's number on the device.
    pub chunk: u64,
    /// Its checksum.
    pub sum: Sum,
    slot: SlotId,
    word: u64,
}

/// A place that is being read.
#[derive(Clone, Copy, Debug)]
pub struct Watch(Proposal);

const KNOWN: u64 = 2 << 62;
const PROPOSED: u64 = 1 << 62;
const STATE: u64 = 3 << 62;
const CHUNK_SHIFT: u32 = 32;
const CHUNK_MASK: u64 = (1 << 30) - 1;
/// In place of the tag of a write: the number of a watch is above it.
const WATCHED: u32 = 1 << 31;

/// What is remembered. `S` holds [`WORDS`] words that are zero at first.
pub struct Evidence<S>(S);

impl<S: Deref<Target = [Word]>> Evidence<S> {
    /// Nothing, in `words`; nothing at all if there are not [`WORDS`] of them.
    pub fn new(words: S) -> Option<Self> {
        (words.len() == WORDS).then_some(Self(words))
    }

    /// Forgets everything: the device has `sectors` sectors from now on, or another content. No write
    /// may be on its way.
    pub fn clear(&self, sectors: u64) {
        for word in self.0.iter() {
            word.store(0);
        }
        if let Some(size) = self.size() {
            size.store(sectors / CHUNK_SECTORS);
        }
    }

    /// Whole chunks of the device; 0 if nothing can be remembered.
    fn size(&self) -> Option<&Word> {
        self.0.get(WORDS - 1)
    }

    /// How many places were noted.
    fn noted(&self) -> Option<&Word> {
        self.0.get(WORDS - 2)
    }

    fn word(&self, slot: SlotId) -> Option<&Word> {
        self.0
            .get(usize::from(slot.0))
            .filter(|_| usize::from(slot.0) < SLOTS)
    }

    fn part_chunks(&self) -> u64 {
        self.chunks().div_ceil(PARTS).max(1)
    }

    /// Whole chunks of the device; 0 if nothing can be remembered.
    pub fn chunks(&self) -> u64 {
        self.size().map_or(0, Word::load)
    }

    fn slots_of(part: u64) -> impl Iterator<Item = SlotId> {
        let first = part.min(PARTS - 1) as usize * SLOTS_EACH;
        (first..first + SLOTS_EACH).map(|slot| SlotId(slot as u16))
    }

    /// The chunk that a word is about, in a part of `part_chunks`.
    fn chunk_of(slot: SlotId, word: u64, part_chunks: u64) -> u64 {
        let part = u64::from(slot.0) / SLOTS_EACH as u64;
        part.saturating_mul(part_chunks)
            .saturating_add(word >> CHUNK_SHIFT & CHUNK_MASK)
    }

    /// A write of `span` is about to be sent, and has published its claim.
    pub fn forget(&self, span: Span) {
        let Some((first, last)) = span.chunks() else {
            return;
        };
        let part_chunks = self.part_chunks();
        let last_part = (last / part_chunks).min(PARTS - 1);
        for part in first / part_chunks..=last_part {
            for slot in Self::slots_of(part) {
                let Some(word) = self.word(slot) else {
                    continue;
                };
                let old = word.load();
                if old != 0 && (first..=last).contains(&Self::chunk_of(slot, old, part_chunks)) {
                    // If something newer has come in between, that is forgotten, too: no harm.
                    word.store(0);
                }
            }
        }
    }

    /// Proposes a chunk of the write `tag`, after it has forgotten. Who does so looks afterwards for
    /// claims that overlap, and withdraws if there is one. `random` is any number.
    pub fn propose(&self, tag: u32, chunk: u64, random: u32) -> Option<Proposal> {
        self.put(chunk, tag & !WATCHED, random)
    }

    /// Watches a place that is going to be read: see [`Evidence::settle`]. Who does so waits
    /// afterwards until no claim overlaps it. `number` tells watches apart.
    pub fn watch(&self, chunk: u64, number: u32) -> Option<Watch> {
        self.put(chunk, WATCHED | number, number).map(Watch)
    }

    fn put(&self, chunk: u64, whose: u32, random: u32) -> Option<Proposal> {
        if chunk >= self.chunks() {
            return None;
        }
        let part_chunks = self.part_chunks();
        let part = chunk / part_chunks;
        let within = chunk % part_chunks;
        if within > CHUNK_MASK {
            return None;
        }
        let is_empty = |slot: &SlotId| self.word(*slot).is_some_and(|word| word.load() == 0);
        let late = EARLY + random as usize % (SLOTS_EACH - EARLY);
        let slot = Self::slots_of(part)
            .find(is_empty)
            .or_else(|| Self::slots_of(part).nth(late))?;
        let word = PROPOSED | within << CHUNK_SHIFT | u64::from(whose);
        // Full barrier: claims are looked at afterwards.
        self.word(slot)?.swap(word);
        Some(Proposal { slot, word })
    }

    /// The proposal does not stand.
    pub fn withdraw(&self, proposal: Proposal) {
        if let Some(word) = self.word(proposal.slot) {
            // If it is not there any more it is forgotten already.
            let _ = word.compare_exchange(proposal.word, 0);
        }
    }

    /// The write `tag` that made the proposal [`Proposal::to_bits`] has ended, well or not.
    pub fn confirm(&self, tag: u32, bits: u64, ended_well: bool) {
        let Some(slot) = (bits >> 32).checked_sub(1) else {
            return;
        };
        let slot = SlotId(slot as u16);
        let Some(word) = self.word(slot) else { return };
        let old = word.load();
        let is_ours = old & STATE == PROPOSED && old as u32 == tag & !WATCHED;
        if !is_ours {
            return;
        }
        let new = if ended_well {
            KNOWN | old & CHUNK_MASK << CHUNK_SHIFT | u64::from(bits as u32)
        } else {
            0
        };
        if word.compare_exchange(old, new).is_ok() && ended_well {
            self.note(slot);
        }
    }

    /// A place that was watched has been read. If no write of it was sent meanwhile its content is
    /// known now, and this says so; with nothing to say of the content it is only forgotten.
    pub fn settle(&self, watch: Watch, content: Option<Sum>) -> bool {
        let Proposal { slot, word: old } = watch.0;
        let Some(word) = self.word(slot) else {
            return false;
        };
        let new = content.map_or(0, |sum| {
            KNOWN | old & CHUNK_MASK << CHUNK_SHIFT | u64::from(sum.0)
        });
        let settled = word.compare_exchange(old, new).is_ok() && content.is_some();
        if settled {
            self.note(slot);
        }
        settled
    }

    fn note(&self, slot: SlotId) {
        let Some(noted) = self.noted() else { return };
        let at = noted.fetch_add(1) as usize % LATEST;
        if let Some(latest) = self.0.get(SLOTS + at) {
            latest.store(u64::from(slot.0) + 1);
        }
    }

    fn piece(&self, slot: SlotId) -> Option<Piece> {
        let word = self.word(slot)?.load();
        (word & STATE == KNOWN).then(|| Piece {
            chunk: Self::chunk_of(slot, word, self.part_chunks()),
            sum: Sum(word as u32),
            slot,
            word,
        })
    }

    /// Whether no write of the place was sent since it is watched.
    pub fn is_undisturbed(&self, watch: Watch) -> bool {
        self.word(watch.0.slot)
            .is_some_and(|word| word.load() == watch.0.word)
    }

    /// Whether no write of the place was sent since `piece` was found.
    pub fn stands(&self, piece: Piece) -> bool {
        self.word(piece.slot)
            .is_some_and(|word| word.load() == piece.word)
    }

    /// What is known: first the latest places, then others from all over the device, which a
    /// `random` number chooses. Some come twice.
    pub fn pieces(&self, random: u32) -> impl Iterator<Item = Piece> + '_ {
        let noted = self.noted().map_or(0, Word::load) as usize;
        let latest = (0..LATEST).filter_map(move |back| {
            let at = noted.wrapping_sub(back + 1) % LATEST;
            let slot = self.0.get(SLOTS + at)?.load().checked_sub(1)?;
            self.piece(SlotId(slot as u16))
        });
        // The stride is odd, so each slot comes once.
        let others = (0..SLOTS as u32).filter_map(move |n| {
            let at = random.wrapping_add(n.wrapping_mul(STRIDE)) % SLOTS as u32;
            self.piece(SlotId(at as u16))
        });
        latest.chain(others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKS: u64 = 1 << 20;

    fn evidence() -> Evidence<Vec<Word>> {
        let words = (0..WORDS).map(|_| Word::new(0)).collect();
        let evidence = Evidence::new(words).expect("as many as it needs");
        evidence.clear(CHUNKS * CHUNK_SECTORS);
        evidence
    }

    fn span(chunk: u64, chunks: u64) -> Span {
        Span::new(chunk * CHUNK_SECTORS, chunks * CHUNK_SECTORS)
    }

    /// A write of one chunk, from beginning to end.
    fn write(e: &Evidence<Vec<Word>>, chunk: u64, sum: u32) {
        e.forget(span(chunk, 1));
        let bits = e
            .propose(7, chunk, sum)
            .expect("on the device")
            .to_bits(Sum(sum));
        e.confirm(7, bits, true);
    }

    fn known(e: &Evidence<Vec<Word>>) -> Vec<(u64, u32)> {
        let mut known: Vec<_> = e.pieces(0).map(|p| (p.chunk, p.sum.0)).collect();
        known.sort_unstable();
        known.dedup();
        known
    }

    #[test]
    fn what_was_written_is_known_until_it_is_written_again() {
        let e = evidence();
        write(&e, 5, 50);
        write(&e, CHUNKS - 1, 60);
        assert_eq!(known(&e), [(5, 50), (CHUNKS - 1, 60)]);
        let piece = e.pieces(0).find(|p| p.chunk == 5).expect("known");
        assert!(e.stands(piece));
        e.forget(span(4, 1));
        e.forget(span(6, 1000));
        assert!(e.stands(piece));
        e.forget(span(0, 6));
        assert!(!e.stands(piece));
        assert_eq!(known(&e), [(CHUNKS - 1, 60)]);
        e.clear(CHUNKS * CHUNK_SECTORS);
        assert_eq!(known(&e), []);
    }

    #[test]
    fn a_write_that_failed_or_was_overtaken_is_not_known() {
        let e = evidence();
        let bits = |p: Proposal| p.to_bits(Sum(9));
        let failed = e.propose(1, 5, 0).expect("on the device");
        e.confirm(1, bits(failed), false);
        let overtaken = e.propose(2, 5, 0).expect("on the device");
        e.forget(span(5, 1));
        e.confirm(2, bits(overtaken), true);
        let withdrawn = e.propose(3, 5, 0).expect("on the device");
        e.withdraw(withdrawn);
        e.confirm(3, bits(withdrawn), true);
        // Its slot was taken by another one of the same chunk.
        let replaced = e.propose(4, 5, 0).expect("on the device");
        e.forget(span(5, 1));
        let other = e.propose(5, 5, 0).expect("on the device");
        e.confirm(4, bits(replaced), true);
        assert_eq!(known(&e), []);
        e.confirm(5, bits(other), true);
        assert_eq!(known(&e), [(5, 9)]);
        assert_eq!(e.propose(6, CHUNKS, 0), None);
    }

    #[test]
    fn old_and_new_places_of_a_part_are_kept() {
        let e = evidence();
        for n in 0..1000 {
            write(&e, n % 100, n as u32);
        }
        // All in one part: whatever was written again made room, so the early ones are of late, too.
        assert_eq!(known(&e).len(), SLOTS_EACH);
        let e = evidence();
        (0..100).for_each(|n| write(&e, n, n as u32));
        let chunks: Vec<_> = known(&e).into_iter().map(|(chunk, _)| chunk).collect();
        assert_eq!(chunks.len(), SLOTS_EACH);
        assert_eq!(chunks[..EARLY], [0, 1]);
        assert!(chunks.contains(&99));
    }

    #[test]
    fn a_place_that_was_watched_is_known_if_nobody_wrote() {
        let e = evidence();
        let watch = e.watch(5, 1).expect("on the device");
        assert!(e.is_undisturbed(watch));
        assert!(e.settle(watch, Some(Sum(3))));
        assert_eq!(known(&e), [(5, 3)]);
        let watch = e.watch(6, 2).expect("on the device");
        e.forget(span(6, 1));
        assert!(!e.is_undisturbed(watch));
        assert!(!e.settle(watch, Some(Sum(4))));
        let watch = e.watch(7, 3).expect("on the device");
        assert!(!e.settle(watch, None));
        // A write's end does not take a watch for its own proposal.
        let watch = e.watch(8, 7).expect("on the device");
        e.confirm(7, watch.0.to_bits(Sum(9)), true);
        assert!(e.is_undisturbed(watch));
        assert_eq!(known(&e), [(5, 3)]);
    }

    #[test]
    fn the_latest_come_first() {
        let e = evidence();
        for n in 0..100 {
            write(&e, n * 9999, n as u32);
        }
        let first: Vec<_> = e.pieces(77).take(LATEST).map(|p| p.sum.0).collect();
        assert_eq!(
            first,
            (0..LATEST as u32).map(|n| 99 - n).collect::<Vec<_>>()
        );
    }

    #[test]
    fn small_and_odd_devices_have_their_places() {
        for chunks in [1, 3, 255, 256, 257, 1000] {
            let e = evidence();
            e.clear(chunks * CHUNK_SECTORS + 3);
            assert_eq!(e.chunks(), chunks);
            (0..chunks).for_each(|n| write(&e, n, n as u32 + 1));
            let known = known(&e);
            assert!(known.len() as u64 >= chunks.min(PARTS / 2));
            assert!(known
                .iter()
                .all(|&(chunk, sum)| chunk + 1 == u64::from(sum)));
        }
        let e = evidence();
        e.clear(7);
        assert_eq!(e.watch(0, 0).map(|_| ()), None);
    }
}
