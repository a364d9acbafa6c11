// SPDX-License-Identifier: GPL-2.0

//! The status text against naive oracles.

use enbd_logic::logic::command::DeviceId;
use enbd_logic::logic::status::{
    finish_seconds, runs, write_device, Bytes, ChannelStatus, DeviceStatus, DiskState, Figure,
    GroupStatus, LastError, Link, Reader, ResyncStatus, Run, SettingsStatus, Traffic, MAX_FINISH_S,
};
use enbd_logic::logic::{group::GroupState, ids::GroupId, resync::Compare};
use proptest::prelude::*;

#[path = "../../../rust/logic/status/sample.rs"]
mod sample;
use sample::SETTINGS;

const GROUP: GroupId = GroupId::new(1).unwrap();
const KINDS: [(Figure, usize); 3] = [(Figure::Total, 4), (Figure::Side, 3), (Figure::Column, 2)];

fn figure(kind: Figure, blocks: u64) -> String {
    let mut text = String::new();
    kind.write(&mut text, blocks).expect("a String takes all");
    text
}

/// The unit of a figure, as a power of 1024.
fn power(figure: &str) -> u32 {
    let units = ["K", "M", "G", "T", "P", "E"];
    let unit = units.iter().position(|unit| figure.ends_with(unit));
    unit.map_or(0, |at| at as u32 + 1)
}

/// A figure as ten-thousandths of its unit, and that unit.
fn read_back(figure: &str) -> (u32, u128) {
    let number = figure.trim_end_matches(|letter: char| letter.is_ascii_uppercase());
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{decimals:0<4}");
    (power(figure), digits.parse().expect("digits"))
}

/// Numbers of all magnitudes, most of them near the ends of a unit.
fn blocks() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (0u32..64, any::<u64>()).prop_map(|(shift, bits)| bits >> shift),
        (0u32..7, 0u64..2048).prop_map(|(unit, below)| (1u64 << (10 * unit)).wrapping_sub(below)),
    ]
}

/// With all 1024ths, in the smallest and the largest unit.
#[test]
fn decimals_are_close_and_grow() {
    for (kind, decimals) in KINDS {
        let mut before = 0;
        for rest in 0..1024u64 {
            let (_, shown) = read_back(&figure(kind, 1024 + rest));
            assert_eq!(
                figure(kind, (1024 + rest) << 50).replace('E', "K"),
                figure(kind, 1024 + rest)
            );
            assert!(shown >= before);
            assert!(
                decimals < 4 || shown > before,
                "four decimals tell all numbers apart"
            );
            before = shown;
            // As 1024ths of ten-thousandths: less than one block too much, and less than one
            // step of the last decimal too little.
            let (shown, exact) = (shown * 1024, u128::from(1024 + rest) * 10_000);
            assert!(shown < exact + 10_000);
            assert!(shown + 1024 * 10u128.pow(4 - decimals as u32) > exact);
        }
    }
}

fn bar_line(resync: ResyncStatus) -> String {
    let status = DeviceStatus {
        resyncs: &[resync],
        ..empty()
    };
    let mut text = String::new();
    write_device(&mut text, &status, Reader::Admin).expect("a String takes all");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("[a] Resync:\t"));
    line.expect("a resync's line").to_owned()
}

fn empty() -> DeviceStatus<'static> {
    DeviceStatus {
        device: DeviceId::new(0).expect("device a"),
        disk: DiskState::Idle,
        read_only: false,
        last_error: None,
        queued_current: 0,
        queued_real: 0,
        queued_max: 0,
        blocksize: 4096,
        size_kib: 0,
        blocks: 0,
        groups: &[],
        channels: &[],
        resyncs: &[],
        requested: Traffic::default(),
        despatched: Traffic::default(),
        errored: 0,
        pending: 0,
        md5: 0,
        name: None,
        events: 0,
        settings: SETTINGS,
        mirror: None,
    }
}

fn group_state() -> impl Strategy<Value = GroupState> {
    prop_oneof![
        Just(GroupState::Absent),
        Just(GroupState::InSync),
        Just(GroupState::Faulty),
        Just(GroupState::Resyncing),
    ]
}

