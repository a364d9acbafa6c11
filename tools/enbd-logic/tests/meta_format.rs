// SPDX-License-Identifier: GPL-2.0

//! The superblock: what is written is read, and what was torn, changed or made up is not believed.

use enbd_logic::logic::ids::GroupId;
use enbd_logic::logic::meta::layout::{
    ring_at, slot_at, slot_of, LEAST_EXPORT, RING_BYTES, SUPERBLOCKS,
};
use enbd_logic::logic::meta::{
    newest, Bad, Cause, Generation, Layout, Member, MemberState, Name, Owner, Record, Superblock,
    Uuid, BLOCK,
};
use enbd_logic::logic::MAX_GROUPS;
use enbd_oracle::superblock::{check_block, check_ring, put, seal, Block, Ring};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// What the server's disk writes as a whole.
const SECTOR: usize = 512;

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<[u8; 16]>().prop_filter_map("an identity", Uuid::from_bytes)
}

fn generation() -> impl Strategy<Value = Generation> {
    prop_oneof![1..4u64, 1..=u64::MAX].prop_filter_map("not 0", Generation::from_bits)
}

fn name() -> impl Strategy<Value = Name> {
    prop::collection::vec(any::<u8>(), 0..80).prop_map(|bytes| Name::new(&bytes))
}

fn cause() -> impl Strategy<Value = Cause> {
    any::<u16>().prop_map(Cause::from_bits)
}

fn owner() -> impl Strategy<Value = Owner> {
    let nonce = prop_oneof![
        any::<[u64; 2]>(),
        Just([0, 1]),
        Just([1, 0]),
        Just([u64::MAX; 2])
    ];
    let nonce = nonce.prop_filter("an owner", |nonce| *nonce != [0; 2]);
    (nonce, name(), any::<u64>()).prop_map(|(nonce, name, since)| Owner { nonce, name, since })
}

fn member() -> impl Strategy<Value = Member> {
    let stale = (any::<u64>(), prop::option::of(generation()), any::<bool>());
    let stale = stale.prop_map(|(since, left, full)| MemberState::Stale { since, left, full });
    let state = prop_oneof![Just(MemberState::InSync), stale];
    let numbers = any::<(u64, u64)>();
    (uuid(), state.boxed(), numbers).prop_map(|(uuid, state, (seen, page))| Member {
        uuid,
        state,
        seen,
        page,
    })
}

/// Members, of which one is in sync at least, and the number of one of them.
fn members() -> BoxedStrategy<([Option<Member>; MAX_GROUPS], GroupId)> {
    let all = prop::array::uniform8(prop::option::of(member()));
    (all, member(), 0..MAX_GROUPS, any::<prop::sample::Index>())
        .prop_map(|(mut all, last, place, own)| {
            let state = MemberState::InSync;
            all[place] = Some(Member { state, ..last });
            let there: Vec<usize> = (0..MAX_GROUPS).filter(|&at| all[at].is_some()).collect();
            let own = GroupId::new(*own.get(&there)).expect("below 8");
            (all, own)
        })
        .prop_filter("no identity twice", |(all, _)| {
            let uuids: Vec<Uuid> = all.iter().flatten().map(|member| member.uuid).collect();
            (1..uuids.len()).all(|at| !uuids[..at].contains(&uuids[at]))
        })
        .boxed()
}

/// The layout of a device in whole blocks, the blocks, and an export that has room for it.
fn sizes() -> impl Strategy<Value = (Layout, u32, u64)> {
    let bits = prop_oneof![4..30u32, 30..47u32];
    (9..=16u32, bits, any::<u64>(), 0..1u64 << 30).prop_map(|(shift, bits, number, more)| {
        let blocks = (number % (1u64 << bits)) + (16 << 20 >> shift);
        let layout = Layout::of_device(blocks << shift);
        // Rounded down to whole blocks there is still room.
        let export_bytes = layout.device_bytes + layout.area_bytes + BLOCK + more;
        (layout, 1 << shift, export_bytes)
    })
}

