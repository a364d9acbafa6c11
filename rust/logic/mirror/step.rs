// SPDX-License-Identifier: GPL-2.0

//! What is to be done next with transfers that did not go the ordinary way.
//!
//! The end of a transfer may ask for another one, which may find no channel and ask for a third; and a
//! group that is taken out of service gives back all that waits for it. Functions that called each
//! other for that would in the end call themselves, on a kernel's small stack. So they say what comes
//! next ([`Next`]), and one loop, [`run`], does it:
//!
//! ```text
//!   ReadAgain, CopyAgain
//!     |       ^
//!     v       |                 a channel took it
//!   Send -----|----------------------------------------------> Done
//!     |  ^    |                                                 ^
//!     v  | a channel has come up                                |
//!   Wait -----|------------------------------------------------>| it waits
//!     |       |                                                 |
//!     v       |                                                 |
//!   Unserved -+---- it ends --> Done, or ReturnWaiting -------->+
//! ```
//!
//! In `Done` the loop takes up the next transfer that waits for a group that is out of service, as
//! `Unserved`, and ends when there is none. The ordinary way of a request does not come here:
//! [`send`] gives it to a channel.
//!
//! A transfer finds no channel if none is up, or if all are full: if as much is on its way on each as it
//! should have. It waits in the table for either; who ends a transfer looks for those that wait
//! ([`refill`]).
//!
//! How long the loop can go on: a transfer goes around, instead of leaving it,
//!
//! - from `Wait` to `Send` if a channel has come up, or has got room, since `Send` found none;
//! - from `Unserved` to `ReadAgain` or `CopyAgain` if the group is out of service that was in sync
//!   when the read was sent to it, so if somebody has changed the view since. That is asserted.
//!
//! And for each change of the view with which it takes a group out of service itself it looks through
//! the table of that group once, all numbers of it. So between two changes, of the view or of the
//! channels that are up, the laps are bounded: six or less for the transfer that it was called with,
//! and for each number of each table that it looks through.

use super::{copy, outcome, route, Balance, Carrier, Losses, Route, Transfer, World};
use crate::logic::{
    group::GroupSet,
    ids::{ChannelId, ChannelSet, GroupId, SlotId, SlotIds, SlotKind},
};

/// A transfer, the group that it is for, and its number in the table of that.
pub(super) struct Numbered<B> {
    pub(super) group: GroupId,
    pub(super) number: SlotId,
    pub(super) transfer: Transfer<B>,
}

/// Why a transfer that found no channel does not wait for one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unserved {
    /// Its group is out of service.
    GroupIsOut,
    /// Requests fail instead of waiting, or there is no place to wait.
    MayNotWait,
}

/// What is to be done next.
pub(super) enum Next<B: Carrier> {
    /// Nothing with this transfer.
    Done,
    /// It goes to a channel of its group.
    Send(Numbered<B>),
    /// It has found no channel, and waits for one.
    Wait(Numbered<B>),
    /// It has found no channel, and does not wait.
    Unserved(Unserved, Numbered<B>),
    /// A read goes to whichever group it may go to now.
    ReadAgain(B::Request),
    /// The same for a read of a resync, in window `index`.
    CopyAgain { index: usize, transfer: Transfer<B> },
    /// The group is out of service: what waits for a channel of it is given back.
    ReturnWaiting(GroupId),
}

/// Gives a transfer to a channel of its group, or lets it wait in the table if none is up or all are
/// full; gives the channels to be kicked.
pub(super) fn send<W: World>(w: &W, sent: Numbered<W::Buffer>) -> ChannelSet {
    match submit(w, sent) {
        Ok(channel) => ChannelSet::of(channel),
        Err(back) => run(w, Next::Wait(back)),
    }
}

/// Does what comes next until nothing is left; gives the channels to be kicked.
#[cold]
#[inline(never)]
pub(super) fn run<W: World>(w: &W, mut next: Next<W::Buffer>) -> ChannelSet {
    let mut used = ChannelSet::default();
    let mut waiting = Waiting::default();
    loop {
        next = match next {
            Next::Done => match waiting.take(w) {
                Some(next) => next,
                None => return used,
            },
            Next::Send(sent) => match submit(w, sent) {
                Ok(channel) => {
                    used |= ChannelSet::of(channel);
                    Next::Done
                }
                Err(back) => Next::Wait(back),
            },
            Next::Wait(back) => wait(w, back),
            Next::Unserved(why, back) => unserved(w, why, back),
            Next::ReadAgain(rq) => route::aim(w, rq).map_or(Next::Done, Next::Send),
            Next::CopyAgain { index, transfer } => {
                copy::aim(w, index, transfer).map_or(Next::Done, Next::Send)
            }
            Next::ReturnWaiting(group) => {
                waiting.groups = waiting.groups.with(group);
                Next::Done
            }
        };
    }
}

/// Gives a transfer to a channel; gives that. It comes back if none is up, or all are full.
#[inline(always)] // Else what may come back goes through memory each time.
fn submit<W: World>(w: &W, sent: Numbered<W::Buffer>) -> Result<ChannelId, Numbered<W::Buffer>> {
    let Numbered {
        group,
        number,
        mut transfer,
    } = sent;
    let core = w.core();
    let has_data = transfer.len > 0;
    let is_held = |channel| has_data && w.is_full(channel);
    while let Some(channel) = w.pick_channel(group).filter(|&channel| !is_held(channel)) {
        match w.submit(group, channel, number, transfer) {
            Ok(()) => {
                core.last_active.store(channel.index() as u64);
                return Ok(channel);
            }
            Err(back) => transfer = back,
        }
        let g = core.group(group);
        g.remove_up(channel);
        if w.is_open(channel) {
            // It came back in between.
            g.add_up(channel);
        }
    }
    Err(Numbered {
        group,
        number,
        transfer,
    })
}

