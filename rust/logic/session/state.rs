// SPDX-License-Identifier: GPL-2.0

//! The states of a channel, and the reasons for which it goes down.
//!
//! ```text
//!   Unused --Assign--> Connecting --Negotiated--> Up --Lost--> Down --Retry--> Connecting
//!      ^                   |                       |             |
//!      |                   +-------Failed----------|------------>|
//!      +---------------------Release (from any state)------------+
//! ```

use crate::logic::{
    export::Lack,
    wire::{handshake::HandshakeReason, reply::ReplyReason},
};

/// What a channel does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ChannelState {
    /// It belongs to no group.
    Unused,
    /// It connects or negotiates.
    Connecting,
    /// It carries requests.
    Up,
    /// It lost its server and will try again.
    Down,
}

/// What can happen to a channel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ChannelEvent {
    /// A group takes it.
    Assign,
    /// The server and we agree.
    Negotiated,
    /// The server could not be reached, or we do not agree.
    Failed,
    /// The connection is gone.
    Lost,
    /// The time to try again has come.
    Retry,
    /// The group gives it up.
    Release,
}

impl ChannelState {
    /// The state after `event`, or nothing if it cannot happen in this state.
    pub fn after(self, event: ChannelEvent) -> Option<Self> {
        use ChannelEvent as E;
        match (self, event) {
            (Self::Unused, E::Assign) | (Self::Down, E::Retry) => Some(Self::Connecting),
            (Self::Connecting, E::Negotiated) => Some(Self::Up),
            (Self::Connecting, E::Failed) | (Self::Up, E::Lost) => Some(Self::Down),
            (_, E::Release) => Some(Self::Unused),
            _ => None,
        }
    }
}

/// Why a channel is not up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DownReason {
    /// The system refused, with this errno: no route, connection refused, no memory.
    System(i32),
    /// The interface of the server's address does not exist now.
    NoInterface,
    /// The server did not answer in time while we connected or negotiated.
    ConnectTimeout,
    /// The server and we did not come to an agreement.
    Handshake(HandshakeReason),
    /// The export is not the one that the group's channels have.
    OtherExport,
    /// The server does not hold what the group does.
    OtherData,
    /// What the server holds could not be compared with what the group's other channels lead to.
    Unasked,
    /// The export's size is not a multiple of the device's block size.
    OddSize,
    /// The export lacks something that users rely on.
    Lacks(Lack),
    /// The server closed the connection.
    Closed,
    /// The server closed the connection in the middle of a message.
    Cut,
    /// The server says that it is shutting down.
    ServerShutdown,
    /// A request went unanswered for too long.
    RequestTimeout,
    /// The server sent something that is no reply.
    Reply(ReplyReason),
    /// The server answered a request that it was not asked.
    UnknownCookie,
    /// The administrator took it away.
    Removed,
}

impl DownReason {
    /// A short phrase for a log line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System(errno) => system_phrase(errno),
            Self::NoInterface => "no such network interface",
            Self::ConnectTimeout => "the server did not answer in time",
            Self::Handshake(reason) => reason.as_str(),
            Self::OtherExport => {
                "the export is not the one of the group's other channels: its size differs"
            }
            Self::OtherData => "the server does not hold the data of the group",
            Self::Unasked => {
                "what the server holds could not be compared with the group's data yet"
            }
            Self::OddSize => "the size of the export is not a multiple of the block size",
            Self::Lacks(lack) => lack.as_str(),
            Self::Closed => "the server closed the connection",
            Self::Cut => "the server closed the connection in the middle of a message",
            Self::ServerShutdown => "the server is shutting down",
            Self::RequestTimeout => "a request was not answered in time",
            Self::Reply(reason) => reason.as_str(),
            Self::UnknownCookie => "a reply to a request that was not asked",
            Self::Removed => "removed",
        }
    }

    /// The positive Linux errno for the writer of a command.
    pub fn errno(self) -> i32 {
        match self {
            Self::System(errno) => errno,
            Self::NoInterface => 19,                            // ENODEV
            Self::ConnectTimeout | Self::RequestTimeout => 110, // ETIMEDOUT
            Self::Handshake(reason) => reason.errno(),
            Self::OtherExport | Self::OtherData | Self::OddSize => 22, // EINVAL
            Self::Unasked => 11,                                       // EAGAIN
            Self::Lacks(lack) => lack.errno(),
            Self::Closed | Self::Cut | Self::ServerShutdown => 104, // ECONNRESET
            Self::Reply(reason) => reason.errno(),
            Self::UnknownCookie => 71, // EPROTO
            Self::Removed => 103,      // ECONNABORTED
        }
    }
}

/// What an errno of the network means to an administrator.
fn system_phrase(errno: i32) -> &'static str {
    match errno {
        2 => "no such socket",
        12 => "out of memory",
        13 => "permission denied",
        32 | 104 => "connection reset by the server",
        101 => "network is unreachable",
        110 => "timed out in the network",
        111 => "connection refused",
        113 => "no route to host",
        _ => "the network failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ChannelEvent::*;
    use ChannelState::*;

    #[test]
    fn table() {
        let legal = [
            (Unused, Assign, Connecting),
            (Connecting, Negotiated, Up),
            (Connecting, Failed, Down),
            (Up, Lost, Down),
            (Down, Retry, Connecting),
        ];
        for from in [Unused, Connecting, Up, Down] {
            assert_eq!(from.after(Release), Some(Unused));
            for event in [Assign, Negotiated, Failed, Lost, Retry] {
                let want = legal
                    .iter()
                    .find(|(f, e, _)| *f == from && *e == event)
                    .map(|(_, _, to)| *to);
                assert_eq!(from.after(event), want, "{from:?} {event:?}");
            }
        }
    }
}
