// SPDX-License-Identifier: GPL-2.0

//! Every verb and every reason, by example.

use super::{
    device_of, parse_line, Address, Command, DeviceId, HotAddMode, Label, Name, Reason, Verb, Zone,
    MAX_LABEL, MAX_LINE, MAX_PATH,
};
use crate::logic::meta::Ask;
use crate::logic::{ids::GroupId, resync::Compare, MAX_DEVICES, MAX_GROUPS};
use core::net::{Ipv4Addr, Ipv6Addr};

fn verb(line: &str) -> Result<Verb<'_>, Reason> {
    parse_line(line.as_bytes()).map(|command| command.verb)
}

fn on(letter: char, verb: Verb<'_>) -> Result<Command<'_>, Reason> {
    let device = DeviceId::from_letter(letter).expect("a device's letter");
    Ok(Command { device, verb })
}

fn group(index: usize) -> GroupId {
    GroupId::new(index).expect("there are so many")
}

fn label(name: &str) -> Label {
    Label::parse(name).expect("a name")
}

fn tcp4(last: u8, port: u16) -> Address<'static> {
    let addr = Ipv4Addr::new(192, 0, 2, last);
    Address::Tcp4 { addr, port }
}

#[test]
fn the_commands_of_the_design() {
    let line = b"connect[a]=0 192.0.2.1:10809 name=disk channels=2";
    let connect = Verb::Connect {
        group: group(0),
        addr: tcp4(1, 10809),
        name: Name::plain(b"disk"),
        channels: 2,
        force: false,
        metadata: true,
    };
    assert_eq!(parse_line(line), on('a', connect));
    assert_eq!(
        parse_line(b"blocksize[a]=1024"),
        on('a', Verb::BlockSize(1024))
    );
    assert_eq!(
        parse_line(b"enable[a]=1"),
        on('a', Verb::Enable(Ask::Certain))
    );
}

#[test]
fn the_commands_of_2003() {
    assert_eq!(
        parse_line(b"setfaulty[b]=1"),
        on('b', Verb::SetFaulty(group(1)))
    );
    let (group, mode) = (group(1), HotAddMode::Dirty);
    assert_eq!(
        parse_line(b"hotadd[b]=1"),
        on('b', Verb::HotAdd { group, mode })
    );
}

#[test]
fn every_other_verb() {
    let (seven, mode) = (group(7), HotAddMode::Full);
    let create = |equal, force| Verb::Create {
        group: seven,
        equal,
        force,
    };
    for (line, expected) in [
        (
            "disconnect[a]=7",
            Verb::Disconnect {
                group: seven,
                addr: None,
            },
        ),
        ("enable[a]=0", Verb::Disable),
        ("enable[a]=1 degraded", Verb::Enable(Ask::Degraded)),
        ("enable[a]=1 source=7", Verb::Enable(Ask::Source(seven))),
        ("forget[a]=7", Verb::Forget(seven)),
        ("create[a]=7", create(false, false)),
        ("create[a]=7 equal", create(true, false)),
        ("create[a]=7 force equal", create(true, true)),
        ("hotadd[a]=7 full", Verb::HotAdd { group: seven, mode }),
        ("hotremove[a]=007", Verb::HotRemove(group(7))),
        ("timeout[a]=30", Verb::Timeout(30)),
        ("timeout[a]=3600", Verb::Timeout(3600)),
        ("connect_timeout[a]=300", Verb::ConnectTimeout(300)),
        ("show_errs[a]=1", Verb::ShowErrs(true)),
        ("autoadd[a]=0", Verb::AutoAdd(false)),
        ("resync_min[a]=0", Verb::ResyncMin(0)),
        ("resync_max[a]=4294967295", Verb::ResyncMax(u32::MAX)),
        ("owner_check[a]=0", Verb::OwnerCheck(0)),
        ("owner_check[a]=60", Verb::OwnerCheck(60)),
        ("intent[a]=0", Verb::Intent(false)),
        ("compare[a]=0", Verb::Compare(Compare::Never)),
        ("compare[a]=1", Verb::Compare(Compare::Always)),
        ("compare[a]=auto", Verb::Compare(Compare::Auto)),
        ("intent_max[a]=1024", Verb::IntentMax(1024)),
        ("intent_idle[a]=3600", Verb::IntentIdle(3600)),
        ("name[a]=my-data.1", Verb::Name(label("my-data.1"))),
        ("reset[a]=1", Verb::Reset),
        ("blocksize[a]=512", Verb::BlockSize(512)),
        ("blocksize[a]=65536", Verb::BlockSize(65536)),
    ] {
        assert_eq!(verb(line), Ok(expected), "{line}");
        assert_eq!(line.split('[').next(), Some(expected.name()));
    }
    let addr = Some(tcp4(2, 99));
    let group = group(0);
    let disconnect = Verb::Disconnect { group, addr };
    assert_eq!(verb("disconnect[a]=0 192.0.2.2:99"), Ok(disconnect));
    assert_eq!(disconnect.name(), "disconnect");
}

