// SPDX-License-Identifier: GPL-2.0

//! What users may find in each block: kept apart from the mirror, and from what the mirror believes.
//!
//! Each block has the history of the values that were written to it, one at a time, since it has
//! one writer. A read may give any value between the last one that was acknowledged before the read
//! was sent and the last one that was sent before the read came back. When a crash took what no
//! other server has, what was flushed counts instead of what was acknowledged.

use crate::store::Value;
use std::sync::Mutex;

#[derive(Clone)]
struct Block {
    /// All values, in the order in which they were written.
    history: Vec<Value>,
    /// Which of them was acknowledged last.
    acknowledged: usize,
    /// Which of them was made durable last.
    durable: usize,
    /// The last one that no flush makes durable.
    doubted: usize,
}

struct State {
    blocks: Vec<Block>,
    next: Value,
    /// How often a crash took what was acknowledged.
    losses: u64,
}

/// What is known of all blocks.
pub struct Oracle(Mutex<State>);

/// What was acknowledged at one moment.
pub struct Snapshot {
    losses: u64,
    acknowledged: Vec<usize>,
}

impl Oracle {
    pub fn new(blocks: usize) -> Self {
        let block = Block {
            history: vec![0],
            acknowledged: 0,
            durable: 0,
            doubted: 0,
        };
        Self(Mutex::new(State {
            blocks: vec![block; blocks],
            next: 1,
            losses: 0,
        }))
    }

    /// New values for blocks that are going to be written; zeroes if they are to be discarded.
    pub fn issue(&self, first: usize, len: usize, zeroes: bool) -> Vec<Value> {
        let mut s = self.0.lock().unwrap();
        (first..first + len)
            .map(|block| {
                let value = if zeroes { 0 } else { s.next };
                s.next += 1;
                s.blocks[block].history.push(value);
                value
            })
            .collect()
    }

    /// The last write of these blocks, sent at `since`, was acknowledged, or made durable at once.
    /// One that was on its way when a crash took data may have been taken, too.
    pub fn acknowledge(&self, first: usize, len: usize, durable: bool, since: &Snapshot) {
        self.acknowledge_any(1, first, len, durable, since);
    }

    /// The same for the last `count` values, which were sent at once, or stood one after the other
    /// in the memory of one write: any of them may have come last.
    pub fn acknowledge_any(
        &self,
        count: usize,
        first: usize,
        len: usize,
        durable: bool,
        since: &Snapshot,
    ) {
        let mut s = self.0.lock().unwrap();
        if s.losses != since.losses {
            return;
        }
        for block in &mut s.blocks[first..first + len] {
            block.acknowledged = block.history.len() - count;
            if durable {
                block.durable = block.acknowledged;
            }
        }
    }

    /// What a flush that is sent now covers, and what a read that is sent now may not miss.
    pub fn snapshot(&self) -> Snapshot {
        let s = self.0.lock().unwrap();
        Snapshot {
            losses: s.losses,
            acknowledged: s.blocks.iter().map(|b| b.acknowledged).collect(),
        }
    }

    /// A flush has succeeded. One that was on its way when a crash took data does not count.
    pub fn flushed(&self, covers: &Snapshot) {
        let mut s = self.0.lock().unwrap();
        if s.losses == covers.losses {
            for (block, &at) in s.blocks.iter_mut().zip(&covers.acknowledged) {
                if at > block.doubted {
                    block.durable = block.durable.max(at);
                }
            }
        }
    }

    /// No flush makes durable what was written until now.
    pub fn doubt(&self) {
        for block in &mut self.0.lock().unwrap().blocks {
            block.doubted = block.history.len() - 1;
        }
    }

    /// A crash took what was not durable, and no other server has it.
    pub fn lose(&self) {
        let mut s = self.0.lock().unwrap();
        s.losses += 1;
        for block in &mut s.blocks {
            block.acknowledged = block.acknowledged.min(block.durable);
        }
    }

    /// The administrator has a server that holds `content`, and after a crash `durable`, taken for current:
    /// whatever was written later, or elsewhere, may not be seen any more.
    pub fn go_back(&self, content: &[Value], durable: &[Value]) {
        let mut s = self.0.lock().unwrap();
        s.losses += 1;
        for (number, block) in s.blocks.iter_mut().enumerate() {
            let held = [durable[number], content[number]];
            for value in held {
                let is_known = block.history.contains(&value);
                assert!(is_known, "block {number} holds {value}, which nobody wrote");
            }
            *block = Block {
                history: held.to_vec(),
                acknowledged: 1,
                durable: 0,
                doubted: 0,
            };
        }
    }

    /// Checks what is in a block of a server that a client which starts now may take for current:
    /// all that was acknowledged, or, if `flushed`, what was flushed.
    pub fn outlasts(&self, block: usize, value: Value, flushed: bool) -> Result<(), String> {
        let s = self.0.lock().unwrap();
        let b = &s.blocks[block];
        let (floor, what) = if flushed {
            (b.durable, "made durable")
        } else {
            (b.acknowledged, "acknowledged")
        };
        if b.history[floor..].contains(&value) {
            return Ok(());
        }
        Err(format!(
            "its block {block} holds {value}, but number {floor} of {} was {what}: {:?}",
            b.history.len() - 1,
            &b.history[floor..]
        ))
    }

    /// Checks what was read from a block, sent at `since`.
    pub fn check(&self, block: usize, value: Value, since: &Snapshot) -> Result<(), String> {
        let s = self.0.lock().unwrap();
        let b = &s.blocks[block];
        let floor = if s.losses == since.losses {
            since.acknowledged[block]
        } else {
            // Some was lost while the read was on its way.
            b.durable.min(since.acknowledged[block])
        };
        if b.history[floor..].contains(&value) {
            return Ok(());
        }
        let at = b.history.iter().rposition(|&v| v == value);
        Err(format!(
            "block {block} reads {value} (number {at:?} of its history), but number {floor} of {} \
             was acknowledged: {:?}",
            b.history.len() - 1,
            &b.history[floor..]
        ))
    }
}
