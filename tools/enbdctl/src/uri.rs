// SPDX-License-Identifier: GPL-2.0

//! NBD URIs, as in the NBD project's doc/uri.md.
//!
//! Shape: `nbd://host[:port]/export` and `nbd+unix:///export?socket=/path`; the path less its first
//! `/` is the export's name, percent-decoded. `x-channels=N` is an own parameter. What enbd cannot
//! do (TLS, abstract sockets) is refused, and so is a parameter that is not known: a mistyped one
//! must not become a connection without it.

use crate::spelling::unspell;
use enbd_logic::logic::command::{DEFAULT_PORT, MAX_CONNECT_CHANNELS, MAX_PATH};
use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv6Addr};

/// The host of a URI.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Host {
    /// An address.
    Ip(IpAddr),
    /// An IPv6 address that is unique on one link only, and the name of the link.
    Zone(Ipv6Addr, String),
    /// A name that is yet to be resolved.
    Name(String),
}

/// Where a server listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// TCP.
    Tcp {
        /// The machine.
        host: Host,
        /// The port, never 0.
        port: u16,
    },
    /// A Unix socket.
    Unix {
        /// Its absolute path.
        path: String,
    },
}

/// An NBD URI. Its text is the same for all spellings of one place and export.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Uri {
    /// Where the server listens.
    pub place: Place,
    /// The export asked for; empty is the server's default.
    pub export: String,
    /// Channels asked for by the URI itself.
    pub channels: Option<u8>,
}

impl Uri {
    /// The same where its host, if that is a name, has this address.
    pub fn at(&self, ip: IpAddr) -> Self {
        let mut uri = self.clone();
        if let Place::Tcp { host, .. } = &mut uri.place {
            if matches!(host, Host::Name(_)) {
                *host = Host::Ip(ip);
            }
        }
        uri
    }

    /// Parses a URI.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| no_uri(text))?;
        let unix = match scheme.to_ascii_lowercase().as_str() {
            "nbd" => false,
            "nbd+unix" => true,
            "nbds" | "nbds+unix" => return Err("this enbd has no TLS: use nbd".to_owned()),
            _ => {
                return Err(format!(
                    "{scheme:?} is no scheme of NBD: use nbd or nbd+unix"
                ))
            }
        };
        if rest.contains('#') {
            return Err("a URI of NBD has no fragment: write # as %23".to_owned());
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let export = decode(path)?;
        check_bytes("an export's name", &export)?;
        let query = Query::parse(query, unix)?;
        let place = if unix {
            unix_place(authority, query.socket)?
        } else {
            tcp_place(authority)?
        };
        Ok(Self {
            place,
            export,
            channels: query.channels,
        })
    }

    /// The URI of a channel as the status shows it; none if it shows an address of no known form.
    pub fn of_peer(transport: &str, address: &str, export: &str) -> Option<Self> {
        let place = match transport {
            "unix" => Place::Unix {
                path: unspell(address)?,
            },
            "tcp" => tcp_place(address).ok()?,
            _ => return None,
        };
        Some(Self {
            place,
            export: unspell(export)?,
            channels: None,
        })
    }
}

fn no_uri(text: &str) -> String {
    let hint = match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) => format!("nbd://[{text}]/EXPORT"),
        _ => format!("nbd://{}/EXPORT", text.trim_matches('/')),
    };
    format!("{text:?} is no NBD URI: perhaps {hint}")
}

#[derive(Default)]
struct Query {
    socket: Option<String>,
    channels: Option<u8>,
}

impl Query {
    fn parse(text: &str, unix: bool) -> Result<Self, String> {
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value)?;
            match key {
                "socket" if !unix => {
                    return Err("socket= belongs to nbd+unix, not to nbd".to_owned());
                }
                "socket" if query.socket.is_some() => return Err("socket= stands twice".to_owned()),
                "socket" => query.socket = Some(value),
                "x-channels" if query.channels.is_some() => {
                    return Err("x-channels= stands twice".to_owned());
                }
                "x-channels" => query.channels = Some(parse_channels(&value)?),
                key if key.starts_with("tls-") => {
                    return Err(format!("this enbd has no TLS: {key}= means nothing"));
                }
                _ => return Err(format!("{key:?} is no parameter that enbd knows")),
            }
        }
        Ok(query)
    }
}

/// A number of channels of one group.
///
/// # Errors
///
/// It is no number from 1 to 16.
pub fn parse_channels(text: &str) -> Result<u8, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse::<u32>().ok()).flatten();
    number
        .filter(|number| (1..=MAX_CONNECT_CHANNELS).contains(number))
        .and_then(|number| u8::try_from(number).ok())
        .ok_or_else(|| format!("{text:?} is no number of channels: 1 to {MAX_CONNECT_CHANNELS}"))
}