// Strategies are large: in boxes, or a test's stack has no room for them.
fn record() -> BoxedStrategy<(Record, GroupId, u64)> {
    let past = prop::option::of((generation(), any::<u64>())).boxed();
    let history = prop::array::uniform16(past).boxed();
    let line = (generation(), 0..u64::MAX, any::<u64>(), cause(), history);
    let who = (
        uuid(),
        name(),
        prop::option::of(owner()),
        any::<(bool, u32)>(),
    );
    let all = (line.boxed(), who.boxed(), members(), sizes().boxed());
    all.prop_map(|(line, who, (members, own), sizes)| {
        let (generation, event, born, cause, history) = line;
        let (mirror, name, owner, (intent, compat)) = who;
        let (layout, block, export_bytes) = sizes;
        let record = Record {
            mirror,
            event,
            generation,
            born,
            cause,
            history,
            members,
            owner,
            layout,
            block,
            name,
            intent,
            compat,
        };
        (record, own, export_bytes)
    })
    .boxed()
}

fn superblock() -> impl Strategy<Value = Superblock> {
    (record(), 0..u64::MAX).prop_map(|((record, member, export_bytes), seq)| Superblock {
        member,
        seq,
        export_bytes,
        record,
    })
}

/// Superblocks of one export that follow each other, each with another record.
fn line(count: usize) -> impl Strategy<Value = Vec<Superblock>> {
    let records = prop::collection::vec(record(), count);
    (records, 0..u64::MAX / 2, superblock()).prop_map(|(records, seq, first)| {
        let follow = |(seq, (record, _, _)): (u64, (Record, _, _))| Superblock {
            seq,
            record: Record {
                members: first.record.members,
                layout: first.record.layout,
                block: first.record.block,
                ..record
            },
            ..first
        };
        (seq..).zip(records).map(follow).collect()
    })
}

fn read(block: &Block, like: &Superblock) -> Result<Superblock, Bad> {
    check_block(block, slot_of(like.seq), like.export_bytes)
}

/// The same one each time.
fn one<S: Strategy>(strategy: S) -> S::Value {
    let mut runner = TestRunner::deterministic();
    strategy.new_tree(&mut runner).expect("a value").current()
}

/// `new` over `old`, where only the sectors in `written` were.
fn torn(old: &Block, new: &Block, written: u32) -> Block {
    let mut block = *old;
    for at in (0..block.len()).step_by(SECTOR) {
        if written >> (at / SECTOR) & 1 == 1 {
            block[at..at + SECTOR].copy_from_slice(&new[at..at + SECTOR]);
        }
    }
    block
}

proptest! {
    #[test]
    fn what_is_written_is_read(one in superblock()) {
        prop_assert_eq!(read(&one.encode(), &one), Ok(one));
        let elsewhere = Superblock::decode(&one.encode(), slot_of(one.seq + 1), one.export_bytes);
        prop_assert_eq!(elsewhere, Err(Bad::Odd));
        let other = Superblock::decode(&one.encode(), slot_of(one.seq), one.export_bytes + 1);
        prop_assert_eq!(other, Err(Bad::Moved));
    }

    #[test]
    fn any_bytes_are_only_bytes(
        bytes in prop::collection::vec(any::<u8>(), 0..5000),
        (slot, export_bytes) in (any::<u64>(), any::<u64>()),
    ) {
        let read = Superblock::decode(&bytes, slot, export_bytes);
        prop_assert!(read.is_err());
        if let Some(block) = bytes.first_chunk() {
            prop_assert_eq!(check_block(block, slot, export_bytes), read);
        }
    }

    /// What a server makes up, with a checksum that is right.
    #[test]
    fn made_up_numbers_are_looked_at(
        one in superblock(),
        changes in prop::collection::vec((0..1100usize, any::<u64>(), 0..8usize), 1..6),
    ) {
        let mut block = one.encode();
        for (at, number, len) in changes {
            block[at..at + len].copy_from_slice(&number.to_le_bytes()[..len]);
        }
        seal(&mut block);
        let _ = read(&block, &one);
    }
}

