// SPDX-License-Identifier: GPL-2.0

//! Bytes that came and were not yet looked at.
//!
//! One call of the network brings as many replies as are there, with the data of small reads
//! between them, which is copied from here: that is cheaper than a call for each. The data of large
//! reads goes straight into the pages of the requests, so where one is expected no more than a
//! header is taken.

use crate::kapi::net::Socket;
use crate::logic::wire::reply::REPLY_LEN;
use kernel::prelude::*;

/// Bytes that the inbox takes at once.
const SIZE: usize = 32 << 10;
/// Reads of at most this many bytes are copied from the inbox.
pub(super) const SMALL_READ: u32 = 8 << 10;

/// Bytes `start..end` of `bytes` came and were not taken.
pub(super) struct Inbox {
    bytes: KVVec<u8>,
    start: usize,
    end: usize,
    /// The last reply was a large read's, so the next one probably is.
    expects_large: bool,
}

impl Inbox {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            bytes: KVVec::from_elem(0, SIZE, GFP_KERNEL)?,
            start: 0,
            end: 0,
            expects_large: true,
        })
    }

    /// Says how long the data of the last reply was; 0 if it had none.
    pub(super) fn expect_like(&mut self, len: u32) {
        self.expects_large = len > SMALL_READ;
    }

    /// Takes a reply's header if it is there whole.
    pub(super) fn header(&mut self) -> Option<[u8; REPLY_LEN]> {
        let next = self.start.checked_add(REPLY_LEN)?;
        let bytes = self.bytes.get(self.start..next)?;
        if next > self.end {
            return None;
        }
        self.start = next;
        bytes.try_into().ok()
    }

    /// Whether a reply's header is there whole.
    pub(super) fn has_header(&self) -> bool {
        self.end.saturating_sub(self.start) >= REPLY_LEN
    }

    /// Takes at most `max` bytes of what is there.
    pub(super) fn take(&mut self, max: usize) -> &[u8] {
        let first = self.start;
        let len = self.end.saturating_sub(first).min(max);
        self.start = first.saturating_add(len);
        self.bytes.get(first..self.start).unwrap_or_default()
    }

    /// Whether all that came has been taken.
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Receives more, while less than a header is there; gives how many bytes came, like
    /// [`Socket::recv_some`].
    pub(super) fn recv(&mut self, sock: &Socket) -> Result<usize> {
        let left = self.end.saturating_sub(self.start);
        self.bytes.copy_within(self.start..self.end, 0);
        self.start = 0;
        self.end = left;
        let until = if self.expects_large { REPLY_LEN } else { SIZE };
        let room = self.bytes.get_mut(left..until).ok_or(EINVAL)?;
        let got = sock.recv_some(room)?;
        self.end = left.saturating_add(got).min(SIZE);
        Ok(got)
    }
}
