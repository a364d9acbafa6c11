// SPDX-License-Identifier: GPL-2.0

//! The page that says where writes may be on their way: each is complete in itself, and the newest
//! one of a member counts.
//!
//! A page is a list of regions, or, where those are too many, one bit for each region of a size with
//! which all of them fit. So it never marks less than what it was made of, and may mark more.
//!
//! ```text
//! offset  bytes  meaning
//! 0       8      magic "enbdINTE"
//! 8       4      CRC-32C of the block, these four bytes taken for zeroes
//! 12      2      1 a list of regions, 2 a bit for each region
//! 14      2      bytes of a region, as a power of two
//! 16      16     the mirror
//! 32      8      number of the page, the same on all members
//! 40      8      event of the record at that time
//! 48      4      regions in the list; of bits 0
//! 52      4      slot: number mod 48
//! 56      8      bytes of the device
//! 64      4032   the regions, four bytes each, ascending; or the bits, the lowest of each byte first
//! ```

use super::{
    bytes::{checksum, get, get_u16, get_u32, get_u64, get_u8, put, Block},
    layout::{intent_slot_of, BLOCK},
    Uuid,
};

/// What begins the block.
const MAGIC: [u8; 8] = *b"enbdINTE";
/// Where the checksum is.
const CHECKSUM: usize = 8;
/// Where the regions are, and how many bytes they have.
const PAYLOAD: usize = 64;
const PAYLOAD_LEN: usize = BLOCK as usize - PAYLOAD;
/// Bytes of a region in a list.
const ENTRY_LEN: usize = 4;
/// Regions of a list at most.
pub const LIST: usize = PAYLOAD_LEN / ENTRY_LEN;
/// Regions that have a bit at most.
pub const BITS: u64 = PAYLOAD_LEN as u64 * 8;
/// Kinds.
const IS_LIST: u16 = 1;
const IS_BITS: u16 = 2;
/// Bytes of a region, as a power of two, at least and at most.
const LEAST_SHIFT: u32 = 9;
const MOST_SHIFT: u32 = 62;
/// A larger number was made up: it might be one after which there is no next.
const MOST_NUMBER: u64 = u64::MAX / 2;

/// What a page says beside the regions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IntentPage {
    /// The mirror.
    pub mirror: Uuid,
    /// Number of the page, the same on all members that it is written to.
    pub seq: u64,
    /// Event of the record at that time.
    pub event: u64,
    /// Bytes of the device.
    pub device_bytes: u64,
}

/// Regions of so many bytes, as a power of two, in a device.
fn regions_of(device_bytes: u64, shift: u32) -> u64 {
    match device_bytes.checked_sub(1) {
        Some(last) => (last >> shift).saturating_add(1),
        None => 0,
    }
}

impl IntentPage {
    /// Writes it as a block, with the regions of `1 << shift` bytes that `regions` gives in ascending
    /// order.
    pub fn encode(&self, shift: u32, regions: impl Iterator<Item = u64> + Clone, b: &mut Block) {
        b.fill(0);
        let count = regions.clone().take(LIST.saturating_add(1)).count();
        let (kind, shift, count) = if count <= LIST {
            for (at, region) in (PAYLOAD..).step_by(ENTRY_LEN).zip(regions) {
                // There are fewer than 2^32 of them: see `layout::region_shift`.
                put(b, at, &(region as u32).to_le_bytes());
            }
            (IS_LIST, shift, count)
        } else {
            let fits = |shift: &u32| regions_of(self.device_bytes, *shift) <= BITS;
            let coarse = (shift..=MOST_SHIFT).find(fits).unwrap_or(MOST_SHIFT);
            for region in regions {
                set_bit(b, region >> coarse.saturating_sub(shift));
            }
            (IS_BITS, coarse, 0)
        };
        put(b, 0, &MAGIC);
        put(b, 12, &kind.to_le_bytes());
        put(b, 14, &(shift as u16).to_le_bytes());
        put(b, 16, &self.mirror.bytes());
        put(b, 32, &self.seq.to_le_bytes());
        put(b, 40, &self.event.to_le_bytes());
        put(b, 48, &(count as u32).to_le_bytes());
        put(b, 52, &(intent_slot_of(self.seq) as u32).to_le_bytes());
        put(b, 56, &self.device_bytes.to_le_bytes());
        let sum = checksum(b, CHECKSUM);
        put(b, CHECKSUM, &sum.to_le_bytes());
    }

