// SPDX-License-Identifier: GPL-2.0

//! How far a resync is, as a bar, and when it will end.
//!
//! Units: positions in blocks, the clean ones that are skipped included; times as their names say.
//! The bar is that of 2003, which was md's: `permille = pos * 1000 / (max + 1)`, so that it never
//! says 100.0% while the line stands; one `=` for 50 permille, a `>`, and dots up to 21 characters.
//! Errors: those of the writer.

use crate::logic::ids::GroupId;
use core::fmt::{self, Write};

/// The longest end in sight that is shown, in seconds: about three years, or eight digits. More
/// says only that there is no telling.
pub const MAX_FINISH_S: u64 = 99_999_999;

/// The characters of a bar that are not its `>`.
const BAR: u64 = 20;
const PERMILLE: u64 = 1000;

/// How far a resync is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ResyncStatus {
    /// The group that is brought back.
    pub group: GroupId,
    /// The block that the resync has come to.
    pub pos: u64,
    /// The number of blocks of the device.
    pub max: u64,
    /// The seconds left, as estimated by [`finish_seconds`].
    pub finish_s: u64,
}

/// Writes `[=>...................] recovery = 6.5% (270/4096) finish=8s`.
pub(super) fn write_progress(w: &mut impl Write, resync: &ResyncStatus) -> fmt::Result {
    let max = resync.max;
    let pos = resync.pos.min(max);
    let permille = permille(pos, max);
    let done = permille * BAR / PERMILLE;
    w.write_char('[')?;
    for _ in 0..done {
        w.write_char('=')?;
    }
    w.write_char('>')?;
    for _ in done..BAR {
        w.write_char('.')?;
    }
    let (percent, tenth) = (permille / 10, permille % 10);
    let finish = resync.finish_s;
    write!(
        w,
        "] recovery = {percent}.{tenth}% ({pos}/{max}) finish={finish}s"
    )
}

/// `pos * 1000 / (max + 1)` for `pos <= max`: 0 to 999.
fn permille(pos: u64, max: u64) -> u64 {
    // Halving both leaves their ratio, but for less than the bar can show of numbers this large.
    let (mut pos, mut max) = (pos, max);
    while pos > u64::MAX / PERMILLE {
        pos /= 2;
        max /= 2;
    }
    pos * PERMILLE / max.saturating_add(1)
}

/// Estimates the seconds until `left` blocks are done, if `done` took `elapsed_ms`.
///
/// Rounded up, so that it is 0 only with nothing left to do (or before any time has passed), and at
/// most [`MAX_FINISH_S`]. Before the first block is done, the time so far is taken for that of one
/// block: an estimate that errs on the short side, and grows until it is right.
pub fn finish_seconds(done: u64, left: u64, elapsed_ms: u64) -> u64 {
    // Halving the larger factor and the divisor leaves the quotient. Of what is halved enough is
    // kept for any estimate below the limit: 31 bits of the factor, 25 of the divisor.
    let (mut done, mut left, mut elapsed_ms) = (done, left, elapsed_ms);
    let milliseconds = loop {
        if let Some(product) = left.checked_mul(elapsed_ms) {
            break product.div_ceil(done.max(1));
        }
        done /= 2;
        if left > elapsed_ms {
            left /= 2;
        } else {
            elapsed_ms /= 2;
        }
    };
    milliseconds.div_ceil(1000).min(MAX_FINISH_S)
}

#[cfg(test)]
mod tests {
    use super::{finish_seconds, permille, write_progress, GroupId, ResyncStatus, MAX_FINISH_S};

    fn text(pos: u64, max: u64, finish_s: u64) -> String {
        let mut text = String::new();
        let resync = ResyncStatus {
            group: GroupId::new(1).expect("below 8"),
            pos,
            max,
            finish_s,
        };
        write_progress(&mut text, &resync).expect("a String takes all");
        text
    }

    #[test]
    fn the_bars_of_2003() {
        for (pos, finish_s, expected) in [
            (
                2,
                9,
                "[>....................] recovery = 0.0% (2/4096) finish=9s",
            ),
            (
                270,
                8,
                "[=>...................] recovery = 6.5% (270/4096) finish=8s",
            ),
            (
                426,
                13,
                "[==>..................] recovery = 10.3% (426/4096) finish=13s",
            ),
            (
                1095,
                9,
                "[=====>...............] recovery = 26.7% (1095/4096) finish=9s",
            ),
        ] {
            assert_eq!(text(pos, 4096, finish_s), expected);
        }
    }

    #[test]
    fn the_ends_of_the_bar() {
        assert_eq!(
            text(0, 0, 0),
            "[>....................] recovery = 0.0% (0/0) finish=0s"
        );
        assert_eq!(
            text(4096, 4096, 0),
            "[===================>.] recovery = 99.9% (4096/4096) finish=0s"
        );
        assert_eq!(text(5000, 4096, 0), text(4096, 4096, 0));
        assert_eq!(permille(u64::MAX, u64::MAX), 999);
        assert_eq!(permille(u64::MAX / 2, u64::MAX), 499);
        assert_eq!(permille(0, u64::MAX), 0);
    }

    #[test]
    fn estimates() {
        assert_eq!(finish_seconds(270, 3826, 600), 9);
        assert_eq!(finish_seconds(1000, 1000, 10_000), 10);
        assert_eq!(finish_seconds(1000, 1001, 10_000), 11);
        assert_eq!(finish_seconds(10, 0, 10_000), 0);
        assert_eq!(finish_seconds(0, 10, 0), 0);
        assert_eq!(finish_seconds(0, 10, 200), 2);
        assert_eq!(finish_seconds(0, u64::MAX, u64::MAX), MAX_FINISH_S);
        assert_eq!(finish_seconds(1, u64::MAX, 1000), MAX_FINISH_S);
        assert_eq!(finish_seconds(u64::MAX, u64::MAX / 2, 60_000_000), 30_000);
        assert_eq!(finish_seconds(u64::MAX, 1, u64::MAX), 1);
    }
}
