// SPDX-License-Identifier: GPL-2.0

//! The interface through which a link-local address is reached: `eth0` of `[fe80::1%eth0]`.
//!
//! It is a name and no number: the interface may come, go, and come back with another number. Here
//! nothing knows whether there is one of that name.

/// The longest name of an interface, in bytes: `IFNAMSIZ` less its NUL.
pub const MAX_ZONE: usize = 15;

/// The name of a network interface.
// INVARIANT: the first `used` bytes are graphic ASCII.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Zone {
    bytes: [u8; MAX_ZONE],
    used: usize,
}

impl Zone {
    /// The interface `name`, if the kernel lets one have that name: 1 to [`MAX_ZONE`] characters,
    /// neither `/` nor `:`, not `.` or `..`. A `]` would end the address.
    pub fn new(name: &str) -> Option<Self> {
        let is_legal = |byte: u8| byte.is_ascii_graphic() && !b"/:]".contains(&byte);
        if matches!(name, "" | "." | "..") || !name.bytes().all(is_legal) {
            return None;
        }
        let mut bytes = [0; MAX_ZONE];
        bytes
            .get_mut(..name.len())?
            .copy_from_slice(name.as_bytes());
        Some(Self {
            bytes,
            used: name.len(),
        })
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        let used = self.bytes.get(..self.used).unwrap_or(&[]);
        core::str::from_utf8(used).unwrap_or("")
    }
}

#[cfg(test)]
mod tests {
    use super::{Zone, MAX_ZONE};

    #[test]
    fn names_of_interfaces() {
        let longest = "x".repeat(MAX_ZONE);
        for name in ["eth0", "br-lan.7", "a%b", "1", "...", longest.as_str()] {
            let zone = Zone::new(name).expect(name);
            assert_eq!(zone.as_str(), name);
            assert_eq!(Some(zone), Zone::new(name));
        }
        assert_ne!(Zone::new("eth0"), Zone::new("eth00"));
    }

    #[test]
    fn what_is_none() {
        let too_long = "x".repeat(MAX_ZONE + 1);
        for name in [
            "", ".", "..", "a/b", "eth0:1", "a]", "a b", "a\0", "\u{e4}", &too_long,
        ] {
            assert_eq!(Zone::new(name), None, "{name:?}");
        }
    }
}
