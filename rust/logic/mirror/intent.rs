// SPDX-License-Identifier: GPL-2.0

//! Where writes may be on their way, as the members know it: rounds, and taking back.
//!
//! # Invariant
//!
//! Whenever two groups that a record may call in sync differ somewhere, or may once a server has lost
//! its cache, that region is in the newest page of both. So after a crash nothing else has to be
//! compared.
//!
//! - A write is sent to nobody before its regions are in a page that is durable on all *named* groups
//!   ([`Core::named`]). One that finds them missing is put aside, and the next *round* writes a page of
//!   all that is wanted. One round is on its way at a time.
//! - A group that is being named gets all marks before a record calls it in sync, whatever its resync
//!   has copied: what the others hold in caches that nobody has flushed may differ from it after a crash.
//! - A mark is taken back behind a flush on all groups that get writes ([`super::idle`]), and none is while
//!   a member is away that is to get only what it missed: so the marks say where that is.
//!
//! What would go wrong if a round that was on its way when a group was named counted for it:
//!
//! ```text
//! recorder      page to group 0                          answered: durable
//! resync                           names group 1
//! write                                                                     goes to both; crash
//! ```
//!
//! The groups differ, and group 1 has no mark of it: found with group 2, which joined later still, it
//! would pass for equal. So the end of a round and the naming of a group are under one lock, and a
//! round that lacks a named group is made once more.

use super::{
    member::{carry_out_all, durable_flags, read, write_of, Failed, Results, FLUSH},
    Core, Route, States, World,
};
use crate::logic::{
    barrier::{Span, CHUNK_SECTORS},
    group::{GroupFault, GroupSet, Refusal},
    ids::GroupId,
    meta::{
        layout::{self, INTENT_PAGES},
        marks::Marks,
        Bad, IntentPage, Record, Uuid, BLOCK,
    },
};
use core::ops::Range;

/// How long to wait until there may be memory, in milliseconds.
const TICK_MS: u32 = 200;
/// Pages that are read at once at most.
const PAGES_AT_ONCE: u64 = 8;
/// Places that are tried for one page, if a server refuses to write there.
const PLACES: usize = 3;

/// The intent pages of the groups, and the marks of writes.
pub trait Intents: World {
    /// The number of the newest intent page of a group that is a member of `mirror`, of a device of
    /// `device_bytes` bytes; nothing if it has none. If `mark` is wanted, what the page marks is wanted
    /// by the marks.
    ///
    /// # Errors
    ///
    /// Why it is not known. A place that the server cannot read holds none.
    fn read_intent(
        &self,
        group: GroupId,
        (mirror, device_bytes): (Uuid, u64),
        mark: bool,
        ended: &dyn Fn() -> bool,
    ) -> Result<Option<u64>, Failed> {
        let mut newest = None;
        let mut see = |slot: u64, block: &[u8]| {
            let page = IntentPage::decode(block, slot, mirror, device_bytes);
            newest = newest.max(page.map(|page| (page.seq, slot)));
        };
        let each = u64::from(self.largest_request(group)) / BLOCK;
        let each = each.clamp(1, PAGES_AT_ONCE);
        for first in (0..INTENT_PAGES).step_by(each as usize) {
            let slots = first..first.saturating_add(each).min(INTENT_PAGES);
            match self.read_pages(group, slots.clone(), &mut see, ended) {
                Ok(()) => {}
                Err(Failed::Refused) => {
                    for slot in slots {
                        let one = slot..slot.saturating_add(1);
                        match self.read_pages(group, one, &mut see, ended) {
                            Ok(()) | Err(Failed::Refused) => {}
                            Err(failed) => return Err(failed),
                        }
                    }
                }
                Err(failed) => return Err(failed),
            }
        }
        let Some((seq, slot)) = newest else {
            return Ok(None);
        };
        if let Some(marks) = self.marks().filter(|_| mark) {
            let mut is_same = false;
            let mut mark = |slot: u64, block: &[u8]| {
                let page = IntentPage::decode(block, slot, mirror, device_bytes);
                if let Some(page) = page.filter(|page| page.seq == seq) {
                    page.each_region(block, |first, shift| marks.found(first, shift));
                    is_same = true;
                }
            };
            self.read_pages(group, slot..slot.saturating_add(1), &mut mark, ended)?;
            if !is_same {
                return Err(Failed::Bad(Bad::Odd));
            }
        }
        Ok(Some(seq))
    }

