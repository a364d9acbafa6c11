// SPDX-License-Identifier: GPL-2.0

//! The decisions of a resync: what to copy next, how fast, and what to tell.
//!
//! | file | what |
//! |---|---|
//! | [`walk`] | the thread's work from beginning to end |
//! | [`finish`] | when nothing is left to copy |
//! | [`compare`] | whether blocks are compared before they are written |
//! | [`sample`] | whether the group is the one that was lost |
//! | [`Cursor`] | the next window to copy, with several in flight; when the walk is done |
//! | [`Throttle`] | how long to wait before the next window, and how large it may be |
//! | [`Progress`] | position, permille and time left, for the `Resync` line of the status |
//! | [`RunLog`] | the lines "saw marked blocks" and "skipped clean blocks" of the kernel log |
//!
//! The last four neither read a clock nor hold the map: times (ns of one monotonic clock) and the
//! map's answers are handed in.

pub mod compare;
mod cursor;
mod finish;
mod progress;
mod runlog;
pub mod sample;
mod throttle;
pub mod walk;

pub use compare::Compare;
pub use cursor::{CopyEnd, Cursor, CursorReason, Step, Window, MAX_IN_FLIGHT, MOST_UNREADABLE};
pub use progress::Progress;
pub use runlog::{Line, RunLog, Summary, Tally, MAX_LINES};
pub use throttle::{Bounds, Throttle, Users, MAX_DELAY_NS};
pub use walk::{walk, Ended, Overseer, Site, Walked, WINDOW_BYTES};
