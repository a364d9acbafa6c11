// SPDX-License-Identifier: GPL-2.0

//! What `rust/logic/status` writes is read back as what it was.

use enbd_logic::logic::command::{DeviceId, Label};
use enbd_logic::logic::group::GroupState;
use enbd_logic::logic::ids::GroupId;
use enbd_logic::logic::meta::{Generation, Name, Uuid};
use enbd_logic::logic::resync::Compare;
use enbd_logic::logic::status::{
    runs, write_closed, write_device, Bytes, ChannelStatus, DeviceStatus, DiskState,
    Figure as Written, GroupStatus, IntentStatus, LastError, Link, MemberStatus, MirrorStatus,
    Reader, ResyncStatus, Run, SettingsStatus, Traffic,
};
use enbd_status::{Device, Figure, Status};
use proptest::prelude::*;

/// Numbers of all magnitudes, many of them near the ends of a unit.
fn blocks() -> impl Strategy<Value = u64> {
    prop_oneof![
        0u64..4096,
        (0u32..64, any::<u64>()).prop_map(|(shift, bits)| bits >> shift),
        (0u32..7, 0u64..2048).prop_map(|(unit, below)| (1u64 << (10 * unit)).wrapping_sub(below)),
    ]
}

/// Numbers of which 32 have a sum.
fn counts() -> impl Strategy<Value = u64> {
    blocks().prop_map(|number| number >> 6)
}

/// A word as the grammar of commands lets it in.
fn word() -> impl Strategy<Value = String> {
    "[!-~]{1,40}".prop_filter("what is hidden", |word| word != "-")
}

/// Text for people: no control characters, and not the whole of what follows it.
fn phrase() -> impl Strategy<Value = String> {
    "[!-~][ -~]{0,40}"
}

#[derive(Clone, Debug)]
struct OwnChannel {
    group: usize,
    link: Link,
    numbers: [u64; 6],
    bytes: [u64; 6],
    unix: bool,
    addr: String,
    export: String,
    error: Option<String>,
}

#[derive(Clone, Debug)]
struct OwnGroup {
    group: GroupId,
    state: GroupState,
    dirty: u64,
    volatile: bool,
    suspect: bool,
    reason: Option<String>,
}

fn channel() -> impl Strategy<Value = OwnChannel> {
    let link = prop_oneof![Just(Link::Up), Just(Link::Active), Just(Link::Down)];
    let export = prop_oneof![Just(String::new()), word()];
    let numbers = prop::array::uniform6(counts());
    (
        any::<usize>(),
        link,
        (numbers, prop::array::uniform6(any::<u64>())),
        any::<bool>(),
        word(),
        export,
        prop::option::of(phrase()),
    )
        .prop_map(
            |(group, link, (numbers, bytes), unix, addr, export, error)| OwnChannel {
                group,
                link,
                numbers,
                bytes,
                unix,
                addr,
                export,
                error,
            },
        )
}

fn bytes_of(numbers: [u64; 6]) -> Bytes {
    let [requested_read, requested_written, despatched_read, despatched_written, errored, pending] =
        numbers;
    Bytes {
        requested_read,
        requested_written,
        despatched_read,
        despatched_written,
        errored,
        pending,
    }
}

fn mirror() -> impl Strategy<Value = MirrorStatus> {
    let member = prop::option::of((prop::option::of(any::<u64>()), counts()));
    let members = prop::array::uniform8(member);
    let owner = prop::option::of("[a-z]{1,40}");
    let intent =
        (any::<[u64; 3]>(), counts()).prop_map(|([regions, rounds, waits], bytes)| IntentStatus {
            regions,
            bytes,
            rounds,
            waits,
        });
    (
        any::<[u64; 2]>(),
        any::<u64>(),
        any::<u64>(),
        owner,
        prop::option::of(intent),
        members,
    )
        .prop_map(
            |(uuid, generation, event, owner, intent, members)| MirrorStatus {
                uuid: Uuid::new(uuid),
                generation: Generation::new(generation),
                event,
                owner: owner.map(|name| Name::new(name.as_bytes())),
                intent,
                members: members
                    .map(|one| one.map(|(since, missed)| MemberStatus { since, missed })),
            },
        )
}

