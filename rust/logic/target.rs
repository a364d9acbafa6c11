// SPDX-License-Identifier: GPL-2.0

//! What a channel leads to, and whether two channels lead to the same.
//!
//! A mirror of an export with itself is none. Two spellings of one host that only the host's owner
//! knows to be one, or a default export beside its name, are not found out.

use super::command::{Address, Name};
use super::ids::GroupId;

/// What a channel leads to, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a, N> {
    /// The group that the channel belongs to.
    pub group: GroupId,
    /// Where the server listens.
    pub addr: Address<'a>,
    /// The name of the export; empty is the server's default export.
    pub export: Name<'a>,
    /// The network namespace, of which only the identity matters.
    pub net: N,
}

impl<N: PartialEq> Target<'_, N> {
    /// Whether both are one export of one server.
    pub fn is_same(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.addr.plain(), other.addr.plain());
        // The path of a Unix socket is looked up in one root, whatever the namespace.
        let is_unix = matches!(mine, Address::Unix { .. });
        self.export == other.export && mine == theirs && (is_unix || self.net == other.net)
    }

    /// Whether two groups would have one export. One group may have many channels to it.
    pub fn is_shared_with(&self, other: &Self) -> bool {
        self.group != other.group && self.is_same(other)
    }
}

#[cfg(test)]
mod tests {
    use super::Target;
    use crate::logic::{
        command::{Address, Name},
        ids::GroupId,
    };

    fn group(index: usize) -> GroupId {
        GroupId::new(index).expect("there are several")
    }

    fn target(word: &str, export: &'static str, net: u8) -> Target<'static, u8> {
        Target {
            group: group(0),
            addr: Address::parse(word.to_owned().leak()).expect(word),
            export: Name::plain(export.as_bytes()),
            net,
        }
    }

    #[test]
    fn the_same_export() {
        let one = target("192.0.2.1:10809", "disk", 1);
        for (word, export, net, same) in [
            ("192.0.2.1", "disk", 1, true),
            ("[::ffff:192.0.2.1]", "disk", 1, true),
            ("192.0.2.1:10810", "disk", 1, false),
            ("192.0.2.2", "disk", 1, false),
            ("192.0.2.1", "disk2", 1, false),
            ("192.0.2.1", "", 1, false),
            ("192.0.2.1", "disk", 2, false),
            ("[::192.0.2.1]", "disk", 1, false),
            ("unix:/192.0.2.1:10809", "disk", 1, false),
        ] {
            let other = target(word, export, net);
            assert_eq!(one.is_same(&other), same, "{word} {export} {net}");
            assert_eq!(other.is_same(&one), same, "{word} {export} {net}");
        }
        let path = target("unix:/run/nbd", "", 1);
        assert!(path.is_same(&target("unix:/run/nbd", "", 2)));
        assert!(!path.is_same(&target("unix:/run/nbd2", "", 1)));
        let zone = target("[fe80::1%eth0]", "", 1);
        assert!(!zone.is_same(&target("[fe80::1%eth1]", "", 1)));
        let global = target("[2001:db8::1%eth0]", "", 1);
        assert!(global.is_same(&target("[2001:db8::1]", "", 1)));
    }

    #[test]
    fn only_groups_share() {
        let one = target("[2001:db8::1]", "disk", 1);
        assert!(!one.is_shared_with(&one));
        assert!(one.is_shared_with(&Target {
            group: group(7),
            ..one
        }));
        let other = target("[2001:db8::2]", "disk", 1);
        assert!(!one.is_shared_with(&Target {
            group: group(7),
            ..other
        }));
    }
}
