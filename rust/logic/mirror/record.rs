// SPDX-License-Identifier: GPL-2.0

//! What the members of the mirror are told, and when: the records of an enabled device.
//!
//! # R1: nothing is acknowledged before the record
//!
//! A member that lacks something must not be called in sync by any superblock that a start may find.
//! Without that:
//!
//! ```text
//! group 1     faulted                                           found alone: in sync, it says
//! write       to group 0 alone, acknowledged
//! client                                          crash         starts with it: the write is lost
//! ```
//!
//! [`Core::named`] has the groups that a durable record may call in sync. A group that is in there
//! and out of service is *unrecorded*; as long as there is one,
//!
//! - no write and no flush is sent: who has published its claim and taken the view looks at the
//!   named groups afterwards, and is put aside;
//! - what was sent before and has lost the group keeps a handle, so that it does not end.
//!
//! The recorder draws a generation, makes a record without the group durable on all that are in
//! sync, takes the group out of the named ones, and only then lets go on what waits. A failure in
//! between is one more group that is unrecorded.
//!
//! # R3: named before it is in sync
//!
//! A group whose resync has found nothing left is named first, while it gets all writes, and the
//! record that calls it in sync is written to the others before its own. From the moment that it is
//! named its failure counts as that of a group in sync.

use super::{
    idle::Idle,
    intent,
    member::{Failed, Members, Which},
    memory::{Memory, Owned},
    owner::{self, Beats},
    route::RequestOf,
    Intents, Request, Route, States, World,
};
use crate::logic::{
    group::{GroupFault, GroupSet, Refusal},
    ids::GroupId,
    meta::{Generation, Record},
};

/// How long the recorder sleeps after a member that it cannot do without has failed, in milliseconds.
const AGAIN_MS: u32 = 1000;

/// The records of an enabled device.
pub trait Memories: World {
    /// Whether the device has metadata.
    fn has_memory(&self) -> bool {
        self.with_memory(|memory| memory.record.is_some())
    }

    /// Whether a member is away that is to get only what it missed.
    fn has_away(&self) -> bool {
        self.with_memory(|memory| memory.record.as_ref().is_some_and(Record::has_away))
    }

    /// Lets a request not end while a group that lacks it is still recorded as in sync.
    fn keep_unrecorded(&self, rq: &RequestOf<Self>) {
        let core = self.core();
        if core.unrecorded().is_empty() {
            return;
        }
        rq.pdu().set_unrecorded(true);
        // Who has recorded looks for kept ones afterwards, under the lock.
        if !self.keep_if(rq, || !core.unrecorded().is_empty()) {
            rq.pdu().set_unrecorded(false);
        }
    }

    /// Whether the recorder has something to do.
    fn wants_record(&self) -> bool {
        let core = self.core();
        let news = core.named().without(core.recorded());
        !core.unrecorded().is_empty() || !core.to_adopt().is_empty() || !news.is_empty()
    }

    /// The work of the recorder, until it has `ended`.
    fn keep_records(&self, ended: &dyn Fn() -> bool) {
        let mut beats = Beats::default();
        let mut idle = Idle::new(self.now_ms());
        while !ended() && !self.core().is_fenced() {
            self.wait(AGAIN_MS, &mut || {
                let wants_round = self.wants_round() && !idle.holds_rounds();
                ended() || self.wants_record() || wants_round || idle.is_over(self)
            });
            if ended() {
                return;
            }
            idle.step(self);
            let makes_round = self.wants_round() && idle.has_room(self);
            let is_marked = !makes_round || intent::round_once(self, ended);
            let is_recorded = !self.wants_record() || record_once(self, ended);
            if !(is_marked && is_recorded) {
                self.wait(AGAIN_MS, &mut || ended());
            }
            if beats.is_due(self.now_ms(), self.owner_check_s()) {
                owner::beat(self, &mut beats, ended);
            }
        }
    }

    /// Waits until nothing has to be recorded before writes and flushes may end. To be called while requests may
    /// still wait: once the device is failing, those that wait for a record end without success.
    ///
    /// That lasts for `timeout` at most, and no longer than a group in sync can be reached, or until it has
    /// `ended`.
    fn await_record(&self, ended: &dyn Fn() -> bool) {
        let core = self.core();
        let until = self.now_ms().saturating_add(self.timeout_ms());
        let serves = |group: GroupId| !core.group(group).up().is_empty();
        let is_over = || {
            core.unrecorded().is_empty()
                || core.is_fenced()
                || !core.view().readable().iter().any(serves)
        };
        while !self.wait(AGAIN_MS, &mut || is_over() || ended()) && self.now_ms() < until {}
    }

    /// A group's resync has found nothing left: it is recorded as in sync, before it is. To be called
    /// while no write is on its way, and waited for afterwards with [`Memories::is_recorded`]. False
    /// if there is nothing to be recorded.
    fn name(&self, group: GroupId) -> bool {
        let is_member = self.is_member(group);
        if is_member {
            intent::name(self, group);
            self.wake();
        }
        is_member
    }

    /// Whether a group is recorded as in sync.
    fn is_recorded(&self, group: GroupId) -> bool {
        self.core().recorded().has(group)
    }

    /// Whether a group is a member.
    fn is_member(&self, group: GroupId) -> bool {
        self.with_memory(|memory| {
            let record = memory.record.as_ref();
            record.is_some_and(|record| record.member(group).is_some())
        })
    }

