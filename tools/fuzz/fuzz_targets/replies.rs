// SPDX-License-Identifier: GPL-2.0

//! Any bytes from a server in the transmission phase. The input: how the stream is cut, and the
//! stream.

#![no_main]

use enbd_oracle::replies;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [cut, stream @ ..] = data else { return };
    replies::check(stream, usize::from(*cut) + 1);
});
