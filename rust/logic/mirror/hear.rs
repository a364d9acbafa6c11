// SPDX-License-Identifier: GPL-2.0

//! What connections tell their mirror: the one door for it.

use super::{step, Losses, Outcomes, World};
use crate::logic::{ids::Lane, session::Event};

/// What connections tell.
pub trait Hears: World {
    /// The connection of a channel tells something. Called in process context, without locks.
    fn hear(&self, lane: Lane, event: Event<Self::Buffer>) {
        let group = lane.group;
        match event {
            Event::Ended {
                slot,
                transfer,
                outcome,
            } => {
                self.done(group, slot, transfer, outcome);
                step::refill(self, group);
            }
            Event::Left => self.leave(lane),
            Event::Down => self.went_down(lane),
            Event::Suspect => self.suspect(group, true),
            Event::Cleared => self.suspect(group, false),
            Event::SuspectFor(ms) => self.suspect_for(group, ms),
        }
    }
}

impl<W: World> Hears for W {}
