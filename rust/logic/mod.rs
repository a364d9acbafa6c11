// SPDX-License-Identifier: GPL-2.0

//! Pure decisions: no kernel, no allocation beyond what is handed in, no `unsafe`.
//!
//! This folder is compiled three times: into `enbd.ko` by Kbuild (rustc 1.85, `no_std`), on the host
//! by `tools/enbd-logic`, where it is unit-, property- and fuzz-tested, and by `tools/enbd-sim`,
//! which runs it under a seeded schedule. Rules that keep it so:
//!
//! - Only `core` and `crate::sync` are used. Text is written through `core::fmt::Write` with
//!   primitive arguments; no type here implements `Display`, since the kernel has a `Display` of
//!   its own. Reasons are enums with `as_str()`.
//! - The stock kernel turns arithmetic overflow into a BUG, so sums of foreign numbers are
//!   `checked_`, `saturating_` or `wrapping_`, and slices are indexed with `get`.

#![forbid(unsafe_code)]
#![allow(unreachable_pub)]

pub mod barrier;
pub mod bitmap;
pub mod command;
pub mod evidence;
pub mod export;
pub mod group;
pub mod ids;
pub mod meta;
pub mod mirror;
pub mod resync;
pub mod room;
pub mod session;
pub mod status;
pub mod target;
pub mod tell;
pub mod unflushed;
pub mod wire;
mod word;

/// Devices `a`..`z`.
pub const MAX_DEVICES: usize = 26;
/// Mirror groups of one device, numbered from 0.
pub const MAX_GROUPS: usize = 8;
/// Channels of one device, over all its groups.
pub const MAX_CHANNELS: usize = 32;
