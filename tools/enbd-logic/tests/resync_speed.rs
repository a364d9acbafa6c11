// SPDX-License-Identifier: GPL-2.0

//! The throttle in simulated time: links of different speed, timers that overshoot, busy users.

use enbd_logic::logic::resync::{Bounds, Throttle, Users, MAX_DELAY_NS};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;
const KIB: u64 = 1024;
const WINDOW: u64 = 256 * KIB;

/// One simulated resync.
struct Sim {
    bounds: Bounds,
    blocksize: u32,
    /// What the link carries, in KiB/s.
    link: u64,
    /// How long a window is on its way, however many there are.
    trip_ns: u64,
    /// How many windows are in flight at once.
    depth: usize,
    /// The most by which a sleep is too long.
    slack_ns: u64,
    users: fn(u64) -> Users,
    /// The clock at the start: nothing may depend on its being 0.
    start_ns: u64,
}

impl Default for Sim {
    fn default() -> Self {
        Self {
            bounds: Bounds::default(),
            blocksize: 4096,
            link: 100 * KIB,
            trip_ns: 0,
            depth: 4,
            slack_ns: 4 * MS,
            users: |_| Users::Quiet,
            start_ns: 123_456_789_012,
        }
    }
}

fn busy(_: u64) -> Users {
    Users::Busy
}

impl Sim {
    /// The windows of `secs` seconds, as `(ns since the start, bytes)`.
    fn run(&self, secs: u64) -> Vec<(u64, u64)> {
        let mut throttle = Throttle::new(self.start_ns, self.bounds);
        let (mut now, mut total, mut link_free) = (self.start_ns, 0, self.start_ns);
        let mut flight = std::collections::VecDeque::new();
        let mut windows = Vec::new();
        let mut noise: u64 = 1;
        while now < self.start_ns + secs * SECOND {
            let wait = throttle.delay_ns(now, total, (self.users)(now - self.start_ns));
            assert!(wait <= MAX_DELAY_NS);
            while flight.front().is_some_and(|&end| end <= now) {
                flight.pop_front();
            }
            if flight.len() >= self.depth {
                now = now.max(flight.pop_front().unwrap());
                continue;
            }
            if wait == 0 && flight.len() >= throttle.windows() {
                let patience = throttle.patience_ns();
                assert!(patience > 0 && patience <= MAX_DELAY_NS);
                now = flight[0].min(now + patience);
                continue;
            }
            if wait > 0 {
                noise = noise.wrapping_mul(6364136223846793005).wrapping_add(1);
                now += wait + (noise >> 33) % (self.slack_ns + 1);
                continue;
            }
            let blocks = throttle.window_blocks(self.blocksize, WINDOW);
            let bytes = blocks * u64::from(self.blocksize);
            assert!(blocks >= 1 && bytes <= WINDOW.max(u64::from(self.blocksize)));
            total += bytes;
            windows.push((now - self.start_ns, bytes));
            link_free = link_free.max(now) + bytes * SECOND / (self.link * KIB);
            flight.push_back(link_free + self.trip_ns);
            // The copy's own work.
            now += 20_000;
        }
        windows
    }
}

/// The bytes of the windows in `from..to`.
fn bytes(windows: &[(u64, u64)], from: u64, to: u64) -> u64 {
    windows
        .iter()
        .filter(|(at, _)| (from..to).contains(at))
        .map(|(_, bytes)| bytes)
        .sum()
}

/// KiB/s over `secs` seconds.
fn rate(windows: &[(u64, u64)], secs: u64) -> u64 {
    bytes(windows, 0, secs * SECOND) / KIB / secs
}

fn within(rate: u64, want: u64, percent: u64) {
    let (low, high) = (want * (100 - percent) / 100, want * (100 + percent) / 100);
    assert!(
        (low..=high).contains(&rate),
        "{rate} instead of {want} KiB/s"
    );
}

#[test]
fn keeps_to_max() {
    for max in [32, 128, 1000, 10_000, 80_000] {
        for blocksize in [512, 1024, 4096] {
            for depth in [1, 4, 32] {
                let sim = Sim {
                    bounds: Bounds { min: 0, max },
                    blocksize,
                    depth,
                    ..Sim::default()
                };
                within(rate(&sim.run(30), 30), max, 5);
            }
        }
    }
}

#[test]
fn a_slow_max_is_smooth() {
    let sim = Sim {
        bounds: Bounds { min: 0, max: 128 },
        blocksize: 1024,
        ..Sim::default()
    };
    let windows = sim.run(20);
    for half in 0..40 {
        let seen = bytes(&windows, half * SECOND / 2, (half + 1) * SECOND / 2);
        assert!((48 * KIB..=80 * KIB).contains(&seen), "{seen} bytes");
    }
}

