// SPDX-License-Identifier: GPL-2.0

//! The decisions of a resync: what to copy next, how fast, and what to tell.
//!
//! | type | decides |
//! |---|---|
//! | [`Cursor`] | the next window to copy, with several in flight; when the walk is done |
//! | [`Throttle`] | how long to wait before the next window, and how large it may be |
//! | [`Progress`] | position, permille and time left, for the `Resync` line of the status |
//! | [`RunLog`] | the lines "saw marked blocks" and "skipped clean blocks" of the kernel log |
//!
//! None of them reads a clock or holds the map: times (ns of one monotonic clock) and the map's
//! answers are handed in. The thread that uses them goes, for each window:
//!
//! 1. `throttle.delay_ns(..)` until it says 0;
//! 2. under the map's lock: `cursor.next(..)`, and for a window whose slot is coarse, `refine`
//!    with a page allocated before. Without that, clearing the window would do nothing and it
//!    would come again for ever. The thread keeps two pages in reserve for this: windows do not
//!    cross leaves, and a leaf's page comes back when it is clean. If neither is there yet,
//!    a window in flight has to end first;
//! 3. `log` is told what was skipped and what was seen;
//! 4. barrier up, read, write;
//! 5. under the lock: clear the bits if the copy succeeded, then `cursor.ended(..)`; barrier down.

mod cursor;
mod progress;
mod runlog;
mod throttle;

pub use cursor::{CopyEnd, Cursor, CursorReason, Step, Window, MAX_IN_FLIGHT};
pub use progress::Progress;
pub use runlog::{Line, RunLog, Summary, Tally, MAX_LINES};
pub use throttle::{Bounds, Throttle, Users, MAX_DELAY_NS};
