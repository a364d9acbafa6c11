// SPDX-License-Identifier: GPL-2.0

//! What is known of a device's metadata. All of it is on the heap: a kernel's stack is small.

use crate::logic::{
    meta::{bytes::Block, Found, Superblock},
    mirror::{memory::Notes, Memory},
};
use kernel::prelude::*;

/// The memory of [`Notes`].
pub(super) struct Notebook {
    memory: KBox<Memory>,
    found: KBox<Found>,
    block: KBox<Block>,
}

impl Notebook {
    /// Nothing is known.
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            memory: blank_memory()?,
            found: blank_found()?,
            block: KBox::init(pin_init::init_zeroed(), GFP_KERNEL)?,
        })
    }

    /// Lends all of it.
    pub(super) fn lend(&mut self) -> Notes<'_> {
        Notes {
            memory: &mut self.memory,
            found: &mut self.found,
            block: &mut self.block,
        }
    }
}

#[inline(never)] // It passes through this stack frame.
fn blank_memory() -> Result<KBox<Memory>> {
    Ok(KBox::new(Memory::default(), GFP_KERNEL)?)
}

#[inline(never)]
fn blank_found() -> Result<KBox<Found>> {
    let none = pin_init::init_array_from_fn::<_, _, Option<Superblock>, Error>(|_| Ok(None));
    KBox::init::<Error>(none, GFP_KERNEL)
}
