// SPDX-License-Identifier: GPL-2.0

//! Whether two groups lead to one store: a server that answers under two names, or two servers of one
//! file. Such a mirror has one copy of everything.
//!
//! It cannot be told by reading, since groups in sync hold the same. It is seen when a write has been
//! carried out by one group and not been sent to the other yet, and is found there all the same:
//!
//! ```text
//! group 1    holds other data at X                        holds what was written
//! group 0                             write of X, done                            --> one store
//! ```
//!
//! So the first writes after a device was enabled go from group to group, one after the other, and
//! each place is read before and in between. A thread of its own does that ([`Trial`] is how it gets
//! the write), until one write has shown the difference, or [`TRIES`] have not.

use super::{
    proof::{self, LEARNT},
    route::{sum_in, whole_chunks, RequestOf},
    News, Op, Request, Route, World,
};
use crate::logic::{
    evidence::Sum,
    group::{GroupSet, GroupState},
    ids::GroupId,
    MAX_GROUPS,
};

/// Writes that are tried at most.
pub const TRIES: u32 = 16;
/// How long to wait at most until the group is looked at again, in milliseconds.
const TICK_MS: u32 = 500;

/// The place where a write is given to the thread that tries it.
#[derive(Default)]
pub enum Trial<R> {
    /// Nobody tries.
    #[default]
    Closed,
    /// A write is wanted.
    Wanted,
    /// Here is one, to be sent to these groups.
    Offered(R, GroupSet),
}

/// Gives a write, which has its claim and its copy, to who tries, if somebody does. It comes back if
/// nobody does.
pub(super) fn offer<W: World>(w: &W, rq: RequestOf<W>, groups: GroupSet) -> Option<RequestOf<W>> {
    if !w.core().is_trying() {
        return Some(rq);
    }
    let readable = w.core().view().readable();
    let in_sync = groups.iter().filter(|&g| readable.has(g)).count();
    let is_fit = || rq.op() == Op::Write && in_sync >= 2 && !whole_chunks(&rq).is_empty();
    if !is_fit() {
        return Some(rq);
    }
    let back = w.with_trial(|trial| match trial {
        Trial::Wanted => {
            *trial = Trial::Offered(rq, groups);
            None
        }
        _ => Some(rq),
    });
    if back.is_none() {
        w.wake();
    }
    back
}

/// Looks what a device stands on that is being enabled: reads some places ([`proof::learn`]), and
/// tries writes, until two groups are known to have stores of their own, or that is given up, or
/// `ended`. A write is not kept waiting for the reading of more than one place.
pub fn scout<W: World>(w: &W, ended: &dyn Fn() -> bool) {
    let is_mirror = w.core().view().readable().len() > 1;
    let mut left = if is_mirror { TRIES } else { 0 };
    let mut places = 0;
    want(w, left > 0);
    while !ended() && (left > 0 || places < LEARNT) {
        let has_one = || w.with_trial(|trial| matches!(trial, Trial::Offered(..)));
        if places < LEARNT && !has_one() {
            proof::learn(w, places, ended);
            places += 1;
            continue;
        }
        w.wait(TICK_MS, &mut || has_one() || ended());
        if let Trial::Offered(rq, groups) = w.with_trial(core::mem::take) {
            let has_told = try_write(w, &rq, groups, ended);
            left = if has_told { 0 } else { left.saturating_sub(1) };
        }
        want(w, left > 0);
    }
    want(w, false);
}

/// Wants a write, or none any more. One that was given at the last moment is sent.
fn want<W: World>(w: &W, wants: bool) {
    w.core().set_trying(wants);
    let next = if wants { Trial::Wanted } else { Trial::Closed };
    let last = w.with_trial(|trial| core::mem::replace(trial, next));
    if let Trial::Offered(rq, groups) = last {
        send(w, &rq, groups);
    }
}

/// Sends a write to all these groups.
fn send<W: World>(w: &W, rq: &RequestOf<W>, groups: GroupSet) {
    w.kick_all(w.send_writes(groups, rq));
}

/// Sends a write from group to group, and looks for it in the others; whether that has told anything.
fn try_write<W: World>(
    w: &W,
    rq: &RequestOf<W>,
    groups: GroupSet,
    ended: &dyn Fn() -> bool,
) -> bool {
    let look = whole_chunks(rq)
        .next()
        .and_then(|chunk| Some((chunk, sum_in(w, rq, chunk)?)));
    let Some((chunk, new)) = look else {
        send(w, rq, groups);
        return false;
    };
    let read = |group: GroupId| proof::read(w, group, chunk, ended);
    let in_sync = w.core().view().readable();
    let mut before = [None; MAX_GROUPS];
    for group in groups.iter().filter(|&g| in_sync.has(g)) {
        *group.pick_mut(&mut before) = read(group);
    }
    let differs = |group: GroupId| {
        let sum: &Option<Sum> = group.pick(&before);
        sum.is_some_and(|sum| sum != new)
    };
    // Groups that it can be told of; the others get the write in the end.
    let told: GroupSet = groups.iter().filter(|&g| differs(g)).collect();
    let mut left = groups;
    let mut found = GroupSet::default();
    for group in told.iter() {
        if told.len() < 2 || ended() {
            break;
        }
        left = left.without(GroupSet::of(group));
        if !send_alone(w, rq, group, ended) {
            break;
        }
        for other in told.iter().filter(|&g| left.has(g)) {
            if !found.has(other) && read(other) == Some(new) {
                found = found.with(other);
                w.tell(News::Twins {
                    groups: (group, other),
                });
            }
        }
    }
    let done = told.len() >= 2 && left.iter().all(|g| !told.has(g));
    send(w, rq, left);
    done
}

/// Sends a write to a group and waits until it is done. False if it has failed, if the group is not in
/// sync any more, or if nobody waits: then its end comes as that of any other write.
fn send_alone<W: World>(
    w: &W,
    rq: &RequestOf<W>,
    group: GroupId,
    ended: &dyn Fn() -> bool,
) -> bool {
    w.kick_all(w.send_write(group, rq));
    let is_done = || rq.pdu().done_by().has(group);
    let is_over = || {
        let gone = w.core().view().state(group) != GroupState::InSync;
        is_done() || gone || rq.pdu().has_failed() || ended()
    };
    // The group's own time limits bound this.
    while !w.wait(TICK_MS, &mut || is_over()) {}
    is_done()
}
