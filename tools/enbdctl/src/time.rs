// SPDX-License-Identifier: GPL-2.0

//! Times of the calendar.

/// Seconds of the epoch as `2030-01-01 00:00:00 UTC`; from the year 10000 on as seconds.
pub fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86400, seconds % 86400);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    match date(days) {
        Some((year, month, day)) => {
            format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
        }
        None => format!("second {seconds} of the epoch"),
    }
}

/// Year, month and day of a day since 1970-01-01; nothing from the year 10000 on.
fn date(days: u64) -> Option<(u64, u64, u64)> {
    let mut left = days;
    for year in 1970..10000u64 {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let february = if leap { 29 } else { 28 };
        let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        for (month, length) in (1..).zip(months) {
            if left < length {
                return Some((year, month, left + 1));
            }
            left -= length;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn days_of_the_calendar() {
        // As date -u -d @N says.
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (951_868_800, "2000-03-01 00:00:00 UTC"),
            (1_893_456_000, "2030-01-01 00:00:00 UTC"),
            (4_107_542_399, "2100-02-28 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
            (253_402_300_799, "9999-12-31 23:59:59 UTC"),
            (253_402_300_800, "second 253402300800 of the epoch"),
            (u64::MAX, "second 18446744073709551615 of the epoch"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }
}
