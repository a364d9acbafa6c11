// SPDX-License-Identifier: GPL-2.0

//! Whole writes to /proc/nbdinfo, read as `rust/procfs.rs` does: every line is a command that can be
//! written again and is then the same, or is refused with a reason.

use enbd_logic::logic::command::{
    device_of, lines, parse_line, Address, Command, HotAddMode, Name, Verb, MAX_BLOCKSIZE,
    MAX_CONNECT_CHANNELS, MAX_CONNECT_TIMEOUT_S, MAX_INTENT_IDLE_S, MAX_LABEL, MAX_LINE,
    MAX_OWNER_CHECK_S, MAX_PATH, MAX_TIMEOUT_S, MAX_ZONE, MIN_BLOCKSIZE,
};
use enbd_logic::logic::{ids::GroupId, meta::Ask, MAX_DEVICES, MAX_GROUPS};

/// Looks at all that must hold of what is written at once.
///
/// # Panics
///
/// Where the parser is wrong.
pub fn check(text: &[u8]) {
    check_line(text);
    let mut cut = text
        .split(|byte| *byte == b'\n')
        .enumerate()
        .filter(|(_, line)| line.iter().any(|byte| !b" \t".contains(byte)));
    for line in lines(text) {
        assert_eq!(cut.next(), Some((line.number - 1, line.text)));
        check_line(line.text);
    }
    assert_eq!(cut.next(), None);
}