#[test]
fn a_block_larger_than_its_share_still_goes() {
    // 4 KiB/s in blocks of 64 KiB: one every 16 s.
    let sim = Sim {
        bounds: Bounds { min: 0, max: 4 },
        blocksize: 65536,
        ..Sim::default()
    };
    let windows = sim.run(160);
    assert_eq!(windows.len(), 10);
}

#[test]
fn no_bounds_and_no_users_is_full_speed() {
    let sim = Sim::default();
    within(rate(&sim.run(10), 10), sim.link, 5);
}

#[test]
fn busy_users_leave_min() {
    for min in [16, 100, 1000, 20_000] {
        for max in [0, min, 50_000] {
            let sim = Sim {
                bounds: Bounds { min, max },
                users: busy,
                ..Sim::default()
            };
            let windows = sim.run(30);
            within(rate(&windows, 30), min, 5);
            for second in 1..30 {
                let seen = bytes(&windows, 0, second * SECOND);
                assert!(seen * 20 >= min * KIB * second * 19, "{min}: {seen}");
            }
        }
    }
}

#[test]
fn min_above_the_link_is_never_held() {
    let sim = Sim {
        bounds: Bounds {
            min: 500 * KIB,
            max: 0,
        },
        users: busy,
        ..Sim::default()
    };
    within(rate(&sim.run(10), 10), sim.link, 5);
}

#[test]
fn the_time_of_a_copy_is_not_paid_for_twice() {
    // One copy at a time over a link that is hardly faster than the bound, and windows that
    // take longer than the credit.
    let sim = |bounds, users| Sim {
        bounds,
        users,
        link: 1000,
        depth: 1,
        ..Sim::default()
    };
    let max = Bounds { min: 0, max: 900 };
    within(rate(&sim(max, |_| Users::Quiet).run(30), 30), 900, 5);
    let min = Bounds { min: 900, max: 0 };
    within(rate(&sim(min, busy).run(30), 30), 900, 5);
}

#[test]
fn max_below_min_holds() {
    let sim = Sim {
        bounds: Bounds {
            min: 1000,
            max: 100,
        },
        users: busy,
        ..Sim::default()
    };
    within(rate(&sim.run(30), 30), 100, 5);
}

#[test]
fn without_min_busy_users_meet_one_small_window() {
    let sim = Sim {
        users: busy,
        depth: 32,
        ..Sim::default()
    };
    let windows = sim.run(1);
    for pair in windows.windows(2) {
        let (at, bytes) = pair[0];
        assert!(bytes <= 32 * KIB);
        assert!(
            pair[1].0 >= at + bytes * SECOND / (sim.link * KIB),
            "one at a time"
        );
    }
    for max in [128, 4000] {
        let sim = Sim {
            bounds: Bounds { min: 0, max },
            users: busy,
            ..Sim::default()
        };
        within(rate(&sim.run(60), 60), max / 4, 5);
    }
}

#[test]
fn on_a_long_line_busy_users_leave_a_mebibyte_a_second() {
    for trip_ns in [40 * MS, 100 * MS, 400 * MS] {
        for users in [busy, |ns| match ns / (30 * MS) % 2 {
            0 => Users::Busy,
            _ => Users::Lately,
        }] {
            let sim = Sim {
                users,
                trip_ns,
                depth: 16,
                ..Sim::default()
            };
            let windows = sim.run(30);
            within(rate(&windows, 30), 1024, 25);
            assert!(windows.iter().all(|(_, bytes)| *bytes <= 32 * KIB));
        }
    }
}

#[test]
fn less_than_that_is_had_by_asking_for_it() {
    for (bounds, wanted) in [
        (Bounds { min: 100, max: 0 }, 100),
        (Bounds { min: 0, max: 400 }, 100),
    ] {
        let sim = Sim {
            bounds,
            users: busy,
            trip_ns: 200 * MS,
            depth: 16,
            ..Sim::default()
        };
        within(rate(&sim.run(60), 60), wanted, 5);
    }
}

#[test]
fn nothing_starves() {
    // A slow link, large blocks, a deep queue or none, a coarse timer.
    for (link, depth, slack_ns) in [(64, 1, 4 * MS), (64, 32, 100 * MS), (100, 1, 100 * MS)] {
        let sim = Sim {
            blocksize: 65536,
            users: busy,
            link,
            depth,
            slack_ns,
            ..Sim::default()
        };
        let windows = sim.run(60);
        assert!(rate(&windows, 60) >= link / 6, "{}", rate(&windows, 60));
    }
}

