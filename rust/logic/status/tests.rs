// SPDX-License-Identifier: GPL-2.0

//! The whole text of a device: the sample of the design, the snapshots of 2003, and each line by
//! itself.

use super::{
    runs, write_closed, write_device, Bytes, ChannelStatus, DeviceStatus, DiskState, GroupStatus,
    LastError, Link, Reader, ResyncStatus, Run, SettingsStatus, Traffic,
};
use crate::logic::command::{parse_line, DeviceId, Label};
use crate::logic::{group::GroupState, ids::GroupId, resync::Compare};

#[path = "sample.rs"]
mod sample;
use self::sample::SETTINGS;

/// The sample of the design's section 2, byte for byte, except that the design shows one of the
/// four `Channel` lines, and none that came later.
const DESIGN: &str = "\
Device a:\tOpen
[a] State:\tverify, rw, enabled, last error 0
[a] Queued:\t0 current/0 real/34 max
[a] Blocksize:\t1024\t(log=10)
[a] Size:\t4096KB
[a] Blocks:\t4096
[a] Groups:\t2\t(0)\t(0)\t(1_)\t(1_)
[a] Resync:\t[=>...................] recovery = 6.5% (270/4096) finish=8s
[a] Sockets:\t4\t(*)\t(+)\t(+)\t(+)
[a] Requested:\t7.4058K\t(2.58K)\t(2.83K)\t(1.06K)\t(967) 2.530KR/4.875KW max 34
[a] Despatched:\t7.4048K\t(2.58K)\t(2.83K)\t(1.06K)\t(966) 2.530KR/4.874KW md5 0
[a] Errored:\t0\t(0)\t(0)\t(0)\t(0)
[a] Pending:\t1\t(0)\t(0)\t(0)\t(1)
[a] Dirty:\t763\t(0)\t(763)
[a] Channel:\t0 tcp 192.0.2.1:10809 disk, up 12s, reconnects 0
Device b-z:\tClosed
";

const ADDED_LINES: &str = "\
[a] Channel:\t1 tcp 192.0.2.1:10809 disk, up 12s, reconnects 0
[a] Channel:\t2 tcp 192.0.2.2:10809 disk, up 12s, reconnects 0
[a] Channel:\t3 tcp 192.0.2.2:10809 disk, up 12s, reconnects 0
[a] Bytes:\t0 requested_read=0 requested_written=2708481 despatched_read=0 despatched_written=2708480 errored=0 pending=1
[a] Bytes:\t1 requested_read=0 requested_written=2969601 despatched_read=0 despatched_written=2969600 errored=0 pending=1
[a] Bytes:\t2 requested_read=0 requested_written=1116161 despatched_read=0 despatched_written=1116160 errored=0 pending=1
[a] Bytes:\t3 requested_read=0 requested_written=990209 despatched_read=0 despatched_written=989184 errored=0 pending=1025
[a] Group:\t0 in sync, dirty 0
[a] Group:\t1 resyncing, dirty 763
[a] Events:\t17
[a] Settings:\ttimeout=30 connect_timeout=10 show_errs=0 autoadd=1 resync_min=0 resync_max=0 compare=auto owner_check=5 intent=1 intent_max=0 intent_idle=30
";

const fn id(group: usize) -> GroupId {
    GroupId::new(group).unwrap()
}

const fn channel(group: usize, link: Link, requested: u64, pending: u64) -> ChannelStatus<'static> {
    ChannelStatus {
        group: id(group),
        link,
        since_s: 12,
        requested,
        despatched: requested - pending,
        errored: 0,
        pending,
        bytes: Bytes {
            requested_read: 0,
            requested_written: requested * 1024 + 1,
            despatched_read: 0,
            despatched_written: (requested - pending) * 1024,
            errored: 0,
            pending: pending * 1024 + 1,
        },
        transport: "tcp",
        addr: if group == 0 {
            "192.0.2.1:10809"
        } else {
            "192.0.2.2:10809"
        },
        export: "disk",
        reconnects: 0,
        last_error: None,
    }
}

const fn group(number: usize, state: GroupState, dirty: u64) -> GroupStatus<'static> {
    GroupStatus {
        group: id(number),
        state,
        dirty,
        volatile: false,
        suspect: false,
        reason: None,
    }
}

const CHANNELS: [ChannelStatus<'static>; 4] = [
    channel(0, Link::Active, 2645, 0),
    channel(0, Link::Up, 2900, 0),
    channel(1, Link::Up, 1090, 0),
    channel(1, Link::Up, 967, 1),
];
const GROUPS: [GroupStatus<'static>; 2] = [
    group(0, GroupState::InSync, 0),
    group(1, GroupState::Resyncing, 763),
];
const RESYNCS: [ResyncStatus; 1] = [ResyncStatus {
    group: id(1),
    pos: 270,
    max: 4096,
    finish_s: 8,
}];

