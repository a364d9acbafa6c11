// SPDX-License-Identifier: GPL-2.0

//! What a server keeps: blocks, with a volatile cache over them.

use crate::blocks::Blocks;
use crate::logic::meta::layout::{BLOCK, INTENT_PAGES, LEAST_EXPORT, SUPERBLOCKS};
use shuttle::rand::{thread_rng, Rng};

/// The content of a block: the number of the write that made it.
pub type Value = u64;

/// The content of a block that is not durable.
#[derive(Clone, Copy, Debug)]
struct Cached {
    value: Value,
    /// The connection on which it was written.
    by: u64,
    /// Its client knows that a flush of it was refused. Later ones succeed without it, as fsync()
    /// does after an error.
    given_up: bool,
}

/// Blocks of an export with metadata: the smallest that takes some.
pub const EXPORT_BLOCKS: usize = (LEAST_EXPORT / BLOCK) as usize;
/// Blocks of the superblocks, which are the last of those.
pub const RING: usize = SUPERBLOCKS as usize;
/// Blocks of the metadata: the intent pages, a few that nobody writes to, the superblocks.
pub const TAIL: usize = 64;
/// Where the intent pages are among those.
pub const PAGES: std::ops::Range<usize> = 0..INTENT_PAGES as usize;

/// The blocks of a server: those of the device, then those of the metadata. What is between them on
/// the export is zeroes, and nobody writes there.
pub struct Store {
    durable: Vec<Value>,
    cache: Vec<Option<Cached>>,
    /// Which blocks cannot be read until they are written.
    bad: Vec<bool>,
}

impl Store {
    /// A store with this content, those of the metadata included, all of it durable.
    pub fn new(content: Vec<Value>) -> Self {
        Self {
            cache: vec![None; content.len()],
            bad: vec![false; content.len()],
            durable: content,
        }
    }

    /// What somebody who asks for a block gets: nothing if it cannot be read.
    pub fn ask(&self, block: usize) -> Option<Value> {
        let is_bad = self.place(block).is_some_and(|at| self.bad[at]);
        (!is_bad).then(|| self.read(block))
    }

    /// A block cannot be read from now on, until it is written.
    pub fn spoil(&mut self, block: usize) {
        self.bad[block] = true;
    }

    /// All blocks can be read again.
    pub fn mend(&mut self) {
        self.bad.fill(false);
    }

    /// Where a block of the export is kept.
    fn place(&self, block: usize) -> Option<usize> {
        let device = self.device();
        if block < device {
            return Some(block);
        }
        Some(device + block.checked_sub(EXPORT_BLOCKS - TAIL)?)
    }

    /// How many blocks the device has: those behind them are of metadata.
    fn device(&self) -> usize {
        self.durable.len() - TAIL
    }

    /// Whether a block of the export is of metadata.
    pub fn is_metadata(&self, block: usize) -> bool {
        self.place(block).is_some_and(|at| at >= self.device())
    }

    /// What a block of the export holds, be it that it cannot be read now.
    pub fn read(&self, block: usize) -> Value {
        self.place(block).map_or(0, |at| self.look_at(at))
    }

    fn look_at(&self, at: usize) -> Value {
        self.cache[at].map_or(self.durable[at], |c| c.value)
    }

    /// What is read from each block.
    pub fn content(&self) -> Vec<Value> {
        (0..self.durable.len()).map(|at| self.look_at(at)).collect()
    }

    /// What would be there after a crash.
    pub fn durable(&self) -> &[Value] {
        &self.durable
    }

    /// Writes blocks from `first` on, asked on connection `by`; durably if `fua`.
    pub fn write(&mut self, by: u64, first: usize, values: &[Value], fua: bool) {
        for (&value, block) in values.iter().zip(first..) {
            let Some(block) = self.place(block) else {
                panic!("a write of block {block}, which is nobody's");
            };
            self.bad[block] = false;
            if fua {
                self.durable[block] = value;
                self.cache[block] = None;
            } else {
                self.cache[block] = Some(Cached {
                    value,
                    by,
                    given_up: false,
                });
            }
        }
    }

    /// Makes durable what was written on the connections that are covered, but for what was given
    /// up.
    pub fn flush(&mut self, covers: impl Fn(u64) -> bool) {
        for (durable, cached) in self.durable.iter_mut().zip(&mut self.cache) {
            if let Some(cached) = cached.take_if(|c| covers(c.by) && !c.given_up) {
                *durable = cached.value;
            }
        }
    }

    /// What was not durable is lost, in part or as a whole; a block of metadata may be in parts what it
    /// was. Whether something was lost.
    pub fn crash(&mut self, blocks: &Blocks) -> bool {
        let mut lost = false;
        let device = self.device();
        for (at, (durable, cached)) in self.durable.iter_mut().zip(&mut self.cache).enumerate() {
            let Some(cached) = cached.take() else {
                continue;
            };
            if !cached.given_up && thread_rng().gen() {
                *durable = cached.value;
                continue;
            }
            lost = true;
            if at >= device {
                *durable = blocks.torn(*durable, cached.value);
            }
        }
        lost
    }

    /// The power went while these blocks were being written: those of metadata are in parts what they were.
    /// That is not so of data: users may not find what nobody wrote, and nobody has promised them more of a
    /// write that did not end.
    pub fn tear(&mut self, first: usize, values: &[Value], blocks: &Blocks) {
        for (&value, block) in values.iter().zip(first..) {
            if let Some(at) = self.place(block).filter(|&at| at >= self.device()) {
                self.durable[at] = blocks.torn(self.durable[at], value);
            }
        }
    }

    /// What was given up is gone. Whether there was any.
    pub fn forget_given_up(&mut self) -> bool {
        let mut any = false;
        for cached in &mut self.cache {
            any |= cached.take_if(|cached| cached.given_up).is_some();
        }
        any
    }

    /// Some of what is not durable never will be. Whether that is so of anything.
    pub fn give_up(&mut self) -> bool {
        let mut any = false;
        for cached in self.cache.iter_mut().flatten() {
            cached.given_up |= thread_rng().gen::<bool>();
            any |= cached.given_up;
        }
        any
    }
}
