// SPDX-License-Identifier: GPL-2.0

//! What a resync tells the kernel log, in the words of 2003.
//!
//! The walk comes in windows, and a person wants runs: windows that follow each other are one run.
//! A run is told when it is known to have ended, so that each call may return the line of the run
//! before. A scattered map has millions of runs: after [`MAX_LINES`] lines of a kind, further runs
//! are only counted, for one summary at the end.
//!
//! In another pass the walk begins again at the front, so that a run may be told that lies before
//! the one told last, and blocks marked twice are counted twice: the sum is what was copied.

use core::fmt;

use crate::logic::bitmap::Run;

/// Lines of each kind that one resync may write.
pub const MAX_LINES: u32 = 32;

/// One line for the kernel log. Both block numbers belong to the run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Line {
    /// A run that is being copied.
    Marked {
        /// Its first block.
        first: u64,
        /// Its last block.
        last: u64,
    },
    /// A run that no group in sync can read.
    Unreadable {
        /// Its first block.
        first: u64,
        /// Its last block.
        last: u64,
    },
    /// A run that the walk went over.
    Clean {
        /// Its first block.
        first: u64,
        /// Its last block.
        last: u64,
    },
}

impl Line {
    /// Writes the line in the words of 2003, without a prefix and without an end of line.
    pub fn write(&self, out: &mut impl fmt::Write) -> fmt::Result {
        match *self {
            Line::Marked { first, last } => {
                write!(out, "nbd_resync saw marked blocks {first}-{last}")
            }
            Line::Unreadable { first, last } => {
                write!(
                    out,
                    "nbd_resync cannot read blocks {first}-{last} in any group in sync"
                )
            }
            Line::Clean { first, last } => {
                write!(out, "nbd_resync skipped clean blocks {first}-{last}")
            }
        }
    }
}

/// The runs of one kind.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Runs that have ended.
    pub runs: u64,
    /// Their blocks.
    pub blocks: u64,
    /// How many of the runs got no line.
    pub suppressed: u64,
}

/// The sums of a resync.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Summary {
    /// What was copied.
    pub marked: Tally,
    /// What was skipped in the first pass.
    pub clean: Tally,
}

impl Summary {
    /// Writes one line, without a prefix and without an end of line.
    pub fn write(&self, out: &mut impl fmt::Write) -> fmt::Result {
        write!(
            out,
            "nbd_resync saw {} marked blocks in {} runs, skipped {} clean in {}, {} runs not told",
            self.marked.blocks,
            self.marked.runs,
            self.clean.blocks,
            self.clean.runs,
            self.marked.suppressed.saturating_add(self.clean.suppressed),
        )
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Marked,
    Clean,
}

/// Joins what the walk sees into runs.
#[derive(Debug, Default)]
pub struct RunLog {
    /// The run that has not ended yet.
    open: Option<(Kind, Run)>,
    sums: Summary,
}

impl RunLog {
    /// A log for one resync.
    pub fn new() -> Self {
        Self::default()
    }

    /// The walk gave a window of `len` dirty blocks to be copied.
    pub fn saw_marked(&mut self, first: u64, len: u64) -> Option<Line> {
        self.saw(Kind::Marked, Run { first, len })
    }

    /// The walk went over `len` clean blocks.
    pub fn skipped_clean(&mut self, first: u64, len: u64) -> Option<Line> {
        self.saw(Kind::Clean, Run { first, len })
    }

    /// The walk is over, or stands still: the last run has ended.
    pub fn finish(&mut self) -> Option<Line> {
        let (kind, run) = self.open.take()?;
        let (tally, line) = match kind {
            Kind::Marked => (
                &mut self.sums.marked,
                Line::Marked {
                    first: run.first,
                    last: run.last(),
                },
            ),
            Kind::Clean => (
                &mut self.sums.clean,
                Line::Clean {
                    first: run.first,
                    last: run.last(),
                },
            ),
        };
        tally.blocks = tally.blocks.saturating_add(run.len);
        tally.runs = tally.runs.saturating_add(1);
        if tally.runs > u64::from(MAX_LINES) {
            tally.suppressed = tally.suppressed.saturating_add(1);
            return None;
        }
        Some(line)
    }

    /// The sums of the runs that have ended; complete after [`finish`](Self::finish).
    pub fn summary(&self) -> Summary {
        self.sums
    }

    fn saw(&mut self, kind: Kind, run: Run) -> Option<Line> {
        if run.len == 0 {
            return None;
        }
        if let Some((open_kind, open)) = &mut self.open {
            if *open_kind == kind && open.end() == run.first {
                open.len = open.len.saturating_add(run.len);
                return None;
            }
        }
        let line = self.finish();
        self.open = Some((kind, run));
        line
    }
}