fn settings() -> impl Strategy<Value = SettingsStatus> {
    let words = prop::array::uniform7(any::<u32>());
    let compare = prop::sample::select(Compare::ALL.to_vec());
    let switches = any::<[bool; 3]>();
    (words, switches, compare).prop_map(|(words, [show_errs, autoadd, intent], compare)| {
        let [timeout, connect_timeout, resync_min, resync_max, owner_check, intent_max, intent_idle] =
            words;
        SettingsStatus {
            timeout,
            connect_timeout,
            show_errs,
            autoadd,
            resync_min,
            resync_max,
            compare,
            owner_check,
            intent,
            intent_max,
            intent_idle,
        }
    })
}

fn groups() -> impl Strategy<Value = Vec<OwnGroup>> {
    let state = prop_oneof![
        Just(GroupState::InSync),
        Just(GroupState::Faulty),
        Just(GroupState::Resyncing)
    ];
    let group = (
        state,
        counts(),
        any::<(bool, bool)>(),
        prop::option::of(phrase()),
    );
    prop::collection::btree_map(0usize..8, group, 1..8).prop_map(|groups| {
        let groups = groups.into_iter();
        let own = groups.map(
            |(index, (state, dirty, (volatile, suspect), reason))| OwnGroup {
                group: GroupId::new(index).expect("below 8"),
                state,
                dirty,
                volatile,
                suspect,
                reason,
            },
        );
        own.collect()
    })
}

/// Writes one device, and reads it back with closed ones around it.
fn read_back(status: &DeviceStatus<'_>, reader: Reader) -> Device {
    let mut text = String::new();
    for run in runs(1 << status.device.index()) {
        match run {
            Run::Open(_) => write_device(&mut text, status, reader).expect("a String takes all"),
            Run::Closed { first, last } => {
                write_closed(&mut text, first, last).expect("a String takes all");
            }
        }
    }
    let mut read = Status::parse(&text).expect("what was written is well formed");
    assert_eq!(read.others, Vec::<String>::new());
    assert_eq!(read.devices.len(), 1);
    read.devices.remove(0)
}

fn same_state(read: enbd_status::GroupState, written: GroupState) -> bool {
    matches!(
        (read, written),
        (enbd_status::GroupState::InSync, GroupState::InSync)
            | (enbd_status::GroupState::Faulty, GroupState::Faulty)
            | (enbd_status::GroupState::Resyncing, GroupState::Resyncing)
    )
}

