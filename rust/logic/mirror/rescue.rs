// SPDX-License-Identifier: GPL-2.0

//! Reads that every group in sync has refused, as where a block of a disk is bad: a group that is out
//! of service may have the blocks still.
//!
//! Its map says what it has missed, and the rest it holds as well as any group in sync does, if
//! *nothing of it is in doubt* ([`has_good`]). That is looked at twice: before the read is sent, and
//! when its data has come, together with the view, which must not have changed in between
//! ([`is_good_still`]). What can go wrong in between is in Documentation/losses.rst.

use super::{
    route::{sectors_of, RequestOf},
    News, Request, Route, World,
};
use crate::logic::{
    group::{GroupFault, GroupState, View},
    ids::GroupId,
};

/// A group that is out of service, is there, has not refused the read and holds what it asks for.
#[cold]
#[inline(never)]
pub(super) fn group<W: World>(w: &W, rq: &RequestOf<W>, view: View) -> Option<GroupId> {
    let mut others = view.faulty().without(rq.pdu().refused_by()).iter();
    others.find(|&group| !w.core().group(group).up().is_empty() && has_good(w, group, rq))
}

/// Whether what the group, which was out of service in `view`, has given can be believed.
pub(super) fn is_good_still<W: World>(
    w: &W,
    group: GroupId,
    rq: &RequestOf<W>,
    view: View,
) -> bool {
    // The view comes last: what is marked is cleared only after it was changed.
    let is_good = has_good(w, group, rq) && w.core().view() == view;
    if is_good && w.core().group(group).count_rescued() {
        w.tell(News::Rescued {
            group,
            offset: rq.sector() << 9,
            len: rq.bytes(),
        });
    }
    is_good
}

/// Whether a group that is out of service holds what a read asks for, as far as is known.
fn has_good<W: World>(w: &W, group: GroupId, rq: &RequestOf<W>) -> bool {
    let g = w.core().group(group);
    let health = g.health();
    w.core().view().state(group) == GroupState::Faulty
        && g.fault().is_some_and(GroupFault::leaves_rest_good)
        && !health.is_unmarked()
        && !health.is_unproved()
        && !health.is_checking()
        && !g.is_suspect(w.now_ms())
        && !is_marked(w, group, rq)
}

/// Whether the group has missed something of what a read asks for.
fn is_marked<W: World>(w: &W, group: GroupId, rq: &RequestOf<W>) -> bool {
    let (first, end) = w.blocks_of(sectors_of(rq));
    w.is_marked(group, first, end.saturating_sub(first))
}
