// SPDX-License-Identifier: GPL-2.0

//! The text of /proc/nbdinfo, taken apart.
//!
//! Shape: [`Status::parse`] takes the whole text and gives plain data. The lines of 2003 must be
//! there and be well formed, since they never change; a line that is not known, or one that has
//! been added since and is not understood, is kept as text and is no error.
//!
//! Units: blocks, unless a name says something else. The text rounds most numbers, so that they are
//! a [`Figure`]: the least and the most that the number can be. [`Bytes`] are exact.
//!
//! Errors: [`Malformed`], with the line.

#![forbid(unsafe_code)]

mod columns;
mod device;
mod figure;
mod memory;
mod model;
mod peer;

pub use figure::Figure;
pub use model::{
    Bytes, Channel, Device, Group, GroupState, Intent, Link, Malformed, Member, Mirror,
    MoreSettings, OtherLine, Peer, Resync, Settings, Status, Traffic,
};
