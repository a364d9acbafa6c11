// SPDX-License-Identifier: GPL-2.0

//! How often something may be done: so many times in each second, be they all at once.
//!
//! Units: milliseconds of a clock that does not go back.

/// So many in a second.
pub const MOST: usize = 10;
/// The second.
const SPAN_MS: u64 = 1000;

/// When it was done the last few times.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// The oldest of them stands at `oldest`; none while it was not done so often.
    at_ms: [Option<u64>; MOST],
    oldest: usize,
}

impl Default for Rate {
    fn default() -> Self {
        Self {
            at_ms: [None; MOST],
            oldest: 0,
        }
    }
}

impl Rate {
    /// Notes that it is done now.
    ///
    /// # Errors
    ///
    /// It must not be done before so many milliseconds have passed, at least one.
    pub fn admit(&mut self, now_ms: u64) -> Result<(), u64> {
        let Some(slot) = self.at_ms.get_mut(self.oldest) else {
            return Err(SPAN_MS);
        };
        if let Some(before) = *slot {
            let passed_ms = now_ms.saturating_sub(before);
            if passed_ms < SPAN_MS {
                return Err(SPAN_MS.saturating_sub(passed_ms));
            }
        }
        *slot = Some(now_ms);
        self.oldest = self.oldest.saturating_add(1) % MOST;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Rate, MOST, SPAN_MS};

    /// Whatever the times are: no second has more, and who waits as long as he is told is let.
    #[test]
    fn no_second_has_more() {
        for step in [0, 1, 7, 99, 100, 101, 250, 1000, 5000] {
            let mut rate = Rate::default();
            let mut done = Vec::new();
            let mut now = 3;
            for _ in 0..200 {
                match rate.admit(now) {
                    Ok(()) => done.push(now),
                    Err(ms) => {
                        assert!((1..=SPAN_MS).contains(&ms));
                        now += ms;
                        assert_eq!(rate.admit(now), Ok(()), "after what was said");
                        done.push(now);
                    }
                }
                now += step;
            }
            for window in done.windows(MOST + 1) {
                assert!(window[MOST] - window[0] >= SPAN_MS, "{window:?}");
            }
            // Nor is it refused for nothing.
            if step > SPAN_MS / MOST as u64 {
                assert_eq!(done.len(), 200);
            }
        }
    }

    #[test]
    fn all_at_once() {
        let mut rate = Rate::default();
        let admitted = (0..100).filter(|_| rate.admit(u64::MAX).is_ok()).count();
        assert_eq!(admitted, MOST);
    }
}