#[test]
fn options_of_connect() {
    let connect = |addr, name: &'static str, channels| {
        Ok(Verb::Connect {
            group: group(1),
            addr,
            name: Name::plain(name.as_bytes()),
            channels,
            force: false,
            metadata: true,
        })
    };
    let addr = tcp4(1, 10809);
    assert_eq!(verb("connect[a]=1 192.0.2.1"), connect(addr, "", 1));
    assert_eq!(verb("connect[a]=1 192.0.2.1 name="), connect(addr, "", 1));
    assert_eq!(
        verb(" \tconnect[a]= 1\t192.0.2.1   channels=16 name=a=[b]=,c \t"),
        connect(addr, "a=[b]=,c", 16)
    );
    let path = Name::plain(b"/run/nbd.sock");
    assert_eq!(
        verb("connect[a]=1 unix:/run/nbd.sock name=x"),
        connect(Address::Unix { path }, "x", 1)
    );
    let (addr, zone, port) = (Ipv6Addr::LOCALHOST, Zone::new("lo"), 7);
    assert_eq!(
        verb("connect[a]=1 [::1%lo]:7"),
        connect(Address::Tcp6 { addr, zone, port }, "", 1)
    );
    assert_eq!(
        verb(r"connect[a]=1 192.0.2.1 name=B\303\274ro\0401"),
        connect(tcp4(1, 10809), "B\u{fc}ro 1", 1)
    );
    for words in ["force name=x", "name=x force", "channels=1 force name=x"] {
        let forced = Verb::Connect {
            group: group(1),
            addr: tcp4(1, 10809),
            name: Name::plain(b"x"),
            channels: 1,
            force: true,
            metadata: true,
        };
        assert_eq!(verb(&format!("connect[a]=1 192.0.2.1 {words}")), Ok(forced));
    }
    let meta = |text: &str| match verb(&format!("connect[a]=1 192.0.2.1 {text}")) {
        Ok(Verb::Connect { metadata, .. }) => Ok(metadata),
        Ok(_) => panic!("not connect"),
        Err(reason) => Err(reason),
    };
    assert_eq!(
        (meta("meta=auto"), meta("meta=none")),
        (Ok(true), Ok(false))
    );
    assert_eq!(meta("meta=none meta=auto"), Err(Reason::DuplicateOption));
    assert_eq!(meta("meta=1"), Err(Reason::BadMeta));
    let attach = |channels| {
        Ok(Verb::Attach {
            addr: tcp4(1, 10809),
            name: Name::plain(b"x"),
            channels,
        })
    };
    assert_eq!(verb("attach[a]=192.0.2.1 name=x"), attach(1));
    assert_eq!(verb("attach[a]=192.0.2.1 channels=4 name=x"), attach(4));
    assert_eq!(
        verb("attach[a]=192.0.2.1 force"),
        Err(Reason::UnknownOption)
    );
    assert_eq!(verb("attach[a]="), Err(Reason::AddressMissing));
    for words in [
        "=1 more",
        "=1 source=8",
        "=1 source=",
        "=0 degraded",
        "=1 degraded degraded",
    ] {
        assert!(verb(&format!("enable[a]{words}")).is_err(), "{words}");
    }
    assert_eq!(
        verb("create[a]=0 equal equal"),
        Err(Reason::DuplicateOption)
    );
    assert_eq!(verb("create[a]=0 odd"), Err(Reason::UnexpectedWord));
    let line = "connect[a]=1 [::1] name=";
    let longest = "n".repeat(MAX_LINE - line.len());
    assert!(verb(&format!("{line}{longest}")).is_ok());
}

