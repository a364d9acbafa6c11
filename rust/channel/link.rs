// SPDX-License-Identifier: GPL-2.0

//! The connection of a channel, for control and status.

use super::Spec;
use crate::kapi::net::Socket;
use crate::logic::session::{ChannelEvent, ChannelState, DownReason, Told};
use crate::logic::wire::handshake::Export;
use kernel::{
    sync::Arc,
    time::{Instant, Monotonic},
};

/// The connection of a channel, as far as it is not on the fast path.
pub(crate) struct Link {
    /// What the channel does.
    pub(crate) state: ChannelState,
    /// Since when.
    pub(crate) since: Instant<Monotonic>,
    /// Where it leads; set while it belongs to a group.
    pub(crate) spec: Option<Arc<Spec>>,
    /// Why it was last down or could not come up; kept when it is up again.
    pub(crate) reason: Option<DownReason>,
    /// How often it came up again.
    pub(crate) reconnects: u64,
    /// What was found on the connection that is, or was last, up.
    pub(crate) export: Option<Export>,
    pub(super) sock: Option<Arc<Socket>>,
    pub(super) ever_up: bool,
    /// What was told of it in the log.
    pub(super) told: Told,
}

impl Link {
    /// The link of a channel that is not in use.
    pub(super) fn unused() -> Self {
        Self {
            state: ChannelState::Unused,
            since: Instant::now(),
            spec: None,
            reason: None,
            reconnects: 0,
            export: None,
            sock: None,
            ever_up: false,
            told: Told::default(),
        }
    }

    /// What happened to the channel.
    pub(super) fn enter(&mut self, event: ChannelEvent) {
        if let Some(state) = self.state.after(event) {
            self.state = state;
            self.since = Instant::now();
        }
    }
}
