// SPDX-License-Identifier: GPL-2.0

//! Numbers in a block, little-endian, and its checksum. What is outside the block reads as zero, and
//! is not written: the places are constants of the format, which its tests look at.

use super::layout::BLOCK;

/// A block as it stands on an export.
pub type Block = [u8; BLOCK as usize];

/// `N` bytes at `at`.
pub fn get<const N: usize>(block: &[u8], at: usize) -> [u8; N] {
    let found = block.get(at..).and_then(|rest| rest.first_chunk::<N>());
    found.copied().unwrap_or([0; N])
}

/// Writes `bytes` at `at`.
pub fn put(block: &mut [u8], at: usize, bytes: &[u8]) {
    let place = block
        .get_mut(at..)
        .and_then(|rest| rest.get_mut(..bytes.len()));
    if let Some(place) = place {
        place.copy_from_slice(bytes);
    }
}

/// The number of one byte at `at`.
pub fn get_u8(block: &[u8], at: usize) -> u8 {
    u8::from_le_bytes(get(block, at))
}

/// The number of two bytes at `at`.
pub fn get_u16(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(get(block, at))
}

/// The number of four bytes at `at`.
pub fn get_u32(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(get(block, at))
}

/// The number of eight bytes at `at`.
pub fn get_u64(block: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(get(block, at))
}

/// CRC-32C of each byte: the polynomial of RFC 3720, section 12.1, bits reflected.
const TABLE: [u32; 256] = {
    let mut table = [0u32; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// CRC-32C of `bytes` with those of the field at `at`, four of them, taken for zeroes. Blocks are
/// written a few times a day: it need not be fast.
pub fn checksum(bytes: &[u8], at: usize) -> u32 {
    let field = at..at.saturating_add(4);
    let mut crc = u32::MAX;
    for (index, &byte) in bytes.iter().enumerate() {
        let byte = if field.contains(&index) { 0 } else { byte };
        let entry = TABLE.get((crc as u8 ^ byte) as usize).copied();
        crc = (crc >> 8) ^ entry.unwrap_or(0);
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_rfc() {
        // RFC 3720, B.4: 32 bytes of zeroes, of ones, and in ascending order.
        let field = usize::MAX - 8;
        assert_eq!(checksum(&[0; 32], field), 0x8a91_36aa);
        assert_eq!(checksum(&[0xff; 32], field), 0x62a8_ab43);
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(checksum(&ascending, field), 0x46dd_794e);
        let mut with_field = [0; 32];
        with_field[8..12].fill(0x5a);
        assert_eq!(checksum(&with_field, 8), 0x8a91_36aa);
    }

    #[test]
    fn what_is_outside_is_nothing() {
        let mut block = [1, 2, 3];
        assert_eq!((get_u16(&block, 1), get_u16(&block, 2)), (0x302, 0));
        put(&mut block, 2, &[9, 9]);
        assert_eq!(block, [1, 2, 3]);
        put(&mut block, 1, &[9, 9]);
        assert_eq!(block, [1, 9, 9]);
    }
}