fn unix_place(authority: &str, socket: Option<String>) -> Result<Place, String> {
    if !authority.is_empty() {
        return Err(format!(
            "nbd+unix has no host: nbd+unix:///EXPORT?socket=/PATH, not {authority:?}"
        ));
    }
    let path = socket.ok_or("nbd+unix needs ?socket=/PATH")?;
    if path.starts_with('\0') {
        return Err("enbd takes no abstract sockets".to_owned());
    }
    if !path.starts_with('/') {
        return Err(format!("the path of a socket must be absolute: {path:?}"));
    }
    if path.len() > MAX_PATH {
        return Err(format!("the path of a socket has at most {MAX_PATH} bytes"));
    }
    check_bytes("the path of a socket", &path)?;
    Ok(Place::Unix { path })
}

fn tcp_place(authority: &str) -> Result<Place, String> {
    if authority.contains('@') {
        return Err("a user belongs to TLS, which this enbd has not".to_owned());
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("a [ without its ]")?;
            let port = match port {
                "" => None,
                port => Some(
                    port.strip_prefix(':')
                        .ok_or("a port follows ] with a colon")?,
                ),
            };
            (bracketed(host)?, port)
        }
        None => match authority.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err(format!("an IPv6 address needs brackets: [{authority}]"));
            }
            Some((host, port)) => (name_or_v4(host)?, Some(port)),
            None => (name_or_v4(authority)?, None),
        },
    };
    let port = match port {
        None | Some("") => DEFAULT_PORT,
        Some(port) => parse_port(port)?,
    };
    Ok(Place::Tcp { host, port })
}

fn parse_port(text: &str) -> Result<u16, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = digits.then(|| text.parse().ok()).flatten();
    port.filter(|&port| port != 0)
        .ok_or_else(|| format!("{text:?} is no port: 1 to 65535"))
}

/// What stands in brackets: an IPv6 address, and a zone behind `%25` (RFC 6874) or a bare `%`.
fn bracketed(text: &str) -> Result<Host, String> {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone.strip_prefix("25").unwrap_or(zone))),
        None => (text, None),
    };
    let ip: Ipv6Addr = address
        .parse()
        .map_err(|_| format!("{address:?} is no IPv6 address"))?;
    match zone {
        None => Ok(Host::Ip(ip.into())),
        Some(zone) if is_zone(zone) => Ok(Host::Zone(ip, zone.to_owned())),
        Some(zone) => Err(format!("{zone:?} is no name of a network interface")),
    }
}

fn is_zone(zone: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"/%:[]".contains(&byte);
    (1..16).contains(&zone.len()) && zone.bytes().all(plain)
}

fn name_or_v4(text: &str) -> Result<Host, String> {
    if text.is_empty() {
        return Err("the host is missing: nbd://HOST/EXPORT".to_owned());
    }
    if let Ok(ip) = text.parse() {
        return Ok(Host::Ip(IpAddr::V4(ip)));
    }
    let label = |label: &str| {
        (1..64).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    // Digits and dots alone would be an address, and not this one.
    let numbers = name
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    if numbers || name.len() > 253 || !name.split('.').all(label) {
        return Err(format!("{text:?} is neither a host's name nor an address"));
    }
    Ok(Host::Name(name.to_ascii_lowercase()))
}

fn check_bytes(what: &str, text: &str) -> Result<(), String> {
    if text.contains('\0') {
        return Err(format!("{what} has no NUL"));
    }
    Ok(())
}

fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next(), rest.next()];
            let digit = |at: usize| {
                let digit = digits.get(at).copied().flatten()?;
                char::from(digit).to_digit(16)
            };
            let (high, low) = digit(0)
                .zip(digit(1))
                .ok_or("% needs two hexadecimal digits")?;
            bytes.push(u8::try_from(high * 16 + low).map_err(|_| "no byte")?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| format!("{text:?} is not UTF-8"))
}