#[test]
fn reasons_of_the_form() {
    let long_line = format!("enable[a]=1{}", " ".repeat(MAX_LINE));
    for (line, reason) in [
        (long_line.as_str(), Reason::LineTooLong),
        ("enable[a]=1\0", Reason::EmbeddedNul),
        ("enable[a]=1\r", Reason::ControlCharacter),
        ("enable[a]=1\nenable[a]=0", Reason::ControlCharacter),
        ("enable[\u{e4}]=1", Reason::NotAscii),
        (" \t ", Reason::EmptyLine),
        ("enable", Reason::Malformed),
        ("enable=1", Reason::Malformed),
        ("enable[a]", Reason::Malformed),
        ("enable[a] =1", Reason::Malformed),
        ("enable[a=1", Reason::Malformed),
        ("enable[]=1", Reason::NoSuchDevice),
        ("enable[A]=1", Reason::NoSuchDevice),
        ("enable[{]=1", Reason::NoSuchDevice),
        ("enable[`]=1", Reason::NoSuchDevice),
        ("enable[ab]=1", Reason::NoSuchDevice),
        ("enable[0]=1", Reason::NoSuchDevice),
        ("[a]=1", Reason::UnknownVerb),
        ("Enable[a]=1", Reason::UnknownVerb),
        ("enable [a]=1", Reason::UnknownVerb),
        ("merge_requests[a]=1", Reason::UnknownVerb),
        ("enable[a]=", Reason::ValueMissing),
        ("connect[a]=", Reason::ValueMissing),
        ("name[a]=", Reason::ValueMissing),
        ("name[a]=my data", Reason::UnexpectedWord),
        ("enable[a]=1 1", Reason::UnexpectedWord),
        ("reset[a]=1 now", Reason::UnexpectedWord),
        ("hotadd[a]=1 Full", Reason::UnexpectedWord),
        ("hotadd[a]=1 full full", Reason::UnexpectedWord),
        ("disconnect[a]=1 [::1] [::1]", Reason::UnexpectedWord),
        ("connect[a]=1 [::1] full", Reason::UnexpectedWord),
        ("connect[a]=1 [::1] Force", Reason::UnexpectedWord),
        ("disconnect[a]=1 [::1] force", Reason::UnexpectedWord),
    ] {
        assert_eq!(verb(line), Err(reason), "{line:?}");
    }
}

#[test]
fn reasons_of_the_value() {
    for (line, reason) in [
        ("enable[a]=on", Reason::NotANumber),
        ("setfaulty[a]=-1", Reason::NotANumber),
        ("setfaulty[a]=+1", Reason::NotANumber),
        ("blocksize[a]=4k", Reason::NotANumber),
        ("connect[a]=0 [::1] channels=", Reason::NotANumber),
        ("setfaulty[a]=8", Reason::GroupOutOfRange),
        ("hotremove[a]=256", Reason::GroupOutOfRange),
        ("hotadd[a]=99999999999999999999", Reason::GroupOutOfRange),
        ("enable[a]=2", Reason::SwitchOutOfRange),
        ("reset[a]=2", Reason::SwitchOutOfRange),
        ("connect[a]=0 [::1] channels=0", Reason::ChannelsOutOfRange),
        ("connect[a]=0 [::1] channels=17", Reason::ChannelsOutOfRange),
        ("blocksize[a]=511", Reason::BlocksizeOutOfRange),
        ("blocksize[a]=65537", Reason::BlocksizeOutOfRange),
        ("blocksize[a]=131072", Reason::BlocksizeOutOfRange),
        ("blocksize[a]=513", Reason::BlocksizeNotPowerOfTwo),
        ("timeout[a]=0", Reason::TimeoutOutOfRange),
        ("timeout[a]=3601", Reason::TimeoutOutOfRange),
        ("connect_timeout[a]=0", Reason::ConnectTimeoutOutOfRange),
        ("connect_timeout[a]=301", Reason::ConnectTimeoutOutOfRange),
        ("resync_min[a]=4294967296", Reason::SpeedOutOfRange),
        ("compare[a]=2", Reason::CompareUnknown),
        ("compare[a]=", Reason::ValueMissing),
        ("resync_max[a]=4294967296", Reason::SpeedOutOfRange),
        ("reset[a]=0", Reason::ResetNotOne),
        ("name[a]=b", Reason::BadLabel),
        ("name[a]=../b", Reason::BadLabel),
    ] {
        assert_eq!(verb(line), Err(reason), "{line}");
    }
}

