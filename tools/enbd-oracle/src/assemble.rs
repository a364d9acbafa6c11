// SPDX-License-Identifier: GPL-2.0

//! The oracle for who is current: a mirror lives through any sequence of records, losses and lies,
//! and each start is judged.

use crate::superblock::{check_ring, put, seal, Block, Ring};
use enbd_logic::logic::group::GroupSet;
use enbd_logic::logic::ids::GroupId;
use enbd_logic::logic::meta::layout::{slot_of, RING_BYTES};
use enbd_logic::logic::meta::{
    assemble, Ask, Cause, Change, Found, Generation, Layout, MemberState, Name, Owner, Plan,
    Record, Refusal, Superblock, Uuid, BLOCK,
};
use enbd_logic::logic::MAX_GROUPS;

/// What may happen to a mirror. Groups are numbers that are taken modulo eight, sets are bits.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    /// All that are there are made members of a new mirror.
    Create {
        /// The members.
        members: u8,
        /// Those of them that hold the same.
        in_sync: u8,
    },
    /// The record after that of `from` is written.
    Write {
        /// Whose newest one it follows.
        from: u8,
        /// The groups that get it.
        to: u8,
        /// The members that are in sync from then on.
        in_sync: u8,
        /// A new generation is drawn.
        draws: bool,
        /// Somebody has the device.
        is_owned: bool,
        /// A member that is to get all.
        adopts: Option<u8>,
    },
    /// A server makes up bytes, with a checksum that is right.
    Patch {
        /// The group.
        group: u8,
        /// The place in its ring.
        slot: u8,
        /// Where in the block.
        at: u16,
        /// How many bytes.
        len: u8,
        /// Which.
        bytes: u64,
    },
    /// A group gets what another one has.
    Copy {
        /// The other one.
        from: u8,
        /// The group.
        to: u8,
    },
    /// A group loses a block.
    Lose {
        /// The group.
        group: u8,
        /// The place in its ring.
        slot: u8,
    },
    /// A start with these groups, whose record is written if there is one.
    Start {
        /// Those that are there.
        present: u8,
        /// Those whose servers can flush.
        has_flush: u8,
        /// What is asked for: 0 certain, 1 degraded, else group number `ask` as the source.
        ask: u8,
    },
}

/// The exports of eight groups.
pub struct World {
    rings: Vec<Ring>,
    drawn: u64,
}

impl Default for World {
    fn default() -> Self {
        Self {
            rings: vec![[0; RING_BYTES]; MAX_GROUPS],
            drawn: 0,
        }
    }
}

fn group(number: u8) -> GroupId {
    GroupId::new(usize::from(number) % MAX_GROUPS).expect("below 8")
}

/// Bytes of the export of a group: the exports differ, and not all are in whole blocks.
fn export_bytes(group: GroupId) -> u64 {
    (64 << 20) + 1536 * group.index() as u64
}

impl World {
    /// One more thing happens.
    ///
    /// # Panics
    ///
    /// A decision that must not be.
    pub fn step(&mut self, op: Op) {
        match op {
            Op::Create { members, in_sync } => self.create(members, in_sync),
            Op::Write { .. } => self.write(op),
            Op::Patch {
                group: of,
                slot,
                at,
                len,
                bytes,
            } => {
                let slot = u64::from(slot % 8);
                let mut block = self.block(group(of), slot);
                // Beyond the fields nothing is looked at.
                let at = usize::from(at) % 1100;
                let len = usize::from(len) % 9;
                block[at..at + len].copy_from_slice(&bytes.to_le_bytes()[..len]);
                seal(&mut block);
                put(&mut self.rings[group(of).index()], slot, &block);
            }
            Op::Copy { from, to } => {
                self.rings[group(to).index()] = self.rings[group(from).index()];
            }
            Op::Lose { group: of, slot } => {
                let slot = u64::from(slot % 8);
                put(
                    &mut self.rings[group(of).index()],
                    slot,
                    &[0; BLOCK as usize],
                );
            }
            Op::Start {
                present,
                has_flush,
                ask,
            } => self.start(present, has_flush, ask),
        }
    }