proptest! {
    // Each case looks at hundreds of blocks.
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A crash of the server's host leaves any of the new block's sectors among the old one's, which
    /// was written eight numbers before: nothing but the one or the other is believed.
    #[test]
    fn a_torn_one_is_not_believed(line in line(9)) {
        let [old, .., last] = line.as_slice() else { unreachable!() };
        let (old_block, new_block) = (old.encode(), last.encode());
        prop_assert_eq!(slot_of(old.seq), slot_of(last.seq));
        let mut ring: Ring = [0; RING_BYTES];
        for one in &line[1..8] {
            put(&mut ring, slot_of(one.seq), &one.encode());
        }
        // The sectors from the third one on hold the name alone, and zeroes.
        for written in (0..8).chain(248..256) {
            let block = torn(&old_block, &new_block, written);
            let found = Superblock::decode(&block, slot_of(last.seq), last.export_bytes);
            put(&mut ring, slot_of(last.seq), &block);
            let newest = newest(&ring, last.export_bytes);
            if block == new_block {
                prop_assert_eq!((found, newest), (Ok(*last), Ok(*last)));
            } else {
                let expected = if block == old_block { Ok(*old) } else { Err(Bad::Checksum) };
                prop_assert_eq!((found, newest), (expected, Ok(line[7])), "{:08b}", written);
            }
        }
    }

    /// Any of the eight may be damaged: the newest of those that are left counts.
    #[test]
    fn the_newest_of_what_is_left(
        line in line(8),
        damage in prop::array::uniform8(prop::option::of((0..BLOCK as usize, 1..=255u8))),
    ) {
        let mut ring: Ring = [0; RING_BYTES];
        let mut left = None;
        for (one, damage) in line.iter().zip(damage) {
            let mut block = one.encode();
            match damage {
                Some((at, bits)) => block[at] ^= bits,
                None => left = Some(*one),
            }
            put(&mut ring, slot_of(one.seq), &block);
        }
        let found = check_ring(&ring, line[0].export_bytes);
        prop_assert_eq!(found.ok(), left);
    }
}

#[test]
fn no_bit_may_change() {
    let one = one(superblock());
    let mut block = one.encode();
    let slot = slot_of(one.seq);
    for bit in 0..8 * block.len() {
        block[bit / 8] ^= 1 << (bit % 8);
        let found = Superblock::decode(&block, slot, one.export_bytes);
        let expected = if bit < 128 { Bad::Blank } else { Bad::Checksum };
        assert_eq!(found, Err(expected), "bit {bit}");
        block[bit / 8] ^= 1 << (bit % 8);
    }
    assert_eq!(read(&block, &one), Ok(one));
}

#[test]
fn a_sector_of_zeroes_is_seen() {
    let mut line = one(line(2));
    let [before, last] = line.as_mut_slice() else {
        unreachable!()
    };
    last.record.name = Name::new(b"data");
    let mut ring: Ring = [0; RING_BYTES];
    put(&mut ring, slot_of(before.seq), &before.encode());
    for at in (0..BLOCK as usize).step_by(SECTOR) {
        let whole = last.encode();
        let mut block = whole;
        block[at..at + SECTOR].fill(0);
        put(&mut ring, slot_of(last.seq), &block);
        let is_whole = block == whole;
        assert_eq!(is_whole, at > 1087, "sector {at}");
        let expected = if is_whole { *last } else { *before };
        assert_eq!(check_ring(&ring, last.export_bytes), Ok(expected));
    }
}

