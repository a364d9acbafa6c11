// SPDX-License-Identifier: GPL-2.0

//! Where a server listens.
//!
//! Shape: an [`Address`] is what was meant, not how it was spelt, so that `192.0.2.1` and
//! `192.0.2.1:10809` are equal. [`Address::text`] spells it in one way only.
//! Forms: `1.2.3.4`, `1.2.3.4:port`, `[v6]`, `[v6]:port`, `unix:/path`. An IPv6 address needs its
//! brackets, and may have a zone, `[fe80::1%eth0]`; a link-local one must, since it says nothing
//! without. In a path [`Name`]'s escapes stand for what a word cannot hold.
//! Errors: the reasons of a malformed address, zone, port or path.

use super::name::{Name, SPELLING};
use super::zone::Zone;
use super::{words, Reason};
use core::fmt::{self, Write};
use core::net::{Ipv4Addr, Ipv6Addr};

/// NBD's port, by IANA.
pub const DEFAULT_PORT: u16 = 10809;
/// The longest path of a Unix socket, in bytes: `sun_path` less its NUL.
pub const MAX_PATH: usize = 107;
/// The longest address as text: the longest path, all of it escaped.
const MAX_TEXT: usize = MAX_PATH * SPELLING;

/// Where a server listens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Address<'a> {
    /// TCP over IPv4.
    Tcp4 {
        /// The host.
        addr: Ipv4Addr,
        /// The port, never 0.
        port: u16,
    },
    /// TCP over IPv6.
    Tcp6 {
        /// The host.
        addr: Ipv6Addr,
        /// The interface through which it is reached. The network looks at it only where the host
        /// is link-local, and such a host always has one.
        zone: Option<Zone>,
        /// The port, never 0.
        port: u16,
    },
    /// A Unix socket.
    Unix {
        /// Its path: starts with `/`, has 1 to [`MAX_PATH`] bytes.
        path: Name<'a>,
    },
}

impl<'a> Address<'a> {
    /// Parses one word of a command, which holds printable ASCII without spaces.
    ///
    /// # Errors
    ///
    /// `MalformedAddress`, `MalformedZone`, `ZoneMissing`, `PortOutOfRange`, `BadEscape`,
    /// `PathNotAbsolute` or `PathTooLong`.
    pub(in crate::logic) fn parse(word: &'a str) -> Result<Self, Reason> {
        if let Some(path) = word.strip_prefix("unix:") {
            return parse_path(path);
        }
        if let Some(rest) = word.strip_prefix('[') {
            let (host, port) = rest.split_once(']').ok_or(Reason::MalformedAddress)?;
            let (addr, zone) = parse_v6(host)?;
            let port = match port {
                "" => DEFAULT_PORT,
                port => parse_port(port.strip_prefix(':').ok_or(Reason::MalformedAddress)?)?,
            };
            return Ok(Self::Tcp6 { addr, zone, port });
        }
        let (host, port) = match word.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (word, None),
        };
        let addr = host.parse().map_err(|_| Reason::MalformedAddress)?;
        let port = port.map_or(Ok(DEFAULT_PORT), parse_port)?;
        Ok(Self::Tcp4 { addr, port })
    }

    /// The same place in the one form that tells places apart: an IPv4 host that is written as a
    /// mapped IPv6 one is the IPv4 host, and a zone counts only where the host is link-local.
    #[must_use]
    pub fn plain(&self) -> Self {
        match *self {
            Self::Tcp6 { addr, zone, port } => match addr.to_ipv4_mapped() {
                Some(addr) => Self::Tcp4 { addr, port },
                None => {
                    let zone = zone.filter(|_| addr.is_unicast_link_local());
                    Self::Tcp6 { addr, zone, port }
                }
            },
            other => other,
        }
    }

    /// What carries the bytes: `tcp` or `unix`.
    pub fn transport(&self) -> &'static str {
        match self {
            Self::Tcp4 { .. } | Self::Tcp6 { .. } => "tcp",
            Self::Unix { .. } => "unix",
        }
    }

    /// Writes the address as the status shows it beside its transport: `192.0.2.1:10809`,
    /// `[2001:db8::1]:10809` (as in RFC 5952), `[fe80::1%eth0]:10809` or `/run/nbd.sock`.
    ///
    /// # Errors
    ///
    /// Those of `w`.
    pub fn write(&self, w: &mut impl Write) -> fmt::Result {
        match self {
            Self::Tcp4 { addr, port } => {
                write_v4(w, *addr)?;
                write!(w, ":{}", *port)
            }
            Self::Tcp6 { addr, zone, port } => {
                w.write_char('[')?;
                write_v6(w, *addr)?;
                if let Some(zone) = zone {
                    write!(w, "%{}", zone.as_str())?;
                }
                write!(w, "]:{}", *port)
            }
            Self::Unix { path } => path.write(w),
        }
    }

    /// What [`write`](Self::write) writes, in a place of its own that outlives the command.
    pub fn text(&self) -> AddressText {
        let mut text = AddressText::new();
        // No address as text is longer than the longest path, so that it fits.
        let fits = self.write(&mut text);
        debug_assert!(fits.is_ok());
        text
    }
}

