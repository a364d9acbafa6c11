// SPDX-License-Identifier: GPL-2.0

//! What a channel asks of the mirror that it belongs to, and tells it.

use super::{Channel, Table};
use crate::kapi::{block::mq::Operations, iovec::Buffer};
use crate::logic::{
    ids::{ChannelId, GroupId, Lane},
    mirror::{Arrival, Probe},
    session::{DownReason, Event},
    wire::handshake::Export,
};

/// The mirror of a channel.
pub(crate) trait Home: Send + Sync + 'static {
    /// The driver whose requests are carried.
    type Ops: Operations;

    /// The letter of the device, for log lines.
    fn letter(&self) -> char;
    /// A channel.
    fn channel(&self, id: ChannelId) -> &Channel<Self::Ops>;
    /// The transfers of a group.
    fn table(&self, group: GroupId) -> Option<&Table<Self::Ops>>;
    /// Milliseconds of a clock that does not go back.
    fn now_ms(&self) -> u64;
    /// Seconds that a connection may take until it is negotiated.
    fn connect_timeout_s(&self) -> u32;
    /// Milliseconds that a request may go unanswered.
    fn timeout_ms(&self) -> u64;
    /// The same, as it is for this group now.
    fn patience_ms(&self, group: GroupId) -> u64;
    /// Whether requests that cannot be served fail now.
    fn is_failing(&self) -> bool;

    /// Whether the channel may lead to this export, in this group; one that `is_new` was added just
    /// now.
    fn admit(&self, lane: Lane, export: &Export, is_new: bool) -> Result<(), DownReason>;
    /// The channel is connected, and carries requests if this says so; `ended` says that it is to
    /// end, and `probe` reads over it. Waits for the answers of others of the group.
    fn came_up(&self, lane: Lane, ended: &dyn Fn() -> bool, probe: Probe<'_>) -> Arrival;
    /// See [`Around::give_up_group`](crate::logic::session::Around::give_up_group).
    fn give_up_group(&self, group: GroupId) -> bool;
    /// The session of a channel tells something.
    fn tell(&self, lane: Lane, event: Event<Buffer<Self::Ops>>);

    /// The state of a channel has changed.
    fn changed(&self);
    /// Waits for a change that makes `enough` true, at most `ms` milliseconds; gives what it says
    /// in the end.
    fn sleep(&self, ms: u32, enough: &mut dyn FnMut() -> bool) -> bool;
}