/// A later version may have meant something by its block that this one cannot know.
#[test]
fn what_a_later_version_wrote_is_left_alone() {
    let line = one(line(2));
    let export_bytes = line[0].export_bytes;
    // The version, a feature that must be known, and one that must be known to write.
    for (at, value) in [(20, 2), (24, 1), (27, 0x80), (28, 1), (31, 0x80)] {
        for later in 0..2 {
            let mut ring: Ring = [0; RING_BYTES];
            for (index, one) in line.iter().enumerate() {
                let mut block = one.encode();
                if index == later {
                    block[at] = value;
                    seal(&mut block);
                }
                put(&mut ring, slot_of(one.seq), &block);
            }
            assert_eq!(check_ring(&ring, export_bytes), Err(Bad::Version));
        }
    }
}

/// Numbers that cannot be, each alone in a block that is sound but for it.
#[test]
fn numbers_that_cannot_be() {
    let mut good = one(superblock());
    good.record.members[7] = Some(one(member()));
    let own = 512 + 64 * good.member.index();
    let export_bytes = good.export_bytes;
    let changes: &[(&str, usize, &[u8])] = &[
        ("version 0", 20, &[0, 0]),
        ("a header that is too short", 22, &1087u16.to_le_bytes()),
        (
            "a header that is longer than the block",
            22,
            &4097u16.to_le_bytes(),
        ),
        ("a member from 8 on", 36, &[8]),
        ("members that are not there", 37, &[9]),
        ("another place", 38, &[8, 0]),
        ("the last number of all", 40, &[0xff; 8]),
        ("no mirror", 48, &[0; 16]),
        ("another member", 64, &[0x77; 16]),
        ("a device of nothing", 88, &[0; 8]),
        (
            "a device that does not fit",
            88,
            &(export_bytes & !65535).to_le_bytes(),
        ),
        ("blocks of nothing", 96, &[0; 4]),
        ("blocks of 768", 96, &768u32.to_le_bytes()),
        ("blocks of 128 KiB", 96, &(128u32 << 10).to_le_bytes()),
        ("another area", 100, &4096u32.to_le_bytes()),
        ("another granule", 104, &[11]),
        ("more pages", 106, &[0xff, 0xff]),
        ("the last event of all", 112, &[0xff; 8]),
        ("no generation", 120, &[0; 8]),
        ("a member without identity", own, &[0; 16]),
        ("a state from 3 on", 512 + 64 * 7 + 16, &[3]),
        ("the member itself is none", own + 16, &[0]),
    ];
    assert_eq!(read(&good.encode(), &good), Ok(good));
    for (what, at, bytes) in changes {
        let mut block = good.encode();
        block[*at..*at + bytes.len()].copy_from_slice(bytes);
        seal(&mut block);
        assert_eq!(read(&block, &good), Err(Bad::Odd), "{what}");
    }
    let mut twice = good;
    twice.record.members[7] = twice.record.members[twice.member.index()];
    if twice.member.index() != 7 {
        assert_eq!(read(&twice.encode(), &twice), Err(Bad::Odd));
    }
    let mut stale = good;
    let state = MemberState::Stale {
        since: 1,
        left: None,
        full: false,
    };
    for member in stale.record.members.iter_mut().flatten() {
        member.state = state;
    }
    assert_eq!(
        read(&stale.encode(), &stale),
        Err(Bad::Odd),
        "nobody in sync"
    );
}

/// A ring is read in one piece, which has each place where it is on the export.
#[test]
fn a_ring_is_read_in_one_piece() {
    let export_bytes = LEAST_EXPORT + 511;
    let ring_at = ring_at(export_bytes).expect("large enough");
    for slot in 0..SUPERBLOCKS {
        let mut ring: Ring = [0; RING_BYTES];
        put(&mut ring, slot, &[0xff; BLOCK as usize]);
        let at = slot_at(export_bytes, slot).expect("large enough") - ring_at;
        let first = ring.iter().position(|&byte| byte != 0);
        assert_eq!(first, Some(at as usize), "place {slot}");
    }
}
