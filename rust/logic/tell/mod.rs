// SPDX-License-Identifier: GPL-2.0

//! What is told to programs that do not want to look all the time.
//!
//! | file | what |
//! |---|---|
//! | [`changes`] | whether something has changed since somebody looked |
//! | [`facts`] | what events tell of |
//! | [`teller`] | which events there are |
//! | [`rate`] | how many in a second |

mod changes;
mod facts;
mod rate;
mod teller;

pub use changes::Changes;
pub use facts::{state_key, DeviceState, Facts};
pub use rate::Rate;
pub use teller::{Event, Happened, Next, Teller};
