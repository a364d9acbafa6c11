// SPDX-License-Identifier: GPL-2.0

//! Any bytes from a server that is asked for any export.
//!
//! The input: how the stream is cut, the length of the export's name, the name, and what the server
//! sends.

#![no_main]

use enbd_oracle::handshake;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [cut, len, rest @ ..] = data else { return };
    let (name, server) = rest.split_at(usize::from(*len).min(rest.len()));
    handshake::check(name, server, usize::from(*cut) + 1);
});
