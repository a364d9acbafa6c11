// SPDX-License-Identifier: GPL-2.0

//! The oracle for superblocks: any bytes, and any ring of them.

use enbd_logic::logic::meta::layout::{slot_of, RING_BYTES, SUPERBLOCKS};
use enbd_logic::logic::meta::{newest, Bad, Superblock, BLOCK};

/// A block as it stands on an export.
pub type Block = [u8; BLOCK as usize];
/// All superblocks of a member, the one in place 7 first.
pub type Ring = [u8; RING_BYTES];

/// Where the checksum is.
const CHECKSUM: usize = 16;
/// Bytes that have a meaning.
pub const HEADER_LEN: usize = 1088;

/// CRC-32C bit by bit.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
    let byte = |crc: u32, &byte: &u8| (0..8).fold(crc ^ u32::from(byte), step);
    !bytes.iter().fold(u32::MAX, byte)
}

/// Makes the checksum right, so that what else is wrong is looked at.
pub fn seal(block: &mut Block) {
    block[CHECKSUM..CHECKSUM + 4].fill(0);
    let sum = crc32c(block);
    block[CHECKSUM..CHECKSUM + 4].copy_from_slice(&sum.to_le_bytes());
}

/// The block without all that has no meaning, as this version writes it.
fn meaning(block: &Block) -> Block {
    let mut kept = [0; BLOCK as usize];
    let mut keep = |at: usize, len: usize| {
        kept[at..at + len].copy_from_slice(&block[at..at + len]);
    };
    // All numbers up to the cause, the mirror's name, and the owner if there is one.
    keep(0, 108);
    keep(112, 26);
    keep(1024, 63);
    if block[144..160] != [0; 16] {
        keep(144, 16 + 63);
        keep(224, 8);
    }
    for at in (256..512).step_by(16) {
        if block[at..at + 8] != [0; 8] {
            keep(at, 16);
        }
    }
    for at in (512..1024).step_by(64) {
        match block[at + 16] {
            0 => {}
            1 => {
                keep(at, 17);
                keep(at + 40, 16);
            }
            _ => {
                keep(at, 17);
                keep(at + 18, 1);
                keep(at + 24, 32);
            }
        }
    }
    for at in (512..1024).step_by(64) {
        kept[at + 18] &= 1;
    }
    // Whether intent pages are kept.
    kept[232] = block[232] & 1;
    kept[22..24].copy_from_slice(&(HEADER_LEN as u16).to_le_bytes());
    seal(&mut kept);
    kept
}

/// One block, which was read from place `slot` of an export of `export_bytes` bytes.
///
/// # Panics
///
/// What is taken for sound is not written as it was read, or is of another place or export.
pub fn check_block(block: &Block, slot: u64, export_bytes: u64) -> Result<Superblock, Bad> {
    let read = Superblock::decode(block, slot, export_bytes);
    match &read {
        Ok(one) => {
            let mut sealed = *block;
            seal(&mut sealed);
            assert!(sealed == *block, "the checksum was wrong");
            assert!(one.encode() == meaning(block), "{one:?}");
            assert_eq!((slot_of(one.seq), one.export_bytes), (slot, export_bytes));
            assert!(one.record.layout.fits(export_bytes));
            assert!(one.record.layout.device_bytes > 0);
            assert!(one.record.member(one.member).is_some());
            assert!(!one.record.in_sync().is_empty());
            let again = Superblock::decode(&one.encode(), slot, export_bytes);
            assert_eq!(again.as_ref(), Ok(one));
        }
        Err(bad) => assert!(!bad.as_str().is_empty()),
    }
    read
}

/// A whole ring.
///
/// # Panics
///
/// The one that is taken is not the sound one with the highest number.
pub fn check_ring(ring: &Ring, export_bytes: u64) -> Result<Superblock, Bad> {
    let mut sound = Vec::new();
    let mut wrong = Vec::new();
    for (block, slot) in ring
        .chunks_exact(BLOCK as usize)
        .zip((0..SUPERBLOCKS).rev())
    {
        let block = block.first_chunk().expect("a whole block");
        match check_block(block, slot, export_bytes) {
            Ok(one) => sound.push(one),
            Err(bad) => wrong.push(bad),
        }
    }
    let found = newest(ring, export_bytes);
    let best = sound.iter().max_by_key(|one| one.seq);
    match &found {
        Ok(one) => {
            assert_eq!(Some(one), best);
            assert!(!wrong.contains(&Bad::Version));
        }
        Err(Bad::Version) => assert!(wrong.contains(&Bad::Version)),
        Err(Bad::Blank) => assert!(wrong.iter().all(|bad| *bad == Bad::Blank) && sound.is_empty()),
        Err(bad) => assert!(wrong.contains(bad) && sound.is_empty(), "{bad:?}"),
    }
    found
}

/// Puts a block into its place in a ring.
pub fn put(ring: &mut Ring, slot: u64, block: &Block) {
    let at = ((SUPERBLOCKS - 1 - slot % SUPERBLOCKS) * BLOCK) as usize;
    ring[at..at + block.len()].copy_from_slice(block);
}
