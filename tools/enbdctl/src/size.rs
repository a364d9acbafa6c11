// SPDX-License-Identifier: GPL-2.0

//! Sizes, speeds and times as people read and write them.

const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// Bytes in three figures: `64.0 GiB`, `512 B`.
pub fn bytes(number: u64) -> String {
    let mut unit = 0;
    let mut value = number as f64;
    // 1023.95 would be shown as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or("EiB");
    match (unit, value) {
        (0, _) => format!("{number} {name}"),
        (_, value) if value < 99.95 => format!("{value:.1} {name}"),
        (_, value) => format!("{value:.0} {name}"),
    }
}

/// Seconds in one unit: `40 s`, `12 min`, `3 h`, `3 d`.
pub fn seconds(number: u64) -> String {
    match number {
        0..=119 => format!("{number} s"),
        120..=7199 => format!("{} min", number / 60),
        7200..=172_799 => format!("{} h", number / 3600),
        _ => format!("{} d", number / 86400),
    }
}

/// A speed in KiB/s: `51200`, `50M`, `1G`; K, M and G are powers of 1024 a second.
///
/// # Errors
///
/// It is no such text, or more than 32 bits hold.
pub fn parse_speed(text: &str) -> Result<u32, String> {
    let wrong = || format!("{text:?} is no speed: KiB/s, or a number with K, M or G");
    let (number, factor) = match text.chars().next_back() {
        Some('K' | 'k') => (text.get(..text.len() - 1), 1u64),
        Some('M' | 'm') => (text.get(..text.len() - 1), 1 << 10),
        Some('G' | 'g') => (text.get(..text.len() - 1), 1 << 20),
        _ => (Some(text), 1),
    };
    let number = number.filter(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    let number: u64 = number.and_then(|n| n.parse().ok()).ok_or_else(wrong)?;
    let speed = number
        .checked_mul(factor)
        .and_then(|speed| u32::try_from(speed).ok());
    speed.ok_or_else(|| format!("{text:?} is more than {} KiB/s", u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::{bytes, parse_speed, seconds};

    #[test]
    fn sizes() {
        for (number, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (64 << 30, "64.0 GiB"),
            ((1 << 30) - 1, "1.0 GiB"),
            (100 << 20, "100 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }

    #[test]
    fn times() {
        for (number, text) in [
            (0, "0 s"),
            (119, "119 s"),
            (120, "2 min"),
            (7200, "2 h"),
            (300_000, "3 d"),
        ] {
            assert_eq!(seconds(number), text);
        }
    }

    #[test]
    fn speeds() {
        for (text, speed) in [
            ("0", 0),
            ("7", 7),
            ("7K", 7),
            ("50M", 51200),
            ("1G", 1 << 20),
        ] {
            assert_eq!(parse_speed(text), Ok(speed));
        }
        for text in [
            "",
            "M",
            "-1",
            "1.5M",
            "50MB",
            "4096G",
            "99999999999999999999",
            "M\u{e9}",
        ] {
            assert!(parse_speed(text).is_err(), "{text}");
        }
    }
}
