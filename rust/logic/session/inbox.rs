// SPDX-License-Identifier: GPL-2.0

//! Bytes that came and were not yet looked at.
//!
//! One call of the network brings as many replies as are there, with the data of small reads
//! between them, which is copied from here: that is cheaper than a call for each. The data of large
//! reads goes straight into the pages of the requests, so where one is expected no more than a
//! header is taken.

use crate::logic::wire::reply::REPLY_LEN;
use core::ops::DerefMut;

/// Bytes that an inbox takes at once.
pub const INBOX_LEN: usize = 32 << 10;
/// Reads of at most this many bytes are copied from the inbox.
const SMALL_READ: u32 = 8 << 10;

/// Bytes `start..end` of `bytes` came and were not taken.
pub(super) struct Inbox<V> {
    bytes: V,
    start: usize,
    end: usize,
    /// The last reply was a large read's, so the next one probably is.
    expects_large: bool,
}

impl<V: DerefMut<Target = [u8]>> Inbox<V> {
    /// An empty inbox; `bytes` is its memory, [`INBOX_LEN`] long.
    pub(super) fn new(bytes: V) -> Self {
        Self {
            bytes,
            start: 0,
            end: 0,
            expects_large: true,
        }
    }

    /// Says how long the data of the last reply was; 0 if it had none.
    pub(super) fn expect_like(&mut self, len: u32) {
        self.expects_large = len > SMALL_READ;
    }

    /// Takes a reply's header if it is there whole.
    pub(super) fn header(&mut self) -> Option<[u8; REPLY_LEN]> {
        let next = self.start.checked_add(REPLY_LEN)?;
        if next > self.end {
            return None;
        }
        let bytes = self.bytes.get(self.start..next)?;
        self.start = next;
        bytes.try_into().ok()
    }

    /// Takes at most `max` bytes of what is there.
    pub(super) fn take(&mut self, max: usize) -> &[u8] {
        let first = self.start;
        let len = self.end.saturating_sub(first).min(max);
        self.start = first.saturating_add(len);
        self.bytes.get(first..self.start).unwrap_or_default()
    }

    /// Throws away what is there.
    pub(super) fn clear(&mut self) {
        self.start = self.end;
    }

    /// Whether all that came has been taken.
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Where what comes next goes, at least a byte, while less than a header is there. Afterwards
    /// [`Inbox::came`] is told how much came.
    pub(super) fn room(&mut self) -> &mut [u8] {
        let left = self.end.saturating_sub(self.start);
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
        }
        self.start = 0;
        self.end = left;
        let until = if self.expects_large {
            REPLY_LEN
        } else {
            INBOX_LEN
        };
        self.bytes.get_mut(left..until).unwrap_or_default()
    }

    /// So many bytes came into the room.
    pub(super) fn came(&mut self, len: usize) {
        self.end = self.end.saturating_add(len).min(INBOX_LEN);
    }
}