    /// Reads the blocks in the places `slots` of the intent pages, which follow each other, and gives
    /// each to `f`.
    ///
    /// # Errors
    ///
    /// Why they are not known.
    fn read_pages(
        &self,
        group: GroupId,
        slots: Range<u64>,
        f: &mut dyn FnMut(u64, &[u8]),
        ended: &dyn Fn() -> bool,
    ) -> Result<(), Failed> {
        // A higher slot is at a lower place.
        let last = slots.end.saturating_sub(1);
        let offset = layout::intent_at(self.export_sectors(group) << 9, last);
        let offset = offset.ok_or(Failed::Bad(Bad::Blank))?;
        let len = slots.end.saturating_sub(slots.start).saturating_mul(BLOCK);
        let buffer = loop {
            match read(self, group, offset, len as u32, ended) {
                // There are many to be read: one that failed would have all of them read again.
                Err(Failed::NoMemory) if !ended() => self.wait(TICK_MS, &mut || ended()),
                result => break result?,
            };
        };
        for slot in slots {
            let from = last.saturating_sub(slot).saturating_mul(BLOCK);
            self.with_notes(|notes| {
                if self.content(&buffer, from as u32, notes.block) {
                    f(slot, notes.block);
                }
            });
        }
        Ok(())
    }

    /// Makes an intent page, number `seq`, durable on all of `groups` at once; what became of each.
    fn write_intent(
        &self,
        groups: GroupSet,
        seq: u64,
        buffer: &Self::Buffer,
        ended: &dyn Fn() -> bool,
    ) -> Results {
        let slot = layout::intent_slot_of(seq);
        let write = |group: GroupId| {
            let offset = layout::intent_at(self.export_sectors(group) << 9, slot);
            let offset = offset.ok_or(Failed::Bad(Bad::Moved))?;
            Ok(write_of(offset, durable_flags(self, group)))
        };
        let mut results = carry_out_all(self, groups, write, buffer, ended);
        let unflushed = |&group: &GroupId| {
            let is_written = *group.pick(&results) == Some(Ok(()));
            is_written && !self.has_fua(group)
        };
        let unflushed: GroupSet = groups.iter().filter(unflushed).collect();
        let flushed = self.flush_all(unflushed, buffer, ended);
        for group in unflushed.iter() {
            *group.pick_mut(&mut results) = *group.pick(&flushed);
        }
        results
    }

    /// Lets all of `groups` make durable what they have acknowledged, but for those that cannot; what
    /// became of each.
    fn flush_all(
        &self,
        groups: GroupSet,
        buffer: &Self::Buffer,
        ended: &dyn Fn() -> bool,
    ) -> Results {
        let can = |&group: &GroupId| !self.is_volatile(group);
        let can: GroupSet = groups.iter().filter(can).collect();
        let mut results = carry_out_all(self, can, |_| Ok(FLUSH), buffer, ended);
        for group in groups.iter() {
            group.pick_mut(&mut results).get_or_insert(Ok(()));
        }
        results
    }

    /// Whether the marks of a write are durable, so that it may go. To be asked after its claim was
    /// published.
    fn is_marked_to_go(&self, span: Span) -> bool {
        match (self.marks(), bytes_of(span)) {
            (Some(marks), Some((first, bytes))) => marks.covers(first, bytes),
            _ => true,
        }
    }

    /// A write goes: its marks are not idle.
    fn touch_marks(&self, span: Span) {
        if let (Some(marks), Some((first, bytes))) = (self.marks(), bytes_of(span)) {
            if marks.touch(first, bytes) {
                self.wake();
            }
        }
    }

    /// A write waits for its marks.
    fn want_marks(&self, span: Span) {
        if let (Some(marks), Some((first, bytes))) = (self.marks(), bytes_of(span)) {
            marks.want(first, bytes);
        }
    }

    /// The marks, while writes wait for them.
    fn kept_marks(&self) -> Option<&Marks<Self::Words>> {
        self.marks().filter(|marks| marks.is_on())
    }

    /// Whether a round is to be made.
    fn wants_round(&self) -> bool {
        self.marks().is_some_and(Marks::is_asked)
    }

    /// Whether all of `groups` have the marks that their records rely on.
    fn has_pages(&self, groups: GroupSet) -> bool {
        self.kept_marks().is_none() || groups.without(self.core().paged()).is_empty()
    }
}

impl<W: World> Intents for W {}

/// The bytes of a span, of which nothing if it is empty: the first, and how many.
pub(super) fn bytes_of(span: Span) -> Option<(u64, u64)> {
    let (first, last) = span.chunks()?;
    let bytes = |chunks: u64| chunks.saturating_mul(CHUNK_SECTORS << 9);
    let count = last.saturating_sub(first).saturating_add(1);
    Some((bytes(first), bytes(count)))
}

