// SPDX-License-Identifier: GPL-2.0

//! Where the channels of a group lead: to its server, but for one that may go astray.

use crate::clock::Clock;
use crate::server::{Power, Server};
use crate::store::Value;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::Arc;

/// No channel has this number.
const NO_CHANNEL: u32 = u32::MAX;

/// Where a connection leads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Goal {
    /// To the server of its group.
    Right,
    /// To another one, of the same size.
    Stray,
}

/// Where the channels of a group lead.
pub struct Wiring {
    astray: AtomicU32,
    /// The server where a channel leads that goes astray.
    stray: Server,
}

impl Wiring {
    pub fn new(blocks: usize, shares_cache: bool, clock: Arc<Clock>) -> Self {
        Self {
            astray: AtomicU32::new(NO_CHANNEL),
            stray: Server::new(blocks, shares_cache, clock),
        }
    }

    /// Where this channel leads when it connects.
    pub fn goal(&self, channel: u32) -> Goal {
        if self.astray.load(Relaxed) == channel {
            Goal::Stray
        } else {
            Goal::Right
        }
    }

    /// The server where a channel leads that goes astray.
    pub fn stray(&self) -> &Server {
        &self.stray
    }

    /// Whether a channel leads astray when it connects.
    pub fn is_astray(&self) -> bool {
        self.astray.load(Relaxed) != NO_CHANNEL
    }

    /// From now on this channel leads to a server with this content when it connects.
    pub fn mislead(&self, channel: u32, content: Vec<Value>) {
        self.stray.replace(content);
        self.stray.adopt();
        self.stray.set_power(Power::On);
        self.astray.store(channel, Relaxed);
    }

    /// All channels lead to the server of the group again; a connection to another one is lost.
    pub fn lead_back(&self) {
        self.astray.store(NO_CHANNEL, Relaxed);
        self.stray.kill();
    }
}
