// SPDX-License-Identifier: GPL-2.0

//! Who is current, over arbitrary lives of a mirror whose servers make up what they like.

use enbd_oracle::assemble::{Op, World};
use proptest::prelude::*;

fn op() -> impl Strategy<Value = Op> {
    let one = any::<u8>;
    let set = || prop_oneof![Just(0xffu8), any::<u8>()];
    let number = prop_oneof![
        Just(0),
        Just(u64::MAX),
        Just(u64::MAX - 1),
        0..64u64,
        any::<u64>()
    ];
    prop_oneof![
        1 => (one(), one()).prop_map(|(members, in_sync)| Op::Create { members, in_sync }),
        6 => (one(), set(), set(), any::<bool>(), any::<bool>(), prop::option::weighted(0.2, one()))
            .prop_map(|(from, to, in_sync, draws, is_owned, adopts)| Op::Write {
                from, to, in_sync, draws, is_owned, adopts,
            }),
        2 => (one(), one(), 0..1100u16, one(), number)
            .prop_map(|(group, slot, at, len, bytes)| Op::Patch { group, slot, at, len, bytes }),
        // A number that has nearly no successor.
        1 => (one(), one(), prop_oneof![Just(40u16), Just(112)], 0..3u64)
            .prop_map(|(group, slot, at, less)| Op::Patch {
                group, slot, at, len: 8, bytes: u64::MAX - less,
            }),
        1 => (one(), one()).prop_map(|(from, to)| Op::Copy { from, to }),
        1 => (one(), one()).prop_map(|(group, slot)| Op::Lose { group, slot }),
        6 => (set(), one(), 0..10u8)
            .prop_map(|(present, has_flush, ask)| Op::Start { present, has_flush, ask }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn each_start_is_sound(
        (members, in_sync) in (any::<u8>(), prop_oneof![Just(0xffu8), any::<u8>()]),
        ops in prop::collection::vec(op(), 1..16),
    ) {
        let mut world = World::default();
        world.step(Op::Create { members, in_sync });
        for op in ops {
            world.step(op);
        }
    }
}
