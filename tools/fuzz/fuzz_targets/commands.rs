// SPDX-License-Identifier: GPL-2.0

//! Whole writes to /proc/nbdinfo.

#![no_main]

use enbd_oracle::commands;
use libfuzzer_sys::fuzz_target;

/// What the file takes at once.
const WRITE_MAX: usize = 4096;

fuzz_target!(|data: &[u8]| commands::check(&data[..data.len().min(WRITE_MAX)]));
