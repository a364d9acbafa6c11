// SPDX-License-Identifier: GPL-2.0

//! What must hold of each parser of foreign bytes, of the decision who is current, and of the dirty
//! map, whatever comes.
//!
//! Shape: a module for each. It takes bytes, or operations, has the code under test work on them,
//! reads them a second time in the most naive way, and panics where the two differ or a promise is
//! broken. The property tests of `enbd-logic` and the fuzz targets only say where the bytes come
//! from, so what one of them finds the other would find too.

pub mod assemble;
pub mod commands;
pub mod dirty_map;
pub mod handshake;
pub mod intent;
pub mod pages;
pub mod replies;
pub mod superblock;