    /// Makes the draft durable on all of `groups`, before the device is enabled or after it was.
    ///
    /// # Errors
    ///
    /// Why it may not be, of the first one: then what was recorded before is.
    fn record_draft(&self, groups: GroupSet, ended: &dyn Fn() -> bool) -> Result<(), Failed> {
        for group in groups.iter() {
            self.write_member(group, Which::Draft, ended)?;
        }
        self.with_memory(Memory::publish);
        Ok(())
    }

    /// The device begins: these groups are in sync, and recorded as that.
    fn begin_records(&self, sources: GroupSet) {
        self.core().set_recorded(sources);
        self.core().change_named(|_| sources);
        self.with_memory(|memory| {
            memory.told = GroupSet::default();
            let keeps = memory.record.as_ref().is_some_and(|record| record.intent);
            self.core().set_paged(GroupSet::default());
            if let Some(marks) = self.marks().filter(|_| keeps) {
                marks.begin();
            }
        });
    }

    /// The device has ended in order, and nothing is written any more: it is recorded that nobody has
    /// it (R8). Whatever goes wrong is found by the next start; so is that a group holds what no flush makes
    /// durable, as it is known to this life alone.
    fn end_records(&self, ended: &dyn Fn() -> bool) -> bool {
        let in_sync = self.core().view().readable();
        let is_durable = |group: GroupId| !self.core().group(group).health().is_unmarked();
        let ok = if self.core().is_fenced() || !in_sync.iter().all(is_durable) {
            false
        } else if draft_next(self, in_sync, Owned::ByNobody) {
            self.record_draft(in_sync, ended).is_ok()
        } else {
            true
        };
        self.stop_records();
        ok
    }

    /// Nothing is recorded any more.
    fn stop_records(&self) {
        let core = self.core();
        if let Some(marks) = self.marks() {
            marks.end();
        }
        core.lift_fence();
        core.change_named(|_| GroupSet::default());
        core.change_to_adopt(|_| GroupSet::default());
        core.set_recorded(GroupSet::default());
    }

    /// Lets what was kept end with an error: the device goes.
    fn drop_kept(&self) {
        while let Some(rq) = self.take_kept() {
            drop(rq);
        }
    }
}

impl<W: World> Memories for W {}

/// Drafts the record that says what is so now; false of a device without metadata.
fn draft_next<W: World>(w: &W, in_sync: GroupSet, owned: Owned) -> bool {
    let fresh = Generation::new(w.random());
    let (named, adopted) = (w.core().named(), w.core().to_adopt());
    w.with_memory(|memory| {
        let own = memory.own;
        // One that was named may call itself in sync already.
        let Some(draft) = memory.begin_draft(in_sync, named, fresh, owned) else {
            return false;
        };
        for group in GroupId::all() {
            let own = group.pick(&own);
            match own.adopted.filter(|_| adopted.has(group)) {
                Some((uuid, left)) => draft.adopt(group, uuid, left),
                None => draft.note_left(group, own.generation),
            }
        }
        true
    })
}

/// Makes one record durable that says what is so now; false if it could not be.
fn record_once<W: World>(w: &W, ended: &dyn Fn() -> bool) -> bool {
    let core = w.core();
    let (named, adopted) = (core.named(), core.to_adopt());
    let view = core.view();
    let members = w.with_memory(|memory| memory.record.as_ref().map(Record::all));
    let first = members.unwrap_or_default().and(view.readable());
    let then = named.and(view.resyncing());
    let in_sync = first.union(then);
    // A group that is called in sync by a record has all marks before (R3): a round is asked for.
    if !w.has_pages(in_sync) {
        return intent::round_once(w, ended);
    }
    if !draft_next(w, in_sync, Owned::AsBefore) {
        return true;
    }
    // Those that are called in sync and were not come last: whoever finds one of them so finds all
    // others that know.
    for groups in [first, then] {
        for group in groups.iter() {
            if !tell_member(w, group, ended) {
                return false;
            }
        }
    }
    let news = w.with_memory(|memory| {
        memory.publish();
        let record = memory.record.as_ref()?;
        Some(super::News::Recorded {
            generation: record.generation,
            event: record.event,
            in_sync,
        })
    });
    core.set_recorded(in_sync);
    // Who was named meanwhile stays.
    let gone = named.without(in_sync);
    core.change_named(|now| now.without(gone));
    core.change_to_adopt(|now| now.without(adopted));
    if let Some(news) = news {
        w.tell(news);
    }
    if core.unrecorded().is_empty() {
        while let Some(rq) = w.take_kept() {
            rq.pdu().set_unrecorded(false);
            drop(rq);
        }
        w.unpark();
    }
    w.wake();
    w.wake_resyncs();
    true
}

/// Writes the draft to one member; one that cannot take it is taken out of service, and that needs
/// another record. False if it is the last one in sync: its users wait.
fn tell_member<W: World>(w: &W, group: GroupId, ended: &dyn Fn() -> bool) -> bool {
    match w.write_member(group, Which::Draft, ended) {
        Ok(()) => true,
        Err(Failed::NoMemory | Failed::Ended) => false,
        Err(_) => matches!(
            w.fault(group, GroupFault::Metadata),
            Ok(()) | Err(Refusal::AlreadyFaulty)
        ),
    }
}
