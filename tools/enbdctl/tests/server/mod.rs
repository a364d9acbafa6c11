// SPDX-License-Identifier: GPL-2.0

//! A server of NBD with one export in memory, on a Unix socket: as much as a client needs that reads.

use std::io::{Read, Result, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

/// HAS_FLAGS, FLUSH, FUA, TRIM, WRITE_ZEROES, CAN_MULTI_CONN.
pub const FLAGS: u16 = 0b1_0110_1101;
const GO: u32 = 7;
const ACK: u32 = 1;
const INFO: u32 = 3;
const READ: u16 = 0;

/// It serves until the test ends.
pub struct Server {
    path: PathBuf,
}

impl Server {
    /// One that has `data`.
    pub fn new(path: &Path, data: Vec<u8>, flags: u16) -> Self {
        let listener = UnixListener::bind(path).expect("a socket");
        let data = Arc::new(data);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let data = Arc::clone(&data);
                // Whoever hangs up in the middle has what it wanted.
                thread::spawn(move || serve(stream, &data, flags).unwrap_or(()));
            }
        });
        Self {
            path: path.to_owned(),
        }
    }

    /// How it is called.
    pub fn uri(&self) -> String {
        format!("nbd+unix:///disk?socket={}", self.path.display())
    }
}

fn number<const N: usize>(stream: &mut UnixStream) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn serve(mut stream: UnixStream, data: &[u8], flags: u16) -> Result<()> {
    stream.write_all(b"NBDMAGICIHAVEOPT\x00\x03")?;
    number::<4>(&mut stream)?;
    number::<8>(&mut stream)?;
    let option = u32::from_be_bytes(number(&mut stream)?);
    let length = u32::from_be_bytes(number(&mut stream)?);
    assert_eq!(option, GO, "the option");
    let mut rest = vec![0; length as usize];
    stream.read_exact(&mut rest)?;
    let size = data.len() as u64;
    let mut info = vec![0, 0];
    info.extend(size.to_be_bytes());
    info.extend(flags.to_be_bytes());
    for (kind, payload) in [(INFO, info), (ACK, Vec::new())] {
        let mut reply = 0x0003_e889_0455_65a9u64.to_be_bytes().to_vec();
        reply.extend(GO.to_be_bytes());
        reply.extend(kind.to_be_bytes());
        reply.extend((payload.len() as u32).to_be_bytes());
        reply.extend(payload);
        stream.write_all(&reply)?;
    }
    loop {
        let head: [u8; 28] = number(&mut stream)?;
        let kind = u16::from_be_bytes([head[6], head[7]]);
        if kind != READ {
            return Ok(());
        }
        let at = u64::from_be_bytes(head[16..24].try_into().expect("8 bytes")) as usize;
        let length = u32::from_be_bytes(head[24..28].try_into().expect("4 bytes")) as usize;
        let mut reply = 0x6744_6698u32.to_be_bytes().to_vec();
        reply.extend([0; 4]);
        reply.extend(&head[8..16]);
        reply.extend(&data[at..at + length]);
        stream.write_all(&reply)?;
    }
}