/// The groups that have to have a page: those that a record may call in sync, but for those that are
/// out of service, which no write waits for any more once that is recorded.
pub(super) fn targets(core: &Core) -> GroupSet {
    core.named().and(core.view().writable())
}

/// Makes one round; false if it could not be made, and is to be tried again later.
pub(super) fn round_once<W: World>(w: &W, ended: &dyn Fn() -> bool) -> bool {
    let Some(marks) = w.kept_marks() else {
        return true;
    };
    let mut refused = GroupSet::default();
    for _ in 0..PLACES {
        let groups = targets(w.core());
        let Some((seq, buffer)) = draft(w, marks) else {
            marks.ask();
            return false;
        };
        let results = w.write_intent(groups, seq, &buffer, ended);
        match judge(w, groups, &results) {
            Judged::Refused(groups) => refused = groups,
            Judged::Failed => {
                refused = GroupSet::default();
                break;
            }
            Judged::Done(done) => {
                refused = GroupSet::default();
                if publish(w, marks, done, seq, &buffer) {
                    w.unpark();
                    w.wake();
                    return true;
                }
            }
        }
    }
    for group in refused.iter() {
        // Refused if it is the last one in sync: its users wait.
        let _ = w.fault(group, GroupFault::Metadata);
    }
    marks.ask();
    false
}

/// The next page, with all that is durable or wanted.
fn draft<W: World>(w: &W, marks: &Marks<W::Words>) -> Option<(u64, W::Buffer)> {
    w.with_notes(|notes| {
        let record = notes.memory.record.as_ref()?;
        let mut page = page_of(record);
        page.seq = notes.memory.next_page();
        page.encode(marks.shift(), marks.begin_round(), notes.block);
        Some((page.seq, w.holding(notes.block)?))
    })
}

/// A page of a device, without its number.
fn page_of(record: &Record) -> IntentPage {
    IntentPage {
        mirror: record.mirror,
        seq: 0,
        event: record.event,
        device_bytes: record.layout.device_bytes,
    }
}

/// What came of a page.
enum Judged {
    /// These groups have it. Others are out of service.
    Done(GroupSet),
    /// These groups have refused a place: the next one is tried.
    Refused(GroupSet),
    /// It is tried later.
    Failed,
}

/// What follows from what became of a page: a group that cannot take it is taken out of service.
fn judge<W: World>(w: &W, groups: GroupSet, results: &Results) -> Judged {
    let (mut done, mut refused) = (GroupSet::default(), GroupSet::default());
    let mut failed = false;
    for group in groups.iter() {
        match group.pick(results) {
            Some(Ok(())) => done = done.with(group),
            // A bad place costs a page, not the group.
            Some(Err(Failed::Refused)) => refused = refused.with(group),
            None | Some(Err(Failed::NoMemory | Failed::Ended)) => failed = true,
            Some(Err(_)) => {
                let result = w.fault(group, GroupFault::Metadata);
                failed |= !matches!(result, Ok(()) | Err(Refusal::AlreadyFaulty));
            }
        }
    }
    if failed {
        Judged::Failed
    } else if refused.is_empty() {
        Judged::Done(done)
    } else {
        Judged::Refused(refused)
    }
}

/// A page is durable on `done`: if those are all that have to have it, what it marks is durable.
fn publish<W: World>(
    w: &W,
    marks: &Marks<W::Words>,
    done: GroupSet,
    seq: u64,
    buffer: &W::Buffer,
) -> bool {
    let core = w.core();
    w.with_notes(|notes| {
        let Some(record) = notes.memory.record.as_ref() else {
            return false;
        };
        let is_complete = targets(core).without(done).is_empty();
        if !is_complete || !w.content(buffer, 0, notes.block) {
            return false;
        }
        let page = page_of(record);
        page.each_region(notes.block, |first, shift| marks.is_durable(first, shift));
        marks.end_round();
        notes.memory.has_page(done, seq);
        core.set_paged(done);
        true
    })
}

/// Lets a group count as one that a record may call in sync. It gets all marks before one does.
pub(super) fn name<W: World>(w: &W, group: GroupId) {
    let core = w.core();
    w.with_memory(|memory| {
        memory.told = memory.told.without(GroupSet::of(group));
        core.change_named(|named| named.with(group));
        core.set_paged(core.paged().without(GroupSet::of(group)));
    });
    if let Some(marks) = w.marks() {
        marks.ask();
    }
}
