// SPDX-License-Identifier: GPL-2.0

//! What is known of the metadata of a device. Its uses: [`super::record`], [`super::adopt`],
//! [`super::owner`].

use super::member::Which;
use crate::logic::{
    evidence::Sum,
    group::GroupSet,
    ids::GroupId,
    meta::{
        assemble::Pages,
        bytes::Block,
        layout::{intent_slot_of, SUPERBLOCKS},
        Cause, Change, Found, Generation, Owner, Record, Superblock, Uuid,
    },
    MAX_GROUPS,
};

/// What tells a record from that of another client: two that start from the same one at the same
/// moment give theirs the same number, event and, where all are in sync, generation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Told {
    generation: Generation,
    event: u64,
    owner: Option<[u64; 2]>,
}

impl Told {
    fn by(record: &Record) -> Self {
        Self {
            generation: record.generation,
            event: record.event,
            owner: record.owner.map(|owner| owner.nonce),
        }
    }
}

/// What is known of a group's own superblocks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Own {
    /// Number of the last one that it has acknowledged, or shown.
    seq: u64,
    /// The one after which the next one is written: some may not have been answered.
    tried: u64,
    /// What that one says, as far as it tells it from all others with this number.
    told: Option<Told>,
    /// The checksum of the last one that was written, to tell the server by.
    sum: Option<Sum>,
    /// The generation of that.
    pub(super) generation: Option<Generation>,
    /// Number of the last intent page that it has, as far as is known; 0: nobody knows.
    pub(super) page: u64,
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
    /// Number of the last intent page that was written, or found on any group.
    pub page: u64,
    /// Number of the last one that is on all groups that have to have it.
    pub(super) published: u64,
    pub(super) own: [Own; MAX_GROUPS],
    /// The groups that have had a beat of this life since they are in sync: any other one there is
    /// another client's. What a group has that was out of service may be older than this life.
    pub(super) told: GroupSet,
}

/// Who has the device from a record on.
#[derive(Clone, Copy)]
pub enum Owned {
    /// Whoever has it.
    AsBefore,
    /// This one.
    By(Owner),
    /// Nobody.
    ByNobody,
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
    /// The number of the next superblock of a group: also one that was set back is beyond what the others
    /// have seen of it.
    pub(super) fn next_seq(&mut self, group: GroupId) -> u64 {
        let records = [&self.record, &self.draft].into_iter().flatten();
        let seen = records.filter_map(|record| record.member(group));
        let seen = seen.map(|member| member.seen).max().unwrap_or(0);
        let own = group.pick_mut(&mut self.own);
        own.tried = own.tried.max(own.seq).max(seen).saturating_add(1);
        own.tried
    }

    /// A superblock is durable.
    pub(super) fn acknowledged(&mut self, group: GroupId, seq: u64, sum: Sum, which: Which) {
        let written = match which {
            Which::Record => self.record.as_ref(),
            Which::Draft => self.draft.as_ref(),
        };
        let told = written.map(Told::by);
        let own = group.pick_mut(&mut self.own);
        own.seq = seq;
        own.told = told;
        own.sum = Some(sum);
        own.generation = told.map(|told| told.generation);
        for record in [&mut self.record, &mut self.draft].into_iter().flatten() {
            record.note_seen(group, seq);
        }
    }

    /// The draft is durable where it has to be.
    pub(super) fn publish(&mut self) {
        self.record = self.draft.take();
    }

    /// Drafts the next record, by which the members `in_sync` are; nothing of a device without metadata.
    ///
    /// It follows the last draft, should that have been dropped: that may be on some members, so this is
    /// of another generation, and the two are never taken for one. So it is, too, if one that was in
    /// sync or `named` is not any more.
    pub fn begin_draft(
        &mut self,
        in_sync: GroupSet,
        named: GroupSet,
        fresh: Generation,
        owned: Owned,
    ) -> Option<&mut Record> {
        let was_dropped = self.draft.is_some();
        if !was_dropped {
            self.draft.clone_from(&self.record);
        }
        let draft = self.draft.as_mut()?;
        let own = &self.own;
        draft.note_pages(|group| group.pick(own).page);
        let leaves = !draft.in_sync().union(named).without(in_sync).is_empty();
        draft.advance(&Change {
            in_sync,
            drawn: (leaves || was_dropped).then_some((fresh, Cause::Faulted)),
            owner: match owned {
                Owned::AsBefore => draft.owner,
                Owned::By(owner) => Some(owner),
                Owned::ByNobody => None,
            },
        });
        Some(draft)
    }

