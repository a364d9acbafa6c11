// SPDX-License-Identifier: GPL-2.0

//! Host names, and addresses as the module takes them. The module takes numbers only, so a name is
//! resolved when a command is about to be sent; one that changes later is not followed.

use crate::command::shown_address;
use crate::spelling::spell;
use crate::uri::{Host, Place, Uri};
use enbd_status::{Channel, Peer};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

/// Finds the addresses of a name.
pub trait Resolver {
    /// The addresses of this host, at least one.
    ///
    /// # Errors
    ///
    /// Why there are none, in words.
    fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, String>;
}

/// The system's own.
pub struct System;

impl Resolver for System {
    fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        let found = (name, 0u16)
            .to_socket_addrs()
            .map_err(|error| error.to_string())?;
        let mut all: Vec<IpAddr> = Vec::new();
        for address in found.map(|address: SocketAddr| address.ip()) {
            if !all.contains(&address) {
                all.push(address);
            }
        }
        if all.is_empty() {
            return Err("it has no address".to_owned());
        }
        Ok(all)
    }
}

/// The words for a server as `connect` takes them: one for each of its addresses.
///
/// # Errors
///
/// The name cannot be resolved, or the module takes no such address; in words.
pub fn addresses(uri: &Uri, resolver: &dyn Resolver) -> Result<Vec<String>, String> {
    let words = match &uri.place {
        Place::Unix { path } => vec![format!("unix:{}", spell(path))],
        Place::Tcp { host, port } => match host {
            Host::Ip(ip) => vec![tcp(*ip, *port)],
            Host::Zone(ip, zone) => vec![format!("[{ip}%{zone}]:{port}")],
            Host::Name(name) => {
                let found = resolver.resolve(name);
                let found = found.map_err(|why| format!("{name} cannot be resolved: {why}"))?;
                found.into_iter().map(|ip| tcp(ip, *port)).collect()
            }
        },
    };
    match words.iter().find(|word| shown_address(word).is_none()) {
        None => Ok(words),
        Some(word) => Err(format!("this enbd takes no such address: {word}")),
    }
}

fn tcp(ip: IpAddr, port: u16) -> String {
    SocketAddr::new(ip, port).to_string()
}

/// Whether a channel leads to one of these addresses and to this export. None where the status
/// does not show it.
pub fn leads_to(channel: &Channel, addresses: &[String], export: &str) -> Option<bool> {
    let Peer {
        transport,
        address,
        export: own,
        ..
    } = channel.peer.as_ref()?;
    let (address, own) = (address.as_ref()?, own.as_ref()?);
    let same = |word: &String| {
        shown_address(word).is_some_and(|(kind, text)| kind == transport && text == *address)
    };
    Some(*own == spell(export) && addresses.iter().any(same))
}

#[cfg(test)]
mod tests {
    use super::{addresses, Resolver};
    use crate::uri::Uri;
    use std::net::IpAddr;

    struct Fixed;

    impl Resolver for Fixed {
        fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, String> {
            match name {
                "alpha" => Ok(vec![
                    "2001:db8::1".parse().expect("v6"),
                    "192.0.2.1".parse().expect("v4"),
                ]),
                _ => Err("no such name".to_owned()),
            }
        }
    }

    #[test]
    fn words_of_servers() {
        let words = |text: &str| addresses(&Uri::parse(text).expect("a URI"), &Fixed);
        let two = ["[2001:db8::1]:99".to_owned(), "192.0.2.1:99".to_owned()];
        assert_eq!(words("nbd://alpha:99/d"), Ok(two.to_vec()));
        assert_eq!(
            words("nbd://192.0.2.1/d"),
            Ok(vec!["192.0.2.1:10809".to_owned()])
        );
        assert_eq!(
            words("nbd+unix:///d?socket=/run/x"),
            Ok(vec!["unix:/run/x".to_owned()])
        );
        let refusal = words("nbd://beta/d").expect_err("no such name");
        assert_eq!(refusal, "beta cannot be resolved: no such name");
    }
}