    fn block(&self, group: GroupId, slot: u64) -> Block {
        let at = (7 - slot) as usize * BLOCK as usize;
        *self.rings[group.index()][at..]
            .first_chunk()
            .expect("a whole block")
    }

    fn newest(&self, group: GroupId) -> Option<Superblock> {
        check_ring(&self.rings[group.index()], export_bytes(group)).ok()
    }

    fn draw(&mut self) -> Generation {
        self.drawn += 1;
        // Made-up numbers are small or random: these are neither.
        Generation::new(0x5eed_0000_0000_0000 + self.drawn)
    }

    fn create(&mut self, members: u8, in_sync: u8) {
        let members = GroupSet::from_bits(members);
        let mut in_sync = GroupSet::from_bits(in_sync & members.bits());
        let Some(first) = members.iter().next() else {
            return;
        };
        if in_sync.is_empty() {
            in_sync = in_sync.with(first);
        }
        let generation = self.draw();
        let uuid = |number: u64| Uuid::new([generation.bits(), number]);
        let ids = (uuid(100), generation);
        let mut uuids = [None; MAX_GROUPS];
        for group in members.iter() {
            uuids[group.index()] = Some(uuid(group.index() as u64));
        }
        let layout = Layout::of_export(export_bytes(group(0)), 4096).expect("large enough");
        let record = Record::create(ids, &uuids, in_sync, layout, 4096);
        self.store(&record, members);
    }

    fn write(&mut self, op: Op) {
        let Op::Write {
            from,
            to,
            in_sync,
            draws,
            is_owned,
            adopts,
        } = op
        else {
            return;
        };
        let Some(newest) = self.newest(group(from)) else {
            return;
        };
        let generation = self.draw();
        let members = newest.record.all().bits();
        let mut record = newest.record.after(&Change {
            in_sync: GroupSet::from_bits(in_sync & members),
            drawn: draws.then_some((generation, Cause::Faulted)),
            owner: is_owned.then(|| owner(self.drawn)),
        });
        if let Some(other) = adopts.map(group) {
            let uuid = Uuid::new([self.draw().bits(), 3]);
            let left = self.newest(other).map(|other| other.record.generation);
            record.adopt(other, uuid, left);
        }
        self.store(&record, GroupSet::from_bits(to & members));
    }

    /// Writes a record to these groups, each in its next place.
    fn store(&mut self, record: &Record, groups: GroupSet) {
        for group in groups.iter() {
            let seq = self
                .newest(group)
                .map_or(0, |newest| newest.seq.saturating_add(1));
            let superblock = Superblock {
                member: group,
                seq,
                export_bytes: export_bytes(group),
                record: *record,
            };
            put(
                &mut self.rings[group.index()],
                slot_of(seq),
                &superblock.encode(),
            );
        }
    }

    fn start(&mut self, present: u8, has_flush: u8, ask: u8) {
        let (present, has_flush) = (GroupSet::from_bits(present), GroupSet::from_bits(has_flush));
        let mut found: Found = [None; MAX_GROUPS];
        for group in present.iter() {
            found[group.index()] = self.newest(group);
        }
        let ask = match ask {
            0 => Ask::Certain,
            1 => Ask::Degraded,
            other => Ask::Source(group(other)),
        };
        let generation = self.draw();
        let owner = owner(self.drawn);
        match assemble(&found, has_flush, ask) {
            Ok(plan) => {
                let base = found[plan.base.index()].expect("a base that was found");
                let mut record = base.record;
                let nobody = (&[None; MAX_GROUPS], GroupSet::default());
                plan.advance(&mut record, &found, nobody, generation, owner);
                judge(&found, ask, (generation, owner), &plan, &record);
                self.store(&record, plan.sources);
                self.store(&record, plan.others);
                for group in plan.sources.union(plan.others).iter() {
                    let stored = self.newest(group).map(|newest| newest.record);
                    assert_eq!(stored, Some(record), "{group:?}");
                }
            }
            Err(refusal) => judge_refusal(&found, refusal),
        }
    }
}

fn owner(number: u64) -> Owner {
    Owner {
        nonce: [number, 1],
        name: Name::new(b"host"),
        since: number,
    }
}

