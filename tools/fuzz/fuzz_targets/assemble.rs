// SPDX-License-Identifier: GPL-2.0

//! Any life of a mirror, with servers that make up what they like.

#![no_main]

use arbitrary::{Arbitrary, Result, Unstructured};
use enbd_oracle::assemble::{Op, World};
use libfuzzer_sys::fuzz_target;

/// Most things that happen in an input.
const OPS: usize = 24;

fn op(bytes: &mut Unstructured<'_>) -> Result<Op> {
    Ok(match bytes.int_in_range(0..=7u8)? {
        0 => Op::Create {
            members: bytes.arbitrary()?,
            in_sync: bytes.arbitrary()?,
        },
        1 | 2 => Op::Write {
            from: bytes.arbitrary()?,
            to: bytes.arbitrary()?,
            in_sync: bytes.arbitrary()?,
            draws: bytes.arbitrary()?,
            is_owned: bytes.arbitrary()?,
            adopts: bytes.arbitrary()?,
        },
        3 => Op::Patch {
            group: bytes.arbitrary()?,
            slot: bytes.arbitrary()?,
            at: bytes.arbitrary()?,
            len: bytes.arbitrary()?,
            bytes: bytes.arbitrary()?,
        },
        4 => Op::Copy {
            from: bytes.arbitrary()?,
            to: bytes.arbitrary()?,
        },
        5 => Op::Lose {
            group: bytes.arbitrary()?,
            slot: bytes.arbitrary()?,
        },
        _ => Op::Start {
            present: bytes.arbitrary()?,
            has_flush: bytes.arbitrary()?,
            ask: bytes.int_in_range(0..=9)?,
        },
    })
}

#[derive(Debug)]
struct Input(Vec<Op>);

impl<'a> Arbitrary<'a> for Input {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        // Most inputs begin with a mirror of three.
        let mut ops = vec![Op::Create {
            members: 7,
            in_sync: bytes.arbitrary()?,
        }];
        while !bytes.is_empty() && ops.len() < OPS {
            ops.push(op(bytes)?);
        }
        Ok(Self(ops))
    }
}

fuzz_target!(|input: Input| {
    let mut world = World::default();
    for op in input.0 {
        world.step(op);
    }
});
