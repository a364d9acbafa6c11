// SPDX-License-Identifier: GPL-2.0

//! What is decided for each set of superblocks and pages that may be found.

use super::*;
use crate::logic::meta::{Layout, Name, Uuid};

const OWNER: Owner = Owner {
    nonce: [1, 1],
    name: Name::NONE,
    since: 0,
};

fn set(bits: u8) -> GroupSet {
    GroupSet::from_bits(bits)
}

/// A mirror of three members, in sync but for the last one, as it was made and with an owner.
fn records() -> (Record, Record) {
    let uuid = |n: usize| (n < 3).then(|| Uuid::new([n as u64, 7]));
    let ids = (Uuid::new([1, 2]), Generation::new(100));
    let layout = Layout::of_device(64 << 20);
    let in_sync = set(0b011);
    let mut made = Record::create(ids, &core::array::from_fn(uuid), in_sync, layout, 4096);
    made.intent = true;
    let started = made.after(&Change {
        in_sync,
        drawn: None,
        owner: Some(OWNER),
    });
    (made, started)
}

fn found(records: &[Record]) -> Found {
    core::array::from_fn(|index| {
        Some(Superblock {
            member: GroupId::new(index)?,
            seq: 5,
            export_bytes: 66 << 20,
            record: *records.get(index)?,
        })
    })
}

/// The members that are compared only where it is marked, with these records and pages.
fn marked(records: &[Record], pages: &[Option<u64>], has_flush: u8) -> u8 {
    let found = found(records);
    let pages = core::array::from_fn(|index| pages.get(index).copied().flatten());
    let plan = assemble(&found, set(has_flush), Ask::Certain).unwrap();
    plan.marked(&found, &pages, set(has_flush)).bits()
}

#[test]
fn what_was_in_sync_misses_what_is_marked_if_the_pages_are_complete() {
    let (made, started) = records();
    let all = [started; 3];
    assert_eq!(marked(&all, &[Some(7), Some(7), Some(9)], 0b111), 0b010);
    // One was on its way, be it to the source or to the other one.
    assert_eq!(marked(&all, &[Some(7), Some(8)], 0b111), 0b010);
    assert_eq!(marked(&all, &[Some(8), Some(7)], 0b111), 0b010);
    // One was set back; there is none; a server may have lost anything.
    assert_eq!(marked(&all, &[Some(9), Some(7)], 0b111), 0);
    assert_eq!(marked(&all, &[Some(7), Some(9)], 0b111), 0);
    assert_eq!(marked(&all, &[Some(7), None], 0b111), 0);
    assert_eq!(marked(&all, &[None, Some(7)], 0b111), 0);
    assert_eq!(marked(&all, &[Some(7), Some(7)], 0b101), 0);
    assert_eq!(marked(&all, &[Some(7), Some(7)], 0b110), 0);
    // It was an orderly end, or shows an older record, or no pages were kept.
    assert_eq!(marked(&[made; 3], &[Some(7), Some(7)], 0b111), 0);
    assert_eq!(marked(&[started, made, started], &[Some(7); 2], 0b111), 0);
    let unkept = Record {
        intent: false,
        ..started
    };
    assert_eq!(marked(&[unkept; 3], &[Some(7), Some(7)], 0b111), 0);
}

#[test]
fn one_that_was_set_back_is_no_source_if_another_one_will_do() {
    let (_, started) = records();
    let found = found(&[started; 2]);
    let source = |pages: [Option<u64>; 2], has_flush: u8| {
        let pages = core::array::from_fn(|index| pages.get(index).copied().flatten());
        let plan = assemble(&found, set(has_flush), Ask::Certain).unwrap();
        let preferred = plan.preferred(&found, &pages, set(has_flush));
        let plan = assemble(&found, preferred, Ask::Certain).unwrap();
        plan.sources.bits()
    };
    assert_eq!(source([Some(9), Some(9)], 0b11), 0b01);
    assert_eq!(source([Some(8), Some(9)], 0b11), 0b01);
    assert_eq!(source([Some(7), Some(9)], 0b11), 0b10);
    assert_eq!(source([None, Some(9)], 0b11), 0b10);
    assert_eq!(source([None, None], 0b11), 0b01);
    // What can make nothing durable is worse still.
    assert_eq!(source([Some(7), Some(9)], 0b01), 0b01);
}