#[test]
fn users_who_come_back_find_no_debt() {
    // Full speed for 10 s, then busy: min goes on at once, and not after hours of amends.
    let sim = Sim {
        bounds: Bounds { min: 1000, max: 0 },
        users: |now| match now {
            0..=9_999_999_999 => Users::Quiet,
            _ => Users::Busy,
        },
        ..Sim::default()
    };
    let windows = sim.run(20);
    within(bytes(&windows, 0, 10 * SECOND) / KIB / 10, sim.link, 5);
    for second in 10..19 {
        let seen = bytes(&windows, second * SECOND, (second + 1) * SECOND);
        assert!((700 * KIB..=1500 * KIB).contains(&seen), "{seen}");
    }
}

#[test]
fn idle_time_is_no_credit() {
    let bounds = Bounds { min: 0, max: 1000 };
    let mut throttle = Throttle::new(0, bounds);
    assert_eq!(throttle.delay_ns(3600 * SECOND, 0, Users::Quiet), 0);
    let (now, mut total) = (3600 * SECOND, 0);
    while throttle.delay_ns(now, total, Users::Quiet) == 0 {
        total += 4096;
    }
    // A tenth of a second's worth, and the window that uses it up.
    assert!(total <= 100 * KIB + 2 * 4096, "{total}");
}

#[test]
fn new_bounds_hold_at_once() {
    let mut throttle = Throttle::new(0, Bounds { min: 0, max: 1 });
    assert_eq!(throttle.delay_ns(0, 0, Users::Quiet), 0);
    assert_eq!(throttle.delay_ns(MS, WINDOW, Users::Quiet), MAX_DELAY_NS);
    throttle.set_bounds(Bounds { min: 0, max: 1 });
    assert_eq!(throttle.delay_ns(MS, WINDOW, Users::Quiet), MAX_DELAY_NS);
    throttle.set_bounds(Bounds { min: 0, max: 1000 });
    assert_eq!(throttle.delay_ns(MS, WINDOW, Users::Quiet), 0);
}

#[test]
fn window_is_an_eighth_of_a_second() {
    let window =
        |max, blocksize| Throttle::new(0, Bounds { min: 0, max }).window_blocks(blocksize, WINDOW);
    assert_eq!(window(0, 1024), 256);
    assert_eq!(window(128, 1024), 16);
    assert_eq!(window(128, 65536), 1);
    assert_eq!(window(u64::MAX, 512), 512);
    assert_eq!(window(1, 512), 1);
    assert_eq!(window(0, 0), WINDOW);
    // While users are busy, it is an eighth of what they leave.
    let mut throttle = Throttle::new(0, Bounds { min: 64, max: 1000 });
    assert_eq!(throttle.delay_ns(0, 0, Users::Busy), 0);
    assert_eq!(throttle.window_blocks(1024, WINDOW), 8);
    throttle.set_bounds(Bounds { min: 1000, max: 64 });
    assert_eq!(throttle.window_blocks(1024, WINDOW), 8);
}

proptest! {
    /// In no span of time more than max allows, with its credit and one window.
    #[test]
    fn never_above_max(
        max in 1u64..1_000_000,
        min in 0u64..1_000_000,
        slack_ns in 0u64..50_000_000,
        depth in 1usize..33,
        span in 1u64..5_000,
        flip in any::<bool>(),
    ) {
        let sim = Sim {
            bounds: Bounds { min, max },
            link: 1 << 20,
            slack_ns,
            depth,
            users: if flip { |now| if now / SECOND % 2 == 0 { Users::Busy } else { Users::Quiet } }
                else { |_| Users::Quiet },
            ..Sim::default()
        };
        let windows = sim.run(6);
        let span_ns = span * MS;
        let allowed = max * KIB * (span + 101) / 1000 + WINDOW.min(max * KIB / 8).max(4096);
        let (mut first, mut sum) = (0, 0);
        for (at, bytes) in &windows {
            sum += bytes;
            while windows[first].0 + span_ns <= *at {
                sum -= windows[first].1;
                first += 1;
            }
            prop_assert!(sum <= allowed, "{sum} of {allowed}");
        }
    }

    /// Any numbers at all: no panic, no wait beyond the bound.
    #[test]
    fn any_numbers(
        min in any::<u64>(),
        max in any::<u64>(),
        calls in prop::collection::vec((any::<u64>(), any::<u64>(), any::<bool>()), 1..20),
        blocksize in any::<u32>(),
        window in any::<u64>(),
    ) {
        let mut throttle = Throttle::new(0, Bounds { min, max });
        for (now, total, busy) in calls {
            let users = if busy { Users::Busy } else { Users::Quiet };
            prop_assert!(throttle.delay_ns(now, total, users) <= MAX_DELAY_NS);
            prop_assert!(throttle.window_blocks(blocksize, window) >= 1);
        }
    }
}
