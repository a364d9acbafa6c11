// SPDX-License-Identifier: GPL-2.0

//! What is told to programs that do not want to look all the time.
//!
//! | file | what |
//! |---|---|
//! | [`changes`] | whether something has changed since somebody looked |

mod changes;

pub use changes::Changes;
