// SPDX-License-Identifier: GPL-2.0

//! How far a resync is: the figures of the status line
//! `[=>...................] recovery = 6.5% (270/4096) finish=8s`.
//!
//! Positions and counts are in blocks, times in ns of one monotonic clock. The position includes
//! the clean blocks that were skipped, as in 2003. The time left does not: it is what is dirty,
//! divided by the speed of copying, since a position leaps over clean blocks.

/// Samples kept for the moving speed.
const SAMPLES: usize = 16;
/// The least time between two of them; the speed is that of the last 4 s.
const SAMPLE_NS: u64 = 250_000_000;

const MS_NS: u64 = 1_000_000;

#[derive(Clone, Copy, Debug)]
struct Sample {
    at_ns: u64,
    copied: u64,
}

/// The progress of one resync.
#[derive(Debug)]
pub struct Progress {
    pos: u64,
    max: u64,
    dirty: u64,
    copied: u64,
    /// A ring; `oldest` is the next to be overwritten. All are the start at first.
    samples: [Sample; SAMPLES],
    oldest: usize,
    newest_ns: u64,
}

impl Progress {
    /// The progress of a resync that begins now, with `dirty` of `max` blocks to copy.
    pub fn new(now_ns: u64, max: u64, dirty: u64) -> Self {
        let start = Sample {
            at_ns: now_ns,
            copied: 0,
        };
        Self {
            pos: 0,
            max,
            dirty,
            copied: 0,
            samples: [start; SAMPLES],
            oldest: 0,
            newest_ns: now_ns,
        }
    }

    /// Takes note of the cursor's position, the blocks copied since the start and the blocks that
    /// are dirty now.
    ///
    /// The position shown never goes back, and never beyond `max`: if the walk needs another pass,
    /// it stays where it was until that is done, and only the time left tells.
    pub fn update(&mut self, now_ns: u64, pos: u64, copied: u64, dirty: u64) {
        self.pos = self.pos.max(pos.min(self.max));
        self.copied = self.copied.max(copied);
        self.dirty = dirty;
        if now_ns.saturating_sub(self.newest_ns) < SAMPLE_NS {
            return;
        }
        if let Some(sample) = self.samples.get_mut(self.oldest) {
            *sample = Sample {
                at_ns: now_ns,
                copied: self.copied,
            };
        }
        self.oldest = (self.oldest + 1) % SAMPLES;
        self.newest_ns = now_ns;
    }

    /// The position to show, at most [`max`](Self::max).
    pub fn pos(&self) -> u64 {
        self.pos
    }

    /// The number of blocks of the device.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// `pos * 1000 / (max + 1)`, as in 2003: never 1000.
    pub fn permille(&self) -> u32 {
        let whole = self.max.saturating_add(1);
        let permille = match self.pos.checked_mul(1000) {
            Some(product) => product / whole,
            // `whole` is at least `pos` and so far above 1000.
            None => self.pos / (whole / 1000).max(1),
        };
        // Not cut off: it is at most 999.
        permille.min(999) as u32
    }

    /// The seconds left at the speed of the last seconds, rounded up; `None` while nothing has
    /// been copied in them.
    pub fn finish_secs(&self, now_ns: u64) -> Option<u64> {
        if self.dirty == 0 {
            return Some(0);
        }
        let since = self.samples.get(self.oldest)?;
        let copied = self.copied.saturating_sub(since.copied);
        if copied == 0 {
            return None;
        }
        let ms = (now_ns.saturating_sub(since.at_ns) / MS_NS).max(1);
        let left_ms = match self.dirty.checked_mul(ms) {
            Some(product) => product / copied,
            None => (self.dirty / copied).saturating_mul(ms),
        };
        Some(left_ms.div_ceil(1000))
    }
}