/// Whether `record` knows the generation that `other` shows, by the definition.
fn knows(record: &Record, other: &Superblock) -> bool {
    let mut known = vec![record.generation];
    known.extend(
        record
            .history
            .iter()
            .flatten()
            .filter(|(_, last)| other.record.event <= *last)
            .map(|(generation, _)| *generation),
    );
    if let Some(member) = record.member(other.member) {
        if let MemberState::Stale { left, .. } = member.state {
            known.extend(left);
        }
    }
    known.contains(&other.record.generation)
}

/// Those that are there, and are members by this record.
fn present<'a>(found: &'a Found, record: &Record) -> Vec<&'a Superblock> {
    let all = found.iter().flatten();
    let own = |one: &Superblock| one.record.member(one.member).map(|member| member.uuid);
    all.filter(|one| {
        let told = record.member(one.member).map(|member| member.uuid);
        told.is_some() && told == own(one)
    })
    .collect()
}

/// What must hold of a plan.
fn judge(found: &Found, ask: Ask, fresh: (Generation, Owner), plan: &Plan, record: &Record) {
    let Plan {
        base: _,
        sources,
        others,
        set_back,
        drawn,
    } = plan;
    assert!(!sources.is_empty());
    assert_eq!(record.in_sync(), *sources);
    assert_eq!(sources.without(*others), *sources);
    assert_eq!(set_back.without(*others), GroupSet::default());
    assert_eq!(record.owner, Some(fresh.1));
    assert_eq!(drawn.is_some(), record.generation == fresh.0);
    let there = present(found, record);
    let there = there
        .iter()
        .fold(GroupSet::default(), |set, one| set.with(one.member));
    assert_eq!(sources.union(*others), there, "{plan:?}");
    for one in found.iter().flatten() {
        assert_eq!(record.layout, one.record.layout);
        assert!(record.layout.fits(one.export_bytes));
    }
    if let Ask::Source(source) = ask {
        assert_eq!(*sources, GroupSet::of(source));
        assert_eq!(*drawn, Some(Cause::Forced));
        return;
    }
    // By a record of whose line all are that are there, each source is in sync, and is of it.
    let supports = |base: &Record| {
        let there = present(found, base);
        let all_known = there.iter().all(|one| knows(base, one));
        let sources_in_sync = sources.iter().all(|group| {
            let told = base.member(group);
            let own = there.iter().find(|one| one.member == group);
            own.zip(told)
                .is_some_and(|(own, told)| told.is_in_sync() && own.seq >= told.seen)
        });
        let nobody_is_missing = base
            .in_sync()
            .iter()
            .all(|group| there.iter().any(|one| one.member == group));
        let enough = nobody_is_missing || ask == Ask::Degraded;
        let was_clean = base.owner.is_none() && nobody_is_missing;
        // More than one source, or no new generation, only where nothing was on its way.
        let careful = was_clean || (sources.len() == 1 && drawn.is_some());
        all_known && sources_in_sync && enough && careful && record.event > base.event
    };
    let mut bases = found.iter().flatten().map(|found| &found.record);
    assert!(bases.any(supports), "{ask:?}: {plan:?}");
    if drawn.is_none() {
        assert_eq!(record.in_sync(), record.all());
    }
}

/// What must hold of a refusal.
fn judge_refusal(found: &Found, refusal: Refusal) {
    assert!(!refusal.as_str().is_empty());
    let is_there = |group: GroupId| found[group.index()].is_some();
    let errno = match refusal {
        Refusal::NoMember => {
            assert!(found.iter().all(Option::is_none));
            2
        }
        Refusal::NoSource(group) => {
            assert!(!is_there(group));
            2
        }
        Refusal::Foreign(group) | Refusal::Place(group) => {
            assert!(is_there(group));
            17
        }
        Refusal::Stale => 116,
        Refusal::Odd(group) | Refusal::SetBack(group) => {
            assert!(is_there(group));
            117
        }
        Refusal::Missing(_) => 117,
        Refusal::Split(one, other) => {
            assert!(is_there(one) && is_there(other) && one != other);
            117
        }
    };
    assert_eq!(refusal.errno(), errno);
}
