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
    member::{Failed, Members, Which},
    route::RequestOf,
    Core, Request, Route, States, World,
};
use crate::logic::{
    evidence::Sum,
    group::{GroupFault, GroupSet, Refusal},
    ids::GroupId,
    meta::{
        bytes::Block, layout, Bad, Beat, Cause, Change, Found, Generation, Owner, Record,
        Superblock, Uuid, BLOCK,
    },
    MAX_GROUPS,
};

/// How long the recorder sleeps after a member that it cannot do without has failed, in milliseconds.
const AGAIN_MS: u32 = 1000;

/// Bytes that are looked at at a time for being blank.
const PIECE: u64 = 64 << 10;

/// What is known of a group's own superblocks.
#[derive(Clone, Copy, Debug, Default)]
struct Own {
    /// Number of the last one that it has acknowledged, or shown.
    seq: u64,
    /// The one after which the next one is written: some may not have been answered.
    tried: u64,
    /// The checksum of the last one that was written, to tell the server by.
    sum: Option<Sum>,
    /// The generation of that.
    generation: Option<Generation>,
    /// What it is to be recorded with as getting all: its identity, should it be a new member, and
    /// the generation of its own superblock.
    adopted: Option<(Uuid, Option<Generation>)>,
}

/// What is known of the metadata of a device.
#[derive(Default)]
pub struct Memory {
    /// The last record that is durable where it has to be; nothing of a device without metadata.
    pub record: Option<Record>,
    /// The one that is being made durable.
    pub draft: Option<Record>,
    own: [Own; MAX_GROUPS],
}

/// All of that, and room. Too large for a kernel's stack: whoever has it lends it.
pub struct Notes<'a> {
    /// What is known.
    pub memory: &'a mut Memory,
    /// The newest superblock of each group when it was last looked for.
    pub found: &'a mut Found,
    /// Room for a block.
    pub block: &'a mut Block,
}

impl Memory {
    /// The number of the next superblock of a group.
    pub(super) fn next_seq(&mut self, group: GroupId) -> u64 {
        let own = group.pick_mut(&mut self.own);
        own.tried = own.tried.max(own.seq).saturating_add(1);
        own.tried
    }

    /// A superblock is durable.
    pub(super) fn acknowledged(&mut self, group: GroupId, seq: u64, sum: Sum, which: Which) {
        let written = match which {
            Which::Record => self.record.as_ref(),
            Which::Draft => self.draft.as_ref(),
        };
        let generation = written.map(|record| record.generation);
        let own = group.pick_mut(&mut self.own);
        own.seq = seq;
        own.sum = Some(sum);
        own.generation = generation;
        for record in [&mut self.record, &mut self.draft].into_iter().flatten() {
            record.note_seen(group, seq);
        }
    }

    /// The draft is durable where it has to be.
    fn publish(&mut self) {
        self.record = self.draft.take();
    }

    /// The next draft, which is still what it follows, and whether that is one that was dropped. It may
    /// be on some members, so what comes next follows it, and is of another generation: two records
    /// are never taken for one.
    pub fn begin_draft(&mut self) -> Option<(&mut Record, bool)> {
        let was_dropped = self.draft.is_some();
        if !was_dropped {
            self.draft.clone_from(&self.record);
        }
        Some((self.draft.as_mut()?, was_dropped))
    }

    /// A superblock was found: what is known of the group is from when it was written.
    pub fn found(&mut self, superblock: &Superblock) {
        *superblock.member.pick_mut(&mut self.own) = Own {
            seq: superblock.seq,
            tried: superblock.seq,
            ..Own::default()
        };
    }

    /// A group has no superblock any more.
    pub(super) fn forget(&mut self, group: GroupId) {
        *group.pick_mut(&mut self.own) = Own::default();
    }

    /// Whether a group's newest superblock is the last one that it is known to have.
    pub fn is_last(&self, superblock: &Superblock) -> bool {
        superblock.member.pick(&self.own).seq == superblock.seq
    }

    /// The number and the checksum of the last superblock that was written to a group.
    pub(super) fn last_written(&self, group: GroupId) -> Option<(u64, Sum)> {
        let own = group.pick(&self.own);
        Some((own.seq, own.sum?))
    }
}

/// Why a group cannot be a member again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotAdopted {
    /// Its metadata could not be read or written.
    Failed(Failed),
    /// It belongs to another mirror.
    Foreign,
    /// It has the superblock of another member.
    Place,
    /// It has gone on alone.
    Split,
    /// What is at the end of its export is not blank.
    InUse,
    /// It is smaller than the device with its metadata.
    TooSmall,
    /// Another client has the mirror.
    Fenced,
    /// The others have not recorded that it gets all.
    Unrecorded,
}

