// SPDX-License-Identifier: GPL-2.0

//! The law of a mirror that remembers, looked up in the superblocks that the servers hold.
//!
//! A client that crashes leaves nothing but what its servers have. So at every moment, whichever servers
//! the next client finds, and whichever of them it prefers: if [`assemble`] lets it start, by what is
//! in their stores now, then *each source holds all that was acknowledged*. This is what R1, R2 and R3
//! are for, each of them: without R1 a group may lack what was acknowledged while a superblock still
//! calls it in sync, without R2 one that is being copied to may, and without the order of R3 a group
//! that was just brought back may be found alone, and does not know that another one was there.
//!
//! And what a start compares is enough: of those members that it takes for equal but for what the intent
//! pages mark, each holds outside of that what the source holds, whatever becomes of the caches of both.
//!
//! And there is a start: if all servers are found, none is missing, nothing is split, and nothing is
//! stale.
//!
//! It is looked up whenever a user's write or flush has succeeded, and after every fault. What is not
//! asked for:
//!
//! | server | why |
//! |---|---|
//! | it has lost its cache, and the client may not have seen that | what was not flushed may be lost if the client crashes now, and it is the source: nobody could know. What was flushed has to be there |
//! | it was away when a client was started without it, or another one was taken for the source by force, and was not copied to since | it may know of more, which does not count |
//! | it has another store than it had, and was not copied as a whole since | an older copy of a member that was in sync alone looks like that member |
//!
//! Such a server is not found by any start that is looked at.

use crate::logic::{
    group::GroupSet,
    ids::GroupId,
    meta::{
        assemble, encode,
        layout::{slot_at, slot_of, LEAST_EXPORT},
        Ask, Found, Generation, IntentPage, Layout, Name, Owner, Plan, Record, Scan, Superblock,
        Uuid, BLOCK,
    },
    mirror::{Memories, World as _},
    MAX_GROUPS,
};
use crate::store::{Value, RING};
use crate::world::World;
use shuttle::rand::{thread_rng, Rng};
use std::sync::atomic::Ordering::Relaxed;

/// Makes a mirror of the groups, which are equal and in sync, and begins to record what they are.
pub fn create(world: &World) {
    let mut rng = thread_rng();
    let mut random = || -> u64 { rng.gen() };
    let all = set_of(world.scale.all_groups());
    let uuids = [(); MAX_GROUPS].map(|()| Uuid::new([random(), random()]));
    let members = std::array::from_fn(|g| (g < world.scale.groups).then(|| uuids[g]));
    let ids = (Uuid::new([random(), random()]), Generation::new(random()));
    let layout = Layout::of_device(world.scale.blocks as u64 * BLOCK);
    let mut record = Record::create(ids, &members, all, layout, BLOCK as u32);
    record.intent = world.scale.intent;
    record.owner = Some(owner());
    for member in all.iter() {
        let superblock = Superblock {
            member,
            seq: 1,
            export_bytes: LEAST_EXPORT,
            record,
        };
        let mut block = [0; BLOCK as usize];
        encode(&record, member, superblock.seq, LEAST_EXPORT, &mut block);
        let offset = slot_at(LEAST_EXPORT, slot_of(superblock.seq)).expect("large enough");
        let value = world.hosts.blocks.number(&block);
        world.hosts.servers[member].put((offset / BLOCK) as usize, value);
        world.hosts.servers[member].back_up();
        world.with_memory(|memory| memory.found(&superblock));
    }
    for member in all.iter() {
        record.note_seen(member, 1);
    }
    world.with_memory(|memory| memory.record = Some(record));
    let marks = world.marks().expect("it has memory");
    marks.prepare(layout.device_bytes, REGION_SHIFT);
    world.begin_records(all);
}

/// A new life of a client.
pub fn owner() -> Owner {
    let mut rng = thread_rng();
    Owner {
        nonce: [rng.gen(), rng.gen()],
        name: Name::new(b"simulator"),
        since: 0,
    }
}

/// Bytes of a region, as a power of two: two blocks.
pub const REGION_SHIFT: u32 = 13;

fn set_of(groups: impl Iterator<Item = GroupId>) -> GroupSet {
    groups.fold(GroupSet::default(), GroupSet::with)
}

/// The newest superblock that a server holds now.
fn newest_of(world: &World, group: GroupId) -> Option<Superblock> {
    newest_in(world, &world.hosts.servers[group].ring())
}

/// Whether a client that starts can see that a group was set back to its backup, by the records of others
/// that had everything: what was set back within one record is seen by its pages, if there are some, and
/// if it was by more than one.
pub fn shows_age(world: &World, group: GroupId, others: GroupSet) -> bool {
    let past = world.hosts.servers[group].past();
    let past = newest_in(world, &past[past.len() - RING..]);
    past.is_some_and(|past| {
        others.iter().any(|other| {
            let newest = newest_of(world, other);
            newest.is_some_and(|newest| !newest.record.is_same_as(&past.record))
        })
    })
}

/// The newest superblock among these blocks.
fn newest_in(world: &World, ring: &[Value]) -> Option<Superblock> {
    let mut scan = Scan::new(LEAST_EXPORT);
    let mut best = None;
    let mut block = Box::new([0; BLOCK as usize]);
    // The last slot comes first.
    for (slot, value) in ring.iter().rev().enumerate() {
        world.hosts.blocks.bytes(*value, &mut block);
        scan.see(&*block, slot as u64, &mut best);
    }
    best
}

