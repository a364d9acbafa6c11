// SPDX-License-Identifier: GPL-2.0

//! Intent pages that `tools/meta/intent.py` has written from descriptions: each is read as it is
//! described, and written to the same bytes again.

mod hex;

use enbd_logic::logic::meta::{layout::intent_slot_of, IntentPage, Uuid, BLOCK};
use enbd_oracle::intent::{check_block, seal};
use hex::from_hex;
use proptest::prelude::*;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The regions of `1 << shift` bytes that a page marks.
fn marked(page: &IntentPage, block: &[u8], shift: u32) -> BTreeSet<u64> {
    let mut regions = BTreeSet::new();
    page.each_region(block, |first, coarse| {
        regions.extend(first >> shift..(first + (1 << coarse)) >> shift);
    });
    regions
}

#[test]
fn descriptions_and_pages_are_the_same() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/intent");
    for name in ["empty", "list", "bits"] {
        let told = fs::read_to_string(dir.join(name).with_extension("json")).expect("a text");
        let told: Value = serde_json::from_str(&told).expect("JSON");
        let block = fs::read_to_string(dir.join(name).with_extension("hex")).expect("its block");
        let block = from_hex(&block);
        let number = |key: &str| told[key].as_u64().expect("a number");
        let mirror = told["mirror"].as_str().expect("a text").replace('-', "");
        let mirror = u128::from_str_radix(&mirror, 16).expect("an identity");
        let page = IntentPage {
            mirror: Uuid::from_bytes(mirror.to_be_bytes()).expect("not zero"),
            seq: number("seq"),
            event: number("event"),
            device_bytes: number("device_bytes"),
        };
        let regions = told["regions"].as_array().expect("a list");
        let regions: BTreeSet<u64> = regions.iter().map(|n| n.as_u64().unwrap()).collect();
        let shift = number("shift") as u32;
        let mut written = [0xff; BLOCK as usize];
        page.encode(shift, regions.iter().copied(), &mut written);
        assert!(written == block, "{name} is written otherwise");
        let slot = intent_slot_of(page.seq);
        let read = IntentPage::decode(&block, slot, page.mirror, page.device_bytes);
        assert_eq!(read, Some(page), "{name}");
        let found = marked(&page, &block, shift);
        assert!(found.is_superset(&regions), "{name}");
        assert_eq!(found == regions, name != "bits", "{name}");
    }
}

proptest! {
    // A checksum of 4 KiB each, and in a debug build.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_marked_is_marked_when_it_is_read_back(
        mib in 1u64..1 << 24,
        seq in 0u64..1 << 60,
        regions in prop::collection::btree_set(any::<u64>(), 0..3000),
    ) {
        let device_bytes = mib << 20;
        let shift = enbd_logic::logic::meta::layout::region_shift(device_bytes);
        let count = ((device_bytes - 1) >> shift) + 1;
        let regions: BTreeSet<u64> = regions.iter().map(|n| n % count).collect();
        let mirror = Uuid::new([1, 2]);
        let page = IntentPage { mirror, seq, event: 3, device_bytes };
        let mut block = [0; BLOCK as usize];
        page.encode(shift, regions.iter().copied(), &mut block);
        prop_assert_eq!(IntentPage::decode(&block, intent_slot_of(seq), mirror, device_bytes), Some(page));
        prop_assert!(marked(&page, &block, shift).is_superset(&regions));
    }

    #[test]
    fn any_bytes_mark_only_what_they_say(
        bytes in prop::collection::vec(any::<u8>(), BLOCK as usize),
        mib in 1u64..1 << 24,
        (kind, shift, count) in (1u8..3, 9u8..40, 0u16..1100),
        seq in 0u64..1 << 60,
    ) {
        // Sound but for what is in it, as a server that lies could send it.
        let device_bytes = mib << 20;
        let mirror = Uuid::new([1, 2]);
        let page = IntentPage { mirror, seq, event: 3, device_bytes };
        let mut block = [0; BLOCK as usize];
        page.encode(20, core::iter::empty(), &mut block);
        block[64..].copy_from_slice(&bytes[64..]);
        block[12] = kind;
        block[14] = shift;
        block[48..50].copy_from_slice(&count.to_le_bytes());
        seal(&mut block);
        let slot = intent_slot_of(seq);
        let fits = if kind == 1 { count <= 1008 } else { (device_bytes - 1) >> shift < 32256 };
        prop_assert_eq!(check_block(&block, slot, mirror, device_bytes), fits);
    }
}
