// SPDX-License-Identifier: GPL-2.0

//! What a connection tells the mirror that it belongs to, and what it asks.

use super::{Outcome, Transfer};
use crate::logic::ids::SlotId;

/// What a connection tells the mirror, in the order in which it happens. Told in process context,
/// without locks.
pub enum Event<B> {
    /// A transfer has ended.
    Ended {
        /// Its slot in the table of the group.
        slot: SlotId,
        /// The transfer, which is in the table no more.
        transfer: Transfer<B>,
        /// What became of it.
        outcome: Outcome,
    },
    /// It takes no more transfers.
    Left,
    /// It was lost, or has ended. Its transfers come back afterwards.
    Down,
    /// From now on, until [`Event::Cleared`], the server may still carry out writes that are given
    /// back.
    Suspect,
    /// The server carries out nothing more of what it was sent.
    Cleared,
    /// The server may do so for so many milliseconds more, whatever becomes of the channel.
    SuspectFor(u32),
}

/// What a connection asks of what is around it. All but [`Around::set_bound`] and the last
/// one only look.
pub trait Around {
    /// Milliseconds of a clock that does not go back.
    fn now_ms(&self) -> u64;
    /// Whether the channel is to end.
    fn is_stopping(&self) -> bool;
    /// Whether sending has failed, after which our side is closed.
    fn is_broken(&self) -> bool;
    /// Whether a receive that found the end has really seen the server close; false after a reset.
    fn has_peer_closed(&self) -> bool;
    /// Milliseconds that a request of the group may go unanswered now.
    fn patience_ms(&self) -> u64;
    /// The same where users wait for the answer.
    fn timeout_ms(&self) -> u64;
    /// Bytes that were given to the channel and are not answered.
    fn load(&self) -> u64;
    /// From now on so many of them are enough, see [`pace`](super::pace).
    fn set_bound(&self, bytes: u64);
    /// Whether the device is coming to its end, with nobody who could write anything newer.
    fn is_failing(&self) -> bool;
    /// Takes the group out of service, since its server may still carry out writes that it has not
    /// answered. False if no other one is in sync: then those writes must not be given back before
    /// the server will not carry them out any more.
    fn give_up_group(&self) -> bool;
}
