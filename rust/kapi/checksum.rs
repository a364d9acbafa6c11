// SPDX-License-Identifier: GPL-2.0

//! CRC-32C, as the kernel computes it.
//!
//! C header: [`include/linux/crc32.h`](srctree/include/linux/crc32.h)

use super::bindings;
use kernel::page::{Page, PAGE_SIZE};

/// A checksum over bytes that are given piece by piece.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crc32c(u32);

impl Crc32c {
    /// That of nothing.
    pub(crate) const fn new() -> Self {
        Self(u32::MAX)
    }

    /// With these bytes, too.
    pub(crate) fn bytes(self, data: &[u8]) -> Self {
        // SAFETY: `data` is valid for reading.
        Self(unsafe { bindings::enbd_crc32c(self.0, data.as_ptr(), data.len()) })
    }

    /// With `len` bytes of these pages from byte `from` on, too; nothing if there are fewer.
    pub(super) fn pages<'a>(
        mut self,
        pages: impl Iterator<Item = &'a Page>,
        from: usize,
        len: usize,
    ) -> Option<Self> {
        let (mut skip, mut left) = (from % PAGE_SIZE, len);
        for page in pages.skip(from / PAGE_SIZE) {
            if left == 0 {
                break;
            }
            let part = left.min(PAGE_SIZE - skip);
            // SAFETY: The page is allocated, and the range lies in it. If somebody writes to it
            // meanwhile the sum means nothing; C may read what others write.
            self.0 = unsafe { bindings::enbd_crc32c_page(self.0, page.as_ptr(), skip, part) };
            left -= part;
            skip = 0;
        }
        (left == 0).then_some(self)
    }

    /// The sum.
    pub(crate) fn value(self) -> u32 {
        self.0
    }
}
