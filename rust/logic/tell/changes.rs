// SPDX-License-Identifier: GPL-2.0

//! Whether something has changed since somebody looked.
//!
//! Who changes something does so first and then calls [`Changes::note`]; who looks takes
//! [`Changes::now`] first and looks then. So who finds the same number later has seen all that was
//! noted before. It may find another number and nothing new, where it looked between a change and
//! its note: then it looks once more than it had to.

use crate::sync::Word;

/// How often something has changed.
pub struct Changes(Word);

impl Default for Changes {
    fn default() -> Self {
        Self(Word::new(0))
    }
}

impl Changes {
    /// To be called after the change.
    pub fn note(&self) {
        self.0.fetch_add(1);
    }

    /// To be taken before a look, and compared after it. Wraps.
    pub fn now(&self) -> u64 {
        self.0.load()
    }
}
