// SPDX-License-Identifier: GPL-2.0

//! The replies that a server owes when the requests were given back already.
//!
//! A connection on which a request took too long is not closed: the server may still carry out what
//! it has got, and its reply is the only sign that it has. Closing our side would not do, since not
//! every server finishes what it has begun before it closes its own (Documentation/servers.rst). So
//! the cookies of what was sent are kept, and the replies are read and thrown away.

use super::is_write;
use crate::logic::wire::request::Command;
use core::ops::DerefMut;

/// A reply that is still to come.
#[derive(Clone, Copy)]
pub struct Debt {
    cookie: u64,
    /// Of a write.
    of_write: bool,
    /// Bytes that come behind the reply if it tells of success.
    len: u32,
}

impl Debt {
    /// Room for one.
    pub const NONE: Self = Self {
        cookie: 0,
        of_write: false,
        len: 0,
    };
}

/// What a server owes on one connection.
pub(super) struct Owed<D> {
    /// The first `len` are owed.
    debts: D,
    len: usize,
}

impl<D: DerefMut<Target = [Debt]>> Owed<D> {
    /// Nothing is owed yet. There has to be room for all transfers.
    pub(super) fn new(debts: D) -> Self {
        Self { debts, len: 0 }
    }

    /// A request that was sent is given back without an answer.
    pub(super) fn note(&mut self, cookie: u64, command: Command, len: u32) {
        let room = self.debts.get_mut(self.len);
        debug_assert!(room.is_some());
        if let Some(debt) = room {
            *debt = Debt {
                cookie,
                of_write: is_write(command),
                len: if command == Command::Read { len } else { 0 },
            };
            self.len += 1;
        }
    }

    fn all(&self) -> &[Debt] {
        self.debts.get(..self.len).unwrap_or_default()
    }

    /// A reply has come: how many bytes follow it, if it tells of success. Nothing if it was not
    /// owed.
    pub(super) fn settle(&mut self, cookie: u64) -> Option<u32> {
        let at = self.all().iter().position(|debt| debt.cookie == cookie)?;
        let len = self.debts.get(at)?.len;
        self.len = self.len.checked_sub(1)?;
        self.debts.swap(at, self.len);
        Some(len)
    }

    /// Whether the server has answered all writes.
    pub(super) fn is_settled(&self) -> bool {
        !self.all().iter().any(|debt| debt.of_write)
    }
}
