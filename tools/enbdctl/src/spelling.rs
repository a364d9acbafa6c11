// SPDX-License-Identifier: GPL-2.0

//! Names of exports and paths of sockets as /proc/nbdinfo spells them: see
//! [`Name`](enbd_logic::logic::command::Name).

use enbd_logic::logic::command::Name;

/// The spelling of a name.
pub fn spell(name: &str) -> String {
    let bytes = Name::plain(name.as_bytes()).spelled();
    bytes.map(char::from).collect()
}

/// The name that is spelt so; none if it is no spelling, or not UTF-8.
pub fn unspell(text: &str) -> Option<String> {
    let name = Name::parse(text).ok()?;
    String::from_utf8(name.bytes().collect()).ok()
}

#[cfg(test)]
mod tests {
    use super::{spell, unspell};

    #[test]
    fn what_is_spelt_is_read_back() {
        for (name, text) in [
            ("disk", "disk"),
            ("VM disk", r"VM\040disk"),
            (r"a\b", r"a\134b"),
            ("B\u{fc}ro", r"B\303\274ro"),
        ] {
            assert_eq!(spell(name), text);
            assert_eq!(unspell(text).as_deref(), Some(name));
        }
        assert_eq!(unspell(r"\9"), None);
        assert_eq!(unspell(r"\377"), None);
    }
}