/// An address as the status shows it, kept without allocation.
// INVARIANT: the first `used` bytes are ASCII.
#[derive(Clone, Debug)]
pub struct AddressText {
    bytes: [u8; MAX_TEXT],
    used: usize,
}

impl AddressText {
    fn new() -> Self {
        Self {
            bytes: [0; MAX_TEXT],
            used: 0,
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        let used = self.bytes.get(..self.used).unwrap_or(&[]);
        core::str::from_utf8(used).unwrap_or("")
    }
}

impl Write for AddressText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if !text.is_ascii() {
            return Err(fmt::Error);
        }
        let end = self.used.checked_add(text.len()).ok_or(fmt::Error)?;
        let room = self.bytes.get_mut(self.used..end).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.used = end;
        Ok(())
    }
}

fn parse_v6(host: &str) -> Result<(Ipv6Addr, Option<Zone>), Reason> {
    let (addr, zone) = match host.split_once('%') {
        Some((addr, zone)) => (addr, Some(zone)),
        None => (host, None),
    };
    let addr: Ipv6Addr = addr.parse().map_err(|_| Reason::MalformedAddress)?;
    match zone {
        Some(zone) => {
            let zone = Zone::new(zone).ok_or(Reason::MalformedZone)?;
            Ok((addr, Some(zone)))
        }
        None if addr.is_unicast_link_local() => Err(Reason::ZoneMissing),
        None => Ok((addr, None)),
    }
}

fn parse_path(path: &str) -> Result<Address<'_>, Reason> {
    let path = Name::parse(path)?;
    if path.bytes().next() != Some(b'/') {
        return Err(Reason::PathNotAbsolute);
    }
    if path.len() > MAX_PATH {
        return Err(Reason::PathTooLong);
    }
    Ok(Address::Unix { path })
}

fn parse_port(word: &str) -> Result<u16, Reason> {
    let port = words::decimal(word).ok_or(Reason::MalformedAddress)?;
    match u16::try_from(port) {
        Ok(0) | Err(_) => Err(Reason::PortOutOfRange),
        Ok(port) => Ok(port),
    }
}

fn write_v4(w: &mut impl Write, addr: Ipv4Addr) -> fmt::Result {
    let [a, b, c, d] = addr.octets();
    write!(w, "{a}.{b}.{c}.{d}")
}

/// Writes the one form of RFC 5952: small letters, no leading zeros, the first of the longest runs
/// of two or more zero groups shortened, and IPv4 kept readable where it is mapped.
fn write_v6(w: &mut impl Write, addr: Ipv6Addr) -> fmt::Result {
    if let Some(mapped) = addr.to_ipv4_mapped() {
        w.write_str("::ffff:")?;
        return write_v4(w, mapped);
    }
    let segments = addr.segments();
    let (start, end) = longest_zeros(&segments);
    for (at, segment) in segments.iter().enumerate() {
        if at == start {
            w.write_str("::")?;
        } else if at < start || at >= end {
            if at != 0 && at != end {
                w.write_char(':')?;
            }
            write!(w, "{:x}", *segment)?;
        }
    }
    Ok(())
}

