// SPDX-License-Identifier: GPL-2.0

//! Names that may hold any byte but NUL: paths of sockets, and exports.
//!
//! Shape: a [`Name`] is its bytes, however they are spelt, so that `x` and `\170` are equal. A line
//! holds printable ASCII without blanks; all else is spelt as /proc/mounts spells it: a backslash
//! and three octal digits, `\040` for a blank, `\134` for the backslash. [`Name::spelled`] escapes
//! nothing else, so that what is shown can be typed back, and never breaks a line.
//! Units: bytes. Errors: [`Reason::BadEscape`].

use super::Reason;
use core::fmt::{self, Write};

/// How many bytes one byte of a name takes at most when it is spelt.
pub(super) const SPELLING: usize = 4;

/// A name, without a NUL.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a> {
    text: &'a [u8],
    /// Whether `text` spells the name, or is it.
    // INVARIANT: then every backslash begins an escape.
    is_spelled: bool,
}

impl<'a> Name<'a> {
    /// The name that has these bytes.
    pub const fn plain(bytes: &'a [u8]) -> Self {
        Self {
            text: bytes,
            is_spelled: false,
        }
    }

    /// The name that is spelt so in a command.
    ///
    /// # Errors
    ///
    /// `BadEscape`.
    pub fn parse(word: &'a str) -> Result<Self, Reason> {
        let mut rest = word.as_bytes();
        while let Some((&first, behind)) = rest.split_first() {
            rest = match first {
                b'\\' => unescape(rest).ok_or(Reason::BadEscape)?.1,
                _ => behind,
            };
        }
        Ok(Self {
            text: word.as_bytes(),
            is_spelled: true,
        })
    }

    /// Its bytes.
    pub fn bytes(self) -> Bytes<'a> {
        Bytes(self)
    }

    /// How many bytes it has.
    pub fn len(self) -> usize {
        self.bytes().count()
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.text.is_empty()
    }

    /// Its one spelling: printable ASCII without blanks.
    pub fn spelled(self) -> impl Iterator<Item = u8> + 'a {
        self.bytes().flat_map(|byte| {
            let is_plain = byte.is_ascii_graphic() && byte != b'\\';
            let octal = |shift| b'0' | byte.wrapping_shr(shift) & 7;
            let (text, len) = if is_plain {
                ([byte; SPELLING], 1)
            } else {
                ([b'\\', octal(6), octal(3), octal(0)], SPELLING)
            };
            text.into_iter().take(len)
        })
    }

    /// Writes its one spelling.
    ///
    /// # Errors
    ///
    /// Those of `w`.
    pub fn write(self, w: &mut impl Write) -> fmt::Result {
        self.spelled()
            .try_for_each(|byte| w.write_char(char::from(byte)))
    }
}

impl PartialEq for Name<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes().eq(other.bytes())
    }
}

impl Eq for Name<'_> {}

/// The bytes of a name that are still unread.
#[derive(Clone, Debug)]
pub struct Bytes<'a>(Name<'a>);

impl Iterator for Bytes<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let escaped = if self.0.is_spelled {
            unescape(self.0.text)
        } else {
            None
        };
        let (byte, rest) = match escaped {
            Some(escaped) => escaped,
            None => self
                .0
                .text
                .split_first()
                .map(|(&byte, rest)| (byte, rest))?,
        };
        self.0.text = rest;
        Some(byte)
    }
}

/// The byte of the escape that `text` begins with, and what follows it; nothing if it begins with
/// none.
fn unescape(text: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, rest) = text.strip_prefix(b"\\")?.split_first_chunk::<3>()?;
    let mut value = 0u16;
    for digit in digits {
        let digit = char::from(*digit).to_digit(8)?;
        value = value << 3 | digit as u16;
    }
    match u8::try_from(value) {
        Ok(0) | Err(_) => None,
        Ok(byte) => Some((byte, rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Name, Reason};

    fn bytes(word: &str) -> Result<Vec<u8>, Reason> {
        Name::parse(word).map(|name| name.bytes().collect())
    }

    fn spelled(bytes: &[u8]) -> String {
        let mut text = String::new();
        Name::plain(bytes)
            .write(&mut text)
            .expect("a String takes all");
        text
    }

    #[test]
    fn escapes() {
        for (word, name) in [
            ("disk", &b"disk"[..]),
            ("", b""),
            (r"VM\040disk\0401", b"VM disk 1"),
            (r"B\303\274ro", "B\u{fc}ro".as_bytes()),
            (r"\134", b"\\"),
            (r"\134040", b"\\040"),
            (r"\001\377", b"\x01\xff"),
            (r"\1700", b"x0"),
            ("a%20b=\"'#", b"a%20b=\"'#"),
        ] {
            assert_eq!(bytes(word).as_deref(), Ok(name), "{word}");
            assert_eq!(Name::parse(word), Ok(Name::plain(name)));
            assert_eq!(Name::plain(name).len(), name.len());
        }
    }

    #[test]
    fn bad_escapes() {
        for word in [
            r"\", r"a\", r"\0", r"\04", r"\04x", r"\ x", r"\n", r"\x41", r"\000", r"\400", r"\777",
            r"\\", r"\\134", r"\048", r"\-01", r"a\134\",
        ] {
            assert_eq!(bytes(word), Err(Reason::BadEscape), "{word}");
        }
    }

    #[test]
    fn one_spelling() {
        assert_eq!(spelled(b"pool/vol-1@snap#~!"), "pool/vol-1@snap#~!");
        assert_eq!(spelled(b"a b\\c\td\n"), r"a\040b\134c\011d\012");
        assert_eq!(spelled(b"\x7f\x80\xff"), r"\177\200\377");
        for byte in 1..=255 {
            let text = spelled(&[byte]);
            assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{text}");
            assert_eq!(bytes(&text).as_deref(), Ok(&[byte][..]));
        }
    }

    #[test]
    fn names_are_their_bytes() {
        assert_eq!(Name::parse("x"), Name::parse(r"\170"));
        assert_ne!(Name::parse("x"), Name::parse("y"));
        assert_ne!(Name::plain(b"x"), Name::plain(b"xx"));
        // Bytes that look like an escape are none.
        assert_ne!(Name::parse(r"\170"), Ok(Name::plain(br"\170")));
        assert!(Name::plain(b"").is_empty());
    }
}