fn sample() -> DeviceStatus<'static> {
    DeviceStatus {
        device: DeviceId::new(0).expect("device a"),
        disk: DiskState::Enabled,
        read_only: false,
        last_error: None,
        queued_current: 0,
        queued_real: 0,
        queued_max: 34,
        blocksize: 1024,
        size_kib: 4096,
        blocks: 4096,
        groups: &GROUPS,
        channels: &CHANNELS,
        resyncs: &RESYNCS,
        requested: Traffic {
            read: 2591,
            written: 4992,
        },
        despatched: Traffic {
            read: 2591,
            written: 4991,
        },
        errored: 0,
        pending: 1,
        md5: 0,
        name: None,
        events: 17,
        settings: SETTINGS,
        mirror: None,
    }
}

fn text(status: &DeviceStatus<'_>) -> String {
    text_for(Reader::Admin, status)
}

fn text_for(reader: Reader, status: &DeviceStatus<'_>) -> String {
    let mut text = String::new();
    write_device(&mut text, status, reader).expect("a String takes all");
    text
}

/// The line with this label, behind its tab.
fn line(status: &DeviceStatus<'_>, label: &str) -> Option<String> {
    let prefix = format!("[{}] {label}:\t", status.device.letter());
    let text = text(status);
    let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
    line.map(str::to_owned)
}

#[test]
fn the_sample_of_the_design() {
    let mut shown = String::new();
    for run in runs(1) {
        match run {
            Run::Open(device) => {
                let status = DeviceStatus { device, ..sample() };
                write_device(&mut shown, &status, Reader::Admin).expect("a String takes all");
            }
            Run::Closed { first, last } => {
                write_closed(&mut shown, first, last).expect("a String takes all");
            }
        }
    }
    assert!(shown.contains(ADDED_LINES));
    assert_eq!(shown.replace(ADDED_LINES, ""), DESIGN);
}

#[test]
fn a_snapshot_of_2003() {
    let requested = [2030, 2360, 1014, 917];
    let channels = requested.map(|blocks| channel(0, Link::Up, blocks, 0));
    let status = DeviceStatus {
        device: DeviceId::new(1).expect("device b"),
        channels: &channels,
        requested: Traffic {
            read: 2462,
            written: 3828,
        },
        despatched: Traffic {
            read: 2461,
            written: 3828,
        },
        md5: 982,
        ..sample()
    };
    assert_eq!(
        line(&status, "Requested").as_deref(),
        Some("6.1430K\t(1.98K)\t(2.30K)\t(1014)\t(917) 2.404KR/3.739KW max 34")
    );
    assert_eq!(
        line(&status, "Despatched").as_deref(),
        Some("6.1420K\t(1.98K)\t(2.30K)\t(1014)\t(917) 2.403KR/3.739KW md5 982")
    );
}

#[test]
fn a_device_just_named() {
    let status = DeviceStatus {
        disk: DiskState::Idle,
        queued_max: 0,
        blocksize: 4096,
        size_kib: 0,
        blocks: 0,
        groups: &[],
        channels: &[],
        resyncs: &[],
        requested: Traffic::default(),
        despatched: Traffic::default(),
        pending: 0,
        ..sample()
    };
    let expected = "\
Device a:\tOpen
[a] State:\tverify, rw, disabled, last error 0
[a] Queued:\t0 current/0 real/0 max
[a] Blocksize:\t4096\t(log=12)
[a] Size:\t0KB
[a] Blocks:\t0
[a] Groups:\t0
[a] Sockets:\t0
[a] Requested:\t0 0R/0W max 0
[a] Despatched:\t0 0R/0W md5 0
[a] Errored:\t0
[a] Pending:\t0
[a] Dirty:\t0
[a] Events:\t17
[a] Settings:\ttimeout=30 connect_timeout=10 show_errs=0 autoadd=1 resync_min=0 resync_max=0 compare=auto owner_check=5 intent=1 intent_max=0 intent_idle=30
";
    assert_eq!(text(&status), expected);
}

#[test]
fn state_and_last_error() {
    let failed = |errno, reason| DeviceStatus {
        read_only: true,
        last_error: Some(LastError { errno, reason }),
        ..sample()
    };
    for errno in [22, -22] {
        let status = failed(errno, "unknown verb\n[a] State:\x1b[31m");
        let state = line(&status, "State");
        assert_eq!(state.as_deref(), Some("verify, ro, enabled, last error 22"));
        let error = line(&status, "Error");
        assert_eq!(error.as_deref(), Some("unknown verb?[a] State:?[31m"));
        assert!(text(&status).ends_with("[31m\n"));
    }
    assert_eq!(line(&sample(), "Error"), None);
    assert_eq!(line(&failed(0, "none"), "Error"), None);
    let worst = line(&failed(i32::MIN, ""), "State");
    assert_eq!(
        worst.as_deref(),
        Some("verify, ro, enabled, last error 2147483648")
    );
}

#[test]
fn groups_by_their_marks() {
    let groups = [
        group(0, GroupState::Faulty, 2048),
        group(1, GroupState::InSync, 0),
        group(2, GroupState::Absent, 99),
        group(5, GroupState::Resyncing, 1),
    ];
    let channels = [0, 1, 2, 5, 7].map(|group| channel(group, Link::Up, 0, 0));
    let status = DeviceStatus {
        groups: &groups,
        channels: &channels,
        ..sample()
    };
    assert_eq!(
        line(&status, "Groups").as_deref(),
        Some("3\t(0F)\t(1)\t(2)\t(5_)\t(7)")
    );
    assert_eq!(
        line(&status, "Dirty").as_deref(),
        Some("2.0009K\t(2.00K)\t(0)\t(1)")
    );
}

