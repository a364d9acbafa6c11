// SPDX-License-Identifier: GPL-2.0

//! The beat: a block in which whoever has the device counts up, so that another client that finds a
//! mirror which was not ended in order can tell whether somebody has it still. As the multiple mount
//! protection of ext4 does it.
//!
//! ```text
//! offset  bytes  meaning
//! 0       8      magic "enbdBEAT"
//! 8       4      CRC-32C of the block, these four bytes taken for zeroes
//! 16      16     the mirror
//! 32      16     the nonce of the owner
//! 48      8      counter
//! 56      8      seconds between two beats
//! 64      64     the owner's name
//! ```

use super::{
    bytes::{checksum, get, get_u32, get_u64, put, Block},
    layout::BLOCK,
    Name, Uuid,
};

/// What begins the block.
const MAGIC: [u8; 8] = *b"enbdBEAT";
/// Where the checksum is.
const CHECKSUM: usize = 8;
/// The most seconds between two beats.
pub const MOST_S: u64 = 60;

/// A beat.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Beat {
    /// Of which mirror.
    pub mirror: Uuid,
    /// Which life of the device.
    pub nonce: [u64; 2],
    /// Goes up with each beat.
    pub counter: u64,
    /// Seconds between two, at most [`MOST_S`].
    pub interval_s: u64,
    /// The host.
    pub name: Name,
}

impl Beat {
    /// Writes it as a block.
    pub fn encode(&self, block: &mut Block) {
        block.fill(0);
        let [high, low] = self.nonce;
        put(block, 0, &MAGIC);
        put(block, 16, &self.mirror.bytes());
        put(block, 32, &high.to_le_bytes());
        put(block, 40, &low.to_le_bytes());
        put(block, 48, &self.counter.to_le_bytes());
        put(block, 56, &self.interval_s.to_le_bytes());
        put(block, 64, &self.name.bytes());
        let sum = checksum(block, CHECKSUM);
        put(block, CHECKSUM, &sum.to_le_bytes());
    }

    /// The beat of `mirror` in a block that was read; nothing if it has none that is sound.
    pub fn decode(b: &[u8], mirror: Uuid) -> Option<Self> {
        let is_sound = b.len() == BLOCK as usize
            && get::<8>(b, 0) == MAGIC
            && checksum(b, CHECKSUM) == get_u32(b, CHECKSUM)
            && get::<16>(b, 16) == mirror.bytes();
        is_sound.then(|| Self {
            mirror,
            nonce: [get_u64(b, 32), get_u64(b, 40)],
            counter: get_u64(b, 48),
            interval_s: get_u64(b, 56).min(MOST_S),
            name: Name::from_bytes(get(b, 64)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_is_read_back_and_no_bit_may_change() {
        let mirror = Uuid::new([1, 2]);
        let beat = Beat {
            mirror,
            nonce: [3, 4],
            counter: 5,
            interval_s: 6,
            name: Name::new(b"alice"),
        };
        let mut block = [0xff; BLOCK as usize];
        beat.encode(&mut block);
        assert_eq!(Beat::decode(&block, mirror), Some(beat));
        assert_eq!(Beat::decode(&block, Uuid::new([1, 3])), None);
        assert_eq!(Beat::decode(&block[1..], mirror), None);
        for bit in 0..block.len() * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Beat::decode(&block, mirror), None, "{bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
        let slow = Beat {
            interval_s: u64::MAX,
            ..beat
        };
        slow.encode(&mut block);
        assert_eq!(
            Beat::decode(&block, mirror).map(|b| b.interval_s),
            Some(MOST_S)
        );
    }
}
