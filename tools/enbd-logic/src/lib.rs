// SPDX-License-Identifier: GPL-2.0

//! The same `rust/logic` that is compiled into `enbd.ko`, on the host, for its tests.

#![cfg_attr(not(test), no_std)]

#[path = "../../../rust/logic/mod.rs"]
pub mod logic;

/// What the kernel gives `rust/logic` as `crate::sync`, from `core` or from loom.
pub mod sync;
