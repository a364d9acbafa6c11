// SPDX-License-Identifier: GPL-2.0

//! Whole writes to /proc/nbdinfo, read as `rust/procfs.rs` does: every line is a command that can be
//! written again and is then the same, or is refused with a reason.

#![no_main]

use enbd_logic::logic::command::{
    device_of, lines, parse_line, Address, Command, HotAddMode, Verb, MAX_BLOCKSIZE,
    MAX_CONNECT_CHANNELS, MAX_CONNECT_TIMEOUT_S, MAX_LINE, MAX_PATH, MAX_TIMEOUT_S, MAX_ZONE,
    MIN_BLOCKSIZE,
};
use enbd_logic::logic::{ids::GroupId, MAX_DEVICES, MAX_GROUPS};
use libfuzzer_sys::fuzz_target;

/// What the file takes at once.
const WRITE_MAX: usize = 4096;

fn address(addr: &Address<'_>) -> String {
    let text = addr.text();
    let text = text.as_str();
    assert!(!text.is_empty());
    match addr {
        Address::Tcp4 { addr, port } => {
            assert!(*port != 0);
            assert_eq!(text, format!("{addr}:{port}"));
            text.to_owned()
        }
        Address::Tcp6 { addr, zone, port } => {
            assert!(*port != 0);
            assert!(zone.is_some() || !addr.is_unicast_link_local());
            assert!(zone.is_none_or(|zone| (1..=MAX_ZONE).contains(&zone.as_str().len())));
            let zone = zone.map_or(String::new(), |zone| format!("%{}", zone.as_str()));
            assert_eq!(text, format!("[{addr}{zone}]:{port}"));
            text.to_owned()
        }
        Address::Unix { path } => {
            assert!(path.bytes().next() == Some(b'/') && path.len() <= MAX_PATH);
            format!("unix:{text}")
        }
    }
}

/// The value of a command, after a look at the bounds that its type promises.
fn value(verb: &Verb<'_>) -> String {
    let group = |group: GroupId| {
        assert!(group.index() < MAX_GROUPS);
        group.index().to_string()
    };
    let number = |n: u32, min: u32, max: u32| {
        assert!((min..=max).contains(&n));
        n.to_string()
    };
    match verb {
        Verb::Connect {
            group: g,
            addr,
            name,
            channels,
            force,
        } => {
            assert!(name.bytes().all(|byte| byte != 0));
            let mut text = String::new();
            name.write(&mut text).expect("a String takes all");
            assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
            assert!((1..=MAX_CONNECT_CHANNELS).contains(&u32::from(*channels)));
            let (group, addr) = (group(*g), address(addr));
            let force = if *force { " force" } else { "" };
            format!("{group} {addr} name={text} channels={channels}{force}")
        }
        Verb::Disconnect { group: g, addr } => match addr {
            None => group(*g),
            Some(addr) => format!("{} {}", group(*g), address(addr)),
        },
        Verb::HotAdd { group: g, mode } => match mode {
            HotAddMode::Dirty => group(*g),
            HotAddMode::Full => format!("{} full", group(*g)),
        },
        Verb::Enable(on) | Verb::ShowErrs(on) | Verb::AutoAdd(on) => u8::from(*on).to_string(),
        Verb::SetFaulty(g) | Verb::HotRemove(g) => group(*g),
        Verb::BlockSize(n) => {
            assert!(n.is_power_of_two());
            number(*n, MIN_BLOCKSIZE, MAX_BLOCKSIZE)
        }
        Verb::Timeout(n) => number(*n, 1, MAX_TIMEOUT_S),
        Verb::ConnectTimeout(n) => number(*n, 1, MAX_CONNECT_TIMEOUT_S),
        Verb::ResyncMin(n) | Verb::ResyncMax(n) => n.to_string(),
        Verb::Reset => "1".to_owned(),
    }
}

fn check(line: &[u8]) {
    match parse_line(line) {
        Ok(command) => {
            assert!(line.len() <= MAX_LINE);
            assert!(line.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~')));
            assert_eq!(device_of(line), Some(command.device));
            assert!(command.device.index() < MAX_DEVICES);
            same_again(&command);
        }
        Err(reason) => {
            assert!(!reason.as_str().is_empty());
            assert!((1..4096).contains(&reason.errno()));
        }
    }
}

fn same_again(command: &Command<'_>) {
    let (verb, letter) = (command.verb.name(), command.device.letter());
    let line = format!("{verb}[{letter}]={}", value(&command.verb));
    // Options that were left out make the line longer than it was.
    if line.len() <= MAX_LINE {
        assert_eq!(parse_line(line.as_bytes()).as_ref(), Ok(command), "{line}");
    }
}

fuzz_target!(|data: &[u8]| {
    let data = &data[..data.len().min(WRITE_MAX)];
    check(data);
    let mut cut = data
        .split(|byte| *byte == b'\n')
        .enumerate()
        .filter(|(_, text)| text.iter().any(|byte| !b" \t".contains(byte)));
    for line in lines(data) {
        assert_eq!(cut.next(), Some((line.number - 1, line.text)));
        check(line.text);
    }
    assert_eq!(cut.next(), None);
});
