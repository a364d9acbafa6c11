// SPDX-License-Identifier: GPL-2.0

//! How it is noticed that an idle connection leads nowhere any more.
//!
//! A line that was cut, or a router that has forgotten the connection, shows only when something is
//! sent. If that is the next write, users wait for it. So TCP asks the other side's kernel now and
//! then, which wakes no server and no disk.

/// How an idle connection is probed. See tcp(7): TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Probing {
    /// Seconds without traffic until the first question.
    pub idle_s: u8,
    /// Seconds between two questions.
    pub interval_s: u8,
    /// So many without an answer are the end.
    pub count: u8,
}

impl Probing {
    /// So that a lost line is noticed within `timeout_s` seconds, as far as whole seconds go: from 4
    /// seconds on.
    pub fn within(timeout_s: u32) -> Self {
        const COUNT: u8 = 3;
        let part = |part: u32, most: u8| u8::try_from(timeout_s / part).unwrap_or(most).min(most);
        Self {
            idle_s: part(3, 10).max(1),
            interval_s: part(6, 5).max(1),
            count: COUNT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_line_is_noticed_in_time() {
        for timeout_s in 4..=3600 {
            let probing = Probing::within(timeout_s);
            let count = u32::from(probing.count);
            let longest_s = u32::from(probing.idle_s) + count * u32::from(probing.interval_s);
            assert!(longest_s <= timeout_s, "{timeout_s}: {probing:?}");
        }
        let usual = Probing {
            idle_s: 10,
            interval_s: 5,
            count: 3,
        };
        assert_eq!(Probing::within(30), usual);
        assert_eq!(Probing::within(3600), usual);
    }
}
