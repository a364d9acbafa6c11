// SPDX-License-Identifier: GPL-2.0

//! When a channel tries to connect again.

/// How often in a row a channel has not come up.
#[derive(Debug, Default)]
pub struct Retry {
    tries: u32,
}

impl Retry {
    /// It came up, and has been lost since.
    pub fn was_up(&mut self) {
        self.tries = 0;
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
