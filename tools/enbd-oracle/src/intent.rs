// SPDX-License-Identifier: GPL-2.0

//! The oracle for intent pages: any bytes, and any regions.

use crate::superblock::{crc32c, Block};
use enbd_logic::logic::meta::{layout::intent_slot_of, IntentPage, Uuid, BLOCK};
use std::collections::BTreeSet;

/// Where the checksum is, and where the regions begin.
const CHECKSUM: usize = 8;
const PAYLOAD: usize = 64;

/// Makes the checksum right, so that what else is wrong is looked at.
pub fn seal(block: &mut Block) {
    block[CHECKSUM..CHECKSUM + 4].fill(0);
    let sum = crc32c(block);
    block[CHECKSUM..CHECKSUM + 4].copy_from_slice(&sum.to_le_bytes());
}

fn number<const N: usize>(block: &Block, at: usize) -> u64 {
    let bytes = block[at..at + N].iter().rev();
    bytes.fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}

/// The bytes of the device that a sound page marks, as the first of each region, read naively.
fn regions(block: &Block, device_bytes: u64) -> BTreeSet<u64> {
    let shift = number::<2>(block, 14) as u32;
    let in_device = |&region: &u128| region << shift < u128::from(device_bytes);
    let numbers: Vec<u128> = if number::<2>(block, 12) == 1 {
        let count = number::<4>(block, 48) as usize;
        let at = |n: usize| PAYLOAD + 4 * n;
        (0..count)
            .map(|n| number::<4>(block, at(n)).into())
            .collect()
    } else {
        let is_set = |&n: &u128| block[PAYLOAD + n as usize / 8] >> (n % 8) & 1 == 1;
        (0..(BLOCK as u128 - PAYLOAD as u128) * 8)
            .filter(is_set)
            .collect()
    };
    let there = numbers.into_iter().filter(in_device);
    there.map(|region| (region << shift) as u64).collect()
}

/// One block, which was read from place `slot`, of a device of so many bytes; whether it is a page.
///
/// # Panics
///
/// What is taken for a page is none, or marks something else than it says.
pub fn check_block(block: &Block, slot: u64, mirror: Uuid, device_bytes: u64) -> bool {
    let Some(page) = IntentPage::decode(block, slot, mirror, device_bytes) else {
        return false;
    };
    let mut sealed = *block;
    seal(&mut sealed);
    assert!(sealed == *block, "the checksum was wrong");
    assert_eq!((page.mirror, page.device_bytes), (mirror, device_bytes));
    assert_eq!(intent_slot_of(page.seq), slot);
    assert_eq!(
        (page.seq, page.event),
        (number::<8>(block, 32), number::<8>(block, 40))
    );
    let mut found = BTreeSet::new();
    let mut shift = 0;
    page.each_region(block, |first, of| {
        found.insert(first);
        shift = of;
    });
    assert_eq!(found, regions(block, device_bytes), "{page:?}");
    // What is written of that marks it again.
    if !found.is_empty() {
        let mut again = [0; BLOCK as usize];
        page.encode(shift, found.iter().map(|first| first >> shift), &mut again);
        let read = IntentPage::decode(&again, slot, mirror, device_bytes);
        assert_eq!(read, Some(page));
        let mut marked = BTreeSet::new();
        page.each_region(&again, |first, of| {
            marked.extend(
                (first >> shift)
                    ..(first.saturating_add(1 << of) >> shift).max((first >> shift) + 1),
            );
        });
        assert!(found.iter().all(|first| marked.contains(&(first >> shift))));
    }
    true
}