impl NotAdopted {
    /// What to tell the administrator.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed(failed) => failed.as_str(),
            Self::Foreign => "the group belongs to another mirror; 'full' takes it all the same",
            Self::Place => {
                "the group has the superblock of another member; 'full' takes it all the same"
            }
            Self::Split => "the group has gone on without the others; 'full' gives up what it has",
            Self::InUse => "the end of the group's export is in use; 'full' takes it all the same",
            Self::TooSmall => "the group's export is too small for the device and its metadata",
            Self::Fenced => "another client has the mirror: nothing is written any more",
            Self::Unrecorded => "the groups in sync have not recorded it yet",
        }
    }

    /// The positive Linux errno for the writer of the command.
    pub fn errno(self) -> i32 {
        match self {
            Self::Foreign | Self::Place | Self::InUse => 17, // EEXIST
            Self::Split => 117,                              // EUCLEAN
            Self::TooSmall => 27,                            // EFBIG
            Self::Fenced | Self::Unrecorded => 16,           // EBUSY
            Self::Failed(Failed::NoChannel | Failed::Lost) => 107, // ENOTCONN
            Self::Failed(Failed::NoMemory) => 12,            // ENOMEM
            Self::Failed(Failed::Ended) => 110,              // ETIMEDOUT
            Self::Failed(_) => 5,                            // EIO
        }
    }
}

/// The records of an enabled device.
pub trait Memories: World {
    /// Whether the device has metadata.
    fn has_memory(&self) -> bool {
        self.with_memory(|memory| memory.record.is_some())
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
        while !ended() && !self.core().is_fenced() {
            self.wait(AGAIN_MS, &mut || ended() || self.wants_record());
            if ended() {
                return;
            }
            if self.wants_record() && !record_once(self, ended) {
                self.wait(AGAIN_MS, &mut || ended());
            }
            if beats.is_due(self.now_ms(), self.owner_check_s()) {
                beat(self, &mut beats, ended);
            }
        }
    }

