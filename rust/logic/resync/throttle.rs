// SPDX-License-Identifier: GPL-2.0

//! The speed of a resync: never above `resync_max`, and not below `resync_min` for the users' sake.
//!
//! Each bound is a pace: a time at which the next window is due, which every byte handed out moves
//! on by its share of a second. A window that comes late may be made up for, but only by
//! `CREDIT_NS`, so that an hour of idleness does not end in a burst.
//!
//! While the users' own requests are seen, the resync gives way to them:
//!
//! | `resync_min` | `resync_max` | speed while users are busy |
//! |---|---|---|
//! | set | any | `resync_min` (or `resync_max`, if that is lower) |
//! | 0 | 0 | one small window at a time, more of them where that is less than 1 MiB/s |
//! | 0 | set | the same, and at most a quarter of `resync_max` |
//!
//! So it never starves, and on a long line, where a window takes a trip to one server and one to the
//! other, redundancy does not stay away for weeks for the sake of users who never rest. While they are
//! quiet, only `resync_max` holds it; but for a moment after
//! their last request windows are small and few still. Speeds are in KiB/s and 0 stands for no
//! bound; times are in ns of one monotonic clock.

/// The longest wait that is asked for at once, so that a request to stop is seen soon.
pub const MAX_DELAY_NS: u64 = 100_000_000;

const SECOND_NS: u64 = 1_000_000_000;
/// How late a window may come and still be made up for. It has to outlast the timer's slack, or
/// small windows at a high speed would stay below the bound.
const CREDIT_NS: u64 = 100_000_000;
/// Giving way without a `resync_min`, but with a `resync_max`: this part of it.
const GIVE_WAY_SHARE: u64 = 4;
/// Giving way without a `resync_min`: so many windows of so many bytes. What is on its way is
/// before the users' requests in the queues of servers and sockets, and their writes wait for the
/// windows that they overlap.
const BUSY_WINDOWS: usize = 1;
const BUSY_WINDOW_BYTES: u64 = 32 << 10;
/// Giving way without a `resync_min`, in KiB/s: while it is slower than that there may be more windows
/// on their way, small ones still. An administrator who wants less sets `resync_min`.
const LEAST_KIB: u64 = 1024;
/// A window is at most this part of a second's worth of the speed allowed.
const WINDOWS_A_SECOND: u64 = 8;

/// Whether the device's users have requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Users {
    /// None now, nor lately.
    Quiet,
    /// None now, but the next one may come at any moment: it is not to find the queues full.
    Lately,
    /// Some; the resync gives way.
    Busy,
}

/// The bounds of the speed, in KiB/s; 0: none.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Bounds {
    /// `resync_min`. If it is above `max`, `max` holds.
    pub min: u64,
    /// `resync_max`.
    pub max: u64,
}

/// Decides how long to wait before the next window.
#[derive(Debug)]
pub struct Throttle {
    bounds: Bounds,
    /// Keeps the speed below `max`.
    ceiling: Pace,
    /// The speed that remains while users are busy.
    floor: Pace,
    /// The speed below which windows need not be few.
    least: Pace,
    /// How long until another window may begin beside those that give way; 0: now.
    patience_ns: u64,
    last_ns: u64,
    last_bytes: u64,
    last_users: Users,
}

impl Throttle {
    /// A throttle for a resync that begins now.
    pub fn new(now_ns: u64, bounds: Bounds) -> Self {
        Self {
            bounds,
            ceiling: Pace { due_ns: now_ns },
            floor: Pace { due_ns: now_ns },
            least: Pace { due_ns: now_ns },
            patience_ns: 0,
            last_ns: now_ns,
            last_bytes: 0,
            last_users: Users::Quiet,
        }
    }