proptest! {
    #[test]
    fn each_figure_is_read_as_a_range_around_its_number(number in blocks()) {
        for (kind, places) in [(Written::Total, 4), (Written::Side, 3), (Written::Column, 2)] {
            let mut text = String::new();
            kind.write(&mut text, number).expect("a String takes all");
            let figure = Figure::parse(&text).expect("a figure");
            prop_assert!(figure.contains(number), "{} is {:?}", text, figure);
            for end in [figure.least, figure.most] {
                let mut again = String::new();
                kind.write(&mut again, end).expect("a String takes all");
                prop_assert_eq!(&again, &text, "{:?}", figure);
            }
            if number < 1024 || (places == 4 && number < 1 << 20) {
                prop_assert_eq!(figure.number(), Some(number));
            }
        }
    }

    #[test]
    fn a_device_is_read_back(
        (device, enabled, read_only) in (0usize..26, any::<bool>(), any::<bool>()),
        (own, channels) in (groups(), prop::collection::vec(channel(), 0..33)),
        numbers in prop::array::uniform8(counts()),
        (errno, why) in (1i32..4096, phrase()),
        (failed, hides) in (any::<bool>(), any::<bool>()),
        shift in 9u32..17,
        (settings, name) in (settings(), prop::option::of("[A-Za-z0-9][A-Za-z0-9._-]{1,63}")),
        mirror in prop::option::of(mirror()),
    ) {
        let [current, real, max, size, all, md5, pos, finish] = numbers;
        let groups: Vec<_> = own.iter().map(|g| GroupStatus {
            group: g.group, state: g.state, dirty: g.dirty, volatile: g.volatile,
            suspect: g.suspect,
            reason: g.reason.as_deref(),
        }).collect();
        let channels: Vec<_> = channels.iter().map(|c| ChannelStatus {
            group: own[c.group % own.len()].group, link: c.link,
            since_s: c.numbers[0], reconnects: c.numbers[1],
            requested: c.numbers[2], despatched: c.numbers[3], errored: c.numbers[4], pending: c.numbers[5],
            bytes: bytes_of(c.bytes),
            transport: if c.unix { "unix" } else { "tcp" },
            addr: &c.addr, export: &c.export, last_error: c.error.as_deref(),
        }).collect();
        let resyncs: Vec<_> = own.iter().filter(|g| g.state == GroupState::Resyncing)
            .map(|g| ResyncStatus { group: g.group, pos: pos.min(all), max: all, finish_s: finish })
            .collect();
        let sum = |count: fn(&ChannelStatus<'_>) -> u64| channels.iter().map(count).sum::<u64>();
        let status = DeviceStatus {
            device: DeviceId::new(device).expect("below 26"),
            disk: if enabled { DiskState::Enabled } else { DiskState::Idle },
            read_only,
            last_error: failed.then_some(LastError { errno: -errno, reason: &why }),
            queued_current: current, queued_real: real, queued_max: max,
            blocksize: 1 << shift, size_kib: size, blocks: all,
            groups: &groups, channels: &channels, resyncs: &resyncs,
            requested: Traffic { read: pos, written: sum(|c| c.requested) },
            despatched: Traffic { read: finish, written: sum(|c| c.despatched) },
            errored: sum(|c| c.errored), pending: sum(|c| c.pending), md5, settings, mirror, events: current,
            name: name.as_deref().and_then(|name| Label::parse(name).ok()),
        };
        let reader = if hides { Reader::Other } else { Reader::Admin };
        let read = read_back(&status, reader);
        prop_assert_eq!(read.letter, status.device.letter());
        prop_assert_eq!((read.enabled, read.read_only), (enabled, read_only));
        prop_assert_eq!(read.last_error, if failed { errno.unsigned_abs() } else { 0 });
        prop_assert_eq!(read.error.as_deref(), failed.then_some(why.as_str()));
        prop_assert_eq!((read.queued, read.queued_real, read.queued_max), (current, real, max));
        prop_assert_eq!((read.blocksize, read.size_kib, read.blocks), (1 << shift, size, all));
        prop_assert_eq!(&read.others, &[]);
        for (traffic, wanted) in [(read.requested, status.requested), (read.despatched, status.despatched)] {
            prop_assert!(traffic.read.contains(wanted.read));
            prop_assert!(traffic.written.contains(wanted.written));
            prop_assert!(traffic.total.contains(wanted.read + wanted.written));
        }
        prop_assert!(read.errored.contains(status.errored) && read.pending.contains(status.pending));
        prop_assert!(read.md5.contains(md5));
        prop_assert_eq!(read.channels.len(), channels.len());
        for (got, wanted) in read.channels.iter().zip(&channels) {
            prop_assert_eq!(usize::from(got.group), wanted.group.index());
            prop_assert_eq!(got.is_up(), wanted.link != Link::Down);
            prop_assert_eq!(got.link == enbd_status::Link::Active, wanted.link == Link::Active);
            prop_assert!(got.requested.contains(wanted.requested) && got.errored.contains(wanted.errored));
            prop_assert!(got.despatched.contains(wanted.despatched) && got.pending.contains(wanted.pending));
            let peer = got.peer.as_ref().expect("a line of its own");
            prop_assert_eq!(&peer.transport, wanted.transport);
            prop_assert_eq!(peer.address.as_deref(), (!hides).then_some(wanted.addr));
            prop_assert_eq!(peer.export.as_deref(), (!hides).then_some(wanted.export));
            prop_assert_eq!((peer.since_s, peer.reconnects), (wanted.since_s, wanted.reconnects));
            prop_assert_eq!(peer.last_error.as_deref(), wanted.last_error);
            prop_assert_eq!(format!("{:?}", got.bytes.expect("a line of its own")), format!("{:?}", wanted.bytes));
        }
        prop_assert_eq!(read.group_count, groups.len());
        prop_assert_eq!(read.mirror.is_some(), mirror.is_some());
        let intent = mirror.as_ref().and_then(|mirror| mirror.intent);
        prop_assert_eq!(read.intent.is_some(), intent.is_some());
        if let (Some(got), Some(wanted)) = (&read.intent, &intent) {
            let counts = (got.regions, got.rounds, got.waits);
            prop_assert_eq!(counts, (wanted.regions, wanted.rounds, wanted.waits));
        }
        if let (Some(got), Some(wanted)) = (&read.mirror, &mirror) {
            let mut uuid = String::new();
            wanted.uuid.write(&mut uuid).expect("a String takes all");
            prop_assert_eq!(&got.uuid, &uuid);
            prop_assert_eq!(&got.generation, &format!("{:016x}", wanted.generation.bits()));
            prop_assert_eq!((got.event, got.owner.is_some()), (wanted.event, wanted.owner.is_some()));
            let told: Vec<_> = read.members.iter().map(|m| (usize::from(m.number), m.stale)).collect();
            let all = wanted.members.iter().enumerate().filter_map(|(at, m)| m.map(|m| (at, m)));
            prop_assert_eq!(told.len(), all.clone().count());
            for ((number, stale), (at, member)) in told.into_iter().zip(all) {
                prop_assert_eq!((number, stale.map(|(since, _)| since)), (at, member.since));
                prop_assert!(stale.is_none_or(|(_, missed)| missed.contains(member.missed)));
            }
        }
        prop_assert_eq!(read.events, Some(current));
        prop_assert_eq!(read.name, name);
        let got = read.settings.expect("a line");
        prop_assert_eq!((got.show_errs, got.autoadd), (settings.show_errs, settings.autoadd));
        let numbers = [got.timeout, got.connect_timeout, got.resync_min, got.resync_max];
        let more = got.more.expect("a module that tells them");
        let compare = more.compare.map_or(Compare::Auto, |on| if on { Compare::Always } else { Compare::Never });
        prop_assert_eq!((more.intent, compare), (settings.intent, settings.compare));
        let wanted = [settings.owner_check, settings.intent_max, settings.intent_idle];
        prop_assert_eq!([more.owner_check, more.intent_max, more.intent_idle], wanted.map(u64::from));
        let wanted = [settings.timeout, settings.connect_timeout, settings.resync_min, settings.resync_max];
        prop_assert_eq!(numbers, wanted.map(u64::from));
        // Of each group, with channels or without.
        prop_assert_eq!(read.groups.len(), groups.len());
        for (got, wanted) in read.groups.iter().zip(&groups) {
            prop_assert_eq!(usize::from(got.number), wanted.group.index());
            prop_assert!(same_state(got.state, wanted.state));
            prop_assert_eq!(got.volatile, wanted.volatile);
            prop_assert_eq!(got.suspect, wanted.suspect);
            prop_assert_eq!(got.reason.as_deref(), wanted.reason);
            prop_assert_eq!(got.dirty.and_then(Figure::number), Some(wanted.dirty));
        }
        prop_assert_eq!(read.resyncs.len(), resyncs.len());
        for (got, wanted) in read.resyncs.iter().zip(&resyncs) {
            prop_assert_eq!((got.pos, got.max, got.finish_s), (wanted.pos, wanted.max, wanted.finish_s));
            prop_assert_eq!(got.group.map(usize::from), Some(wanted.group.index()));
        }
    }

    #[test]
    fn a_line_that_is_not_known_is_kept(label in "[A-Z][a-z]{3,9}", text in phrase(), at in 1usize..14) {
        prop_assume!(!KNOWN.contains(&label.as_str()));
        let mut lines: Vec<_> = SAMPLE.lines().map(str::to_owned).collect();
        lines.insert(at, format!("[a] {label}:\t{text}"));
        lines.push("something new".to_owned());
        let read = Status::parse(&lines.join("\n")).expect("well formed");
        let plain = Status::parse(SAMPLE).expect("well formed");
        prop_assert_eq!(read.others, ["something new"]);
        let mut device = read.devices[0].clone();
        prop_assert_eq!(device.other(&label), Some(text.as_str()));
        device.others.clear();
        prop_assert_eq!(&device, &plain.devices[0]);
    }

    #[test]
    fn no_text_is_too_odd(text in "(Device [a-c]:\t(Open|Closed)\n|\\[[a-c]\\] [A-Z][a-z]{3,8}:\t[ -~\t]{0,20}\n|.{0,9}\n){0,20}") {
        // Whatever comes of it: no panic.
        let _ = Status::parse(&text);
    }

    #[test]
    fn each_line_of_2003_must_be_there(at in 1usize..13, cut in any::<bool>()) {
        let mut lines: Vec<_> = SAMPLE.lines().map(str::to_owned).collect();
        let (start, _) = lines[at].split_once('\t').expect("a tab");
        let label = start["[a] ".len()..start.len() - 1].to_owned();
        if cut {
            lines.remove(at);
        } else {
            lines[at] = format!("{start}\tsomething else");
        }
        let error = Status::parse(&lines.join("\n")).expect_err("a line is missing");
        prop_assert_eq!((error.letter, &error.label, error.text.is_none()), ('a', &label, cut));
    }
}

const KNOWN: [&str; 3] = ["State", "Size", "Dirty"];

const SAMPLE: &str = "\
Device a:\tOpen
[a] State:\tverify, rw, enabled, last error 0
[a] Queued:\t0 current/0 real/34 max
[a] Blocksize:\t1024\t(log=10)
[a] Size:\t4096KB
[a] Blocks:\t4096
[a] Groups:\t2\t(0)\t(0)\t(1_)\t(1_)
[a] Sockets:\t4\t(*)\t(+)\t(+)\t(+)
[a] Requested:\t7.4058K\t(2.58K)\t(2.83K)\t(1.06K)\t(967) 2.530KR/4.875KW max 34
[a] Despatched:\t7.4048K\t(2.58K)\t(2.83K)\t(1.06K)\t(966) 2.530KR/4.874KW md5 0
[a] Errored:\t0\t(0)\t(0)\t(0)\t(0)
[a] Pending:\t1\t(0)\t(0)\t(0)\t(1)
[a] Dirty:\t1.9986K\t(1.25K)\t(763)
[a] Resync:\t[=>...................] recovery = 6.5% (270/4096) finish=8s
[a] Channel:\t0 tcp 192.0.2.1:10809 disk, up 12s, reconnects 0
Device b-z:\tClosed
";

/// The dirty map of the sample's group 0 is shown with two decimals; the sum leaves one number.
#[test]
fn a_sum_tells_what_its_columns_hide() {
    let read = Status::parse(SAMPLE).expect("well formed");
    let device = &read.devices[0];
    let dirty: Vec<_> = device
        .groups
        .iter()
        .map(|group| group.dirty.and_then(Figure::number))
        .collect();
    assert_eq!(dirty, [Some(1283), Some(763)]);
    assert_eq!(device.resyncs[0].group, Some(1));
}

/// A group that is being connected shows before it is one.
#[test]
fn a_group_that_joins_is_not_in_sync_yet() {
    let text = SAMPLE.replace(
        "Groups:\t2\t(0)\t(0)\t(1_)\t(1_)",
        "Groups:\t1\t(0)\t(0)\t(1)\t(1)",
    );
    let text = text.replace("Dirty:\t1.9986K\t(1.25K)\t(763)", "Dirty:\t0\t(0)");
    let read = Status::parse(&text).expect("well formed");
    let states: Vec<_> = read.devices[0]
        .groups
        .iter()
        .map(|group| group.state)
        .collect();
    assert_eq!(states, [enbd_status::GroupState::Unknown; 2]);
}

#[test]
fn no_device_and_several() {
    assert_eq!(
        Status::parse("Device a-z:\tClosed\n"),
        Ok(Status::default())
    );
    let two = format!(
        "{}{}",
        SAMPLE,
        SAMPLE.replace("[a]", "[c]").replace("Device a", "Device c")
    );
    let read = Status::parse(&two).expect("well formed");
    let letters: Vec<_> = read.devices.iter().map(|device| device.letter).collect();
    assert_eq!(letters, ['a', 'c']);
    assert!(read.device('c').is_some() && read.device('b').is_none());
}

/// A module that does not tell of each group, nor of bytes and settings.
#[test]
fn what_older_modules_do_not_tell() {
    let read = Status::parse(SAMPLE).expect("well formed");
    let device = &read.devices[0];
    assert_eq!((device.settings, device.events), (None, None));
    assert!(device
        .channels
        .iter()
        .all(|channel| channel.bytes.is_none()));
    let text = SAMPLE.replace(
        "Device b-z",
        "[a] Group:\t1 resyncing, volatile\nDevice b-z",
    );
    let read = Status::parse(&text).expect("well formed");
    let group = read.devices[0].group(1).expect("told of twice");
    assert!(group.volatile);
    assert_eq!(group.dirty.and_then(Figure::number), Some(763));
}
