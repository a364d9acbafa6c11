// SPDX-License-Identifier: GPL-2.0

//! The walk over a dirty map that several copies follow at once.
//!
//! The bits of a window stay set until its copy has ended, so that a crash of the copy loses
//! nothing. The cursor therefore remembers the windows in flight and never gives one of their
//! blocks again. Behind the last block it goes on at the first one, in another pass, until the map
//! is clean: blocks that were marked behind the cursor are found then.
//!
//! A window that cannot be read is given again, block by block, and those that cannot be read are left.
//! They are tried once more in the next pass; the walk ends when a pass has copied nothing else.
//!
//! All positions and lengths are in blocks.

use crate::logic::bitmap::{Run, LEAF_BLOCKS};

/// Windows that a cursor can have in flight; the resync's thread has
/// [`COPIES_EACH`](crate::logic::mirror::COPIES_EACH) at most.
pub const MAX_IN_FLIGHT: usize = 32;

/// A window to copy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Window {
    /// What to copy. It lies within one leaf of the map.
    pub run: Run,
    /// The clean blocks that the walk went over since the last window. Only the first pass tells
    /// them: later ones look for what was marked meanwhile, and what is clean is no news.
    pub skipped: Option<Run>,
    /// Which pass over the map this is, from 1.
    pub pass: u32,
    /// It is a block of a run that could not be read as a whole.
    pub again: bool,
}

/// What to do next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Copy this window and report its end by [`Cursor::ended`].
    Window(Window),
    /// Wait until a window in flight has ended: all that is dirty is in flight, or there are
    /// [`MAX_IN_FLIGHT`], or a copy has failed and the others have to end.
    Wait,
    /// Nothing was dirty and nothing in flight at this moment. The caller keeps new marks away
    /// (it raises the barrier) and asks again before it calls the group in sync; if something was
    /// marked in between, the next answer is a window of another pass.
    Done {
        /// The clean blocks behind the last window, as in [`Window::skipped`].
        skipped: Option<Run>,
    },
    /// A copy has failed and nothing is in flight any more. The blocks that failed are dirty still.
    Failed,
    /// All that is dirty was tried again, block by block, and could not be read; nothing is in flight.
    Unreadable,
}

/// How the copy of a window ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CopyEnd {
    /// The blocks are equal now, and their bits cleared.
    Copied,
    /// It cannot be read; the bits are set still. If there are several blocks they are tried one by
    /// one, and those that cannot be read are left.
    Unreadable,
    /// Reading or writing failed; the bits are set still. The resync is over.
    Failed,
}

/// Blocks that cannot be read in one pass, at most: then the resync is over. Each may take a disk many
/// seconds.
pub const MOST_UNREADABLE: u64 = 1024;

/// Why a report to the cursor makes no sense.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CursorReason {
    /// No such window is in flight.
    NotInFlight,
}

impl CursorReason {
    /// The reason in words, for the kernel log.
    pub const fn as_str(self) -> &'static str {
        match self {
            CursorReason::NotInFlight => "no such window is in flight",
        }
    }
}

/// Where the walk is.
///
/// # Invariants
///
/// - The windows in flight do not overlap.
/// - In the first pass all of them lie before `pos`.
#[derive(Debug)]
pub struct Cursor {
    blocks: u64,
    pos: u64,
    pass: u32,
    in_flight: [Option<Run>; MAX_IN_FLIGHT],
    /// What is left of runs that could not be read as a whole. There is one at most for each window
    /// that is in flight when the first of them ends, since none is begun before all of these are done.
    narrow: [Option<Run>; MAX_IN_FLIGHT],
    /// Blocks that could not be read in this pass.
    unreadable: u64,
    /// Something was copied in this pass.
    has_copied: bool,
    result: CopyEnd,
}

impl Cursor {
    /// A walk from the first block of a map of `blocks` blocks.
    pub fn new(blocks: u64) -> Self {
        Self {
            blocks,
            pos: 0,
            pass: 1,
            in_flight: [None; MAX_IN_FLIGHT],
            narrow: [None; MAX_IN_FLIGHT],
            unreadable: 0,
            has_copied: false,
            result: CopyEnd::Copied,
        }
    }

    /// The position to show: all blocks before it were clean or have been copied in this pass. It
    /// goes back when another pass begins ([`Progress`](super::Progress) does not), and is never
    /// more than the number of blocks.
    pub fn pos(&self) -> u64 {
        self.windows()
            .chain(self.narrow.iter().flatten().copied())
            .map(|window| window.first)
            .fold(self.pos, u64::min)
    }

    /// Which pass over the map this is, from 1.
    pub fn pass(&self) -> u32 {
        self.pass
    }

    /// How many windows are in flight.
    pub fn in_flight(&self) -> usize {
        self.windows().count()
    }

