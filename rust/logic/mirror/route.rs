// SPDX-License-Identifier: GPL-2.0

//! A request's way to the groups.
//!
//! A read goes to one group in sync, and to another one if that fails. A write, like discards and
//! zeroes, goes to every group that is in sync or resyncing, after the maps of the faulty ones were
//! marked. It has succeeded if a group that is in sync when all copies have ended has it; a group
//! that failed was faulted, and its map marked, before that.

use super::{
    pdu::{EIO, EOPNOTSUPP},
    rescue,
    step::{self, Numbered},
    twins, Balance, Carrier, Intents, Op, Request, Transfer, World,
};
use crate::logic::{
    barrier::{Claim, Span, CHUNK_SECTORS},
    evidence::Sum,
    group::{GroupSet, GroupState, View},
    ids::{ChannelSet, GroupId, SlotId},
    wire::request::{Command, CommandFlags},
    word::update,
};
use core::ops::Range;

pub(super) type RequestOf<W> = <<W as World>::Buffer as Carrier>::Request;

/// The blocks of a write, as sectors: the first, and how many.
pub(super) fn sectors_of(rq: &impl Request) -> (u64, u64) {
    (rq.sector(), u64::from(rq.bytes() >> 9))
}

/// Changes of a group's state from faulty, where it may serve a read that no other one could, over
/// resyncing to in sync. From in sync on it is one more.
const ROUND_TRIP: u32 = 2;

/// The ways of requests.
pub trait Route: World {
    /// Takes a new request; gives the channels that have to be kicked.
    fn route(&self, rq: RequestOf<Self>) -> ChannelSet {
        match rq.op() {
            Op::Read => self.route_read(rq),
            Op::Write | Op::Discard | Op::WriteZeroes | Op::Flush => self.route_write(rq),
            Op::Other => {
                rq.pdu().fail(EOPNOTSUPP);
                ChannelSet::default()
            }
        }
    }

    /// The last handle of a request was dropped: how it ends, as a positive errno. From now on its
    /// tag may be used again.
    fn result(&self, pdu: &super::Pdu, tag: u32) -> Result<(), i32> {
        let done_by = pdu.done_by();
        let ok = if pdu.is_claimed() {
            let readable = self.core().view().readable();
            let ok = done_by.iter().any(|g| readable.has(g))
                && !self.is_hollow(pdu)
                && !pdu.is_unrecorded();
            self.evidence().confirm(tag, pdu.evidence(), ok);
            withdraw(self, tag);
            ok
        } else {
            !done_by.is_empty()
        };
        if ok {
            Ok(())
        } else {
            Err(pdu.errno())
        }
    }

    /// Whether a flush that was answered may not cover all that it was to.
    ///
    /// Nobody can tell a server that crashed from a network that was away. Who wants to go on in
    /// any case does not want to see this; who asked for errors gets one.
    fn is_hollow(&self, pdu: &super::Pdu) -> bool {
        pdu.is_flush() && self.show_errs() && pdu.has_missed_loss(self.core())
    }

    /// Sends a read to a group in sync that has not refused it yet: the one with the least to do.
    fn route_read(&self, rq: RequestOf<Self>) -> ChannelSet {
        match aim(self, rq) {
            Some(sent) => step::send(self, sent),
            None => ChannelSet::default(),
        }
    }

    /// Whether a read that its group has answered may have missed something.
    ///
    /// Who has chosen the group may be held up before the read is sent, for as long as a server
    /// takes to crash and to come back without what it had not flushed:
    ///
    /// ```text
    /// reader      group 0 is in sync: chooses it, is held up           sends, and gets old data
    /// channel of group 0      lost    connects, faults the group, marks
    /// ```
    ///
    /// If the group has been in sync throughout there was no such loss, or it is the source by now.
    /// It cannot be faulted, resynced and in sync again in less than [`ROUND_TRIP`] changes of the
    /// view.
    fn may_be_stale(&self, group: GroupId, transfer: &Transfer<Self::Buffer>) -> bool {
        let Some(epoch) = transfer.in_sync_at else {
            return false;
        };
        let view = self.core().view();
        let changes = view.epoch().wrapping_sub(epoch);
        if changes == 0 && view.state(group) == GroupState::Faulty {
            // No group in sync could serve it.
            let rq = transfer.buffer.request();
            return !rq.is_some_and(|rq| rescue::is_good_still(self, group, rq, view));
        }
        changes != 0 && (changes >= ROUND_TRIP || view.state(group) != GroupState::InSync)
    }

