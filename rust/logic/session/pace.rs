// SPDX-License-Identifier: GPL-2.0

//! How much may be on its way on a channel, by what it has been seen to carry.
//!
//! What is asked for over a slow line waits there, where nobody can take it back: the channel cannot be
//! removed before all of it has come, and a request that comes later waits behind it, though another
//! group is idle. So a channel is given no more than it carries in [`HOLD_MS`], but for one transfer.
//!
//! It is looked at about every [`TICK_MS`]. If more was on its way at the last look than has come since,
//! the line was busy all the time, and what has come is what it can carry. Else it is what it can carry
//! at least: the bound is never lowered because little was asked for.

use super::serving::TICK_MS;

/// How long a channel may take, by its pace, for what is on its way, in milliseconds: half of what it
/// has when it is removed.
const HOLD_MS: u64 = super::serving::DRAIN_MS / 2;

/// Bounds that do not depend on what was seen, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The bound of a channel that has carried nothing yet.
    pub first: u64,
    /// The least one. A channel with nothing on its way always takes a transfer, of any length.
    pub least: u64,
}

impl Limits {
    /// A line of 80 MB/s and 100 ms is full with the first one, and an eighth of it with the least, which
    /// shows that it can carry more.
    pub const USUAL: Self = Self {
        first: 8 << 20,
        least: 1 << 20,
    };
}

/// The pace of a connection.
pub struct Pace {
    limits: Limits,
    bound: u64,
    looked_ms: u64,
    /// Bytes that were on their way when it was looked at last.
    was_out: u64,
    /// Bytes that have come since.
    came: u64,
}

impl Pace {
    /// That of a new one.
    pub fn new(limits: Limits, now_ms: u64) -> Self {
        Self {
            limits,
            bound: limits.first,
            looked_ms: now_ms,
            was_out: 0,
            came: 0,
        }
    }

    /// So many bytes of data have come, or were taken.
    pub fn came(&mut self, bytes: u64) {
        self.came = self.came.saturating_add(bytes);
    }

    /// Looks at it, with `out` bytes on their way; gives the bound if it is another one now.
    pub fn look(&mut self, now_ms: u64, out: u64) -> Option<u64> {
        let passed_ms = now_ms.saturating_sub(self.looked_ms);
        if passed_ms < u64::from(TICK_MS) {
            return None;
        }
        let seen = self.came.saturating_mul(HOLD_MS).checked_div(passed_ms)?;
        let was_busy = self.was_out > self.came;
        let old = self.bound;
        self.bound = if seen >= old {
            seen
        } else if was_busy {
            // One pause is no new pace.
            seen.max(old / 2).max(self.limits.least)
        } else {
            old
        };
        self.looked_ms = now_ms;
        self.was_out = out;
        self.came = 0;
        (self.bound != old).then_some(self.bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;
    const LIMITS: Limits = Limits {
        first: 1000 * KIB,
        least: 100 * KIB,
    };

    /// What is seen at a look: when, bytes on their way, bytes that came since the last one, and the
    /// bound that follows, in KiB.
    type Look = (u64, u64, u64, u64);

    fn check(what: &str, looks: &[Look]) {
        let mut pace = Pace::new(LIMITS, 0);
        let mut bound = LIMITS.first;
        for &(now_ms, out, came, expected) in looks {
            pace.came(came * KIB);
            bound = pace.look(now_ms, out * KIB).unwrap_or(bound);
            assert_eq!(bound / KIB, expected, "{what}, {now_ms} ms");
        }
    }

    #[test]
    fn the_bound_follows_what_the_line_carries() {
        check(
            "a fast line",
            &[(500, 900, 5000, 25000), (1000, 900, 8000, 40000)],
        );
        check(
            "a slow line",
            &[
                (500, 900, 50, 1000),
                (1000, 900, 50, 500),
                (1500, 500, 50, 250),
                (2000, 250, 50, 250),
                (2500, 250, 60, 300),
            ],
        );
        check(
            "little is asked for",
            &[
                (500, 0, 10, 1000),
                (1000, 10, 10, 1000),
                (1500, 900, 20, 1000),
            ],
        );
        check(
            "much is asked for just before the look",
            &[
                (500, 0, 0, 1000),
                (1000, 900, 0, 1000),
                (1500, 0, 900, 4500),
            ],
        );
        check(
            "a server that pauses, and goes on",
            &[
                (500, 900, 1000, 5000),
                (1000, 900, 0, 2500),
                (1500, 900, 0, 1250),
                (2000, 900, 0, 625),
                (2500, 900, 0, 312),
                (3000, 900, 0, 156),
                (3500, 900, 0, 100),
                (4000, 900, 0, 100),
                (4500, 900, 1000, 5000),
            ],
        );
    }

    #[test]
    fn it_is_looked_at_now_and_then_and_for_as_long_as_that_was() {
        check("often", &[(100, 900, 100, 1000), (499, 900, 100, 1000)]);
        check("once", &[(100, 900, 100, 1000), (600, 900, 380, 2000)]);
        check("seldom", &[(25_000, 900, 20_000, 2000)]);
    }

    #[test]
    fn what_is_on_its_way_is_there_before_a_removed_channel_is_given_up() {
        let carried_ms = |bound: u64, rate: u64| bound * 1000 / rate;
        for rate in [LIMITS.least, 3 * LIMITS.least, 100 * LIMITS.least] {
            let mut pace = Pace::new(LIMITS, 0);
            let mut bound = LIMITS.first;
            for look in 1..=20 {
                pace.came(rate / 2);
                bound = pace.look(500 * look, bound.max(rate)).unwrap_or(bound);
            }
            assert!(carried_ms(bound, rate) <= HOLD_MS);
        }
    }
}
