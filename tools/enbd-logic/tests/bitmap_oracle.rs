// SPDX-License-Identifier: GPL-2.0

//! The dirty map against a naive one, after each of any operations.

use enbd_oracle::dirty_map::{Op, Pair};
use proptest::prelude::*;

/// Positions and lengths near the borders of words, halves and leaves, and any others.
fn number() -> impl Strategy<Value = u64> {
    let near = (
        prop::sample::select(vec![0u64, 64, 128, 16384, 32768, 49152, 65536, 98304]),
        0u64..4,
    )
        .prop_map(|(border, off)| (border + off).saturating_sub(2));
    prop_oneof![
        6 => near,
        4 => 0u64..100_000,
        2 => 0u64..200,
        1 => Just(u64::MAX),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (number(), number(), any::<u8>())
            .prop_map(|(first, len, memory)| Op::Mark { first, len, memory }),
        6 => (number(), number()).prop_map(|(first, len)| Op::Clear { first, len }),
        3 => number().prop_map(|block| Op::Refine { block }),
        4 => (number(), number()).prop_map(|(from, max_len)| Op::Next { from, max_len }),
        1 => Just(Op::MarkAll),
        1 => Just(Op::ClearAll),
    ]
}

fn blocks() -> impl Strategy<Value = u64> {
    prop_oneof![number(), 1u64..100_000].prop_map(|blocks| blocks.clamp(1, 98_400))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn does_what_the_naive_map_does(blocks in blocks(), ops in prop::collection::vec(op(), 1..30)) {
        let mut pair = Pair::new(blocks);
        for op in ops {
            pair.step(op);
            pair.compare();
        }
    }
}
