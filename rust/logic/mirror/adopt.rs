// SPDX-License-Identifier: GPL-2.0

//! A group that is out of service becomes one that may be copied to (R2).
//!
//! Its own superblock says that it misses something, of this line, before anything is written to it;
//! and where more is to be copied than its map says, the others have recorded that before. Without
//! that a start could find it half copied, and take it for what it was.

use super::{
    member::{Failed, Members, Which},
    HealthEvent, Intents, Memories, States, World,
};
use crate::logic::{
    group::{GroupFault, GroupSet},
    ids::GroupId,
    meta::{layout, Bad, Record, Uuid, BLOCK},
};

/// Bytes that are looked at at a time for being blank.
const PIECE: u64 = 64 << 10;
/// How long to wait at most until it is looked again whether a record was made, in milliseconds.
const TICK_MS: u32 = 1000;

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
    /// It had a superblock and has none any more.
    Lost,
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
            Self::Lost => {
                "the group's metadata is gone: not the server that was lost; 'full' takes it"
            }
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
            Self::Lost | Self::Split => 117,                 // EUCLEAN
            Self::TooSmall => 27,                            // EFBIG
            Self::Fenced | Self::Unrecorded => 16,           // EBUSY
            Self::Failed(failed) => failed.errno(),
        }
    }
}

/// Groups that are brought back.
pub trait Adopts: World {
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
        let is_older = self.learn_page(group, ended)?;
        let has_one = match self.read_member(group, ended) {
            Ok(()) => true,
            Err(Failed::Bad(bad)) if bad != Bad::Version => false,
            Err(failed) => return Err(NotAdopted::Failed(failed)),
        };
        // One that was connected anew by the administrator may be blank.
        let g = self.core().group(group);
        let was_here = self.is_member(group) && g.fault() != Some(GroupFault::Joined);
        if !has_one && !force && was_here {
            // Which server it is somebody has to say.
            self.doubt(group);
            return Err(NotAdopted::Lost);
        }
        let is_known = if has_one {
            is_known(self, group, force).inspect_err(|_| self.doubt(group))?
        } else if force || self.has_blank_end(group, ended)? {
            false
        } else {
            return Err(NotAdopted::InUse);
        };
        // What the administrator has copied as a whole is not to be taken for known if that is cut short.
        if !is_known || is_older || force {
            self.mark_all(group);
            if has_one && !is_known {
                // Nobody knows what it was told, and what it has refused.
                g.happened(HealthEvent::Deceives);
            }
            record_full(self, group, has_one, ended)?;
        }
        self.write_member(group, Which::Record, ended)
            .map_err(NotAdopted::Failed)
    }

    /// Looks for the newest intent page of a group, so that those that are written to it later are newer,
    /// whatever it holds of another life; whether it is older than what the group had: it was set back.
    ///
    /// # Errors
    ///
    /// Why it is not known.
    fn learn_page(&self, group: GroupId, ended: &dyn Fn() -> bool) -> Result<bool, NotAdopted> {
        let of = self.with_memory(|memory| {
            let record = memory.record.as_ref()?;
            Some((record.mirror, record.layout.device_bytes))
        });
        let Some(of) = of else {
            return Ok(false);
        };
        let page = self.read_intent(group, of, false, ended);
        let page = page.map_err(NotAdopted::Failed)?.unwrap_or(0);
        Ok(self.with_memory(|memory| {
            memory.page = memory.page.max(page);
            page < group.pick(&memory.own).page
        }))
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
}

impl<W: World> Adopts for W {}

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
    let core = w.core();
    let fresh = Uuid::new([w.random(), w.random()]);
    w.with_notes(|notes| {
        let theirs = group.pick(notes.found).as_ref().filter(|_| has_one);
        notes.memory.will_adopt(group, fresh, theirs);
    });
    core.change_to_adopt(|groups| groups.with(group));
    w.wake();
    // The recorder needs the groups in sync for it, which answer or are taken out of service.
    let until = w.now_ms().saturating_add(w.timeout_ms());
    let is_recorded = || !core.to_adopt().has(group);
    while !w.wait(TICK_MS, &mut || is_recorded() || ended()) && w.now_ms() < until {}
    if is_recorded() {
        Ok(())
    } else {
        core.change_to_adopt(|groups| groups.without(GroupSet::of(group)));
        Err(if ended() {
            NotAdopted::Failed(Failed::Ended)
        } else {
            NotAdopted::Unrecorded
        })
    }
}
