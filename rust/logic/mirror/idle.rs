// SPDX-License-Identifier: GPL-2.0

//! Marks that are taken back: where nobody has written to for a while, or to make room for others.
//!
//! All groups that get writes flush before, also one that is about to be named: what it holds in a cache
//! may be lost together with the client. Nobody waits for that flush, which may take a server long: rounds,
//! records and beats go on. Why it is right to take back what was idle before it and was not touched
//! until after it is said in [`super::super::meta::marks`].
//!
//! ```text
//!             time to look, or no room                all have flushed, nothing was lost
//!     idle --------------------------> flushing ------------------------------------------> marks go,
//!      ^                                   |                                                a page is asked for
//!      |    a flush failed, or a group's state has changed
//!      +-----------------------------------+
//! ```

use super::{
    intent::{bytes_of, targets},
    Balance, Fence, Intents, Memories, Outcome, Transfer, World,
};
use crate::logic::{
    barrier::Claim,
    group::{GroupSet, View},
    ids::{GroupId, SlotId},
    meta::{marks::Take, BLOCK},
    wire::request::{Command, CommandFlags},
};

/// What became of a group's flush.
const NONE: u64 = 0;
const GOING: u64 = 1;
const DONE: u64 = 2;
const FAILED: u64 = 3;

/// A flush of a group has ended.
pub(super) fn flushed<W: World>(w: &W, group: GroupId, outcome: Outcome) {
    let state = match outcome {
        Outcome::Done => DONE,
        Outcome::Refused(_) | Outcome::Lost(Fence::Fenced | Fence::Open) => FAILED,
    };
    w.core().group(group).idle_flush.swap(state);
    w.wake();
}

/// What may not change while the groups flush: what was lost is found before a connection that is made
/// anew carries a flush, and then one of these has changed.
type State = (View, u64, GroupSet);

fn state<W: World>(w: &W) -> State {
    let core = w.core();
    (core.view(), core.losses.load(), targets(core))
}

/// The groups flush.
struct Taking {
    groups: GroupSet,
    before: State,
}

/// How hard it was tried to make room for the next page.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Room {
    NotTried,
    Idle,
    All,
}

/// The taking back of marks, which the recorder does beside its other work.
pub(super) struct Idle {
    since_ms: u64,
    taking: Option<Taking>,
    room: Room,
}

impl Idle {
    /// From this time on.
    pub(super) fn new(now_ms: u64) -> Self {
        Self {
            since_ms: now_ms,
            taking: None,
            room: Room::NotTried,
        }
    }

    /// Whether the next round waits for room.
    pub(super) fn holds_rounds(&self) -> bool {
        self.taking.is_some() && self.room != Room::NotTried
    }

    /// Whether there is something to be done at once.
    pub(super) fn is_over<W: World>(&self, w: &W) -> bool {
        self.taking
            .as_ref()
            .is_some_and(|taking| is_over(w, taking))
    }

    /// Goes on where it can.
    pub(super) fn step<W: World>(&mut self, w: &W) {
        if let Some(taking) = self.taking.take_if(|taking| is_over(w, taking)) {
            end(w, &taking);
        }
        let now_ms = w.now_ms();
        if now_ms.saturating_sub(self.since_ms) >= w.intent_idle_ms() && self.taking.is_none() {
            self.since_ms = now_ms;
            self.taking = begin(w, Take::Idle);
        }
    }

    /// Whether the next round may be made: no more would be marked than the administrator wants, or there
    /// is nothing to be done against it. What is not in use goes first.
    pub(super) fn has_room<W: World>(&mut self, w: &W) -> bool {
        let most = w.most_marked();
        loop {
            let is_enough = most == 0 || w.marks().is_none_or(|marks| marks.bytes() <= most);
            if is_enough || self.room == Room::All && self.taking.is_none() {
                self.room = Room::NotTried;
                return true;
            }
            if self.taking.is_none() {
                let take = match self.room {
                    Room::NotTried => Take::Idle,
                    Room::Idle | Room::All => Take::All,
                };
                self.taking = begin(w, take);
            }
            self.room = match self.room {
                Room::NotTried => Room::Idle,
                Room::Idle | Room::All => Room::All,
            };
            if self.taking.is_some() {
                return false;
            }
        }
    }
}

/// The bytes of all writes that are on their way.
fn busy<W: World>(w: &W) -> impl Iterator<Item = (u64, u64)> + '_ {
    let spans = w.claims().iter().filter_map(Claim::span);
    spans.filter_map(bytes_of)
}

/// Whether all groups may make durable what they hold by one flush.
fn is_sound<W: World>(w: &W, groups: GroupSet) -> bool {
    let core = w.core();
    groups
        .iter()
        .all(|group| !core.group(group).health().is_unmarked())
}

/// Looks for marks that can be taken back, and has the groups flush, if there are any.
fn begin<W: World>(w: &W, take: Take) -> Option<Taking> {
    let marks = w.kept_marks()?;
    let core = w.core();
    // One that is out of service and called in sync still does not flush.
    if w.has_away() || !core.unrecorded().is_empty() {
        return None;
    }
    let groups = core.view().writable();
    let before = state(w);
    if groups.is_empty() || !is_sound(w, groups) || !marks.begin_taking(take, busy(w)) {
        return None;
    }
    let mut can_flush = groups.iter().filter(|&group| !w.is_volatile(group));
    // One that was begun is nobody's if another one cannot be.
    can_flush
        .all(|group| send_flush(w, group))
        .then_some(Taking { groups, before })
}

/// Has a group flush; false if it cannot now.
fn send_flush<W: World>(w: &W, group: GroupId) -> bool {
    let flush = &w.core().group(group).idle_flush;
    let was = flush.load();
    // An earlier one may be on its way still.
    if was == GOING || flush.compare_exchange(was, GOING).is_err() {
        return false;
    }
    let sent = w.pick_channel(group).and_then(|channel| {
        let buffer = w.memory(BLOCK as u32)?;
        let transfer = Transfer::new(Command::Flush, CommandFlags::NONE, 0, 0, buffer);
        let number = SlotId::of_flush();
        let sent = w.submit(group, channel, number, transfer);
        sent.is_ok().then(|| w.kick(channel))
    });
    if sent.is_none() {
        flush.swap(NONE);
    }
    sent.is_some()
}

fn is_over<W: World>(w: &W, taking: &Taking) -> bool {
    let is_going = |group| w.core().group(group).idle_flush.load() == GOING;
    state(w) != taking.before || !taking.groups.iter().any(is_going)
}

/// The groups have flushed, or something has changed meanwhile.
fn end<W: World>(w: &W, taking: &Taking) {
    let mut can_flush = taking.groups.iter().filter(|&group| !w.is_volatile(group));
    let is_flushed = can_flush.all(|group| w.core().group(group).idle_flush.load() == DONE);
    if is_flushed && state(w) == taking.before && is_sound(w, taking.groups) {
        if let Some(marks) = w.kept_marks() {
            marks.take(|| busy(w));
        }
    }
}
