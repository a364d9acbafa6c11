// SPDX-License-Identifier: GPL-2.0

//! Any sequence of operations on a dirty map against a naive one.

#![no_main]

use arbitrary::{Arbitrary, Result, Unstructured};
use enbd_logic::logic::bitmap::LEAF_BLOCKS;
use enbd_oracle::dirty_map::{Op, Pair};
use libfuzzer_sys::fuzz_target;

/// Most operations of an input.
const OPS: usize = 24;

/// A position or a length, near the borders more often than not.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Number {
    /// So many words of the map, and some blocks more or less.
    Word(u16, i8),
    /// So many halves of a leaf, and some blocks more or less.
    Half(u8, i8),
    Small(u8),
    Any(u64),
}

impl Number {
    fn get(self) -> u64 {
        match self {
            Self::Word(words, off) => {
                (u64::from(words % 2048) * 64).saturating_add_signed(i64::from(off))
            }
            Self::Half(halves, off) => {
                let half = LEAF_BLOCKS / 2;
                (u64::from(halves % 9) * half).saturating_add_signed(i64::from(off))
            }
            Self::Small(n) => u64::from(n),
            Self::Any(n) => n,
        }
    }
}

fn number(bytes: &mut Unstructured<'_>) -> Result<u64> {
    bytes.arbitrary().map(Number::get)
}

fn op(bytes: &mut Unstructured<'_>) -> Result<Op> {
    Ok(match bytes.int_in_range(0..=5u8)? {
        0 => Op::Mark {
            first: number(bytes)?,
            len: number(bytes)?,
            memory: bytes.arbitrary()?,
        },
        1 => Op::Clear {
            first: number(bytes)?,
            len: number(bytes)?,
        },
        2 => Op::Refine {
            block: number(bytes)?,
        },
        3 => Op::Next {
            from: number(bytes)?,
            max_len: number(bytes)?,
        },
        4 => Op::MarkAll,
        _ => Op::ClearAll,
    })
}

#[derive(Debug)]
struct Input {
    blocks: u64,
    ops: Vec<Op>,
}

impl<'a> Arbitrary<'a> for Input {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        let blocks = number(bytes)?.clamp(1, 4 * LEAF_BLOCKS);
        let mut ops = Vec::new();
        while !bytes.is_empty() && ops.len() < OPS {
            ops.push(op(bytes)?);
        }
        Ok(Self { blocks, ops })
    }
}

fuzz_target!(|input: Input| {
    let mut pair = Pair::new(input.blocks);
    for op in input.ops {
        pair.step(op);
    }
    pair.compare();
});
