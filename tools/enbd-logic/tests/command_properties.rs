// SPDX-License-Identifier: GPL-2.0

//! The command grammar against arbitrary input and against a naive formatter.

use core::net::{Ipv4Addr, Ipv6Addr};
use enbd_logic::logic::command::{
    device_of, lines, parse_line, Address, AddressText, Command, DeviceId, HotAddMode, Verb,
};
use proptest::prelude::*;

/// A command that owns its strings, so that proptest can make and shrink it.
#[derive(Clone, Debug)]
enum Server {
    V4(Ipv4Addr, u16),
    V6(Ipv6Addr, u16),
    Unix(String),
}

impl Server {
    fn borrow(&self) -> Address<'_> {
        match self {
            Self::V4(addr, port) => Address::Tcp4 {
                addr: *addr,
                port: *port,
            },
            Self::V6(addr, port) => Address::Tcp6 {
                addr: *addr,
                port: *port,
            },
            Self::Unix(path) => Address::Unix { path },
        }
    }

    /// As a command names it.
    fn word(&self) -> String {
        match self {
            Self::V4(addr, port) => format!("{addr}:{port}"),
            Self::V6(addr, port) => format!("[{addr}]:{port}"),
            Self::Unix(path) => format!("unix:{path}"),
        }
    }
}

fn server() -> impl Strategy<Value = Server> {
    // Groups that are often zero, so that every place and length of `::` comes up.
    let segment = prop_oneof![Just(0u16), Just(0xffff), any::<u16>()];
    prop_oneof![
        (any::<u32>(), 1u16..).prop_map(|(addr, port)| Server::V4(addr.into(), port)),
        (proptest::array::uniform8(segment), 1u16..)
            .prop_map(|(addr, port)| Server::V6(addr.into(), port)),
        "/[!-~]{0,106}".prop_map(Server::Unix),
    ]
}

fn format_verb(verb: &Verb<'_>, server: &str) -> String {
    match *verb {
        Verb::Connect {
            group,
            name,
            channels,
            force,
            ..
        } => {
            let force = if force { " force" } else { "" };
            format!("{group} {server} name={name} channels={channels}{force}")
        }
        Verb::Disconnect { group, addr: None } => format!("{group}"),
        Verb::Disconnect { group, .. } => format!("{group} {server}"),
        Verb::HotAdd { group, mode } => match mode {
            HotAddMode::Dirty => format!("{group}"),
            HotAddMode::Full => format!("{group} full"),
        },
        Verb::Enable(on) | Verb::ShowErrs(on) | Verb::AutoAdd(on) => u8::from(on).to_string(),
        Verb::SetFaulty(group) | Verb::HotRemove(group) => group.to_string(),
        Verb::BlockSize(n)
        | Verb::Timeout(n)
        | Verb::ConnectTimeout(n)
        | Verb::ResyncMin(n)
        | Verb::ResyncMax(n) => n.to_string(),
        Verb::Reset => "1".into(),
    }
}

/// One verb of each kind from the numbers given.
fn verbs<'a>(
    addr: Address<'a>,
    name: &'a str,
    group: u8,
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
        },
        Verb::Disconnect { group, addr: None },
        Verb::Disconnect {
            group,
            addr: Some(addr),
        },
        Verb::Enable(on),
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
        Verb::Reset,
    ]
}

fn check_any_line(line: &[u8]) {
    match parse_line(line) {
        Ok(command) => assert_eq!(device_of(line), Some(command.device)),
        Err(reason) => {
            assert!(reason.errno() > 0);
            assert!(!reason.as_str().is_empty());
        }
    }
}

/// Pieces of the grammar, whose mixtures get deeper into the parser than arbitrary bytes do.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "connect",
        "disconnect",
        "enable",
        "hotadd",
        "blocksize",
        "resync_max",
        "reset",
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
        check_any_line(&buf);
        for line in lines(&buf) {
            check_any_line(line.text);
        }
    }

    #[test]
    fn arbitrary_pieces_never_panic(text in pieces()) {
        check_any_line(text.as_bytes());
        for line in lines(text.as_bytes()) {
            check_any_line(line.text);
        }
    }

    #[test]
    fn what_is_formatted_is_parsed(
        server in server(),
        name in "[!-~]{0,255}",
        (group, channels, n, on) in (0u8..8, 1u8..=16, any::<u32>(), any::<bool>()),
        index in 0usize..26,
    ) {
        let device = DeviceId::new(index).expect("below 26");
        for verb in verbs(server.borrow(), &name, group, channels, n, on) {
            let value = format_verb(&verb, &server.word());
            let line = format!("{}[{}]={value}", verb.name(), device.letter());
            prop_assert_eq!(parse_line(line.as_bytes()), Ok(Command { device, verb }));
        }
    }

    #[test]
    fn addresses_are_written_as_std_writes_them(server in server()) {
        let expected = match &server {
            Server::Unix(path) => path.clone(),
            tcp => tcp.word(),
        };
        let text: AddressText = server.borrow().text();
        prop_assert_eq!(text.as_str(), expected);
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
