// SPDX-License-Identifier: GPL-2.0

//! Whether a connection leads to the data that its group holds.
//!
//! Size and flags agree, or it would not have come so far; but that many a disk has: the wrong one
//! by a typed digit, one that was restored from an old copy, an empty one in place of one that was
//! lost. So before a connection carries anything it is asked for places whose content is known:
//!
//! - What is remembered ([`crate::logic::evidence`]) the group holds, unless it is marked as missed,
//!   or noted as acknowledged and not flushed: then a crash may have taken it.
//! - The last superblock that was written to the group, where there is metadata, it holds: that is
//!   certain.
//! - Where another connection of the group is there, and not much is remembered, the same places are
//!   read over both.
//!
//! Places full of zeroes may show that it is another disk, but not that it is the same: they are not
//! counted.

use super::{greet, Place, Probe, States, World};
use crate::logic::{
    barrier::{Span, CHUNK_SECTORS},
    bitmap::Run,
    evidence::{Piece, Sum, Watch, CHUNK_BYTES},
    ids::{ChannelId, GroupId},
    meta::layout,
    unflushed::region_shift,
};

/// Places that a connection is asked for at most.
pub const PLACES: usize = 32;
/// So many that hold something are enough to leave the other connection alone.
const ENOUGH: usize = 8;
/// Places that are read over the other connection at most.
const ASKED: usize = 16;
/// Remembered places that are zeroes, at most.
pub const ZEROES: usize = 8;

/// What a connection has shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Proof {
    /// It leads to the data that the group holds.
    Same,
    /// Nothing that differs, and nothing that another disk would not have.
    Nothing,
    /// Nothing, since the other connection could not be asked: for want of memory, or it is busy.
    Unasked,
    /// It leads to other data: what is at this offset, in bytes.
    Other(u64),
    /// It has ended.
    Broken,
}

/// Why a place's content is what is expected.
#[derive(Clone, Copy)]
enum Ground {
    /// It is remembered.
    Remembered(Piece),
    /// It is the last superblock that was written to the group, by its number.
    Superblock(u64),
    /// It was read over another connection, and is watched since.
    Watched(Watch),
    /// The same, of a device that was never enabled, which nobody writes to.
    Unused,
}

/// Places to ask for, and what is expected there.
struct Exam {
    places: [Place; PLACES],
    expected: [Option<(Ground, Sum)>; PLACES],
    len: usize,
    /// Something was read over the other connection.
    has_asked: bool,
}

impl Exam {
    fn new() -> Self {
        let nowhere = Place {
            offset: 0,
            len: 0,
            from: 0,
            found: None,
        };
        Self {
            places: [nowhere; PLACES],
            expected: [None; PLACES],
            len: 0,
            has_asked: false,
        }
    }

    fn is_full(&self) -> bool {
        self.len >= PLACES
    }

    fn push(&mut self, place: Place, ground: Ground, sum: Sum) {
        if let (Some(to), Some(expected)) = (
            self.places.get_mut(self.len),
            self.expected.get_mut(self.len),
        ) {
            *to = place;
            *expected = Some((ground, sum));
            self.len += 1;
        }
    }

    /// How many places hold something.
    fn telling(&self) -> usize {
        let sums = self.expected.iter().flatten();
        sums.filter(|(_, sum)| *sum != Sum::ZEROES).count()
    }

    /// Adds at most so many places of which something is remembered that the group must have. Of
    /// those that are zeroes a few are enough.
    fn remember<W: World>(&mut self, w: &W, group: GroupId, most: usize) {
        let random = w.core().next_turn();
        for piece in w.evidence().pieces(random) {
            if self.len >= most {
                return;
            }
            let is_zeroes = piece.sum == Sum::ZEROES;
            let suffices = is_zeroes && self.len.saturating_sub(self.telling()) >= ZEROES;
            if !suffices && must_hold(w, group, piece.chunk) {
                let place = place_of(w, group, piece.chunk);
                self.push(place, Ground::Remembered(piece), piece.sum);
            }
        }
    }