fn encode(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:@!$'()*,;".contains(&byte) {
            f.write_char(char::from(byte))?;
        } else {
            write!(f, "%{byte:02X}")?;
        }
    }
    Ok(())
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp { host, port } => {
                match host {
                    Host::Ip(IpAddr::V4(ip)) => write!(f, "nbd://{ip}")?,
                    Host::Ip(IpAddr::V6(ip)) => write!(f, "nbd://[{ip}]")?,
                    Host::Zone(ip, zone) => write!(f, "nbd://[{ip}%25{zone}]")?,
                    Host::Name(name) => write!(f, "nbd://{name}")?,
                }
                if *port != DEFAULT_PORT {
                    write!(f, ":{port}")?;
                }
                f.write_char('/')?;
                encode(f, &self.export)
            }
            Place::Unix { path } => {
                f.write_str("nbd+unix:///")?;
                encode(f, &self.export)?;
                f.write_str("?socket=")?;
                encode(f, path)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Uri;
    use proptest::prelude::*;

    fn shown(text: &str) -> String {
        match Uri::parse(text) {
            Ok(uri) => uri.to_string(),
            Err(why) => panic!("{text}: {why}"),
        }
    }

    #[test]
    fn one_text_for_each() {
        for (text, canonical) in [
            ("nbd://192.0.2.1/disk", "nbd://192.0.2.1/disk"),
            ("NBD://192.0.2.1:10809/disk", "nbd://192.0.2.1/disk"),
            ("nbd://192.0.2.1:10810", "nbd://192.0.2.1:10810/"),
            ("nbd://192.0.2.1:/", "nbd://192.0.2.1/"),
            ("nbd://h//disk", "nbd://h//disk"),
            (
                "nbd://Alpha.Example.ORG./a%2fb",
                "nbd://alpha.example.org/a/b",
            ),
            (
                "nbd://[2001:DB8:0::1]:99/%64isk",
                "nbd://[2001:db8::1]:99/disk",
            ),
            ("nbd://[fe80::1%25eth0]/d", "nbd://[fe80::1%25eth0]/d"),
            ("nbd://[fe80::1%eth0]/d", "nbd://[fe80::1%25eth0]/d"),
            (
                "nbd+unix:///d?socket=/run/a%3Fb",
                "nbd+unix:///d?socket=/run/a%3Fb",
            ),
            ("nbd+unix://?socket=/run/a", "nbd+unix:///?socket=/run/a"),
            ("nbd://h/d?x-channels=2", "nbd://h/d"),
        ] {
            assert_eq!(shown(text), canonical);
            assert_eq!(shown(canonical), canonical);
        }
        let uri = Uri::parse("nbd://h/d?x-channels=16").expect("a URI");
        assert_eq!((uri.export.as_str(), uri.channels), ("d", Some(16)));
    }

    #[test]
    fn what_is_refused_and_why() {
        for (text, why) in [
            ("192.0.2.1", "perhaps nbd://192.0.2.1/EXPORT"),
            ("2001:db8::1", "perhaps nbd://[2001:db8::1]/EXPORT"),
            ("", "is no NBD URI"),
            ("http://h/d", "no scheme of NBD"),
            ("nbds://h/d", "no TLS"),
            ("nbd://h/d?tls-certificates=/x", "no TLS"),
            ("nbd://u@h/d", "belongs to TLS"),
            ("nbd:///d", "the host is missing"),
            ("nbd://h:0/d", "no port"),
            ("nbd://h:65536/d", "no port"),
            ("nbd://h:x/d", "no port"),
            ("nbd://::1/d", "needs brackets: [::1]"),
            ("nbd://[::1/d", "without its ]"),
            ("nbd://[::1]1/d", "with a colon"),
            ("nbd://[::g]/d", "no IPv6 address"),
            ("nbd://[fe80::1%25]/d", "no name of a network interface"),
            ("nbd://192.0.2.256/d", "neither a host's name"),
            ("nbd://a..b/d", "neither a host's name"),
            ("nbd://h\u{e9}/d", "neither a host's name"),
            ("nbd://h/a%00b", "has no NUL"),
            ("nbd://h/%ff", "not UTF-8"),
            ("nbd://h/%4", "two hexadecimal digits"),
            ("nbd://h/%+1", "two hexadecimal digits"),
            ("nbd://h/d#x", "no fragment"),
            ("nbd://h/d?socket=/x", "belongs to nbd+unix"),
            ("nbd://h/d?x-chanels=2", "no parameter that enbd knows"),
            ("nbd://h/d?x-channels=0", "1 to 16"),
            ("nbd://h/d?x-channels=17", "1 to 16"),
            ("nbd://h/d?x-channels=2&x-channels=2", "stands twice"),
            ("nbd+unix:///d", "needs ?socket"),
            ("nbd+unix://h/d?socket=/x", "has no host"),
            ("nbd+unix:///d?socket=x", "must be absolute"),
            ("nbd+unix:///d?socket=%00x", "no abstract sockets"),
            ("nbd+unix:///d?socket=/x&socket=/y", "stands twice"),
        ] {
            let refusal = Uri::parse(text).expect_err(text);
            assert!(refusal.contains(why), "{text}: {refusal}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "(nbd(s)?(\\+unix)?://)?\\PC{0,40}") {
            if let Ok(uri) = Uri::parse(&text) {
                let again = uri.to_string();
                let read = Uri::parse(&again).map(|read| (read.place, read.export));
                prop_assert_eq!(read, Ok((uri.place, uri.export)), "{}", again);
            }
        }

        #[test]
        fn any_name_comes_back(export in "[^\0]{0,255}", path in "/[ -~]{1,100}") {
            let uri = Uri { place: super::Place::Unix { path }, export, channels: None };
            prop_assert_eq!(Uri::parse(&uri.to_string()), Ok(uri));
        }
    }
}