    /// The next step. `next_dirty(from, max_len)` is [`DirtyMap::next_dirty`] of the map under
    /// its lock, and the window is at most `max_len` blocks (0 counts as 1).
    ///
    /// [`DirtyMap::next_dirty`]: crate::logic::bitmap::DirtyMap::next_dirty
    pub fn next<F>(&mut self, max_len: u64, mut next_dirty: F) -> Step
    where
        F: FnMut(u64, u64) -> Option<Run>,
    {
        let busy = self.in_flight() > 0;
        if self.result == CopyEnd::Failed {
            return if busy { Step::Wait } else { Step::Failed };
        }
        let Some(place) = self.in_flight.iter().position(Option::is_none) else {
            return Step::Wait;
        };
        if let Some(run) = self.take_narrow() {
            return self.give(place, run, None, true);
        }
        if let Some(run) = self.find(self.pos, self.blocks, max_len, &mut next_dirty) {
            let skipped = self.skipped_to(run.first);
            return self.start(place, run, skipped);
        }
        if let Some(run) = self.find(0, self.pos, max_len, &mut next_dirty) {
            if self.unreadable > 0 && busy {
                // What becomes of the others says whether it is worth to go on.
                return Step::Wait;
            }
            if self.unreadable > 0 && !self.has_copied {
                return Step::Unreadable;
            }
            self.unreadable = 0;
            self.has_copied = false;
            let skipped = self.skipped_to(self.blocks);
            self.pass = self.pass.saturating_add(1);
            return self.start(place, run, skipped);
        }
        if busy {
            return Step::Wait;
        }
        let skipped = self.skipped_to(self.blocks);
        self.pos = self.blocks;
        Step::Done { skipped }
    }

    /// Takes note that the copy of a window has ended. The caller has cleared the bits of a
    /// copied one first, under the same lock: a block that is dirty and not in flight is copied.
    pub fn ended(&mut self, run: Run, how: CopyEnd) -> Result<(), CursorReason> {
        let place = self
            .in_flight
            .iter_mut()
            .find(|place| **place == Some(run))
            .ok_or(CursorReason::NotInFlight)?;
        *place = None;
        match how {
            CopyEnd::Copied => self.has_copied = true,
            CopyEnd::Unreadable if run.len > 1 => self.narrow_down(run),
            CopyEnd::Unreadable => {
                self.unreadable = self.unreadable.saturating_add(1);
                if self.unreadable > MOST_UNREADABLE {
                    self.result = CopyEnd::Failed;
                }
            }
            CopyEnd::Failed => self.result = CopyEnd::Failed,
        }
        Ok(())
    }

    /// What could not be read does not count any more: more is dirty than was.
    pub fn begin_anew(&mut self) {
        self.unreadable = 0;
    }

    /// The blocks of a run are to be tried one by one.
    fn narrow_down(&mut self, run: Run) {
        match self.narrow.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(run),
            // There is always a place; else a later pass finds the run.
            None => self.unreadable = self.unreadable.saturating_add(1),
        }
    }

    /// Takes one block of what could not be read as a whole.
    fn take_narrow(&mut self) -> Option<Run> {
        let place = self.narrow.iter_mut().find(|place| place.is_some())?;
        let Run { first, len } = (*place)?;
        let rest = Run {
            first: first.saturating_add(1),
            len: len.saturating_sub(1),
        };
        *place = (rest.len > 0).then_some(rest);
        Some(Run { first, len: 1 })
    }

    fn windows(&self) -> impl Iterator<Item = Run> + '_ {
        self.in_flight.iter().flatten().copied()
    }

    /// Puts a window in flight, and goes on behind it.
    fn start(&mut self, place: usize, run: Run, skipped: Option<Run>) -> Step {
        self.pos = run.end();
        self.give(place, run, skipped, false)
    }

    /// Puts a window in flight.
    fn give(&mut self, place: usize, run: Run, skipped: Option<Run>, again: bool) -> Step {
        if let Some(place) = self.in_flight.get_mut(place) {
            *place = Some(run);
        }
        Step::Window(Window {
            run,
            skipped,
            pass: self.pass,
            again,
        })
    }

    /// The blocks from the cursor to `end`, if they are worth telling.
    fn skipped_to(&self, end: u64) -> Option<Run> {
        let len = end.saturating_sub(self.pos);
        (self.pass == 1 && len > 0).then_some(Run {
            first: self.pos,
            len,
        })
    }

    /// The first dirty run in `from..to` that is not in flight, cut where a window in flight, a
    /// leaf or the range ends.
    fn find<F>(&self, from: u64, to: u64, max_len: u64, next_dirty: &mut F) -> Option<Run>
    where
        F: FnMut(u64, u64) -> Option<Run>,
    {
        let mut at = from;
        // Each round steps over one window in flight, so that the last one finds something else.
        for _ in 0..=MAX_IN_FLIGHT {
            if at >= to {
                return None;
            }
            let run = next_dirty(at, max_len)?;
            let first = run.first.max(at);
            if first >= to {
                return None;
            }
            if let Some(window) = self
                .windows()
                .find(|window| window.first <= first && first < window.end())
            {
                at = window.end();
                continue;
            }
            let leaf_end = (first / LEAF_BLOCKS)
                .saturating_add(1)
                .saturating_mul(LEAF_BLOCKS);
            let end = self
                .windows()
                .map(|window| window.first)
                .filter(|start| *start > first)
                .fold(run.end().min(to).min(leaf_end), u64::min);
            return Some(Run {
                first,
                len: end.saturating_sub(first).max(1),
            });
        }
        None
    }
}