/// The number of the newest intent page that a server holds now, and which blocks it marks.
fn newest_page(world: &World, group: GroupId, record: &Record) -> Option<(u64, Vec<bool>)> {
    let mut block = Box::new([0; BLOCK as usize]);
    let bytes = record.layout.device_bytes;
    let mut newest: Option<(u64, Vec<bool>)> = None;
    // The last slot comes first.
    for (slot, value) in world.hosts.servers[group].pages().iter().rev().enumerate() {
        world.hosts.blocks.bytes(*value, &mut block);
        let page = IntentPage::decode(&*block, slot as u64, record.mirror, bytes);
        let is_newer = |page: &IntentPage| newest.as_ref().is_none_or(|(seq, _)| page.seq > *seq);
        if let Some(page) = page.filter(is_newer) {
            let mut marked = vec![false; world.scale.blocks];
            page.each_region(&*block, |first, shift| {
                let first = (first / BLOCK) as usize;
                let end = (first + (1 << shift) / BLOCK as usize).min(marked.len());
                marked[first..end].fill(true);
            });
            newest = Some((page.seq, marked));
        }
    }
    newest
}

/// What a server holds of the device.
struct Held {
    content: Vec<Value>,
    durable: Vec<Value>,
    /// What was not flushed may be lost.
    may_lack: bool,
}

/// Looks whether every client that may start now starts with all that was acknowledged. No other
/// thread goes on meanwhile: only shuttle's words are points where it may, and here is none.
pub fn look(world: &World) {
    if !world.scale.memory {
        return;
    }
    let groups: Vec<_> = world.scale.all_groups().collect();
    let sound = |&group: &GroupId| world.hosts.is_as_recorded(group);
    let sound = set_of(groups.iter().copied().filter(sound));
    let superblocks: Vec<_> = groups.iter().map(|&g| newest_of(world, g)).collect();
    let held: Vec<_> = (groups.iter())
        .map(|&group| Held {
            content: world.hosts.servers[group].content(),
            durable: world.hosts.servers[group].durable(),
            may_lack: world.hosts.lossy[group].load(Relaxed)
                || world.hosts.shaken[group].load(Relaxed),
        })
        .collect();
    for bits in 1..1u8 << groups.len() {
        let present = GroupSet::from_bits(bits);
        if !present.without(sound).is_empty() {
            continue;
        }
        let mut found: Found = [None; MAX_GROUPS];
        for group in present.iter() {
            found[group.index()] = superblocks[group];
        }
        for preferred in present.iter() {
            let has_flush = GroupSet::of(preferred);
            match assemble(&found, has_flush, Ask::Certain) {
                Ok(plan) => {
                    for source in plan.sources.iter() {
                        judge(world, present, source, &held[source]);
                    }
                    judge_marks(world, &found, &plan, has_flush, &held);
                }
                Err(refusal) => assert!(
                    present.len() as usize != groups.len(),
                    "all groups are there, but a start would be refused: {}",
                    refusal.as_str()
                ),
            }
        }
    }
}

/// A client that found the groups in `present` would start with this one.
fn judge(world: &World, present: GroupSet, source: GroupId, held: &Held) {
    let lack = (0..world.scale.blocks).find_map(|block| {
        let oracle = &world.oracle;
        oracle
            .outlasts(block, held.content[block], held.may_lack)
            .and_then(|()| oracle.outlasts(block, held.durable[block], true))
            .err()
    });
    if let Some(what) = lack {
        let present: Vec<_> = present.iter().map(GroupId::index).collect();
        panic!("a client that finds groups {present:?} now starts with group {source}: {what}");
    }
}

/// What a start by this plan does not compare is equal.
fn judge_marks(world: &World, found: &Found, plan: &Plan, preferred: GroupSet, held: &[Held]) {
    let Some(base) = &found[plan.base.index()] else {
        return;
    };
    let record = &base.record;
    let present = set_of(
        world
            .scale
            .all_groups()
            .filter(|g| found[g.index()].is_some()),
    );
    let newest: Vec<_> = (world.scale.all_groups())
        .map(|g| {
            let counts = present.without(record.full()).has(g);
            counts.then(|| newest_page(world, g, record)).flatten()
        })
        .collect();
    let pages = std::array::from_fn(|g| newest.get(g)?.as_ref().map(|(seq, _)| *seq));
    // Who is preferred decides only which of them is the source.
    let marked = plan.marked(found, &pages, present.union(preferred));
    for (source, other) in (plan.sources.iter()).flat_map(|s| marked.iter().map(move |o| (s, o))) {
        for block in 0..world.scale.blocks {
            let is_marked = (newest.iter().flatten()).any(|(_, marked)| marked[block]);
            let values = [source, other]
                .map(|group| &held[group.index()])
                .map(|held| [held.content[block], held.durable[block]]);
            let is_same = values.iter().flatten().all(|value| *value == values[0][0]);
            assert!(
                is_marked || is_same,
                "a client that starts now does not compare block {block} of groups {source} and {other}, \
                 which hold {values:?}; pages {pages:?}"
            );
        }
    }
}

/// All groups are in sync: their superblocks say so, and an orderly end leaves nothing to be done.
pub fn check_whole(world: &World) {
    let in_sync = world.core().view().readable();
    let check = |has_owner: bool| {
        let mut first: Option<Record> = None;
        for group in world.scale.all_groups() {
            let Some(superblock) = newest_of(world, group) else {
                panic!("group {group} has no superblock at the end");
            };
            let record = superblock.record;
            assert_eq!(record.in_sync(), in_sync, "by the record of group {group}");
            assert_eq!(record.owner.is_some(), has_owner, "group {group}");
            let line = |record: &Record| (record.generation, record.event);
            let expected = line(first.get_or_insert(record));
            assert_eq!(line(&record), expected, "the line of group {group}");
        }
    };
    check(true);
    look(world);
    let is_recorded = world.end_records(&|| false);
    assert!(
        is_recorded || world.scale.no_page > 0,
        "the end cannot be recorded"
    );
    if is_recorded {
        check(false);
    }
    look(world);
}