fn check_line(line: &[u8]) {
    match parse_line(line) {
        Ok(command) => {
            assert!(line.len() <= MAX_LINE);
            assert!(line.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~')));
            assert_eq!(device_of(line), Some(command.device));
            assert!(command.device.index() < MAX_DEVICES);
            check_bounds(&command.verb);
            // Options that were left out make the line longer than it was.
            let again = format(&command);
            if again.len() <= MAX_LINE {
                assert_eq!(parse_line(again.as_bytes()), Ok(command), "{again}");
            }
        }
        Err(reason) => {
            assert!(!reason.as_str().is_empty());
            assert!((1..4096).contains(&reason.errno()));
        }
    }
}

/// The bounds that the types of a command promise.
fn check_bounds(verb: &Verb<'_>) {
    let group = |group: GroupId| assert!(group.index() < MAX_GROUPS);
    match verb {
        Verb::Connect {
            group: g,
            addr,
            name,
            channels,
            force: _,
            metadata: _,
        } => {
            group(*g);
            check_address(addr);
            check_name(*name);
            assert!((1..=MAX_CONNECT_CHANNELS).contains(&u32::from(*channels)));
        }
        Verb::Disconnect { group: g, addr } => {
            group(*g);
            addr.iter().for_each(check_address);
        }
        Verb::Attach {
            addr,
            name,
            channels,
        } => {
            check_address(addr);
            check_name(*name);
            assert!((1..=MAX_CONNECT_CHANNELS).contains(&u32::from(*channels)));
        }
        Verb::Create { group: g, .. } => group(*g),
        Verb::SetFaulty(g) | Verb::HotRemove(g) | Verb::Forget(g) => group(*g),
        Verb::Enable(Ask::Source(g)) => group(*g),
        Verb::HotAdd { group: g, mode: _ } => group(*g),
        Verb::BlockSize(n) => {
            assert!(n.is_power_of_two() && (MIN_BLOCKSIZE..=MAX_BLOCKSIZE).contains(n));
        }
        Verb::Timeout(n) => assert!((1..=MAX_TIMEOUT_S).contains(n)),
        Verb::ConnectTimeout(n) => assert!((1..=MAX_CONNECT_TIMEOUT_S).contains(n)),
        Verb::Name(label) => {
            let name = label.as_str();
            assert!((1..=MAX_LABEL).contains(&name.len()));
            assert!(name != "." && name != ".." && !name.contains('/'));
        }
        Verb::Enable(_)
        | Verb::Disable
        | Verb::ShowErrs(_)
        | Verb::AutoAdd(_)
        | Verb::ResyncMin(_)
        | Verb::ResyncMax(_)
        | Verb::Compare(_)
        | Verb::Intent(_)
        | Verb::IntentMax(_)
        | Verb::Reset => {}
        Verb::OwnerCheck(n) => assert!(*n <= MAX_OWNER_CHECK_S),
        Verb::IntentIdle(n) => assert!((1..=MAX_INTENT_IDLE_S).contains(n)),
    }
}

/// An address that has a port or a path, and is shown as `std` shows it.
fn check_address(addr: &Address<'_>) {
    match addr {
        Address::Tcp4 { addr: _, port } => assert!(*port != 0),
        Address::Tcp6 { addr, zone, port } => {
            assert!(*port != 0);
            assert!(zone.is_some() || !addr.is_unicast_link_local());
            assert!(zone.is_none_or(|zone| (1..=MAX_ZONE).contains(&zone.as_str().len())));
        }
        Address::Unix { path } => {
            assert!(path.bytes().next() == Some(b'/') && path.len() <= MAX_PATH);
            check_name(*path);
        }
    }
    let text = addr.text();
    assert_eq!(
        Some(text.as_str()),
        word(addr).strip_prefix(prefix(addr)),
        "{addr:?}"
    );
}

/// A name that is shown as it can be typed back.
fn check_name(name: Name<'_>) {
    assert!(name.bytes().all(|byte| byte != 0));
    let mut text = String::new();
    name.write(&mut text).expect("a String takes all");
    assert_eq!(text, escape(&name.bytes().collect::<Vec<_>>()));
}

/// A name as /proc/mounts would have it.
pub fn escape(name: &[u8]) -> String {
    let one = |byte: &u8| match byte {
        b'\\' | ..=b' ' | 0x7f.. => format!("\\{byte:03o}"),
        _ => char::from(*byte).to_string(),
    };
    name.iter().map(one).collect()
}

/// What stands before an address in a command, and is not shown.
fn prefix(addr: &Address<'_>) -> &'static str {
    match addr {
        Address::Tcp4 { .. } | Address::Tcp6 { .. } => "",
        Address::Unix { .. } => "unix:",
    }
}

/// An address as a command names it.
pub fn word(addr: &Address<'_>) -> String {
    match addr {
        Address::Tcp4 { addr, port } => format!("{addr}:{port}"),
        Address::Tcp6 { addr, zone, port } => {
            let zone = zone.map_or(String::new(), |zone| format!("%{}", zone.as_str()));
            format!("[{addr}{zone}]:{port}")
        }
        Address::Unix { path } => {
            let path = escape(&path.bytes().collect::<Vec<_>>());
            format!("{}{path}", prefix(addr))
        }
    }
}

/// A command as a line, with all of its options.
pub fn format(command: &Command<'_>) -> String {
    let (verb, letter) = (command.verb.name(), command.device.letter());
    format!("{verb}[{letter}]={}", value(&command.verb))
}

fn value(verb: &Verb<'_>) -> String {
    match verb {
        Verb::Connect {
            group,
            addr,
            name,
            channels,
            force,
            metadata,
        } => {
            let name = escape(&name.bytes().collect::<Vec<_>>());
            let force = if *force { " force" } else { "" };
            let meta = if *metadata { "auto" } else { "none" };
            format!(
                "{} {} name={name} channels={channels}{force} meta={meta}",
                group.index(),
                word(addr)
            )
        }
        Verb::Attach {
            addr,
            name,
            channels,
        } => {
            let name = escape(&name.bytes().collect::<Vec<_>>());
            format!("{} name={name} channels={channels}", word(addr))
        }
        Verb::Create {
            group,
            equal,
            force,
        } => {
            let equal = if *equal { " equal" } else { "" };
            let force = if *force { " force" } else { "" };
            format!("{}{equal}{force}", group.index())
        }
        Verb::Disconnect { group, addr: None } => group.index().to_string(),
        Verb::Disconnect {
            group,
            addr: Some(addr),
        } => format!("{} {}", group.index(), word(addr)),
        Verb::HotAdd { group, mode } => match mode {
            HotAddMode::Dirty => group.index().to_string(),
            HotAddMode::Full => format!("{} full", group.index()),
        },
        Verb::Enable(Ask::Certain) | Verb::Reset => "1".to_owned(),
        Verb::Enable(Ask::Degraded) => "1 degraded".to_owned(),
        Verb::Enable(Ask::Source(group)) => format!("1 source={}", group.index()),
        Verb::Disable => "0".to_owned(),
        Verb::ShowErrs(on) | Verb::AutoAdd(on) | Verb::Intent(on) => u8::from(*on).to_string(),
        Verb::SetFaulty(group) | Verb::HotRemove(group) | Verb::Forget(group) => {
            group.index().to_string()
        }
        Verb::BlockSize(n)
        | Verb::Timeout(n)
        | Verb::ConnectTimeout(n)
        | Verb::ResyncMin(n)
        | Verb::ResyncMax(n)
        | Verb::OwnerCheck(n)
        | Verb::IntentMax(n)
        | Verb::IntentIdle(n) => n.to_string(),
        Verb::Compare(compare) => compare.as_str().to_owned(),
        Verb::Name(label) => label.as_str().to_owned(),
    }
}