    /// A superblock was found: what is known of the group is from when it was written.
    pub fn found(&mut self, superblock: &Superblock) {
        *superblock.member.pick_mut(&mut self.own) = Own {
            seq: superblock.seq,
            tried: superblock.seq,
            told: Some(Told::by(&superblock.record)),
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

    /// The newest intent pages were looked for, of these numbers: later ones are newer.
    pub fn found_pages(&mut self, pages: &Pages) {
        for (own, page) in self.own.iter_mut().zip(pages) {
            own.page = page.unwrap_or(0);
            self.page = self.page.max(own.page);
        }
        self.published = self.page;
    }

    /// The number of the next intent page: none that would take the place of the last one that counts.
    pub(super) fn next_page(&mut self) -> u64 {
        let mut next = self.page.saturating_add(1);
        if next != self.published && intent_slot_of(next) == intent_slot_of(self.published) {
            next = next.saturating_add(1);
        }
        self.page = next;
        next
    }

    /// An intent page is on these groups, which are all that have to have it.
    pub(super) fn has_page(&mut self, groups: GroupSet, page: u64) {
        self.published = page;
        for group in groups.iter() {
            group.pick_mut(&mut self.own).page = page;
        }
    }

    /// Whether a group's newest superblock is the last one that it is known to have: not another
    /// client's with the same number, nor one of a group that is to be recorded as getting all.
    pub fn is_last(&self, superblock: &Superblock) -> bool {
        let own = superblock.member.pick(&self.own);
        own.seq == superblock.seq && own.told == Some(Told::by(&superblock.record))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::meta::{Layout, Name};

    const MEMBER: usize = 0;

    fn owner(nonce: u64) -> Owner {
        Owner {
            nonce: [nonce, nonce],
            name: Name::NONE,
            since: 0,
        }
    }

    /// A member of a mirror that nobody has, as it is found.
    fn member() -> Superblock {
        let both = GroupSet::from_bits(0b11);
        let uuid = |n: usize| (n < 2).then(|| Uuid::new([n as u64, 7]));
        let ids = (Uuid::new([1, 2]), Generation::new(100));
        let layout = Layout::of_device(64 << 20);
        Superblock {
            member: GroupId::new(MEMBER).unwrap(),
            seq: 5,
            export_bytes: 66 << 20,
            record: Record::create(ids, &core::array::from_fn(uuid), both, layout, 4096),
        }
    }

    /// A client that has found the member and written its start to it; gives what it has written.
    fn start(memory: &mut Memory, nonce: u64) -> Superblock {
        let found = member();
        memory.found(&found);
        memory.record = Some(found.record);
        let (fresh, nobody) = (Generation::new(nonce), GroupSet::default());
        let in_sync = found.record.in_sync();
        let owned = Owned::By(owner(nonce));
        let draft = memory.begin_draft(in_sync, nobody, fresh, owned).copied();
        let record = draft.unwrap();
        let seq = memory.next_seq(found.member);
        memory.acknowledged(found.member, seq, Sum(0), Which::Draft);
        memory.publish();
        Superblock {
            seq,
            record,
            ..found
        }
    }

    #[test]
    fn of_two_that_start_at_once_only_one_takes_the_record_for_its_own() {
        let (mut ours, mut theirs) = (Memory::default(), Memory::default());
        let first = start(&mut ours, 1);
        let second = start(&mut theirs, 2);
        // The second one has overwritten the first one's: the same number in the same place.
        assert_eq!(first.seq, second.seq);
        assert!(first.record.is_same_as(&second.record));
        assert!(!ours.is_last(&second) && theirs.is_last(&second));
        assert!(ours.is_last(&first));
    }

    #[test]
    fn a_member_that_was_set_back_is_not_for_ever() {
        let found = member();
        let mut record = found.record;
        record.note_seen(found.member, 10);
        let mut memory = Memory {
            record: Some(record),
            ..Memory::default()
        };
        memory.found(&found);
        assert_eq!(memory.next_seq(found.member), 11);
    }

    #[test]
    fn a_superblock_that_was_found_is_the_last_until_its_group_is_to_get_all() {
        let mut memory = Memory::default();
        let found = member();
        memory.found(&found);
        assert!(memory.is_last(&found));
        let older = Superblock { seq: 4, ..found };
        assert!(!memory.is_last(&older));
        // Its record was not made yet: whoever asks again is to record it first.
        memory.will_adopt(found.member, Uuid::new([9, 9]), Some(&found));
        assert!(!memory.is_last(&found));
    }
}
