// SPDX-License-Identifier: GPL-2.0

//! Numbers as the status shows them, read back: `967`, `2.58K`, `7.4058K`.
//!
//! Units: K is 1024, M 1024K, and so on to E. The decimals are those of 2003, which are not those
//! of the number divided by 1024 but a little more; so that the way of writing them is done for each
//! 1024th, and the ones that look so are taken.

/// A number of which only a rounded form is known.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Figure {
    /// The least number that looks so.
    pub least: u64,
    /// The most.
    pub most: u64,
}

const SUFFIXES: &str = "KMGTPE";

impl Figure {
    /// A number that is known.
    pub const fn exact(number: u64) -> Self {
        Self {
            least: number,
            most: number,
        }
    }

    /// Reads a figure; none if it is no such text, or if no number looks so.
    pub fn parse(word: &str) -> Option<Self> {
        let Some((number, suffix)) = word
            .char_indices()
            .next_back()
            .filter(|(_, letter)| SUFFIXES.contains(*letter))
            .and_then(|(at, letter)| Some((word.get(..at)?, SUFFIXES.find(letter)?)))
        else {
            return plain(word).map(Self::exact);
        };
        let (whole, decimals) = number.split_once('.')?;
        let whole = plain(whole)?;
        if decimals.is_empty() || decimals.len() > 4 {
            return None;
        }
        let (places, shown) = (decimals.len(), plain(decimals)?);
        // The decimals grow with the 1024ths.
        let first = first_rest(|rest| decimals_of(rest, places) >= shown);
        let behind = first_rest(|rest| decimals_of(rest, places) > shown);
        let last = behind.checked_sub(1).filter(|&last| last >= first)?;
        // The suffix stands for 1024 to the power of its place, of which one is the 1024ths.
        let unit = 1u64.checked_shl(u32::try_from(suffix).ok()?.checked_mul(10)?)?;
        let scaled = |rest| {
            whole
                .checked_mul(1024)?
                .checked_add(rest)?
                .checked_mul(unit)
        };
        Some(Self {
            least: scaled(first)?,
            most: scaled(last)?.checked_add(unit.checked_sub(1)?)?,
        })
    }

    /// The number, if there is only one.
    pub fn number(self) -> Option<u64> {
        (self.least == self.most).then_some(self.least)
    }

    /// Whether the number can be this one.
    pub fn contains(self, number: u64) -> bool {
        (self.least..=self.most).contains(&number)
    }

    /// What both say; `self` if they contradict each other.
    pub fn narrowed(self, other: Self) -> Self {
        let both = Self {
            least: self.least.max(other.least),
            most: self.most.min(other.most),
        };
        if both.least <= both.most {
            both
        } else {
            self
        }
    }

    /// The figure of a number that is so many times as large.
    pub fn times(self, factor: u64) -> Self {
        Self {
            least: self.least.saturating_mul(factor),
            most: self.most.saturating_mul(factor),
        }
    }

    /// The figure of the sum.
    pub fn plus(self, other: Self) -> Self {
        Self {
            least: self.least.saturating_add(other.least),
            most: self.most.saturating_add(other.most),
        }
    }

    /// The figure of what is left of it without `other`.
    pub fn less(self, other: Self) -> Self {
        Self {
            least: self.least.saturating_sub(other.most),
            most: self.most.saturating_sub(other.least),
        }
    }
}

/// A number of digits alone.
pub(crate) fn plain(word: &str) -> Option<u64> {
    let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| word.parse().ok()).flatten()
}

/// The first of the 1024ths for which this holds, as it then does for all that follow; 1024 if there
/// is none.
fn first_rest(holds: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0u64, 1024u64);
    while low < high {
        let middle = low.midpoint(high);
        if holds(middle) {
            high = middle;
        } else {
            low = middle.saturating_add(1);
        }
    }
    low
}

/// So many decimals of `rest` 1024ths as one number, one digit after the other, what is below one
/// dropped each time.
fn decimals_of(rest: u64, places: usize) -> u64 {
    let mut rest = rest;
    let mut number = 0;
    for _ in 0..places {
        let digit = (rest * 10 / 1024).min(9);
        number = number * 10 + digit;
        rest = (rest - digit * 1024 / 10) * 10;
    }
    number
}

#[cfg(test)]
mod tests {
    use super::Figure;

    #[test]
    fn figures_that_there_are() {
        for (word, least, most) in [
            ("0", 0, 0),
            ("1023", 1023, 1023),
            ("7.4058K", 7583, 7583),
            ("2.530K", 2591, 2591),
            ("1.00K", 1024, 1034),
            ("1.0000M", 1 << 20, (1 << 20) + 1023),
            ("15.9996E", u64::MAX - (1 << 50) + 1, u64::MAX),
        ] {
            assert_eq!(Figure::parse(word), Some(Figure { least, most }), "{word}");
        }
    }

    #[test]
    fn words_that_are_none() {
        for word in [
            "",
            "K",
            "-1",
            "+1",
            "1K",
            "1.K",
            ".5K",
            "1.00",
            "1.00k",
            "1.00KB",
            "1.00000K",
            "1.x0K",
            "16.0000E",
            "1.99999K",
            "0x10",
            "\u{663}",
            "99999999999999999999",
        ] {
            assert_eq!(Figure::parse(word), None, "{word}");
        }
    }

    #[test]
    fn a_contradiction_narrows_nothing() {
        let (few, many) = (Figure::exact(3), Figure { least: 5, most: 9 });
        assert_eq!(many.narrowed(few), many);
        assert_eq!(
            many.narrowed(Figure { least: 1, most: 6 }),
            Figure { least: 5, most: 6 }
        );
    }
}