/// The first of the longest runs of two or more zeros, from its start to behind its end; a run
/// behind the last segment if there is none.
fn longest_zeros(segments: &[u16; 8]) -> (usize, usize) {
    let mut best = (segments.len(), segments.len());
    let mut best_length = 1;
    let mut length = 0;
    for (segment, end) in segments.iter().zip(1..) {
        length = if *segment == 0 { length + 1 } else { 0 };
        if length > best_length {
            best = (end - length, end);
            best_length = length;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::{Address, Name, Reason, Zone, MAX_PATH, MAX_TEXT};
    use core::net::{Ipv4Addr, Ipv6Addr};

    const HOST4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const HOST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

    fn tcp4(port: u16) -> Result<Address<'static>, Reason> {
        Ok(Address::Tcp4 { addr: HOST4, port })
    }

    fn tcp6(port: u16) -> Result<Address<'static>, Reason> {
        Ok(Address::Tcp6 {
            addr: HOST6,
            zone: None,
            port,
        })
    }

    #[test]
    fn forms() {
        assert_eq!(Address::parse("192.0.2.1"), tcp4(10809));
        assert_eq!(Address::parse("192.0.2.1:10809"), tcp4(10809));
        assert_eq!(Address::parse("192.0.2.1:00001"), tcp4(1));
        assert_eq!(Address::parse("192.0.2.1:65535"), tcp4(65535));
        assert_eq!(Address::parse("[2001:db8::1]"), tcp6(10809));
        assert_eq!(Address::parse("[2001:DB8:0::1]:99"), tcp6(99));
        for (word, path) in [
            ("unix:/run/a[1]=b:c", &b"/run/a[1]=b:c"[..]),
            (r"unix:\057run/a\040b", b"/run/a b"),
        ] {
            let path = Name::plain(path);
            assert_eq!(Address::parse(word), Ok(Address::Unix { path }));
        }
    }

    #[test]
    fn zones() {
        for (word, host, name, port) in [
            ("[fe80::1%eth0]", "fe80::1", "eth0", 10809),
            ("[FE80:0::1%br-lan.7]:9", "fe80::1", "br-lan.7", 9),
            ("[febf::%a%b]:9", "febf::", "a%b", 9),
            ("[2001:db8::1%lo]:9", "2001:db8::1", "lo", 9),
        ] {
            let addr = host.parse().expect(host);
            let zone = Zone::new(name);
            assert_eq!(Address::parse(word), Ok(Address::Tcp6 { addr, zone, port }));
        }
        for word in [
            "[fe80::1%]",
            "[fe80::1%.]",
            "[fe80::1%eth0/1]",
            "[fe80::1%eth0:1]:2",
            "[fe80::1%0123456789abcdef]",
        ] {
            assert_eq!(Address::parse(word), Err(Reason::MalformedZone), "{word}");
        }
        for word in ["[fe80::1]", "[febf::1]:99"] {
            assert_eq!(Address::parse(word), Err(Reason::ZoneMissing), "{word}");
        }
        assert!(Address::parse("[fec0::1]").is_ok());
        let plain = |word| Address::parse(word).map(|address| address.plain());
        assert_eq!(plain("[2001:db8::1%lo]"), plain("[2001:db8::1]"));
        assert_ne!(plain("[fe80::1%lo]"), plain("[fe80::1%eth0]"));
        assert_ne!(
            Address::parse("[2001:db8::1%lo]"),
            Address::parse("[2001:db8::1]")
        );
    }

    #[test]
    fn malformed() {
        for word in [
            "localhost",
            "192.0.2",
            "192.0.2.256",
            "192.0.2.01",
            "192.0.2.1:",
            "192.0.2.1:x",
            "192.0.2.1:+1",
            "192.0.2.1:1:2",
            "2001:db8::1",
            "[192.0.2.1]",
            "[2001:db8::1",
            "[2001:db8::1]1",
            "[2001:db8::1]:",
            "[%eth0]",
            "192.0.2.1%eth0",
            "[192.0.2.1%eth0]",
            "[]",
            ":1",
            "UNIX:/x",
            "name=disk",
        ] {
            assert_eq!(
                Address::parse(word),
                Err(Reason::MalformedAddress),
                "{word}"
            );
        }
    }

    #[test]
    fn ports() {
        for word in [
            "192.0.2.1:0",
            "192.0.2.1:65536",
            "192.0.2.1:18446744073709551617",
            "[::1]:0",
            "[::1]:65536",
        ] {
            assert_eq!(Address::parse(word), Err(Reason::PortOutOfRange), "{word}");
        }
    }

    #[test]
    fn paths() {
        let longest = format!("unix:/{}", "x".repeat(MAX_PATH - 1));
        assert!(Address::parse(&longest).is_ok());
        assert_eq!(
            Address::parse(&format!("{longest}x")),
            Err(Reason::PathTooLong)
        );
        let escaped = format!("unix:/{}", r"\377".repeat(MAX_PATH - 1));
        assert!(Address::parse(&escaped).is_ok());
        assert_eq!(
            Address::parse(&format!("{escaped}x")),
            Err(Reason::PathTooLong)
        );
        assert_eq!(Address::parse(r"unix:/\40x"), Err(Reason::BadEscape));
        assert_eq!(Address::parse("unix:run"), Err(Reason::PathNotAbsolute));
        assert_eq!(Address::parse("unix:"), Err(Reason::PathNotAbsolute));
    }

    #[test]
    fn one_text_for_each() {
        for (word, transport, text) in [
            ("192.0.2.1", "tcp", "192.0.2.1:10809"),
            ("[2001:DB8:0::1]:99", "tcp", "[2001:db8::1]:99"),
            ("[::]", "tcp", "[::]:10809"),
            ("[::ffff:192.0.2.1]", "tcp", "[::ffff:192.0.2.1]:10809"),
            ("[1:0:0:2:0:0:0:3]", "tcp", "[1:0:0:2::3]:10809"),
            ("[1:0:0:2:3:0:0:4]", "tcp", "[1::2:3:0:0:4]:10809"),
            ("[1:0:2:3:4:5:6:7]", "tcp", "[1:0:2:3:4:5:6:7]:10809"),
            ("[1:2:3:4:5:6::]", "tcp", "[1:2:3:4:5:6::]:10809"),
            ("[FE80::1%Eth0]", "tcp", "[fe80::1%Eth0]:10809"),
            ("unix:/run/nbd.sock", "unix", "/run/nbd.sock"),
            (r"unix:/a\040\142\134", "unix", r"/a\040b\134"),
        ] {
            let address = Address::parse(word).expect(word);
            assert_eq!(address.transport(), transport);
            assert_eq!(address.text().as_str(), text);
        }
        let longest = [0xff; MAX_PATH];
        let path = Name::plain(&longest);
        let text = Address::Unix { path }.text();
        assert_eq!(text.as_str().len(), MAX_TEXT);
    }
}
