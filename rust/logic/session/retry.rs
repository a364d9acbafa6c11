// SPDX-License-Identifier: GPL-2.0

//! When a channel tries to connect again.

/// How long a connection has to last, in milliseconds, for what was before it to be forgotten. One
/// that ends sooner may have ended because of what it was asked, which comes again with the next one.
const STEADY_MS: u64 = 2000;
/// What a connection that has not lasted counts for at most: the server is there, so it is asked again
/// within 4 seconds.
const MOST_SHORT: u32 = 4;

/// How often in a row a channel has had no connection that lasted.
#[derive(Debug, Default)]
pub struct Retry {
    tries: u32,
}

impl Retry {
    /// It came up, and was lost so many milliseconds later.
    pub fn was_up(&mut self, ms: u64) {
        self.tries = if ms >= STEADY_MS {
            0
        } else {
            self.tries.saturating_add(1).min(MOST_SHORT)
        };
    }

    /// It did not come up.
    pub fn failed(&mut self) {
        self.tries = self.tries.saturating_add(1);
    }

    /// How long to wait before the next try, in milliseconds; see [`backoff_ms`].
    pub fn wait_ms(&self, random: u32) -> u32 {
        backoff_ms(self.tries, random)
    }
}

/// How long to wait before try number `tries` to connect again, in milliseconds: doubling from a
/// quarter of a second to half a minute, less up to a quarter of it by `random`, so that channels
/// that were lost together do not come back at one instant.
pub fn backoff_ms(tries: u32, random: u32) -> u32 {
    let whole = 250u32
        .checked_shl(tries.min(7))
        .unwrap_or(u32::MAX)
        .min(30_000);
    whole.saturating_sub(random % (whole / 4).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_connection_that_lasts_makes_the_wait_short_again() {
        let mut retry = Retry::default();
        assert_eq!(retry.wait_ms(0), 250);
        for wait_ms in [500, 1000, 2000, 4000, 4000] {
            retry.was_up(100);
            assert_eq!(retry.wait_ms(0), wait_ms);
        }
        for wait_ms in [8000, 16_000, 30_000, 30_000] {
            retry.failed();
            assert_eq!(retry.wait_ms(0), wait_ms);
        }
        // The server is there again.
        retry.was_up(100);
        assert_eq!(retry.wait_ms(0), 4000);
        retry.was_up(STEADY_MS);
        assert_eq!(retry.wait_ms(0), 250);
    }

    #[test]
    fn backoff_grows_and_is_bounded() {
        for tries in 0..40 {
            for random in [0, 1, 77, u32::MAX] {
                let ms = backoff_ms(tries, random);
                assert!(ms <= 30_000);
                assert!(ms >= (250 << tries.min(6)) * 3 / 4);
            }
        }
        assert_eq!(backoff_ms(0, 0), 250);
        assert_eq!(backoff_ms(39, 0), 30_000);
    }
}
