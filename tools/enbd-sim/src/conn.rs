// SPDX-License-Identifier: GPL-2.0

//! A connection to a server, and what goes over it.
//!
//! A message is on the *wire* until the server receives it, and *got* until the server has carried
//! it out, in any order. What is got is carried out even if the connection is reset meanwhile: that
//! is what makes ghost writes.

use crate::store::Value;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// What a client asks.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Read so many blocks from a block on.
    Read { first: usize, len: usize },
    /// Write these blocks, durably or not.
    Write {
        first: usize,
        values: Vec<Value>,
        fua: bool,
    },
    /// Make so many blocks zeroes, durably or not.
    Zeroes { first: usize, len: usize, fua: bool },
    /// Make durable what was answered.
    Flush,
}

/// A request on the wire.
#[derive(Clone, Debug)]
pub struct Message {
    pub cookie: u64,
    pub ask: Ask,
}

/// What a server answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// It is done; a read's data.
    Done(Vec<Value>),
    /// It was not done.
    NoSpace,
    /// The server does not do that.
    NotSupported,
    /// Something of it cannot be read.
    Unreadable,
    /// The server takes that for malformed.
    Invalid,
    /// A flush was not done, see [`Server::give_up`](crate::server::Server::give_up).
    NotFlushed,
}

/// A reply on the wire.
#[derive(Clone, Debug)]
pub struct Reply {
    pub cookie: u64,
    pub answer: Answer,
}

/// How a connection stands, as its client sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Line {
    /// It carries messages.
    Open,
    /// The server has closed it, after all that it carried out.
    Closed,
    /// It was reset.
    Reset,
}

/// One connection. The server has it in its hands; its client only sends, and ends it.
pub struct Conn {
    pub line: Line,
    /// No other one of the server has it.
    pub number: u64,
    /// The server's host knows it still: what is on the wire may arrive.
    pub known: bool,
    /// The client sends no more.
    pub half_closed: bool,
    /// The client has reset it.
    pub aborted: bool,
    /// Nothing arrives before: TCP tries again less and less often while the network is cut.
    pub resumes_ms: u64,
    /// When the server last did something for it, or had nothing to do.
    pub worked_ms: u64,
    pub wire: VecDeque<Message>,
    pub got: Vec<Message>,
    pub replies: VecDeque<Reply>,
}

/// A connection that both ends hold.
pub type SharedConn = Arc<Mutex<Conn>>;

impl Conn {
    /// A new one.
    pub fn new(number: u64) -> Self {
        Self {
            line: Line::Open,
            number,
            known: true,
            half_closed: false,
            aborted: false,
            resumes_ms: 0,
            worked_ms: 0,
            wire: VecDeque::new(),
            got: Vec::new(),
            replies: VecDeque::new(),
        }
    }

    /// The client sends a message.
    pub fn send(&mut self, message: Message) {
        if self.line == Line::Open && !self.half_closed {
            self.wire.push_back(message);
        }
    }

    /// The client sends no more.
    pub fn shutdown_send(&mut self) {
        self.half_closed = true;
    }

    /// Whether the server has nothing more to do for it.
    pub fn is_drained(&self) -> bool {
        self.wire.is_empty() && self.got.is_empty()
    }

    /// Whether a write is on the wire or got.
    pub fn has_writes(&self) -> bool {
        let mut messages = self.wire.iter().chain(&self.got);
        messages.any(|m| matches!(m.ask, Ask::Write { .. } | Ask::Zeroes { .. }))
    }

    /// Whether the next message is a write of this block.
    pub fn is_to_write(&self, block: usize) -> bool {
        self.wire.front().is_some_and(|m| match &m.ask {
            Ask::Write { first, values, .. } => (*first..first + values.len()).contains(&block),
            Ask::Zeroes { first, len, .. } => (*first..first + len).contains(&block),
            Ask::Read { .. } | Ask::Flush => false,
        })
    }

    /// The network resets it; what is on the wire is lost.
    pub fn reset(&mut self) {
        self.line = Line::Reset;
        self.replies.clear();
        self.wire.clear();
    }
}