    /// Sends a write, or a flush, to all groups that take writes.
    fn route_write(&self, mut rq: RequestOf<Self>) -> ChannelSet {
        let is_flush = rq.op() == Op::Flush;
        let (first, sectors) = if is_flush { (0, 0) } else { sectors_of(&rq) };
        if is_flush {
            rq.pdu().begin_flush(self.core());
        }
        let span = Span::new(first, sectors);
        // Again if it need not be put aside after all.
        let (view, rq) = loop {
            let back = match claim(self, &rq, span) {
                Claimed::Goes(view) => {
                    let copied = match rq.op() {
                        Op::Write => self.copy_once(rq),
                        _ => Ok(rq),
                    };
                    match copied {
                        Ok(rq) => break (view, rq),
                        Err(rq) => {
                            unclaim(self, &rq);
                            postpone(self, rq, span)
                        }
                    }
                }
                Claimed::Held => park(self, rq, span),
                Claimed::Unrecorded | Claimed::Unmarked if !self.core().may_wait() => {
                    rq.pdu().fail(EIO);
                    return ChannelSet::default();
                }
                Claimed::Unrecorded => park(self, rq, span),
                Claimed::Unmarked => {
                    self.want_marks(span);
                    let back = park(self, rq, span);
                    self.wake();
                    back
                }
                Claimed::Overlaps => postpone(self, rq, span),
            };
            match back {
                Some(back) => rq = back,
                None => return ChannelSet::default(),
            }
        };
        if !is_flush {
            self.evidence().forget(span);
            remember(self, &rq);
            for group in missing(self, view).iter() {
                self.mark(group, first, sectors);
            }
        }
        self.touch_marks(span);
        let Some(rq) = twins::offer(self, rq, view.writable()) else {
            return ChannelSet::default();
        };
        self.send_writes(view.writable(), &rq)
    }

    /// Sends a write, or a flush, which has its claim, to all these groups.
    fn send_writes(&self, groups: GroupSet, rq: &RequestOf<Self>) -> ChannelSet {
        let mut used = ChannelSet::default();
        for group in groups.iter() {
            used |= self.send_write(group, rq);
        }
        used
    }

    /// The same, to one.
    fn send_write(&self, group: GroupId, rq: &RequestOf<Self>) -> ChannelSet {
        match write_transfer(self, group, rq) {
            Some(transfer) => step::send(
                self,
                Numbered {
                    group,
                    number: SlotId::of_request(rq.tag()),
                    transfer,
                },
            ),
            None => ChannelSet::default(),
        }
    }

    /// Whether a window of a resync holds up writes of `span`.
    fn is_held(&self, resyncing: GroupSet, span: Span) -> bool {
        resyncing.iter().any(|g| {
            let windows = g.pick(&self.core().windows);
            windows.iter().any(|window| window.holds(span))
        })
    }

    /// Whether a write of `span` overlaps one that goes on, in another slot than `tag`.
    fn is_overlapped(&self, tag: u32, span: Span) -> bool {
        let mut claims = self.claims().iter().enumerate();
        claims.any(|(number, claim)| claim.blocks(span) && number != tag as usize)
    }

    /// Whether the requests that were given back may be asked for again. To be asked when a request
    /// has ended, after [`Route::result`].
    fn take_postponed(&self) -> bool {
        let postponed = &self.core().postponed;
        postponed.load() != 0 && self.postponing(|| postponed.swap(0) != 0)
    }

    /// Sends out the writes that were put aside, after a window was lowered.
    fn unpark(&self) {
        let mut used = ChannelSet::default();
        for _ in 0..self.parked() {
            let Some(rq) = self.unpark_first() else {
                break;
            };
            used |= self.route_write(rq);
        }
        self.kick_all(used);
    }

    /// Marks the blocks that `sectors` sectors from `first` touch.
    fn mark(&self, group: GroupId, first: u64, sectors: u64) {
        let (start, end) = self.blocks_of((first, sectors));
        self.mark_blocks(group, start, end.saturating_sub(start));
    }

    /// The blocks that so many sectors from the first touch: the first, and where they end.
    fn blocks_of(&self, (first, sectors): (u64, u64)) -> (u64, u64) {
        let unit = self.block_sectors().max(1);
        (first / unit, first.saturating_add(sectors).div_ceil(unit))
    }

