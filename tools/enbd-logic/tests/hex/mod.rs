// SPDX-License-Identifier: GPL-2.0

//! Blocks of metadata as text, as `tools/meta` writes them.

use enbd_logic::logic::meta::{bytes::Block, BLOCK};

/// Lines of 16 bytes behind where they are.
pub fn from_hex(text: &str) -> Block {
    let mut block = [0; BLOCK as usize];
    for line in text.lines() {
        let (at, digits) = line.split_once(": ").expect("a place");
        let at = usize::from_str_radix(at, 16).expect("a place");
        for index in 0..digits.len() / 2 {
            let pair = &digits[2 * index..2 * index + 2];
            block[at + index] = u8::from_str_radix(pair, 16).expect("a byte");
        }
    }
    block
}
