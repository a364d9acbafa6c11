// SPDX-License-Identifier: GPL-2.0

//! Any bytes at the end of an export.
//!
//! The input: how many bytes the export has beside those that its first superblock says, the place,
//! and a block that is filled up with zeroes. It is looked at as it is, and with a checksum that is
//! right; and a ring that has it in all places.

#![no_main]

use enbd_logic::logic::meta::layout::{RING_BYTES, SUPERBLOCKS};
use enbd_logic::logic::meta::BLOCK;
use enbd_oracle::superblock::{check_block, check_ring, put, seal, Ring};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [more, slot, data @ ..] = data else {
        return;
    };
    let mut block = [0; BLOCK as usize];
    let len = data.len().min(block.len());
    block[..len].copy_from_slice(&data[..len]);
    let told = block[80..]
        .first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let export_bytes = told.wrapping_add(u64::from(*more));
    let slot = u64::from(*slot);
    let _ = check_block(&block, slot, export_bytes);
    seal(&mut block);
    let _ = check_block(&block, slot, export_bytes);
    let mut ring: Ring = [0; RING_BYTES];
    for place in slot % SUPERBLOCKS..SUPERBLOCKS {
        put(&mut ring, place, &block);
    }
    let _ = check_ring(&ring, export_bytes);
});