proptest! {
    #[test]
    fn figures_have_their_form(n in blocks()) {
        for (kind, decimals) in KINDS {
            let text = figure(kind, n);
            let unit = (0..=6).rev().find(|&unit| n >> (10 * unit) != 0).unwrap_or(0);
            prop_assert_eq!(power(&text), unit);
            let whole = (n >> (10 * unit)).to_string();
            if unit == 0 {
                prop_assert_eq!(text, whole);
            } else {
                let (shown, rest) = text.split_once('.').expect("a point");
                prop_assert_eq!(shown, whole);
                prop_assert_eq!(rest.len(), decimals + 1);
            }
        }
    }

    #[test]
    fn figures_grow_with_their_numbers(a in blocks(), b in blocks()) {
        let (less, more) = (a.min(b), a.max(b));
        for (kind, _) in KINDS {
            prop_assert!(read_back(&figure(kind, less)) <= read_back(&figure(kind, more)));
        }
    }

    #[test]
    fn a_bar_has_21_characters(pos in blocks(), max in blocks(), finish_s in any::<u64>()) {
        let line = bar_line(ResyncStatus { group: GROUP, pos, max, finish_s });
        let (bar, _) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')).expect("a bar");
        prop_assert_eq!(bar.len(), 21);
        let (done, left) = bar.split_once('>').expect("its head");
        prop_assert!(done.bytes().all(|byte| byte == b'='));
        prop_assert!(left.bytes().all(|byte| byte == b'.'));
    }

    #[test]
    fn a_bar_agrees_with_wide_arithmetic(a in blocks(), b in blocks(), finish_s in any::<u64>()) {
        let (pos, max) = (a.min(b), a.max(b));
        let permille = u128::from(pos) * 1000 / (u128::from(max) + 1);
        let expected = |permille: u128| {
            let done = permille as usize / 50;
            format!(
                "[{}>{}] recovery = {}.{}% ({pos}/{max}) finish={finish_s}s",
                "=".repeat(done),
                ".".repeat(20 - done),
                permille / 10,
                permille % 10,
            )
        };
        let line = bar_line(ResyncStatus { group: GROUP, pos, max, finish_s });
        // Positions beyond 2^54 are halved first, and may fall one permille short.
        let halved = pos > u64::MAX / 1000;
        let near = [permille.saturating_sub(1), permille, permille + 1];
        prop_assert!(
            line == expected(permille)
                || (halved && near.iter().any(|&p| p < 1000 && line == expected(p))),
            "{}", line
        );
    }

    #[test]
    fn estimates_agree_with_wide_arithmetic(done in blocks(), left in blocks(), ms in blocks()) {
        let got = u128::from(finish_seconds(done, left, ms));
        let divisor = u128::from(done.max(1)) * 1000;
        let exact = (u128::from(left) * u128::from(ms)).div_ceil(divisor);
        let exact = exact.min(u128::from(MAX_FINISH_S));
        if left.checked_mul(ms).is_some() {
            prop_assert_eq!(got, exact);
        } else if exact < u128::from(MAX_FINISH_S) {
            // Where numbers were halved, what was dropped is small beside what is left of them.
            prop_assert!(got.abs_diff(exact) <= exact / 1_000_000 + 1, "{} {}", got, exact);
        } else {
            prop_assert!(got >= u128::from(MAX_FINISH_S) - 100, "{} {}", got, exact);
        }
        prop_assert!(got <= u128::from(MAX_FINISH_S));
    }

    #[test]
    fn every_device_is_in_one_section(open in any::<u32>()) {
        let mut next = 0;
        let mut after_closed = false;
        for run in runs(open) {
            match run {
                Run::Open(device) => {
                    prop_assert_eq!(device.index(), next);
                    prop_assert!(open >> next & 1 == 1);
                    next += 1;
                    after_closed = false;
                }
                Run::Closed { first, last } => {
                    prop_assert!(!after_closed, "two closed runs are one");
                    prop_assert_eq!(first.index(), next);
                    for index in next..=last.index() {
                        prop_assert!(open >> index & 1 == 0);
                    }
                    next = last.index() + 1;
                    after_closed = true;
                }
            }
        }
        prop_assert_eq!(next, 26);
    }

    #[test]
    fn no_text_from_outside_breaks_a_line(
        (foreign, device, on) in (any::<String>(), 0usize..26, any::<bool>()),
        numbers in prop::array::uniform8(blocks()),
        (states, links) in (prop::collection::vec(group_state(), 0..8), 0usize..33),
        (errno, blocksize, hides) in (any::<i32>(), any::<u32>(), any::<bool>()),
    ) {
        let [a, b, c, d, e, f, g, h] = numbers;
        let text: &str = &foreign;
        let groups: Vec<_> = states
            .iter()
            .zip(GroupId::all())
            .map(|(&state, group)| GroupStatus {
                group, state, dirty: a, volatile: on, suspect: on, reason: Some(text),
            })
            .collect();
        let channel = ChannelStatus {
            group: GROUP, link: Link::Down, since_s: a,
            requested: b, despatched: c, errored: d, pending: e, bytes: Bytes::default(),
            transport: "tcp", addr: text, export: text, reconnects: f, last_error: Some(text),
        };
        let resyncs = [ResyncStatus { group: GROUP, pos: a, max: b, finish_s: c }];
        let status = DeviceStatus {
            device: DeviceId::new(device).expect("below 26"),
            disk: DiskState::Enabled,
            read_only: on,
            last_error: Some(LastError { errno, reason: text }),
            queued_current: a, queued_real: b, queued_max: c,
            blocksize, size_kib: d, blocks: e,
            groups: &groups,
            channels: &vec![channel; links],
            resyncs: &resyncs,
            requested: Traffic { read: f, written: g },
            despatched: Traffic { read: g, written: h },
            errored: a, pending: b, md5: c,
            name: None,
        events: 0,
        settings: SETTINGS,
        mirror: None,
        };
        let mut shown = String::new();
        let reader = if hides { Reader::Other } else { Reader::Admin };
        write_device(&mut shown, &status, reader).expect("a String takes all");
        prop_assert!(shown.ends_with('\n'));
        let letter = status.device.letter();
        let present = states.iter().filter(|&&state| state != GroupState::Absent).count();
        let lines: Vec<&str> = shown.split_terminator('\n').collect();
        prop_assert_eq!(lines.len(), 16 + 2 * links + present + usize::from(errno != 0));
        for line in &lines[1..] {
            let prefix = format!("[{letter}] ");
            prop_assert!(line.starts_with(&prefix), "{}", line);
            prop_assert!(!line.chars().any(|c| c.is_control() && c != '\t'));
        }
    }
}