/// A transfer of `group` has ended: those that wait for a channel with room may find one. Each in turn:
/// the next time it begins with the one that found none.
#[inline]
pub(super) fn refill<W: World>(w: &W, group: GroupId) {
    // Who lets one wait says so and then looks for room; the room was made before this.
    if w.core().group(group).holds() {
        look_for_held(w, group);
    }
}

#[cold]
#[inline(never)]
fn look_for_held<W: World>(w: &W, group: GroupId) {
    let g = w.core().group(group);
    let mut used = ChannelSet::default();
    // Again if there is room since the end of the last look, so at most once for each transfer that
    // has ended meanwhile.
    while w.takes_more(group) {
        g.set_holding(false);
        let first = g.turn();
        let from = |number: &SlotId| number.index() >= first;
        let behind = SlotId::all_that_may_wait().filter(from);
        let before = SlotId::all_that_may_wait().filter(|number| !from(number));
        let mut found_all = true;
        for number in behind.chain(before) {
            if !w.takes_more(group) {
                g.set_turn(number);
                found_all = false;
                break;
            }
            if let Some(transfer) = w.take_waiting(group, number) {
                used |= run(
                    w,
                    Next::Send(Numbered {
                        group,
                        number,
                        transfer,
                    }),
                );
            }
        }
        if found_all {
            break;
        }
        g.set_holding(true);
    }
    w.kick_all(used);
}

/// Lets a transfer wait for a channel.
fn wait<W: World>(w: &W, back: Numbered<W::Buffer>) -> Next<W::Buffer> {
    let Numbered {
        group,
        number,
        mut transfer,
    } = back;
    let core = w.core();
    let has_data = transfer.len > 0;
    w.flush_failed(group, &mut transfer);
    let numbered = |transfer| Numbered {
        group,
        number,
        transfer,
    };
    if let Err(transfer) = w.put_waiting(group, number, transfer) {
        return Next::Unserved(Unserved::MayNotWait, numbered(transfer));
    }
    // A channel that comes up, a transfer that ends, a group that is faulted, and a device that fails
    // look for waiting transfers afterwards.
    core.group(group).set_holding(true);
    let why = if core.is_failing() {
        Some(Unserved::MayNotWait)
    } else if is_out(w, group) {
        Some(Unserved::GroupIsOut)
    } else if w.takes_more(group) || !has_data && !core.group(group).up().is_empty() {
        None
    } else {
        return Next::Done;
    };
    match (w.take_waiting(group, number), why) {
        // Somebody else has it.
        (None, _) => Next::Done,
        (Some(transfer), None) => Next::Send(numbered(transfer)),
        (Some(transfer), Some(why)) => Next::Unserved(why, numbered(transfer)),
    }
}

/// A transfer found no channel, and does not wait.
fn unserved<W: World>(w: &W, why: Unserved, back: Numbered<W::Buffer>) -> Next<W::Buffer> {
    let Numbered {
        group,
        number,
        mut transfer,
    } = back;
    w.flush_failed(group, &mut transfer);
    let in_sync_at = transfer.in_sync_at;
    let is_copy = matches!(number.kind(), SlotKind::Copy(_));
    let next = match number.kind() {
        SlotKind::Copy(index) => copy::unserved(w, why, index, transfer),
        // Questions do not come here: nobody waits to ask one.
        SlotKind::Request(_) | SlotKind::Question(_) | SlotKind::Metadata | SlotKind::Flush => {
            outcome::unserved(w, why, group, transfer)
        }
    };
    if let (Next::CopyAgain { .. }, true) = (&next, is_copy) {
        // Else it would be sent to the same group, again and again. A request's read does not go there
        // again in any case.
        debug_assert_ne!(in_sync_at, Some(w.core().view().epoch()));
    }
    next
}

/// Whether a group is out of service.
fn is_out<W: World>(w: &W, group: GroupId) -> bool {
    !w.core().view().writable().has(group)
}

/// The groups whose waiting transfers are to be given back, since they were taken out of service, and
/// how far that has come.
#[derive(Default)]
struct Waiting {
    groups: GroupSet,
    /// The group whose table is looked through, and the numbers that are left.
    looked_through: Option<(GroupId, SlotIds)>,
}

impl Waiting {
    /// What is to be done with the next one.
    fn take<W: World>(&mut self, w: &W) -> Option<Next<W::Buffer>> {
        loop {
            let taken = self.looked_through.as_mut().and_then(|(group, left)| {
                let group = *group;
                left.find_map(|number| Some((group, number, w.take_waiting(group, number)?)))
            });
            if let Some((group, number, transfer)) = taken {
                let back = Numbered {
                    group,
                    number,
                    transfer,
                };
                // It may be that the group is in service again.
                return Some(if is_out(w, group) {
                    Next::Unserved(Unserved::GroupIsOut, back)
                } else {
                    Next::Send(back)
                });
            }
            let group = self.groups.iter().next()?;
            self.groups = self.groups.without(GroupSet::of(group));
            // Nothing waits for one that never had a channel.
            let has_table = w.unflushed(group).is_some();
            let left = if has_table {
                SlotId::all_that_may_wait()
            } else {
                SlotIds::NONE
            };
            self.looked_through = Some((group, left));
        }
    }
}
