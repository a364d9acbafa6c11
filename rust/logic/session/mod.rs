// SPDX-License-Identifier: GPL-2.0

//! One connection to a server, without I/O.
//!
//! | file | what |
//! |---|---|
//! | [`state`] | the states of a channel, and why it is down |
//! | [`retry`] | when it tries again |
//! | [`told`] | what is told of it in the log |
//! | [`transfer`] | what a connection carries |
//! | [`table`] | the transfers of a group, by slot |
//! | [`send_queue`] | what is to be sent, and by whom |
//! | [`sending`] | the sending |
//! | [`serving`] | the replies, one after the other, and what they are to |
//! | [`hang_up`] | the end: what was not answered is given back |
//! | [`inbox`] | bytes that came and were not looked at |
//! | [`owed`] | replies that nobody waits for any more |
//! | [`idle`] | how an idle one is probed |
//! | [`pace`] | how much may be on its way on one |
//! | [`events`] | what it tells its mirror, and what it asks |
//!
//! Whoever has the socket asks a [`Session`] for the next [`Step`] again and again, and carries it
//! out:
//!
//! ```text
//!   Serving --stop--> (Drain) --> Serving      replies are taken, transfers end
//!      |                             |
//!      | it broke, or is drained     |
//!      v                             v
//!   Failed --it sent nonsense--> Babble        (Drain) what comes is thrown away until it closes
//!      |                             |
//!      v                             v
//!   Leaving --> Lost --> Closing --> HangUp    (Tell) (Close) and what hang_up.rs says
//! ```
//!
//! The driver does this on the thread of a channel, with a socket of the kernel; `tools/enbd-sim`
//! with connections that fail as a seed says.

pub mod events;
pub mod hang_up;
pub mod idle;
mod inbox;
mod owed;
pub mod pace;
pub mod retry;
pub mod send_queue;
pub mod sending;
pub mod serving;
pub mod state;
pub mod table;
pub mod told;
pub mod transfer;

pub use self::events::{Around, Event};
pub use self::idle::Probing;
pub use self::inbox::INBOX_LEN;
pub use self::owed::Debt;
pub use self::pace::Limits;
pub use self::retry::Retry;
pub use self::sending::{pump, Pipe, Queue, Sent, Stop};
pub use self::serving::{Received, Session, Step};
pub use self::state::{ChannelEvent, ChannelState, DownReason};
pub use self::table::{Message, Slot, Slots, Table};
pub use self::told::Told;
pub use self::transfer::{is_write, Fence, Outcome, Transfer};

#[cfg(test)]
mod tests;
