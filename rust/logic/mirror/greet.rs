// SPDX-License-Identifier: GPL-2.0

//! What a new connection asks the older ones: is the server still the one that they were made to?
//!
//! The danger: a server's host crashes and takes what was not flushed with it, and nobody sees it:
//!
//! ```text
//! channel 0   writes, answered                       lost
//! channel 1   idle; does not see the crash                  connects again, and serves
//! host                        crashes, comes back
//! ```
//!
//! A reply on channel 1 that was on its way already when the host crashed says nothing; one to a
//! question that was put after the new connection was made says that there was no crash in between,
//! since a host that crashed knows the older connection no more. So the channels that carry
//! requests were all made in one life of the server, or in an older one that was accounted for:
//! what was unflushed then is marked.
//!
//! The question is a read of the smallest size. It has a slot of its own in the table for each
//! channel that is asked, so nobody waits for room, and it is bounded as any request is.

use super::{Outcome, Place, Transfer, World};
use crate::logic::{
    evidence::Sum,
    ids::{ChannelId, ChannelSet, GroupId, Lane, SlotId},
    wire::request::{Command, CommandFlags},
};

/// How long to wait at most until the older connections are looked at again, in milliseconds.
const TICK_MS: u32 = 500;

/// What a new connection knows of its server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Life {
    /// It is the one that the older connections lead to.
    Same,
    /// It may have crashed since.
    Unknown,
}

/// Waits until no other channel of the group is coming up. False if this one has `ended` before.
pub(super) fn begin<W: World>(w: &W, group: GroupId, ended: &dyn Fn() -> bool) -> bool {
    let g = w.core().group(group);
    loop {
        let mut begun = false;
        w.wait(TICK_MS, &mut || {
            begun = begun || g.begin_greeting();
            begun || ended()
        });
        if begun {
            return true;
        }
        if ended() {
            return false;
        }
    }
}

/// The channel has come up, or will not: the next one may.
pub(super) fn end<W: World>(w: &W, group: GroupId) {
    w.core().group(group).end_greeting();
    w.wake();
}

/// Asks the channels of the group that are up, other than the one that asks, and waits until one
/// has answered or none is left.
pub(super) fn life<W: World>(w: &W, lane: Lane, ended: &dyn Fn() -> bool) -> Life {
    let Lane { group, channel } = lane;
    let myself = ChannelSet::of(channel);
    let g = w.core().group(group);
    let question = g.next_question();
    let mut asked = ChannelSet::default();
    loop {
        let up = g.up().without(myself);
        if g.has_answer(question) {
            return Life::Same;
        }
        if up.is_empty() || ended() {
            return Life::Unknown;
        }
        asked |= ask(w, group, question, up.without(asked));
        w.wait(TICK_MS, &mut || {
            g.has_answer(question) || g.up().without(myself) != up || ended()
        });
    }
}

/// Puts a question to these channels; gives those to which it was put. The others
/// have one to answer still, or are lost, or there is no memory: they are tried again.
fn ask<W: World>(w: &W, group: GroupId, question: u64, channels: ChannelSet) -> ChannelSet {
    let mut asked = ChannelSet::default();
    for channel in channels.iter() {
        let len = w.smallest_read(group);
        let Some(buffer) = w.memory(len) else {
            continue;
        };
        if put(w, group, question, channel, 0, len, buffer) {
            asked |= ChannelSet::of(channel);
        }
    }
    asked
}

/// Puts a question to a channel; false if it has one to answer still, or is lost.
fn put<W: World>(
    w: &W,
    group: GroupId,
    question: u64,
    channel: ChannelId,
    offset: u64,
    len: u32,
    buffer: W::Buffer,
) -> bool {
    let mut transfer = Transfer::new(Command::Read, CommandFlags::NONE, offset, len, buffer);
    transfer.question = question;
    let number = SlotId::of_question(channel);
    let put = w.submit(group, channel, number, transfer).is_ok();
    if put {
        w.kick(channel);
    }
    put
}

/// The checksum of what a channel that is up reads at a place; nothing if it is lost, or has a
/// question to answer still, or the server refuses, or there is no memory.
pub(super) fn read_over<W: World>(
    w: &W,
    group: GroupId,
    channel: ChannelId,
    place: &Place,
    ended: &dyn Fn() -> bool,
) -> Option<Sum> {
    let g = w.core().group(group);
    let buffer = w.memory(place.len)?;
    let question = g.next_question();
    let is_vain = || !g.up().has(channel) || ended();
    let (offset, len) = (place.offset, place.len);
    let mut returned = g.returned();
    while !put(w, group, question, channel, offset, len, buffer.clone()) {
        // It has another one to answer. Its own time limit bounds this.
        w.wait(TICK_MS, &mut || g.returned() != returned || is_vain());
        if is_vain() {
            return None;
        }
        returned = g.returned();
    }
    // The request's own time limit bounds this.
    while !w.wait(TICK_MS, &mut || g.has_read(question) || is_vain()) && !g.has_answer(question) {}
    if !g.has_read(question) {
        return None;
    }
    w.checksum(&buffer, place.from)
}

/// A question has come back.
pub(super) fn answered<W: World>(w: &W, group: GroupId, question: u64, outcome: Outcome) {
    let g = w.core().group(group);
    g.note_returned();
    if outcome == Outcome::Done {
        g.note_read(question);
    }
    // A server that refuses is there.
    if matches!(outcome, Outcome::Done | Outcome::Refused(_)) {
        g.note_answer(question);
    }
    w.wake();
}