    /// A group's resync has found nothing left: it is recorded as in sync, before it is. To be called
    /// while no write is on its way, and waited for afterwards with [`Memories::is_recorded`]. False
    /// if there is nothing to be recorded.
    fn name(&self, group: GroupId) -> bool {
        let is_member = self.is_member(group);
        if is_member {
            self.core().change_named(|named| named.with(group));
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

    /// Makes a group that is out of service one that may be copied to (R2): its own superblock says
    /// that it misses something, of this line, before anything is written to it. One of which more is
    /// to be copied than its map says is recorded as such before that, and all is marked. With
    /// `force` whatever it holds is given up.
    ///
    /// # Errors
    ///
    /// Why it cannot be.
    fn adopt(
        &self,
        group: GroupId,
        force: bool,
        ended: &dyn Fn() -> bool,
    ) -> Result<(), NotAdopted> {
        if self.core().is_fenced() {
            return Err(NotAdopted::Fenced);
        }
        let bytes = self.export_sectors(group) << 9;
        let fits = |record: &Record| record.layout.fits(bytes);
        match self.with_memory(|memory| memory.record.as_ref().map(fits)) {
            None => return Ok(()),
            Some(false) => return Err(NotAdopted::TooSmall),
            Some(true) => {}
        }
        let has_one = match self.read_member(group, ended) {
            Ok(()) => true,
            Err(Failed::Bad(bad)) if bad != Bad::Version => false,
            Err(failed) => return Err(NotAdopted::Failed(failed)),
        };
        let is_known = if has_one {
            is_known(self, group, force)?
        } else if force || self.has_blank_end(group, ended)? {
            false
        } else {
            return Err(NotAdopted::InUse);
        };
        if !is_known {
            self.mark_all(group);
            record_full(self, group, has_one, ended)?;
        }
        self.write_member(group, Which::Record, ended)
            .map_err(NotAdopted::Failed)
    }

    /// Whether the end of a group's export, where the metadata is to be, is all zeroes.
    ///
    /// # Errors
    ///
    /// Why it is not known.
    fn has_blank_end(&self, group: GroupId, ended: &dyn Fn() -> bool) -> Result<bool, NotAdopted> {
        let bytes = self.export_sectors(group) << 9;
        let end = layout::end_of(bytes);
        let at = self.with_memory(|memory| {
            let record = memory.draft.as_ref().or(memory.record.as_ref());
            record.map(|record| record.layout.area_at(bytes))
        });
        let mut at = at.unwrap_or(end);
        let most = u64::from(self.largest_request(group)).min(PIECE) / BLOCK * BLOCK;
        while at < end {
            let len = end.saturating_sub(at).min(most.max(BLOCK));
            let blank = self.is_blank(group, at, len as u32, ended);
            if !blank.map_err(NotAdopted::Failed)? {
                return Ok(false);
            }
            at = at.saturating_add(len);
        }
        Ok(true)
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
    }

    /// The device has ended in order, and nothing is written any more: it is recorded that nobody has
    /// it (R8). Whatever goes wrong is found by the next start.
    fn end_records(&self, ended: &dyn Fn() -> bool) -> bool {
        let in_sync = self.core().view().readable();
        let ok = if self.core().is_fenced() {
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

/// The beats of this life of the device.
#[derive(Default)]
struct Beats {
    /// How many there were.
    count: u64,
    /// When the last one was, in milliseconds.
    last_ms: u64,
    /// The groups that have one of this life.
    told: GroupSet,
}

impl Beats {
    fn is_due(&self, now_ms: u64, interval_s: u64) -> bool {
        let since = now_ms.saturating_sub(self.last_ms);
        interval_s > 0 && (self.count == 0 || since >= interval_s.saturating_mul(1000))
    }
}

/// Counts up on all groups in sync, unless another client is found to do so: then nothing is written
/// any more. A beat that fails changes nothing: whoever does not answer is found by requests.
fn beat<W: World>(w: &W, beats: &mut Beats, ended: &dyn Fn() -> bool) {
    let own = w.with_memory(|memory| {
        let record = memory.record.as_ref()?;
        Some((record.mirror, record.owner?))
    });
    let Some((mirror, owner)) = own else {
        return;
    };
    beats.last_ms = w.now_ms();
    let next = Beat {
        mirror,
        nonce: owner.nonce,
        counter: beats.count.saturating_add(1),
        interval_s: w.owner_check_s(),
        name: owner.name,
    };
    for group in w.core().view().readable().iter() {
        match w.read_beat(group, mirror, ended) {
            // The first one overwrites that of whoever had the device before.
            Ok(Some(found)) if found.nonce != owner.nonce && beats.told.has(group) => {
                w.core().fence();
                w.tell(super::News::Fenced { group });
                w.drop_kept();
                w.unpark();
                return;
            }
            Ok(_) => {
                if w.write_beat(group, &next, ended).is_ok() {
                    beats.told = beats.told.with(group);
                }
            }
            Err(_) => {}
        }
    }
    beats.count = next.counter;
}

/// Who has the device from a record on.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Owned {
    /// Whoever has it.
    AsBefore,
    /// Nobody.
    ByNobody,
}

/// Drafts the record that says what is so now; false of a device without metadata.
fn draft_next<W: World>(w: &W, in_sync: GroupSet, owned: Owned) -> bool {
    let fresh = Generation::new(w.random());
    let (named, adopted) = (w.core().named(), w.core().to_adopt());
    w.with_memory(|memory| {
        let own = memory.own;
        let Some((draft, was_dropped)) = memory.begin_draft() else {
            return false;
        };
        // One that was named may call itself in sync already.
        let leaves = !draft.in_sync().union(named).without(in_sync).is_empty();
        let owner: Option<Owner> = draft.owner.filter(|_| owned == Owned::AsBefore);
        draft.advance(&Change {
            in_sync,
            drawn: (leaves || was_dropped).then_some((fresh, Cause::Faulted)),
            owner,
        });
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

/// Whether a group's own superblock, which was just read, is the one that its map goes with.
fn is_known<W: World>(w: &W, group: GroupId, force: bool) -> Result<bool, NotAdopted> {
    w.with_notes(|notes| {
        let (Some(ours), Some(theirs)) = (&notes.memory.record, group.pick(notes.found)) else {
            return Ok(false);
        };
        let uuid = |record: &Record| record.member(group).map(|member| member.uuid);
        let is_member = uuid(ours).is_some();
        let record = &theirs.record;
        let problem = if record.mirror != ours.mirror {
            NotAdopted::Foreign
        } else if theirs.member != group || (is_member && uuid(ours) != uuid(record)) {
            NotAdopted::Place
        } else if is_member && !ours.has_line_of(group, record) {
            NotAdopted::Split
        } else {
            return Ok(is_member && notes.memory.is_last(theirs));
        };
        if force {
            Ok(false)
        } else {
            Err(problem)
        }
    })
}

/// Has it recorded on the groups in sync that a group is to get all, whatever its own superblock says,
/// if it `has_one`.
fn record_full<W: World>(
    w: &W,
    group: GroupId,
    has_one: bool,
    ended: &dyn Fn() -> bool,
) -> Result<(), NotAdopted> {
    let core: &Core = w.core();
    let fresh = Uuid::new([w.random(), w.random()]);
    w.with_notes(|notes| {
        let theirs = group.pick(notes.found).as_ref().filter(|_| has_one);
        // So that the next one is newer than what is there, whatever that is.
        let seq = theirs.map_or(0, |theirs| theirs.seq);
        *group.pick_mut(&mut notes.memory.own) = Own {
            seq,
            tried: seq,
            sum: None,
            generation: None,
            adopted: Some((fresh, theirs.map(|theirs| theirs.record.generation))),
        };
    });
    core.change_to_adopt(|groups| groups.with(group));
    w.wake();
    // The recorder needs the groups in sync for it, which answer or are taken out of service.
    let until = w.now_ms().saturating_add(w.timeout_ms());
    let is_recorded = || !core.to_adopt().has(group);
    while !w.wait(AGAIN_MS, &mut || is_recorded() || ended()) && w.now_ms() < until {}
    if is_recorded() {
        Ok(())
    } else {
        core.change_to_adopt(|groups| groups.without(GroupSet::default().with(group)));
        Err(NotAdopted::Unrecorded)
    }
}
