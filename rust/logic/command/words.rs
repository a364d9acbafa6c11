// SPDX-License-Identifier: GPL-2.0

//! The words of a value, and the numbers and switches among them.
//!
//! Shape: [`Words`] hands out the words from left to right; what is left at the end is an error.
//! Errors: [`Reason::ValueMissing`] where a word must stand, and the reasons of its form and range.

use super::Reason;
use crate::logic::ids::GroupId;
use core::str::SplitAsciiWhitespace;

/// The words of a value that are still unread.
pub(super) struct Words<'a>(SplitAsciiWhitespace<'a>);

impl<'a> Words<'a> {
    /// The words of `value`, which may be none.
    pub(super) fn new(value: &'a str) -> Self {
        Self(value.split_ascii_whitespace())
    }

    /// The next word, if there is one.
    pub(super) fn next(&mut self) -> Option<&'a str> {
        self.0.next()
    }

    /// The next word as a number from `least` to `most`; `range` is the reason if it is outside.
    pub(super) fn number(&mut self, least: u32, most: u32, range: Reason) -> Result<u32, Reason> {
        bounded(self.next().ok_or(Reason::ValueMissing)?, least, most, range)
    }

    /// The next word as a switch: 0 or 1.
    pub(super) fn switch(&mut self) -> Result<bool, Reason> {
        match self.number(0, 1, Reason::SwitchOutOfRange)? {
            0 => Ok(false),
            _ => Ok(true),
        }
    }

    /// The next word as a group's number.
    pub(super) fn group(&mut self) -> Result<GroupId, Reason> {
        group(self.next().ok_or(Reason::ValueMissing)?)
    }

    /// The next word as a speed in KiB/s; 0 is none.
    pub(super) fn speed(&mut self) -> Result<u32, Reason> {
        self.number(0, u32::MAX, Reason::SpeedOutOfRange)
    }

    /// Ends the value: no word may be left.
    pub(super) fn finish(mut self) -> Result<(), Reason> {
        match self.next() {
            None => Ok(()),
            Some(_) => Err(Reason::UnexpectedWord),
        }
    }
}

/// A word as a group's number.
pub(super) fn group(word: &str) -> Result<GroupId, Reason> {
    let group = bounded(word, 0, u32::from(u8::MAX), Reason::GroupOutOfRange)?;
    GroupId::new(group as usize).ok_or(Reason::GroupOutOfRange)
}

/// A word as a number from `least` to `most`; `range` is the reason if it is outside.
pub(super) fn bounded(word: &str, least: u32, most: u32, range: Reason) -> Result<u32, Reason> {
    let value = decimal(word).ok_or(Reason::NotANumber)?;
    match u32::try_from(value) {
        Ok(value) if (least..=most).contains(&value) => Ok(value),
        _ => Err(range),
    }
}

/// The value of a word of decimal digits, `u64::MAX` if it is more; none for any other word.
///
/// A number that is too long saturates instead of failing: it is a number all the same, and each
/// range ends far below.
pub(super) fn decimal(word: &str) -> Option<u64> {
    if word.is_empty() {
        return None;
    }
    let mut value: u64 = 0;
    for letter in word.chars() {
        let digit = letter.to_digit(10)?;
        value = value.saturating_mul(10).saturating_add(u64::from(digit));
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::{bounded, decimal, Words};
    use crate::logic::command::Reason;

    #[test]
    fn decimals_have_digits_only() {
        assert_eq!(decimal("0"), Some(0));
        assert_eq!(decimal("0007"), Some(7));
        assert_eq!(decimal("18446744073709551615"), Some(u64::MAX));
        assert_eq!(decimal("18446744073709551616"), Some(u64::MAX));
        for word in ["", "+1", "-1", "0x10", "1e3", "1.0", "1_000", "\u{0663}"] {
            assert_eq!(decimal(word), None, "{word:?}");
        }
    }

    #[test]
    fn bounds_are_inclusive() {
        let get = |word| bounded(word, 2, 4, Reason::TimeoutOutOfRange);
        assert_eq!(get("1"), Err(Reason::TimeoutOutOfRange));
        assert_eq!(get("2"), Ok(2));
        assert_eq!(get("4"), Ok(4));
        assert_eq!(get("5"), Err(Reason::TimeoutOutOfRange));
        assert_eq!(get("4294967298"), Err(Reason::TimeoutOutOfRange));
        assert_eq!(get("two"), Err(Reason::NotANumber));
    }

    #[test]
    fn words_end() {
        let mut words = Words::new(" \t1  x ");
        assert_eq!(words.switch(), Ok(true));
        assert_eq!(words.finish(), Err(Reason::UnexpectedWord));
        let mut words = Words::new("");
        assert_eq!(words.switch(), Err(Reason::ValueMissing));
        assert_eq!(words.finish(), Ok(()));
    }
}
