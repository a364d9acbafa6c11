// SPDX-License-Identifier: GPL-2.0

//! What a connection carries, and what becomes of it.

use crate::logic::{
    unflushed::Ownership,
    wire::{
        reply::NbdError,
        request::{Command, CommandFlags},
    },
};

/// One NBD request, in the hands of whoever has the value.
pub struct Transfer<B> {
    /// What the server is asked for.
    pub command: Command,
    /// How.
    pub flags: CommandFlags,
    /// Bytes from the start of the export.
    pub offset: u64,
    /// Bytes; 0 where the command has none.
    pub len: u32,
    /// What it reads into or writes from, or, for commands without data, what waits for it.
    pub buffer: B,
    /// A flush that covers what was noted before it.
    pub owns_flush: Option<Ownership>,
    /// The number of the question that it is; 0 if it is none.
    pub question: u64,
    /// A read of what is in sync: the epoch of the view by which its group was.
    pub in_sync_at: Option<u32>,
    /// How many connections were lost with it on the way.
    pub losses: u8,
}

impl<B> Transfer<B> {
    /// A transfer of `len` bytes at `offset`.
    pub fn new(command: Command, flags: CommandFlags, offset: u64, len: u32, buffer: B) -> Self {
        Self {
            command,
            flags,
            offset,
            len,
            buffer,
            owns_flush: None,
            question: 0,
            in_sync_at: None,
            losses: 0,
        }
    }

    /// A flush, with what [`Unflushed::begin_flush`] gave.
    ///
    /// [`Unflushed::begin_flush`]: crate::logic::unflushed::Unflushed::begin_flush
    pub fn flush(owns_flush: Option<Ownership>, buffer: B) -> Self {
        Self {
            owns_flush,
            ..Self::new(Command::Flush, CommandFlags::NONE, 0, 0, buffer)
        }
    }
}

/// What became of a transfer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The server did it.
    Done,
    /// The server refused, or failed.
    Refused(NbdError),
    /// Its channel was lost before the answer came.
    Lost(Fence),
}

/// Whether a lost transfer may still be carried out by the server some time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fence {
    /// It was not sent, or the server has closed the connection after what it received: it will not
    /// be carried out from now on.
    Fenced,
    /// Nobody knows.
    Open,
}

/// Whether a command that is carried out late could undo a newer one.
pub fn is_write(command: Command) -> bool {
    matches!(
        command,
        Command::Write | Command::WriteZeroes | Command::Trim
    )
}