    /// Adds the group's last superblock, if one was written that outlasts a crash of the server. It
    /// tells for certain.
    fn superblock<W: World>(&mut self, w: &W, group: GroupId) {
        let written = w.with_memory(|memory| memory.last_written(group));
        let Some((seq, sum)) = written.filter(|_| !w.is_volatile(group)) else {
            return;
        };
        let bytes = w.export_sectors(group) << 9;
        if let Some(at) = layout::slot_at(bytes, layout::slot_of(seq)) {
            let place = place_at(w, group, at);
            self.push(place, Ground::Superblock(seq), sum);
        }
    }

    /// Adds what is read over the connection `other` of the group.
    fn ask<W: World>(&mut self, w: &W, group: GroupId, other: ChannelId, ended: &dyn Fn() -> bool) {
        let chunks = w.export_sectors(group) / CHUNK_SECTORS;
        for number in 0..ASKED as u64 {
            if self.is_full() || self.telling() >= ENOUGH || ended() {
                return;
            }
            let chunk = some_chunk(w, number, chunks);
            let place = place_of(w, group, chunk);
            let ground = match watch(w, chunk) {
                Some(watch) => Ground::Watched(watch),
                None if w.core().sectors() == 0 => Ground::Unused,
                None => continue,
            };
            match greet::read_over(w, group, other, &place, ended) {
                Some(sum) => {
                    self.has_asked = true;
                    self.push(place, ground, sum);
                }
                None => release(w, ground),
            }
        }
    }

    /// What the connection has shown.
    fn result<W: World>(&self, w: &W, group: GroupId) -> Proof {
        let mut shown = Proof::Nothing;
        for (place, expected) in self.places.iter().zip(&self.expected) {
            let (Some((ground, sum)), Some(found)) = (*expected, place.found) else {
                continue;
            };
            let stands = match ground {
                Ground::Remembered(piece) => w.evidence().stands(piece),
                Ground::Watched(watch) => w.evidence().is_undisturbed(watch),
                Ground::Superblock(seq) => w
                    .with_memory(|memory| memory.last_written(group))
                    .is_some_and(|(last, _)| last == seq),
                Ground::Unused => w.core().sectors() == 0,
            };
            if !stands {
                continue;
            }
            if found != sum {
                return Proof::Other(place.offset.saturating_add(u64::from(place.from)));
            }
            if sum != Sum::ZEROES {
                shown = Proof::Same;
            }
        }
        shown
    }
}

/// Asks a connection, which carries nothing yet, whether it leads to the data of the group; `other`
/// is one that does. `remembers` says whether what is remembered holds for the group.
pub(super) fn prove<W: World>(
    w: &W,
    group: GroupId,
    remembers: bool,
    other: Option<ChannelId>,
    ended: &dyn Fn() -> bool,
    probe: Probe<'_>,
) -> Proof {
    let mut exam = Exam::new();
    if remembers {
        let reserved = if other.is_some() { ASKED } else { 0 };
        exam.superblock(w, group);
        exam.remember(w, group, PLACES - reserved);
    }
    if let Some(other) = other.filter(|_| exam.telling() < ENOUGH) {
        exam.ask(w, group, other, ended);
    }
    let places = exam.places.get_mut(..exam.len).unwrap_or_default();
    let answered = places.is_empty() || probe(places);
    let proof = match exam.result(w, group) {
        _ if !answered => Proof::Broken,
        Proof::Nothing if other.is_some() && !exam.has_asked => Proof::Unasked,
        proof => proof,
    };
    for (ground, _) in exam.expected.into_iter().flatten() {
        release(w, ground);
    }
    proof
}

fn release<W: World>(w: &W, ground: Ground) {
    if let Ground::Watched(watch) = ground {
        w.evidence().settle(watch, None);
    }
}

/// Whether the group's server must have what is remembered of a chunk: it did not miss it, and has
/// flushed it.
pub fn must_hold<W: World>(w: &W, group: GroupId, chunk: u64) -> bool {
    let run = blocks_of_chunk(w, chunk);
    let is_unflushed = || {
        let first = chunk.saturating_mul(CHUNK_SECTORS);
        let region = first >> region_shift(w.core().last_sectors());
        w.unflushed(group).is_none_or(|u| u.is_noted(region))
    };
    !w.is_marked(group, run.first, run.len) && !is_unflushed()
}