#[test]
fn what_was_away_misses_what_is_marked_if_it_was_not_set_back() {
    let (_, mut started) = records();
    started.note_pages(|_| 5);
    let alone = started.after(&Change {
        in_sync: set(0b001),
        drawn: Some((Generation::new(200), Cause::Faulted)),
        owner: None,
    });
    let all = [alone, started];
    // However many pages later, and whatever it was told by then.
    assert_eq!(marked(&all, &[Some(90), Some(5)], 0b11), 0b10);
    assert_eq!(marked(&all, &[Some(90), Some(6)], 0b11), 0b10);
    assert_eq!(marked(&[alone, alone], &[Some(90), Some(5)], 0b11), 0b10);
    assert_eq!(marked(&all, &[Some(90), Some(4)], 0b11), 0);
    assert_eq!(marked(&all, &[Some(90), None], 0b11), 0);
    assert_eq!(marked(&all, &[None, Some(5)], 0b11), 0);
    assert_eq!(marked(&all, &[Some(90), Some(5)], 0b01), 0);
    // It is to get all, or nobody knows which page it had.
    let group = GroupId::new(1).unwrap();
    let mut full = alone;
    full.adopt(group, Uuid::new([1, 7]), Some(Generation::new(100)));
    assert_eq!(marked(&[full, started], &[Some(90), Some(5)], 0b11), 0);
    let mut off = alone;
    off.keep_intent(false);
    off.keep_intent(true);
    assert!(off.intent && off.has_away() && !started.has_away());
    assert_eq!(marked(&[off, started], &[Some(90), Some(5)], 0b11), 0);
}

#[test]
fn who_gets_all_is_not_believed_by_the_next_start() {
    let (_, mut started) = records();
    started.drop_member(GroupId::new(2).unwrap());
    let pages = |pages: [Option<u64>; 2]| -> Pages {
        core::array::from_fn(|index| pages.get(index).copied().flatten())
    };
    let start = |records: [Record; 2], told: [Option<u64>; 2]| {
        let (found, pages) = (found(&records), pages(told));
        let plan = assemble(&found, set(0b11), Ask::Certain).unwrap();
        let marked = plan.marked(&found, &pages, set(0b11));
        let mut record = found[0].unwrap().record;
        plan.advance(
            &mut record,
            &found,
            (&pages, marked),
            Generation::new(300),
            OWNER,
        );
        (plan.sources.bits(), marked.bits(), record)
    };
    // Member 1 was set back, and the copying is cut short.
    let (sources, marked, record) = start([started; 2], [Some(9), Some(2)]);
    assert_eq!((sources, marked), (0b01, 0));
    let (_, marked, _) = start([record, started], [Some(12), Some(2)]);
    assert_eq!(marked, 0);
    // It was believed, and is so again.
    let (_, marked, record) = start([started; 2], [Some(9), Some(9)]);
    assert_eq!(marked, 0b10);
    let (_, marked, _) = start([record, started], [Some(12), Some(9)]);
    assert_eq!(marked, 0b10);
    // One that has no page may be anything.
    let (_, _, record) = start([started; 2], [Some(9), None]);
    let (_, marked, _) = start([record, started], [Some(12), Some(9)]);
    assert_eq!(marked, 0);
}

#[test]
fn one_that_shows_an_older_record_is_no_source() {
    let (made, started) = records();
    let [made, started] = [made, started].map(|mut record| {
        record.drop_member(GroupId::new(2).unwrap());
        record
    });
    let ended = started.after(&Change {
        in_sync: set(0b11),
        drawn: None,
        owner: None,
    });
    let plan = |records: [Record; 2]| {
        let plan = assemble(&found(&records), set(0b11), Ask::Certain).unwrap();
        (plan.sources.bits(), plan.drawn)
    };
    assert_eq!(plan([ended, ended]), (0b11, None));
    // Member 0 was set back to what it was before the end; or the end has not reached it.
    assert_eq!(plan([started, ended]), (0b10, Some(Cause::Crashed)));
    assert_eq!(plan([made, ended]), (0b10, Some(Cause::Crashed)));
    assert_eq!(plan([started, made]), (0b01, Some(Cause::Crashed)));
}
