// SPDX-License-Identifier: GPL-2.0

//! Identities: random numbers that nobody else has.

use core::{
    fmt::{self, Write},
    num::NonZeroU64,
};

/// Of a mirror, or of a member.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Uuid([u8; 16]);

impl Uuid {
    /// A new one, of two random numbers: version 4 of RFC 9562, section 5.4.
    pub fn new(random: [u64; 2]) -> Self {
        let [high, low] = random;
        let high = (high & !0xf000) | 0x4000;
        let low = (low & !(3 << 62)) | 2 << 62;
        let ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]) =
            (high.to_be_bytes(), low.to_be_bytes());
        Self([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    }

    /// As it stands in a block; nothing if all of it is zero.
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }

    /// Back to that.
    pub fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// Writes it as text, `41c0a6b2-...`.
    pub fn write<W: Write>(self, to: &mut W) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                to.write_char('-')?;
            }
            write!(to, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// A line of the mirror's life. A new one is drawn whenever the set of the members that are in sync
/// gets smaller, so that two lives that parted never have the same. Never 0.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Generation(NonZeroU64);

impl Generation {
    /// A new one, of a random number.
    pub fn new(random: u64) -> Self {
        Self(NonZeroU64::new(random).unwrap_or(NonZeroU64::MIN))
    }

    /// As it stands in a block; nothing for 0.
    pub fn from_bits(bits: u64) -> Option<Self> {
        NonZeroU64::new(bits).map(Self)
    }

    /// Back to that.
    pub fn bits(self) -> u64 {
        self.0.get()
    }
}

/// Text of at most 63 bytes, as in a host's name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Name([u8; 64]);

impl Name {
    /// No text.
    pub const NONE: Self = Self([0; 64]);

    /// The first 63 bytes of `text`.
    pub fn new(text: &[u8]) -> Self {
        let mut name = [0; 64];
        for (to, from) in name.iter_mut().take(63).zip(text) {
            *to = *from;
        }
        Self(name)
    }

    /// As it stands in a block.
    pub fn from_bytes(bytes: [u8; 64]) -> Self {
        Self::new(&bytes)
    }

    /// Back to that.
    pub fn bytes(self) -> [u8; 64] {
        self.0
    }

    /// Writes what is before the first zero. It comes from a server: what is not printable is a `?`.
    pub fn write<W: Write>(self, to: &mut W) -> fmt::Result {
        for byte in self.0.iter().take_while(|&&byte| byte != 0) {
            let is_plain = byte.is_ascii_graphic();
            to.write_char(if is_plain { char::from(*byte) } else { '?' })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_written_as_people_know_it() {
        let uuid = Uuid::new([0x0123_4567_89ab_cdef, u64::MAX]);
        let mut text = String::new();
        uuid.write(&mut text).unwrap();
        assert_eq!(text, "01234567-89ab-4def-bfff-ffffffffffff");
        assert_eq!(Uuid::from_bytes(uuid.bytes()), Some(uuid));
        assert_eq!(Uuid::from_bytes([0; 16]), None);
        assert_eq!(
            Generation::from_bits(Generation::new(0).bits()),
            Some(Generation::new(1))
        );
        assert_eq!(Generation::from_bits(0), None);
    }

    #[test]
    fn a_name_is_cut_and_made_printable() {
        let mut text = String::new();
        Name::from_bytes([b'x'; 64]).write(&mut text).unwrap();
        assert_eq!(text, "x".repeat(63));
        text.clear();
        Name::new(b"a\n\xff b").write(&mut text).unwrap();
        assert_eq!(text, "a???b");
        assert_eq!(Name::new(b""), Name::NONE);
    }
}