    /// Keeps in mind which channels are to be kicked when the batch is whole.
    fn add_unkicked(&self, used: ChannelSet) {
        let (unkicked, used) = (&self.core().unkicked, u64::from(used.bits()));
        if unkicked.load() | used != unkicked.load() {
            update(unkicked, |old| old | used);
        }
    }

    /// The channels that [`Route::add_unkicked`] was told.
    fn take_unkicked(&self) -> ChannelSet {
        let unkicked = &self.core().unkicked;
        if unkicked.load() == 0 {
            return ChannelSet::default();
        }
        ChannelSet::from_bits(unkicked.swap(0) as u32)
    }

    /// Lets the channels in `used` send what they have.
    fn kick_all(&self, used: ChannelSet) {
        for channel in used.iter() {
            self.kick(channel);
        }
    }
}

impl<W: World> Route for W {}

/// Where a read goes now, with its transfer: a group in sync that has not refused it yet, the one with
/// the least to do; if all have, one that is out of service and holds the blocks. Nothing if there is
/// none: the request ends with what the last one said.
#[inline]
pub(super) fn aim<W: World>(w: &W, rq: RequestOf<W>) -> Option<Numbered<W::Buffer>> {
    let view = w.core().view();
    let candidates = view.readable().without(rq.pdu().refused_by());
    let group = w
        .least_loaded(candidates)
        .or_else(|| candidates.iter().next())
        .or_else(|| rescue::group(w, &rq, view))?;
    let (number, offset, len) = (SlotId::of_request(rq.tag()), rq.sector() << 9, rq.bytes());
    let buffer = W::Buffer::of(rq);
    let mut transfer = Transfer::new(Command::Read, CommandFlags::NONE, offset, len, buffer);
    transfer.in_sync_at = Some(view.epoch());
    Some(Numbered {
        group,
        number,
        transfer,
    })
}

/// The transfer of a write for one group; nothing if the group need not be asked.
fn write_transfer<W: World>(
    w: &W,
    group: GroupId,
    rq: &RequestOf<W>,
) -> Option<Transfer<W::Buffer>> {
    let mut flags = CommandFlags::NONE;
    if rq.fua() {
        flags = flags.with(CommandFlags::FUA);
    }
    let command = match rq.op() {
        Op::Write => Command::Write,
        Op::Flush => {
            if w.is_volatile(group) {
                // It has no FLUSH, and said so: see `volatile` in the status.
                rq.pdu().set_done_by(group);
                return None;
            }
            let owns = w.unflushed(group)?.begin_flush();
            return Some(Transfer::flush(owns, W::Buffer::of(rq.clone())));
        }
        op => {
            // A discard is sent as zeroes, where holes are allowed: what is read afterwards is the
            // same in all groups.
            if op == Op::WriteZeroes && rq.no_unmap() {
                flags = flags.with(CommandFlags::NO_HOLE);
            }
            Command::WriteZeroes
        }
    };
    let (offset, len) = (rq.sector() << 9, rq.bytes());
    let buffer = W::Buffer::of(rq.clone());
    Some(Transfer::new(command, flags, offset, len, buffer))
}

/// What became of the wish to send a write.
enum Claimed {
    /// It goes, by this view.
    Goes(View),
    /// A window of a resync is over it.
    Held,
    /// A group is out of service that is still recorded as in sync.
    Unrecorded,
    /// Another write of the same blocks is on its way.
    Overlaps,
    /// Not all members know yet that it may be on its way.
    Unmarked,
}

/// Publishes a write under the view that it then goes by, unless it has to wait.
///
/// Two writes of the same blocks at once may reach two groups in different order, so that the
/// groups differ from then on. No such promise is made by one disk either, but there the blocks stay
/// what they have become; so the second one waits for the first. Each publishes its claim and then
/// looks for others, so at least one of two sees the other.
fn claim<W: World>(w: &W, rq: &RequestOf<W>, span: Span) -> Claimed {
    let Some(claim) = w.claims().get(rq.tag() as usize) else {
        rq.pdu().fail(EIO);
        return Claimed::Goes(View::default());
    };
    rq.pdu().set_claimed(true);
    let mut view = w.core().view();
    loop {
        claim.publish(span, view.epoch());
        let now = w.core().view();
        if now == view {
            break;
        }
        view = now;
    }
    let is_crowded = w.core().crowd.enter(span);
    let why_not = if w.core().must_wait(view) {
        Claimed::Unrecorded
    } else if w.is_held(view.resyncing(), span) {
        Claimed::Held
    } else if is_crowded && view.writable().len() > 1 && w.is_overlapped(rq.tag(), span) {
        Claimed::Overlaps
    } else if !w.is_marked_to_go(span) {
        Claimed::Unmarked
    } else {
        return Claimed::Goes(view);
    };
    unclaim(w, rq);
    why_not
}