    /// The page of `mirror` in a block that was read from place `slot`; nothing if it has none that is
    /// sound.
    pub fn decode(b: &[u8], slot: u64, mirror: Uuid, device_bytes: u64) -> Option<Self> {
        let (seq, shift) = (get_u64(b, 32), u32::from(get_u16(b, 14)));
        let is_sound = b.len() == BLOCK as usize
            && get::<8>(b, 0) == MAGIC
            && checksum(b, CHECKSUM) == get_u32(b, CHECKSUM)
            && get::<16>(b, 16) == mirror.bytes()
            && get_u64(b, 56) == device_bytes
            && seq <= MOST_NUMBER
            && intent_slot_of(seq) == slot
            && u64::from(get_u32(b, 52)) == slot
            && (LEAST_SHIFT..=MOST_SHIFT).contains(&shift)
            && match get_u16(b, 12) {
                IS_LIST => get_u32(b, 48) as usize <= LIST,
                IS_BITS => regions_of(device_bytes, shift) <= BITS,
                _ => false,
            };
        is_sound.then(|| Self {
            mirror,
            seq,
            event: get_u64(b, 40),
            device_bytes,
        })
    }

    /// Calls `f` with the first byte of each region that is marked in a block that was decoded, and the
    /// bytes of a region, as a power of two.
    pub fn each_region(&self, b: &[u8], mut f: impl FnMut(u64, u32)) {
        let shift = u32::from(get_u16(b, 14)).min(MOST_SHIFT);
        let count = regions_of(self.device_bytes, shift);
        let mut mark = |region: u64| {
            if region < count {
                f(region << shift, shift);
            }
        };
        if get_u16(b, 12) == IS_LIST {
            let entries = (get_u32(b, 48) as usize).min(LIST);
            for at in (PAYLOAD..).step_by(ENTRY_LEN).take(entries) {
                mark(u64::from(get_u32(b, at)));
            }
            return;
        }
        for at in PAYLOAD..b.len() {
            let byte = get_u8(b, at);
            let first = (at.saturating_sub(PAYLOAD) as u64).saturating_mul(8);
            for bit in (0..8).filter(|bit| byte & (1 << bit) != 0) {
                mark(first.saturating_add(bit));
            }
        }
    }
}

fn set_bit(b: &mut Block, region: u64) {
    let at = PAYLOAD.saturating_add((region / 8) as usize);
    if let Some(byte) = b.get_mut(at) {
        *byte |= 1 << (region % 8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const GIB: u64 = 1 << 30;
    const SHIFT: u32 = 20;

    fn page(device_bytes: u64) -> IntentPage {
        IntentPage {
            mirror: Uuid::new([1, 2]),
            seq: 100,
            event: 7,
            device_bytes,
        }
    }

    fn decode(block: &[u8], page: &IntentPage) -> Option<IntentPage> {
        let slot = intent_slot_of(page.seq);
        IntentPage::decode(block, slot, page.mirror, page.device_bytes)
    }

    /// The regions at [`SHIFT`] that a block marks.
    fn marked(block: &Block, page: &IntentPage) -> BTreeSet<u64> {
        let mut found = BTreeSet::new();
        page.each_region(block, |first, shift| {
            found.extend((first >> SHIFT)..((first + (1 << shift)) >> SHIFT));
        });
        found
    }

    #[test]
    fn a_list_is_read_back_as_it_was() {
        let page = page(100 * GIB);
        let mut block = [0xff; BLOCK as usize];
        for count in [0, 1, 2, LIST as u64] {
            let regions = (0..count).map(|n| n * 101);
            page.encode(SHIFT, regions.clone(), &mut block);
            assert_eq!(decode(&block, &page), Some(page));
            assert_eq!(marked(&block, &page), regions.collect(), "{count}");
        }
    }

    #[test]
    fn what_is_too_much_for_a_list_is_rounded_out() {
        for device_bytes in [4 * GIB, 100 * GIB, 1023 * GIB + 5] {
            let page = page(device_bytes);
            let mut block = [0; BLOCK as usize];
            let all = regions_of(device_bytes, SHIFT);
            let regions = (0..all).filter(|n| n % 3 == 0 || *n == all - 1);
            page.encode(SHIFT, regions.clone(), &mut block);
            assert_eq!(decode(&block, &page), Some(page));
            let (found, wanted) = (marked(&block, &page), regions.collect());
            assert!(found.is_superset(&wanted), "{device_bytes}");
            let exact = all <= BITS;
            assert_eq!(found == wanted, exact, "{device_bytes}");
        }
    }

    #[test]
    fn what_was_changed_or_is_of_elsewhere_is_none() {
        let page = page(GIB);
        let mut block = [0; BLOCK as usize];
        page.encode(SHIFT, [3u64, 900].into_iter(), &mut block);
        let slot = intent_slot_of(page.seq);
        let other = Uuid::new([1, 3]);
        assert_eq!(IntentPage::decode(&block, slot, other, GIB), None);
        assert_eq!(IntentPage::decode(&block, slot + 1, page.mirror, GIB), None);
        assert_eq!(IntentPage::decode(&block, slot, page.mirror, 2 * GIB), None);
        assert_eq!(decode(&block[1..], &page), None);
        for bit in 0..block.len() * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&block, &page), None, "{bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
        let made_up = IntentPage {
            seq: MOST_NUMBER + 1,
            ..page
        };
        made_up.encode(SHIFT, core::iter::empty(), &mut block);
        assert_eq!(decode(&block, &made_up), None);
    }
}
