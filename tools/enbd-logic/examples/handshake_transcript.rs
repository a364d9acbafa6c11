// SPDX-License-Identifier: GPL-2.0

//! Does one NBD handshake over TCP and prints it as a fixture for `tests/wire_servers.rs`.
//!
//! ```text
//! cargo run -p enbd-logic --example handshake_transcript -- 127.0.0.1:10809 NAME >> FIXTURE
//! ```

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use enbd_logic::logic::wire::handshake::{Handshake, Step, SCRATCH};

/// `C: ` or `S: ` and the bytes, so that a transcript reads as it went.
fn print_line(side: char, bytes: &[u8]) {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{side}: {hex}");
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(address), Some(name), None) = (args.next(), args.next(), args.next()) else {
        return Err("usage: handshake_transcript ADDRESS:PORT NAME".into());
    };
    let mut socket = TcpStream::connect(&address)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    println!("export: {name}");

    let mut handshake = Handshake::new(name.as_bytes()).map_err(|reason| reason.as_str())?;
    let mut scratch = [0; SCRATCH];
    loop {
        match handshake.next() {
            Step::Send(bytes) => {
                print_line('C', bytes);
                socket.write_all(bytes)?;
                handshake.sent();
            }
            Step::Recv(count) => {
                let bytes = &mut scratch[..count];
                socket.read_exact(bytes)?;
                print_line('S', bytes);
                // A failure is the next step, and is printed there.
                let _ = handshake.received(bytes);
            }
            Step::Done(export) => {
                let block = export.block;
                println!(
                    "expect: done size={} flags={:#06x} min={} preferred={} max={}",
                    export.size,
                    export.flags.bits(),
                    block.min,
                    block.preferred,
                    block.max_payload
                );
                return Ok(());
            }
            Step::Failed(reason) => {
                println!("expect: failed {}", reason.as_str());
                if let Some(farewell) = reason.farewell() {
                    socket.write_all(farewell)?;
                }
                return Ok(());
            }
        }
    }
}
