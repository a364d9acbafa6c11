// SPDX-License-Identifier: GPL-2.0

//! Which reasons for being down are worth a line in the log.
//!
//! A server that comes and goes, or is not there for days, must not fill it: each reason is told once
//! a minute at most, and the same one again only if the channel was up in between.

use super::DownReason;

/// How long a reason is not told again, in milliseconds.
const QUIET_MS: u64 = 60_000;
/// So many reasons are remembered.
const KINDS: usize = 4;

/// What was told of a channel.
#[derive(Debug, Default)]
pub struct Told {
    /// What was told, and when; the latest first.
    last: [Option<(DownReason, u64)>; KINDS],
    was_up: bool,
}

impl Told {
    /// The channel is up.
    pub fn up(&mut self) {
        self.was_up = true;
    }

    /// The channel is down: whether that is told now.
    pub fn is_news(&mut self, reason: DownReason, now_ms: u64) -> bool {
        let was_up = core::mem::replace(&mut self.was_up, false);
        let is_recent = |&(_, at_ms): &(DownReason, u64)| now_ms.saturating_sub(at_ms) < QUIET_MS;
        let mut known = self.last.iter().flatten();
        let is_last = self.last.first().copied().flatten().map(|(last, _)| last) == Some(reason);
        if known.any(|told| told.0 == reason && is_recent(told)) || is_last && !was_up {
            return false;
        }
        self.last.rotate_right(1);
        if let Some(first) = self.last.first_mut() {
            *first = Some((reason, now_ms));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use DownReason::{Closed, ConnectTimeout, Cut};

    #[test]
    fn what_stays_the_same_is_told_once() {
        let mut told = Told::default();
        assert!(told.is_news(Closed, 0));
        for minute in 1..100 {
            assert!(!told.is_news(Closed, minute * QUIET_MS));
        }
        assert!(told.is_news(Cut, 100 * QUIET_MS));
    }

    #[test]
    fn a_server_that_comes_and_goes_makes_a_line_a_minute_and_reason() {
        let mut told = Told::default();
        let mut lines = 0;
        for second in 0..600 {
            told.up();
            for reason in [Closed, ConnectTimeout] {
                lines += u32::from(told.is_news(reason, second * 1000));
            }
        }
        assert_eq!(lines, 20);
    }
}
