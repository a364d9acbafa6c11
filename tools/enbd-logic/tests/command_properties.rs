// SPDX-License-Identifier: GPL-2.0

//! The command grammar against arbitrary input and against a naive formatter.

use core::net::{Ipv4Addr, Ipv6Addr};
use enbd_logic::logic::command::{
    lines, parse_line, Address, AddressText, Command, DeviceId, HotAddMode, Label, Name, Verb, Zone,
};
use enbd_logic::logic::{ids::GroupId, meta::Ask};
use enbd_oracle::commands;
use proptest::prelude::*;

/// A command that owns its strings, so that proptest can make and shrink it.
#[derive(Clone, Debug)]
enum Server {
    V4(Ipv4Addr, u16),
    V6(Ipv6Addr, Option<String>, u16),
    Unix(Vec<u8>),
}

impl Server {
    fn borrow(&self) -> Address<'_> {
        match self {
            Self::V4(addr, port) => Address::Tcp4 {
                addr: *addr,
                port: *port,
            },
            Self::V6(addr, zone, port) => Address::Tcp6 {
                addr: *addr,
                zone: zone.as_deref().and_then(Zone::new),
                port: *port,
            },
            Self::Unix(path) => Address::Unix {
                path: Name::plain(path),
            },
        }
    }
}

/// Names of all bytes but NUL, many of them printable.
fn name(most: usize) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![1u8..=255, b'!'..=b'~', Just(b'\\'), b'0'..=b'7'];
    prop::collection::vec(byte, 0..=most)
}

fn zone() -> impl Strategy<Value = String> {
    let dots = |name: &String| name != "." && name != "..";
    r"[!-.0-9;-\\^-~]{1,15}".prop_filter("no name of an interface", dots)
}

fn server() -> impl Strategy<Value = Server> {
    // Groups that are often zero, so that every place and length of `::` comes up.
    let segment = prop_oneof![Just(0u16), Just(0xffff), any::<u16>()];
    prop_oneof![
        (any::<u32>(), 1u16..).prop_map(|(addr, port)| Server::V4(addr.into(), port)),
        (
            proptest::array::uniform8(segment),
            proptest::option::of(zone()),
            1u16..
        )
            .prop_map(|(addr, zone, port)| {
                let addr = Ipv6Addr::from(addr);
                let least = addr.is_unicast_link_local().then(|| "eth0".to_owned());
                Server::V6(addr, zone.or(least), port)
            }),
        name(106).prop_map(|name| Server::Unix([&b"/"[..], &name].concat())),
    ]
}

/// One verb of each kind from the numbers given.
fn verbs<'a>(
    addr: Address<'a>,
    name: Name<'a>,
    group: GroupId,
    channels: u8,
    n: u32,
    on: bool,
) -> Vec<Verb<'a>> {
    vec![
        Verb::Connect {
            group,
            addr,
            name,
            channels,
            force: on,
            metadata: !on,
        },
        Verb::Attach {
            addr,
            name,
            channels,
        },
        Verb::Create {
            group,
            equal: on,
            force: !on,
        },
        Verb::Create {
            group,
            equal: on,
            force: on,
        },
        Verb::Forget(group),
        Verb::Disconnect { group, addr: None },
        Verb::Disconnect {
            group,
            addr: Some(addr),
        },
        Verb::Enable(Ask::Certain),
        Verb::Enable(Ask::Degraded),
        Verb::Enable(Ask::Source(group)),
        Verb::Disable,
        Verb::SetFaulty(group),
        Verb::HotAdd {
            group,
            mode: HotAddMode::Dirty,
        },
        Verb::HotAdd {
            group,
            mode: HotAddMode::Full,
        },
        Verb::HotRemove(group),
        Verb::BlockSize(512 << (n % 8)),
        Verb::Timeout(1 + n % 3600),
        Verb::ConnectTimeout(1 + n % 300),
        Verb::ShowErrs(on),
        Verb::AutoAdd(on),
        Verb::ResyncMin(n),
        Verb::ResyncMax(n),
        Verb::OwnerCheck(n % 61),
        Verb::Name(Label::parse(&format!("n{n}.-_")).expect("a name")),
        Verb::Reset,
    ]
}

/// Pieces of the grammar, whose mixtures get deeper into the parser than arbitrary bytes do.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "connect",
        "disconnect",
        "attach",
        "create",
        "forget",
        "degraded",
        "source=",
        "equal",
        "meta=none",
        "enable",
        "hotadd",
        "blocksize",
        "resync_max",
        "reset",
        "name",
        "data",
        "[",
        "]",
        "=",
        "[a]=",
        "[z]=",
        " ",
        "\t",
        "0",
        "1",
        "7",
        "8",
        "512",
        "4294967296",
        "full",
        "force",
        "name=",
        "\\",
        "\\040",
        "377",
        "[fe80::1%",
        "channels=",
        "192.0.2.1",
        "[::1]",
        ":",
        "10809",
        "unix:",
        "/",
        "%",
        "-",
        "\n",
        "\0",
        "é",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(buf in prop::collection::vec(any::<u8>(), 0..1200)) {
        commands::check(&buf);
    }

    #[test]
    fn arbitrary_pieces_never_panic(text in pieces()) {
        commands::check(text.as_bytes());
    }

    #[test]
    fn what_is_formatted_is_parsed(
        server in server(),
        name in name(120),
        (group, channels, n, on) in (0usize..8, 1u8..=16, any::<u32>(), any::<bool>()),
        index in 0usize..26,
    ) {
        let device = DeviceId::new(index).expect("below 26");
        let group = GroupId::new(group).expect("below 8");
        for verb in verbs(server.borrow(), Name::plain(&name), group, channels, n, on) {
            let command = Command { device, verb };
            let line = commands::format(&command);
            prop_assert_eq!(parse_line(line.as_bytes()), Ok(command));
            commands::check(line.as_bytes());
        }
    }

    #[test]
    fn every_spelling_is_the_same_name(
        name in prop::collection::vec((1u8..=255, any::<bool>()), 0..200),
    ) {
        let plain: Vec<u8> = name.iter().map(|(byte, _)| *byte).collect();
        let spelled: String = name
            .iter()
            .map(|(byte, needless)| match needless {
                true => format!("\\{byte:03o}"),
                false => commands::escape(&[*byte]),
            })
            .collect();
        let line = format!("connect[a]=0 [::1] name={spelled}");
        let Ok(Command { verb: Verb::Connect { name, .. }, .. }) = parse_line(line.as_bytes()) else {
            return Err(TestCaseError::fail(line));
        };
        prop_assert_eq!(name, Name::plain(&plain));
        prop_assert_eq!(name.bytes().collect::<Vec<_>>(), &plain[..]);
        prop_assert_eq!(name.len(), plain.len());
        let text: Vec<u8> = name.spelled().collect();
        prop_assert_eq!(text, commands::escape(&plain).into_bytes());
    }

    #[test]
    fn addresses_are_written_as_std_writes_them(server in server()) {
        let address = server.borrow();
        let word = commands::word(&address);
        let text: AddressText = address.text();
        prop_assert_eq!(text.as_str(), word.strip_prefix("unix:").unwrap_or(&word));
    }

    #[test]
    fn lines_are_those_of_std(text in "[a \t\n]{0,40}") {
        let ours: Vec<_> = lines(text.as_bytes()).map(|line| (line.number, line.text)).collect();
        let theirs: Vec<_> = text
            .split('\n')
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(before, line)| (before + 1, line.as_bytes()))
            .collect();
        prop_assert_eq!(ours, theirs);
    }
}
