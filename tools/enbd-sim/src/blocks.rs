// SPDX-License-Identifier: GPL-2.0

//! Blocks of metadata. A store keeps a number for each block; those of blocks that have bytes stand for
//! the same bytes wherever they are.

use crate::logic::meta::{bytes::Block, BLOCK};
use crate::store::Value;
use shuttle::rand::{thread_rng, Rng};
use std::sync::Mutex;

/// From here on a number stands for bytes; those below are of users' writes. Checksums are the lower 32
/// bits: they differ, too.
const FIRST: Value = 1 << 63 | 1 << 31;

/// What is written as a whole, whatever happens meanwhile. A disk has 512 bytes, in which nearly all is that
/// mirrors as small as here have to write: so less is kept together.
const TOGETHER: usize = 64;

/// The bytes that there are.
#[derive(Default)]
pub struct Blocks(Mutex<Vec<Vec<u8>>>);

impl Blocks {
    /// The number of these bytes. Zeroes are what a store has at first.
    pub fn number(&self, bytes: &[u8]) -> Value {
        if bytes.iter().all(|&byte| byte == 0) {
            return 0;
        }
        let mut known = self.0.lock().unwrap();
        let at = known
            .iter()
            .position(|one| one == bytes)
            .unwrap_or_else(|| {
                known.push(bytes.to_vec());
                known.len() - 1
            });
        FIRST + at as Value
    }

    /// The bytes of a number. A user's block is never a superblock.
    pub fn bytes(&self, value: Value, to: &mut Block) {
        to.fill(0);
        let Some(number) = value.checked_sub(FIRST) else {
            return to[..8].copy_from_slice(&value.to_le_bytes());
        };
        let known = self.0.lock().unwrap();
        match known.get(number as usize) {
            Some(bytes) => to.copy_from_slice(&bytes[..BLOCK as usize]),
            // Of a store of other data.
            None => to[..8].copy_from_slice(&value.to_le_bytes()),
        }
    }

    /// A block that was being written when the power went: each part is the old one or the new one.
    pub fn torn(&self, old: Value, new: Value) -> Value {
        let (mut block, mut written) = ([0; BLOCK as usize], [0; BLOCK as usize]);
        self.bytes(old, &mut block);
        self.bytes(new, &mut written);
        for (to, from) in block
            .chunks_exact_mut(TOGETHER)
            .zip(written.chunks_exact(TOGETHER))
        {
            if thread_rng().gen() {
                to.copy_from_slice(from);
            }
        }
        self.number(&block)
    }
}