    /// Changes the bounds while it runs. The wait for what was handed out under the old ones is
    /// forgotten: at 1 KiB/s it could last for minutes.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        if bounds != self.bounds {
            self.bounds = bounds;
            self.ceiling.restart(self.last_ns);
            self.floor.restart(self.last_ns);
            self.least.restart(self.last_ns);
        }
    }

    /// How long to wait before the next window: 0 to go, otherwise at most [`MAX_DELAY_NS`], after
    /// which the caller asks again.
    ///
    /// `bytes_total` is the size of all windows handed out since the start, whether their copies
    /// have ended or not; counted at their ends, all that are in flight would come at once. With
    /// it, no span of time sees more than `max` times that span, `CREDIT_NS` worth and one
    /// window.
    pub fn delay_ns(&mut self, now_ns: u64, bytes_total: u64, users: Users) -> u64 {
        let bytes = bytes_total.saturating_sub(self.last_bytes);
        let floor = self.floor_kib();
        // These bytes were handed out when the last call let them go; counted from now on, a copy
        // that takes long would be paid for twice.
        self.ceiling.charge(self.last_ns, bytes, self.bounds.max);
        self.floor.charge(self.last_ns, bytes, floor);
        self.least.charge(self.last_ns, bytes, LEAST_KIB);
        self.last_ns = self.last_ns.max(now_ns);
        self.last_bytes = self.last_bytes.max(bytes_total);
        self.last_users = users;
        let mut wait = self.ceiling.wait_ns(now_ns);
        match users {
            // What was copied while nobody was disturbed is no debt when users come back.
            Users::Quiet | Users::Lately => self.floor.restart(now_ns),
            Users::Busy => {
                wait = wait.max(self.floor.wait_ns(now_ns));
            }
        }
        if users == Users::Quiet {
            self.least.restart(now_ns);
        }
        self.patience_ns = self.least.wait_ns(now_ns);
        wait.min(MAX_DELAY_NS)
    }

    /// Whether windows have to be small, and few unless it is too slow so.
    fn gives_way(&self) -> bool {
        // A floor that was asked for has to be reached.
        self.last_users != Users::Quiet && self.bounds.min == 0
    }

    /// How many blocks the next window may have: what fits into `max_window_bytes`, but not more
    /// than an eighth of a second's worth of the speed that was allowed at the last
    /// [`delay_ns`](Self::delay_ns), and at least one.
    pub fn window_blocks(&self, blocksize: u32, max_window_bytes: u64) -> u64 {
        let kib = match self.last_users {
            Users::Quiet | Users::Lately => self.bounds.max,
            Users::Busy => self.floor_kib(),
        };
        let mut bytes = max_window_bytes;
        if self.gives_way() {
            bytes = bytes.min(BUSY_WINDOW_BYTES);
        }
        if kib != 0 {
            bytes = bytes.min(kib.saturating_mul(1024) / WINDOWS_A_SECOND);
        }
        (bytes / u64::from(blocksize.max(1))).max(1)
    }

    /// How many windows may be on their way at once, as of the last [`delay_ns`](Self::delay_ns).
    pub fn windows(&self) -> usize {
        if self.gives_way() && self.patience_ns > 0 {
            BUSY_WINDOWS
        } else {
            usize::MAX
        }
    }

    /// How long until there may be more than that, where nothing else changes; at most
    /// [`MAX_DELAY_NS`].
    pub fn patience_ns(&self) -> u64 {
        self.patience_ns.min(MAX_DELAY_NS)
    }

    /// The speed that remains while users are busy, in KiB/s; 0 where only the windows hold it.
    fn floor_kib(&self) -> u64 {
        match self.bounds {
            Bounds { min: 0, max: 0 } => 0,
            Bounds { min: 0, max } => (max / GIVE_WAY_SHARE).max(1),
            Bounds { min, max: 0 } => min,
            Bounds { min, max } => min.min(max),
        }
    }
}

/// A speed, as the time at which the next window is due.
#[derive(Debug)]
struct Pace {
    due_ns: u64,
}

impl Pace {
    /// Moves the due time on for bytes handed out at `at_ns`, with `kib` KiB/s; 0: no bound.
    fn charge(&mut self, at_ns: u64, bytes: u64, kib: u64) {
        self.due_ns = self
            .due_ns
            .max(at_ns.saturating_sub(CREDIT_NS))
            .saturating_add(cost_ns(bytes, kib));
    }

    fn restart(&mut self, now_ns: u64) {
        self.due_ns = now_ns;
    }

    fn wait_ns(&self, now_ns: u64) -> u64 {
        self.due_ns.saturating_sub(now_ns)
    }
}

/// How long `bytes` last at `kib` KiB/s.
fn cost_ns(bytes: u64, kib: u64) -> u64 {
    let per_second = kib.saturating_mul(1024);
    if per_second == 0 {
        return 0;
    }
    match bytes.checked_mul(SECOND_NS) {
        Some(product) => product / per_second,
        // Beyond 17 GiB at once, whole seconds are exact enough.
        None => (bytes / per_second).saturating_mul(SECOND_NS),
    }
}