#[test]
fn reasons_of_the_server() {
    let long_path = format!("connect[a]=0 unix:/{}", "p".repeat(MAX_PATH));
    for (line, reason) in [
        ("connect[a]=0", Reason::AddressMissing),
        ("connect[a]=0 name=disk", Reason::MalformedAddress),
        ("disconnect[a]=0 full", Reason::MalformedAddress),
        ("connect[a]=0 192.0.2.1:0", Reason::PortOutOfRange),
        ("connect[a]=0 unix:nbd.sock", Reason::PathNotAbsolute),
        (long_path.as_str(), Reason::PathTooLong),
        (r"connect[a]=0 [::1] name=a\ b", Reason::BadEscape),
        (r"connect[a]=0 [::1] name=\000", Reason::BadEscape),
        (r"connect[a]=0 unix:/\4000", Reason::BadEscape),
        (r"connect[a]=0 unix:\134/", Reason::PathNotAbsolute),
        ("connect[a]=0 [fe80::1]", Reason::ZoneMissing),
        ("connect[a]=0 [fe80::1%a/b]", Reason::MalformedZone),
        ("connect[a]=0 [::1] foo=1", Reason::UnknownOption),
        ("connect[a]=0 [::1] =1", Reason::UnknownOption),
        ("connect[a]=0 [::1] Name=x", Reason::UnknownOption),
        ("connect[a]=0 [::1] name=x name=x", Reason::DuplicateOption),
        ("connect[a]=0 [::1] name= name=", Reason::DuplicateOption),
        ("connect[a]=0 [::1] force=1", Reason::UnknownOption),
        ("connect[a]=0 [::1] force force", Reason::DuplicateOption),
        ("connect[a]=0 force", Reason::MalformedAddress),
        (
            "connect[a]=0 [::1] channels=2 name=x channels=2",
            Reason::DuplicateOption,
        ),
    ] {
        assert_eq!(verb(line), Err(reason), "{line:?}");
    }
}

#[test]
fn reasons_speak_and_have_an_errno() {
    for (reason, limit, errno) in [
        (Reason::LineTooLong, MAX_LINE, 7),
        (Reason::PathTooLong, MAX_PATH, 36),
        (Reason::BadLabel, MAX_LABEL, 22),
        (Reason::GroupOutOfRange, MAX_GROUPS - 1, 34),
        (Reason::ChannelsOutOfRange, 16, 34),
        (Reason::BlocksizeOutOfRange, 65536, 34),
        (Reason::TimeoutOutOfRange, 3600, 34),
        (Reason::ConnectTimeoutOutOfRange, 300, 34),
    ] {
        let phrase = reason.as_str();
        assert!(phrase.contains(&limit.to_string()), "{phrase}");
        assert_eq!(reason.errno(), errno, "{phrase}");
    }
    assert_eq!(Reason::NoSuchDevice.errno(), 19);
    assert_eq!(Reason::UnknownVerb.errno(), 22);
    assert_eq!(Reason::NotAscii.errno(), 84);
}

#[test]
fn devices_a_to_z() {
    for (index, letter) in ('a'..='z').enumerate() {
        let device = DeviceId::new(index).expect("a device");
        assert_eq!(DeviceId::from_letter(letter), Some(device));
        assert_eq!((device.letter(), device.index()), (letter, index));
    }
    assert_eq!(DeviceId::new(MAX_DEVICES), None);
    assert_eq!(DeviceId::new(usize::MAX), None);
    for letter in ['`', '{', 'A', '\0', '\u{10ffff}'] {
        assert_eq!(DeviceId::from_letter(letter), None);
    }
}

#[test]
fn a_bad_line_names_its_device() {
    let letter = |line: &str| device_of(line.as_bytes()).map(DeviceId::letter);
    assert_eq!(letter("frob[c]=1"), Some('c'));
    assert_eq!(letter("enable[d]=2"), Some('d'));
    assert_eq!(letter("enable[7]=1"), None);
    assert_eq!(letter("enable"), None);
    assert_eq!(letter("enable[d]=\0"), None);
}
