// SPDX-License-Identifier: GPL-2.0

//! The receiving side of a connection: the server's replies, as the bytes that they are.

use crate::conn::{Answer, Line, Reply, SharedConn};
use crate::logic::session::Received;
use crate::request::BLOCK_SECTORS;
use crate::server::Server;
use crate::store::Value;
use crate::world::World;
use shuttle::rand::{thread_rng, Rng};
use std::collections::VecDeque;

/// Bytes of a block.
const BLOCK: usize = (BLOCK_SECTORS * 512) as usize;
/// How long a receive waits, in milliseconds.
const WAIT_MS: u64 = 100;
const ECONNRESET: i32 = 104;
const EIO: u32 = 5;
const EINVAL: u32 = 22;
const ENOSPC: u32 = 28;
const ENOTSUP: u32 = 95;
const MAGIC: u32 = 0x6744_6698;

/// What comes over a connection.
pub struct Stream<'a> {
    world: &'a World,
    server: &'a Server,
    conn: &'a SharedConn,
    bytes: VecDeque<u8>,
}

impl<'a> Stream<'a> {
    pub fn new(world: &'a World, server: &'a Server, conn: &'a SharedConn) -> Self {
        Self {
            world,
            server,
            conn,
            bytes: VecDeque::new(),
        }
    }

    /// Waits for what comes next, at most `most` bytes of it. `has_asked` says whether the server
    /// was sent something that it would answer.
    pub fn receive(&mut self, most: usize, has_asked: impl Fn() -> bool) -> (Received, Vec<u8>) {
        let (world, server, conn) = (self.world, self.server, self.conn);
        if self.bytes.is_empty() {
            let has_news = || server.has_news(conn) || world.is_ending();
            world.clock.wait(WAIT_MS, has_news);
            match server.receive(conn) {
                Ok(reply) => self.bytes.extend(bytes_of(reply)),
                Err(Line::Closed) => return (Received::End, Vec::new()),
                Err(Line::Reset) => return (Received::Failed(ECONNRESET), Vec::new()),
                // What was sent, if only to keep the connection alive, is answered by a reset.
                Err(Line::Open) if server.is_forgotten(conn) && has_asked() => {
                    return (Received::Failed(ECONNRESET), Vec::new());
                }
                Err(Line::Open) => return (Received::Nothing, Vec::new()),
            }
        } else if self.is_torn() {
            // The rest of the message was lost with the connection.
            self.bytes.clear();
            return (Received::Failed(ECONNRESET), Vec::new());
        }
        let most = most.min(self.bytes.len());
        let some = if thread_rng().gen_ratio(1, 8) {
            thread_rng().gen_range(1..=most)
        } else {
            most
        };
        let bytes: Vec<_> = self.bytes.drain(..some).collect();
        (Received::Bytes(bytes.len()), bytes)
    }

    fn is_torn(&self) -> bool {
        self.conn.lock().unwrap().line == Line::Reset && thread_rng().gen()
    }
}

/// What a reply looks like.
fn bytes_of(reply: Reply) -> Vec<u8> {
    // A server that lies is as likely to lose the frame of its stream.
    let lies = reply.cookie == u64::MAX && thread_rng().gen();
    let magic = if lies { !MAGIC } else { MAGIC };
    let (error, values) = match reply.answer {
        Answer::Done(values) => (0, values),
        Answer::NoSpace | Answer::NotFlushed => (ENOSPC, Vec::new()),
        Answer::NotSupported => (ENOTSUP, Vec::new()),
        Answer::Invalid => (EINVAL, Vec::new()),
        Answer::Unreadable => (EIO, Vec::new()),
    };
    let mut bytes = magic.to_be_bytes().to_vec();
    bytes.extend(error.to_be_bytes());
    bytes.extend(reply.cookie.to_be_bytes());
    for value in values {
        let end = bytes.len() + BLOCK;
        bytes.extend(value.to_le_bytes());
        bytes.resize(end, 0);
    }
    bytes
}

/// The blocks that the data of a read is.
pub fn values_of(data: &[u8]) -> Vec<Value> {
    let value = |block: &[u8]| block.first_chunk().copied().map(Value::from_le_bytes);
    data.chunks(BLOCK).filter_map(value).collect()
}