#[test]
fn a_line_for_each_group() {
    let mut groups = GROUPS;
    groups[0].volatile = true;
    groups[1].state = GroupState::Faulty;
    groups[1].suspect = true;
    groups[1].reason = Some("no reply in 30 s");
    let status = DeviceStatus {
        groups: &groups,
        ..sample()
    };
    let expected = "\
[a] Group:\t0 in sync, dirty 0, volatile
[a] Group:\t1 faulty, dirty 763, suspect, reason: no reply in 30 s
[a] Events:";
    assert!(text(&status).contains(expected));
    groups[1].state = GroupState::Absent;
    let status = DeviceStatus {
        groups: &groups,
        ..sample()
    };
    let expected = "[a] Group:\t0 in sync, dirty 0, volatile\n[a] Events:";
    assert!(text(&status).contains(expected));
}

#[test]
fn several_resyncs() {
    let second = ResyncStatus {
        group: id(2),
        pos: 2,
        ..RESYNCS[0]
    };
    let status = DeviceStatus {
        resyncs: &[RESYNCS[0], second],
        ..sample()
    };
    let expected = "\
[a] Resync:\t[=>...................] recovery = 6.5% (270/4096) finish=8s group 1
[a] Resync:\t[>....................] recovery = 0.0% (2/4096) finish=8s group 2
";
    assert!(text(&status).contains(expected));
}

#[test]
fn a_channel_that_is_down() {
    let channels = [ChannelStatus {
        link: Link::Down,
        since_s: 3,
        errored: 1,
        transport: "unix",
        addr: "/run/nbd.sock",
        export: "",
        reconnects: 2,
        last_error: Some("Connection refused"),
        ..CHANNELS[0]
    }];
    let status = DeviceStatus {
        channels: &channels,
        errored: 4,
        ..sample()
    };
    assert_eq!(line(&status, "Sockets").as_deref(), Some("1\t(-)"));
    assert_eq!(line(&status, "Errored").as_deref(), Some("4\t(1)"));
    assert_eq!(
        line(&status, "Channel").as_deref(),
        Some("0 unix /run/nbd.sock, down 3s, reconnects 2, last error: Connection refused")
    );
}

#[test]
fn what_others_may_not_see() {
    let channels = [
        ChannelStatus {
            last_error: Some("Connection refused"),
            ..CHANNELS[0]
        },
        ChannelStatus {
            transport: "unix",
            addr: "/run/nbd.sock",
            export: "",
            ..CHANNELS[1]
        },
    ];
    let status = DeviceStatus {
        channels: &channels,
        ..sample()
    };
    let shown = text_for(Reader::Other, &status);
    for line in [
        "[a] Channel:\t0 tcp - -, up 12s, reconnects 0, last error: Connection refused\n",
        "[a] Channel:\t1 unix -, up 12s, reconnects 0\n",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    // That is all that they do not see.
    let all = text(&status)
        .replace("192.0.2.1:10809 disk", "- -")
        .replace("/run/nbd.sock", "-");
    assert_eq!(shown, all);
}

#[test]
fn blocksizes_and_their_logarithms() {
    for (blocksize, expected) in [
        (0, "0\t(log=0)"),
        (512, "512\t(log=9)"),
        (65536, "65536\t(log=16)"),
    ] {
        let status = DeviceStatus {
            blocksize,
            ..sample()
        };
        assert_eq!(line(&status, "Blocksize").as_deref(), Some(expected));
    }
}

#[test]
fn settings_as_commands_take_them() {
    let status = DeviceStatus {
        settings: SettingsStatus {
            timeout: 3600,
            connect_timeout: 1,
            show_errs: true,
            autoadd: false,
            resync_min: 1024,
            resync_max: u32::MAX,
            compare: Compare::Always,
            owner_check: 60,
            intent: false,
            intent_max: 1,
            intent_idle: 3600,
        },
        ..sample()
    };
    let shown = line(&status, "Settings");
    let expected = "timeout=3600 connect_timeout=1 show_errs=1 autoadd=0 resync_min=1024 resync_max=4294967295 \
                    compare=1 owner_check=60 intent=0 intent_max=1 intent_idle=3600";
    assert_eq!(shown.as_deref(), Some(expected));
    for setting in expected.split(' ') {
        let (verb, value) = setting.split_once('=').expect("a value");
        let command = format!("{verb}[a]={value}");
        assert!(parse_line(command.as_bytes()).is_ok(), "{command}");
    }
}

#[test]
fn a_device_that_has_a_name() {
    let status = DeviceStatus {
        name: Label::parse("my-data").ok(),
        ..sample()
    };
    assert_eq!(line(&status, "Name").as_deref(), Some("my-data"));
    assert_eq!(line(&sample(), "Name"), None);
}