/// The blocks of the map that a chunk is in.
pub fn blocks_of_chunk<W: World>(w: &W, chunk: u64) -> Run {
    let sector = chunk.saturating_mul(CHUNK_SECTORS);
    let unit = w.block_sectors().max(1);
    Run {
        first: sector / unit,
        len: (sector % unit).saturating_add(CHUNK_SECTORS).div_ceil(unit),
    }
}

/// What is read to see a chunk.
fn place_of<W: World>(w: &W, group: GroupId, chunk: u64) -> Place {
    place_at(w, group, chunk.saturating_mul(u64::from(CHUNK_BYTES)))
}

/// The same for the chunk at this offset, in bytes.
fn place_at<W: World>(w: &W, group: GroupId, at: u64) -> Place {
    let len = w.smallest_read(group).max(CHUNK_BYTES);
    let from = at.checked_rem(u64::from(len)).unwrap_or(0);
    Place {
        offset: at.saturating_sub(from),
        len,
        from: from as u32,
        found: None,
    }
}

/// The first chunk, the last one, then any: on most disks something stands at both ends.
fn some_chunk<W: World>(w: &W, number: u64, chunks: u64) -> u64 {
    let random = u64::from(w.core().next_turn()) << 16 | u64::from(w.core().next_turn());
    match number {
        0 => 0,
        1 => chunks.saturating_sub(1),
        _ => random.checked_rem(chunks).unwrap_or(0),
    }
}

/// Watches a chunk that no write is on its way to.
fn watch<W: World>(w: &W, chunk: u64) -> Option<Watch> {
    let watch = w.evidence().watch(chunk, w.core().next_turn())?;
    let span = Span::new(chunk.saturating_mul(CHUNK_SECTORS), CHUNK_SECTORS);
    if w.is_clear(span) {
        return Some(watch);
    }
    w.evidence().settle(watch, None);
    None
}

/// Places that are read when a device is enabled.
pub(super) const LEARNT: u64 = 32;

/// Reads place `number`, below [`LEARNT`], of a device that is being enabled from all groups in sync,
/// so that there is something to ask servers for before anything was written; tells if two differ.
pub(super) fn learn<W: World>(w: &W, number: u64, ended: &dyn Fn() -> bool) {
    let chunks = w.evidence().chunks();
    if chunks == 0 {
        return;
    }
    let chunk = some_chunk(w, number, chunks);
    if let Some(watch) = watch(w, chunk) {
        let content = read_alike(w, chunk, watch, ended);
        w.evidence().settle(watch, content);
    }
}

/// What a group holds of a chunk; nothing if no channel of it is up, or as
/// [`read_over`](greet::read_over).
pub(super) fn read<W: World>(
    w: &W,
    group: GroupId,
    chunk: u64,
    ended: &dyn Fn() -> bool,
) -> Option<Sum> {
    let channel = w.core().group(group).up().first()?;
    let place = place_of(w, group, chunk);
    greet::read_over(w, group, channel, &place, ended)
}

/// The checksum of a chunk that is watched, if all groups in sync that can be read now agree.
fn read_alike<W: World>(w: &W, chunk: u64, watch: Watch, ended: &dyn Fn() -> bool) -> Option<Sum> {
    let mut first: Option<(GroupId, Sum)> = None;
    for group in w.core().view().readable().iter() {
        if w.core().group(group).up().is_empty() {
            continue;
        }
        let sum = read(w, group, chunk, ended)?;
        match first {
            None => first = Some((group, sum)),
            Some((_, other)) if other == sum => {}
            Some((other, _)) => {
                let both = w.core().view().readable();
                if w.evidence().is_undisturbed(watch) && both.has(group) && both.has(other) {
                    w.tell(super::News::Unequal {
                        groups: (other, group),
                        offset: chunk.saturating_mul(u64::from(CHUNK_BYTES)),
                    });
                }
                return None;
            }
        }
    }
    first.map(|(_, sum)| sum)
}
