// SPDX-License-Identifier: GPL-2.0

//! The sending side of a connection.

use crate::clock::Clock;
use crate::conn::{Ask, Line, Message, SharedConn};
use crate::logic::{
    session::{send_queue::Batch, Pipe, Sent},
    wire::request::{Command, CommandFlags},
};
use crate::request::{Buffer, BLOCK_SECTORS};
use crate::table;
use shuttle::rand::{thread_rng, Rng};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;

/// Messages that go out together.
const TOGETHER: usize = 4;
/// Messages on the wire after which the socket takes no more.
const FULL: usize = 12;
/// How long a send waits for room, in milliseconds.
const WAIT_MS: u64 = 100;

/// What is being sent over a connection.
pub struct Sending {
    conn: SharedConn,
    clock: Arc<Clock>,
    out: VecDeque<Message>,
    /// Sending has failed.
    pub broken: Arc<AtomicBool>,
    pub backlog: Batch,
}

impl Sending {
    pub fn new(conn: &SharedConn, clock: &Arc<Clock>, broken: &Arc<AtomicBool>) -> Self {
        Self {
            conn: conn.clone(),
            clock: clock.clone(),
            out: VecDeque::new(),
            broken: broken.clone(),
            backlog: Batch::default(),
        }
    }

    pub fn conn(&self) -> SharedConn {
        self.conn.clone()
    }

    /// It is broken: nothing more is sent.
    pub fn break_off(&self) {
        self.broken.store(true, Relaxed);
        self.conn.lock().unwrap().shutdown_send();
        self.clock.happened();
    }

    /// The cookies of what was not sent.
    pub fn unsent(&self) -> Vec<u64> {
        self.out.iter().map(|message| message.cookie).collect()
    }

    /// Sends what the socket takes now; whether that is all. Nothing if the connection is broken.
    fn send_some(&mut self) -> Option<bool> {
        let mut conn = self.conn.lock().unwrap();
        // What is sent right after the end is still taken, as nobody has said that it is the end.
        if conn.half_closed || (conn.line != Line::Open && thread_rng().gen()) {
            return None;
        }
        let is_hesitant = thread_rng().gen_ratio(1, 8);
        while conn.wire.len() < FULL && !(is_hesitant && thread_rng().gen()) {
            match self.out.pop_front() {
                Some(message) => conn.send(message),
                None => break,
            }
        }
        drop(conn);
        self.clock.happened();
        Some(self.out.is_empty())
    }
}

impl Pipe for Sending {
    type Buffer = Buffer;

    fn has_room(&self) -> bool {
        self.out.len() < TOGETHER
    }

    fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    fn push(&mut self, message: table::Message) -> bool {
        self.out.push_back(on_the_wire(&message));
        true
    }

    fn send(&mut self, may_wait: bool) -> Option<Sent> {
        if self.send_some()? {
            return Some(Sent::All);
        }
        if may_wait {
            let conn = self.conn.clone();
            let has_room = || {
                let conn = conn.lock().unwrap();
                conn.line != Line::Open || conn.wire.len() < FULL
            };
            self.clock.wait(WAIT_MS, has_room);
        }
        Some(Sent::Blocked)
    }
}

fn on_the_wire(message: &table::Message) -> Message {
    let first = (message.offset / (BLOCK_SECTORS * 512)) as usize;
    let len = (u64::from(message.len) / (BLOCK_SECTORS * 512)) as usize;
    let fua = message.flags.bits() & CommandFlags::FUA.bits() != 0;
    let write = |values| Ask::Write { first, values, fua };
    let ask = match (message.command, &message.body) {
        (Command::Read, _) => Ask::Read { first, len },
        (Command::Write, Some(body)) => write(body.given(len)),
        (Command::WriteZeroes, _) => Ask::Zeroes { first, len, fua },
        _ => Ask::Flush,
    };
    let cookie = message.cookie;
    Message { cookie, ask }
}