/// The groups whose map takes a write: those that are faulty, and those that get it, but may be
/// another server than the one that the map is for.
fn missing<W: World>(w: &W, view: View) -> GroupSet {
    let is_checking = |&g: &GroupId| w.core().group(g).health().is_checking();
    let checking = view.resyncing().iter().filter(is_checking);
    checking.fold(view.faulty(), GroupSet::with)
}

/// Proposes a chunk of a write, which is about to be sent, to be remembered.
fn remember<W: World>(w: &W, rq: &RequestOf<W>) {
    if rq.op() != Op::Write || !w.wants_evidence() {
        return;
    }
    let chunks = whole_chunks(rq);
    let random = w.core().next_turn();
    let count = chunks.end.saturating_sub(chunks.start);
    let Some(nth) = u64::from(random).checked_rem(count) else {
        return;
    };
    let chunk = chunks.start.saturating_add(nth);
    let Some(proposal) = w.evidence().propose(rq.tag(), chunk, random) else {
        return;
    };
    let sector = chunk.saturating_mul(CHUNK_SECTORS);
    if w.is_overlapped(rq.tag(), Span::new(sector, CHUNK_SECTORS)) {
        return w.evidence().withdraw(proposal);
    }
    match sum_in(w, rq, chunk) {
        Some(sum) => rq.pdu().set_evidence(proposal.to_bits(sum)),
        None => w.evidence().withdraw(proposal),
    }
}

/// The chunks that a write covers. Only whole ones: of a part no checksum could be had.
pub(super) fn whole_chunks(rq: &impl Request) -> Range<u64> {
    let (first, sectors) = sectors_of(rq);
    first.div_ceil(CHUNK_SECTORS)..first.saturating_add(sectors) / CHUNK_SECTORS
}

/// The checksum of a chunk in the copy of a write's data; nothing if it is not in there.
pub(super) fn sum_in<W: World>(w: &W, rq: &RequestOf<W>, chunk: u64) -> Option<Sum> {
    let (first, _) = sectors_of(rq);
    let from = chunk.saturating_mul(CHUNK_SECTORS).saturating_sub(first) << 9;
    w.checksum(&W::Buffer::of(rq.clone()), from as u32)
}

/// The write does not go now.
fn unclaim<W: World>(w: &W, rq: &RequestOf<W>) {
    rq.pdu().set_claimed(false);
    withdraw(w, rq.tag());
}

fn withdraw<W: World>(w: &W, tag: u32) {
    let span = w.claims().get(tag as usize).and_then(Claim::withdraw);
    if let Some(span) = span {
        w.core().crowd.leave(span);
    }
    // Only a resync that has raised a window over the write, or that waits for all older ones, has
    // been waiting for this.
    let is_waited_for = |span| w.is_held(w.core().view().resyncing(), span);
    if w.core().settling.load() != 0 || span.is_some_and(is_waited_for) {
        w.wake_resyncs();
    }
}

/// Puts a write aside until the windows that it overlaps are lowered, all groups that are out of
/// service are recorded as that, and its marks are durable. It comes back if it may go.
fn park<W: World>(w: &W, rq: RequestOf<W>, span: Span) -> Option<RequestOf<W>> {
    // Who lowers a window, has recorded a group, ends a round, or fails what waits, looks for parked
    // writes afterwards, under the lock.
    let core = w.core();
    w.park_if(rq, || {
        let is_unready = core.must_wait(core.view()) || !w.is_marked_to_go(span);
        is_unready && core.may_wait() || w.is_held(core.view().resyncing(), span)
    })
}

/// Gives a write back until another one has ended: one that it overlaps, or that has the room for
/// the copy of its data. It comes back if it may go.
fn postpone<W: World>(w: &W, rq: RequestOf<W>, span: Span) -> Option<RequestOf<W>> {
    let tag = rq.tag();
    let bytes = if rq.op() == Op::Write { rq.bytes() } else { 0 };
    let still = || {
        // Who ends a write looks at this after it has withdrawn its claim and given up its copy, and
        // then waits for us.
        w.core().postponed.swap(1);
        w.is_overlapped(tag, span) || !w.has_room(bytes)
    };
    w.postpone_if(rq, still)
}
