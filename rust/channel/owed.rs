// SPDX-License-Identifier: GPL-2.0

//! The replies that a server owes when the requests were given back already.
//!
//! A connection on which a request took too long is not closed: the server may still carry out what
//! it has got, and its reply is the only sign that it has. Closing our side would not do, since not
//! every server finishes what it has begun before it closes its own (Documentation/servers.rst). So
//! the cookies of what was sent are kept, and the replies are read and thrown away.

use super::SLOTS;
use crate::logic::{mirror::hang_up::is_write, wire::request::Command};
use kernel::prelude::*;

#[derive(Clone, Copy)]
struct Debt {
    cookie: u64,
    command: Command,
    /// Bytes that come behind the reply if it tells of success.
    len: u32,
}

/// What a server owes on one connection.
pub(super) struct Owed(KVec<Debt>);

impl Owed {
    /// Room for all transfers.
    pub(super) fn new() -> Result<Self> {
        Ok(Self(KVec::with_capacity(SLOTS, GFP_KERNEL)?))
    }

    /// A request that was sent is given back without an answer.
    pub(super) fn note(&mut self, cookie: u64, command: Command, len: u32) {
        let len = if command == Command::Read { len } else { 0 };
        let debt = Debt {
            cookie,
            command,
            len,
        };
        // There is room for all transfers.
        let _ = self.0.push_within_capacity(debt);
    }

    /// A reply has come: how many bytes follow it, if it tells of success. Nothing if it was not
    /// owed.
    pub(super) fn settle(&mut self, cookie: u64) -> Option<u32> {
        let at = self.0.iter().position(|debt| debt.cookie == cookie)?;
        let debt = self.0.remove(at).ok()?;
        Some(debt.len)
    }

    /// Whether the server has answered all writes.
    pub(super) fn is_settled(&self) -> bool {
        !self.0.iter().any(|debt| is_write(debt.command))
    }
}
