// SPDX-License-Identifier: GPL-2.0

//! What is known of the metadata of a device. Its uses: [`super::record`], [`super::adopt`],
//! [`super::owner`].

use super::member::Which;
use crate::logic::{
    evidence::Sum,
    ids::GroupId,
    meta::{bytes::Block, layout::SUPERBLOCKS, Found, Generation, Record, Superblock, Uuid},
    MAX_GROUPS,
};

/// What is known of a group's own superblocks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Own {
    /// Number of the last one that it has acknowledged, or shown.
    seq: u64,
    /// The one after which the next one is written: some may not have been answered.
    tried: u64,
    /// The checksum of the last one that was written, to tell the server by.
    sum: Option<Sum>,
    /// The generation of that.
    pub(super) generation: Option<Generation>,
    /// What it is to be recorded with as getting all: its identity, should it be a new member, and
    /// the generation of its own superblock.
    pub(super) adopted: Option<(Uuid, Option<Generation>)>,
}

/// What is known of the metadata of a device.
#[derive(Default)]
pub struct Memory {
    /// The last record that is durable where it has to be; nothing of a device without metadata.
    pub record: Option<Record>,
    /// The one that is being made durable.
    pub draft: Option<Record>,
    pub(super) own: [Own; MAX_GROUPS],
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
    pub(super) fn publish(&mut self) {
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

    /// A group is to be recorded as getting all, with this identity should it be a new member; `theirs`
    /// is the superblock that it shows, if it shows one.
    pub(super) fn will_adopt(&mut self, group: GroupId, uuid: Uuid, theirs: Option<&Superblock>) {
        // So that the next one is newer than what is there, whatever that is.
        let seq = theirs.map_or(0, |theirs| theirs.seq);
        *group.pick_mut(&mut self.own) = Own {
            seq,
            tried: seq,
            adopted: Some((uuid, theirs.map(|theirs| theirs.record.generation))),
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
        // So many that were tried since may have taken its place.
        let tried = own.tried.saturating_sub(own.seq);
        let sum = own.sum.filter(|_| tried < SUPERBLOCKS)?;
        Some((own.seq, sum))
    }
}
