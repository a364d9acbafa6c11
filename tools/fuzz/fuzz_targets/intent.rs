// SPDX-License-Identifier: GPL-2.0

//! Any bytes in the place of an intent page.
//!
//! The input: the place, and a block that is filled up with zeroes, of the mirror and of the device that
//! it says. It is looked at as it is, and with a checksum that is right.

#![no_main]

use enbd_logic::logic::meta::{Uuid, BLOCK};
use enbd_oracle::intent::{check_block, seal};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [slot, data @ ..] = data else {
        return;
    };
    let mut block = [0; BLOCK as usize];
    let len = data.len().min(block.len());
    block[..len].copy_from_slice(&data[..len]);
    let told = |at: usize| {
        block[at..]
            .first_chunk::<8>()
            .map_or(0, |b| u64::from_le_bytes(*b))
    };
    let mirror = block[16..]
        .first_chunk::<16>()
        .and_then(|b| Uuid::from_bytes(*b));
    let Some(mirror) = mirror else {
        return;
    };
    let (slot, device_bytes) = (u64::from(*slot), told(56));
    let _ = check_block(&block, slot, mirror, device_bytes);
    seal(&mut block);
    let _ = check_block(&block, slot, mirror, device_bytes);
});
