// SPDX-License-Identifier: GPL-2.0

//! The walk of a resync: what its thread does from beginning to end.
//!
//! It waits until no write goes on that was sent while the group was faulty, compares a few blocks
//! that should be equal ([`super::sample`]), and then walks the marked runs of the map in windows:
//! raise the window's barrier, wait for the writes in it, read from a group in sync, write to the
//! returning one, clear the bits, lower the barrier. Where the map cannot be believed, both are read,
//! and only what differs is written. Several windows are on their way at once. When
//! the map is empty it raises the barrier over the whole device, looks once more, and the group is
//! in sync. Why this is right is argued in Documentation/resync.rst.
//!
//! Whatever fails keeps its bits, and the group becomes faulty again. What no group in sync can read
//! keeps them as well, but all the rest is copied before.

use super::{
    compare::{Compare, ENOUGH},
    Bounds, CopyEnd, Cursor, Line, RunLog, Step, Summary, Throttle, Users,
};
use crate::logic::{
    barrier::Span,
    bitmap::Run,
    group::{GroupFault, GroupState},
    ids::{ChannelSet, GroupId},
    mirror::{CopyOutcome, Copying, HealthEvent, Losses, Route, States, World, COPIES_EACH},
    wire::request::Command,
};

/// Bytes of the largest window.
pub const WINDOW_BYTES: usize = 256 << 10;
/// Windows where a run is read from both sides: each takes the memory of two.
pub(super) const COMPARES: usize = COPIES_EACH / 2;
/// Runs that cannot be read that are told.
const TOLD: usize = 8;
/// How long the thread sleeps at most, in milliseconds.
const TICK_MS: u32 = 200;

/// What a walk needs around it, beyond the [`World`] of its mirror.
pub trait Site: World {
    /// Memory of [`WINDOW_BYTES`] bytes, or of a block if that is larger.
    type Pages;
    /// A place for a page of the map that is kept at hand.
    type Spare: Default;

    /// The memory as that of a transfer.
    fn buffer(&self, pages: &Self::Pages) -> Self::Buffer;
    /// Makes the memory one that nobody reads from any more; false if it cannot be had now.
    /// `may_wait` as in [`Site::refill`].
    fn renew(&self, pages: &mut Self::Pages, may_wait: bool) -> bool;
    /// Whether the first `len` bytes of two memories are equal.
    fn is_same(&self, a: &Self::Pages, b: &Self::Pages, len: usize) -> bool;
    /// Whether the first `len` bytes are zeroes.
    fn is_zeroes(&self, pages: &Self::Pages, len: usize) -> bool;
    /// Nanoseconds of a clock that does not go back.
    fn now_ns(&self) -> u64;
    /// Waits at most `ms` milliseconds until `holds`, which is asked again whenever
    /// [`World::wake_resyncs`] is called; whether it holds.
    fn wait_resync(&self, ms: u32, holds: impl FnMut() -> bool) -> bool;

    /// The bounds of the speed.
    fn bounds(&self) -> Bounds;
    /// What is to be compared before it is written.
    fn compare(&self) -> Compare;
    /// Blocks that are compared before it is judged whether that is worth it.
    fn enough(&self) -> u64 {
        ENOUGH
    }
    /// Whether users have requests.
    fn users(&self) -> Users;
    /// Bytes of the largest request that all groups take.
    fn max_bytes(&self) -> u64;

    /// How many blocks `group` misses.
    fn dirty(&self, group: GroupId) -> u64;
    /// The next run that `group` misses at or after block `from`, at most `max` blocks of it.
    fn next_dirty(&self, group: GroupId, from: u64, max: u64) -> Option<Run>;
    /// Marks `run` as clean if `still`, asked under the map's lock, says so: who faults the group
    /// marks afterwards, and such marks must stay.
    fn clear_blocks(&self, group: GroupId, run: Run, still: impl FnOnce() -> bool);
    /// Sees to it that a page of the map is at hand; false if none can be had now. `may_wait` says
    /// that memory may be waited for.
    fn refill(&self, spare: &mut Self::Spare, may_wait: bool) -> bool;
    /// Makes the bits around `block` fine with the page at hand, so that parts of the range can be
    /// cleared; false if there was none and it would have taken one.
    fn refine(&self, group: GroupId, block: u64, spare: &mut Self::Spare) -> bool;
}

/// Who looks over a walk.
pub trait Overseer {
    /// Whether the walk is to end early.
    fn is_stopped(&self) -> bool;
    /// The walk begins, over so many blocks, of which so many are dirty.
    fn begins(&mut self, now_ns: u64, blocks: u64, dirty: u64);
    /// How far it has come: position, blocks copied, blocks still dirty.
    fn came_to(&mut self, now_ns: u64, pos: u64, copied: u64, dirty: u64);
    /// A line for the log.
    fn tell(&mut self, line: Line);
}

/// Why a walk ended early.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// It was told to.
    Stopped,
    /// The group is not resyncing any more.
    GroupLeft,
    /// A block could not be copied.
    CopyFailed,
    /// All was copied but for blocks that no group in sync can read: so many.
    Unreadable(u64),
    /// A block that the group did not miss is not what the others have.
    Differs,
}

/// What a walk has done.
#[derive(Clone, Copy, Debug)]
pub struct Walked {
    /// How it ended: the group is in sync, or it is faulty again.
    pub result: Result<(), Ended>,
    /// Blocks that were copied.
    pub copied: u64,
    /// Clean blocks that were compared before.
    pub compared: u32,
    /// Blocks that were compared instead of being believed, and were equal; nothing if none had to
    /// be.
    pub same: Option<u64>,
    /// The runs that it saw.
    pub runs: Summary,
}

/// Brings `group`, which became resyncing with `epoch`, back in sync, or leaves it faulty. `pages`
/// are the memories of [`COPIES_EACH`] windows.
pub fn walk<W: Site>(
    site: &W,
    overseer: &mut impl Overseer,
    group: GroupId,
    epoch: u32,
    pages: &mut [W::Pages],
) -> Walked {
    let mut walk = Walk {
        site,
        overseer,
        group,
        epoch,
        pages,
        windows: [None; COPIES_EACH],
        handed: 0,
        unkicked: ChannelSet::default(),
        copied: 0,
        compared: 0,
        shown: 0,
        disbelieves: false,
        compares: false,
        has_compared: false,
        same: 0,
        differ: 0,
        spare: W::Spare::default(),
        log: RunLog::new(),
    };
    let result = walk.settle().and_then(|()| walk.compare_samples());
    if result.is_ok() {
        // What was written meanwhile is marked, and copied once more.
        site.core().group(group).happened(HealthEvent::CheckEnded);
    }
    walk.begin_marked();
    let result = result.and_then(|()| walk.copy_all());
    walk.abandon();
    if let Some(line) = walk.log.finish() {
        walk.overseer.tell(line);
    }
    let fault = match result {
        Ok(()) => None,
        Err(Ended::Differs) => Some(GroupFault::Differs),
        Err(Ended::Unreadable(_)) => Some(GroupFault::Unreadable),
        Err(_) => Some(GroupFault::Resync),
    };
    if let Some(fault) = fault {
        // Refused only if the group is faulty already.
        let _ = site.fault(group, fault);
    }
    Walked {
        result,
        copied: walk.copied,
        compared: walk.compared,
        same: walk.has_compared.then_some(walk.same),
        runs: walk.log.summary(),
    }
}

#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Phase {
    Raising,
    Reading,
    Writing,
}

#[derive(Clone, Copy)]
struct Window {
    run: Run,
    phase: Phase,
}

/// What came of the wish to begin a window.
pub(super) enum Begun {
    Window,
    Nothing,
    Synced,
}

/// A walk on its way.
pub(super) struct Walk<'a, W: Site, O> {
    pub(super) site: &'a W,
    overseer: &'a mut O,
    pub(super) group: GroupId,
    epoch: u32,
    pub(super) pages: &'a mut [W::Pages],
    windows: [Option<Window>; COPIES_EACH],
    /// Bytes that were handed out to be copied.
    handed: u64,
    /// Channels that have transfers to send.
    pub(super) unkicked: ChannelSet,
    copied: u64,
    pub(super) compared: u32,
    /// Of those, how many were not zeroes.
    pub(super) shown: u32,
    /// Nothing shows that clean blocks are equal: they are compared when the marked ones are copied.
    pub(super) disbelieves: bool,
    /// Blocks are compared, and written where they differ.
    pub(super) compares: bool,
    /// They were at some time.
    pub(super) has_compared: bool,
    /// How many were equal.
    pub(super) same: u64,
    /// How many were not, or could not be read.
    pub(super) differ: u64,
    /// A page for making coarse bits fine.
    spare: W::Spare,
    log: RunLog,
}

impl<W: Site, O: Overseer> Walk<'_, W, O> {
    pub(super) fn check(&self) -> Result<(), Ended> {
        if self.overseer.is_stopped() || self.site.core().is_fenced() {
            return Err(Ended::Stopped);
        }
        if self.site.core().view().state(self.group) != GroupState::Resyncing {
            return Err(Ended::GroupLeft);
        }
        Ok(())
    }

    /// Waits until `holds`, as long as there is something to wait for.
    pub(super) fn wait_for(&self, mut holds: impl FnMut() -> bool) -> Result<(), Ended> {
        loop {
            self.check()?;
            let or_over = || holds() || self.check().is_err();
            if self.site.wait_resync(TICK_MS, or_over) {
                return self.check();
            }
        }
    }

    /// Waits for the writes that were sent while the group was faulty.
    fn settle(&self) -> Result<(), Ended> {
        self.site.settling(true);
        let settled = self.wait_for(|| self.site.is_settled(self.epoch));
        self.site.settling(false);
        settled
    }

    /// Blocks of the device.
    pub(super) fn blocks(&self) -> u64 {
        self.site.core().sectors() / self.site.block_sectors().max(1)
    }

    /// What `run` covers.
    pub(super) fn span(&self, run: Run) -> Span {
        let unit = self.site.block_sectors();
        Span::new(run.first.saturating_mul(unit), run.len.saturating_mul(unit))
    }

    /// Offset and length of a run in bytes.
    pub(super) fn bytes(&self, run: Run) -> (u64, u32) {
        let unit = self.site.block_sectors() << 9;
        let len = run.len.saturating_mul(unit).min(u64::from(u32::MAX));
        (run.first.saturating_mul(unit), len as u32)
    }

    /// Raises the barrier of window `index` over `span`.
    pub(super) fn raise(&self, index: usize, span: Span) {
        if let Some(barrier) = self.site.core().window(self.group, index) {
            barrier.raise(span);
        }
    }

    /// Lowers the barrier of window `index`, and lets those go on that waited for it.
    pub(super) fn lower(&self, index: usize) {
        if let Some(barrier) = self.site.core().window(self.group, index) {
            barrier.lower();
        }
        self.site.unpark();
    }

    fn copy_all(&mut self) -> Result<(), Ended> {
        let blocks = self.blocks();
        let mut cursor = Cursor::new(blocks);
        let now = self.site.now_ns();
        let mut throttle = Throttle::new(now, self.site.bounds());
        self.overseer
            .begins(now, blocks, self.site.dirty(self.group));
        loop {
            self.check()?;
            let mut moved = false;
            for index in 0..COPIES_EACH {
                moved |= self.advance(index, &mut cursor);
            }
            let mut delay = 0;
            // Their places are not the same as those of windows that are only copied.
            let ends_comparing = self.compares && !self.goes_on_comparing();
            if ends_comparing && self.in_flight() == 0 {
                self.compares = false;
            }
            let takes_more = !ends_comparing || !self.compares;
            while takes_more && self.in_flight() < self.places() {
                throttle.set_bounds(self.site.bounds());
                let now = self.site.now_ns();
                delay = throttle.delay_ns(now, self.handed, self.site.users());
                if delay == 0 && self.in_flight() >= throttle.windows() {
                    delay = throttle.patience_ns();
                }
                if delay > 0 {
                    break;
                }
                let Some(index) = self.place() else {
                    break;
                };
                match self.begin(index, &mut cursor, &throttle)? {
                    Begun::Window => moved |= self.advance(index, &mut cursor),
                    Begun::Nothing => break,
                    Begun::Synced => return Ok(()),
                }
            }
            self.site.kick_all(core::mem::take(&mut self.unkicked));
            self.overseer.came_to(
                self.site.now_ns(),
                cursor.pos(),
                self.copied.saturating_add(self.same),
                self.site.dirty(self.group),
            );
            if !moved {
                self.rest(delay);
            }
        }
    }

    /// How many windows there may be at once.
    fn places(&self) -> usize {
        if self.compares {
            COMPARES
        } else {
            COPIES_EACH
        }
    }

    fn in_flight(&self) -> usize {
        self.windows.iter().flatten().count()
    }

    /// A place for another window, with memory that may be read into: where a run is read from both
    /// sides also that of the returning group's, which was sent from, perhaps, before the walk began to
    /// compare.
    fn place(&mut self) -> Option<usize> {
        let idle = self.in_flight() == 0;
        (0..self.places()).find(|&index| {
            let is_free = self.windows.get(index).is_some_and(Option::is_none);
            let other = index.saturating_add(COMPARES);
            is_free && self.renew(index, idle) && (!self.compares || self.renew(other, idle))
        })
    }

    /// Makes a memory one that may be read into; false if that cannot be had now.
    fn renew(&mut self, index: usize, may_wait: bool) -> bool {
        let site = self.site;
        let pages = self.pages.get_mut(index);
        pages.is_some_and(|pages| site.renew(pages, may_wait))
    }

    /// Takes one window a step further; whether there was one to take.
    fn advance(&mut self, index: usize, cursor: &mut Cursor) -> bool {
        let (Some(Some(Window { run, phase })), Some(pages)) =
            (self.windows.get(index).copied(), self.pages.get(index))
        else {
            return false;
        };
        let (site, group) = (self.site, self.group);
        let (offset, len) = self.bytes(run);
        let next = match (phase, self.outcome(index, phase)) {
            (Phase::Raising, _) => {
                if !site.is_clear(self.span(run)) {
                    return false;
                }
                self.unkicked |= if self.compares {
                    self.read_both(index, run)
                } else {
                    site.copy_read(group, index, offset, len, site.buffer(pages))
                };
                Some(Phase::Reading)
            }
            (_, CopyOutcome::Going) => return false,
            (Phase::Reading, CopyOutcome::Done) if self.has_same(index, run) => {
                self.same = self.same.saturating_add(run.len);
                site.core().note_same(run.len);
                // It may hold it in a cache that nobody has flushed.
                let sectors = |blocks: u64| blocks.saturating_mul(site.block_sectors());
                site.note_perhaps_done(group, sectors(run.first), sectors(run.len), true);
                self.end_clean(index, run, cursor);
                None
            }
            (Phase::Reading, CopyOutcome::Done) => {
                if self.compares {
                    self.differ = self.differ.saturating_add(run.len);
                }
                let buffer = site.buffer(pages);
                // A thin server keeps its holes, and the line carries nothing.
                let are_holes = site.writes_zeroes(group) && site.is_zeroes(pages, len as usize);
                let command = if are_holes {
                    Command::WriteZeroes
                } else {
                    Command::Write
                };
                self.unkicked |= site.copy_own(command, group, index, offset, len, buffer);
                Some(Phase::Writing)
            }
            (Phase::Writing, CopyOutcome::Done) => {
                self.copied = self.copied.saturating_add(run.len);
                self.end_clean(index, run, cursor);
                None
            }
            (Phase::Reading, CopyOutcome::Unreadable) => {
                self.end_window(index, run, cursor, CopyEnd::Unreadable);
                None
            }
            (_, CopyOutcome::Failed | CopyOutcome::Unreadable) => {
                self.end_window(index, run, cursor, CopyEnd::Failed);
                None
            }
        };
        if let (Some(phase), Some(window)) = (next, self.windows.get_mut(index)) {
            *window = Some(Window { run, phase });
        }
        true
    }

    /// The group has what the others have of a run.
    fn end_clean(&mut self, index: usize, run: Run, cursor: &mut Cursor) {
        let (site, group) = (self.site, self.group);
        site.clear_blocks(group, run, || self.check().is_ok());
        self.end_window(index, run, cursor, CopyEnd::Copied);
    }

    fn end_window(&mut self, index: usize, run: Run, cursor: &mut Cursor, how: CopyEnd) {
        // The cursor gave us the window, so it knows it.
        let _ = cursor.ended(run, how);
        if let Some(window) = self.windows.get_mut(index) {
            *window = None;
        }
        self.lower(index);
    }

    /// Sees to it that a page is at hand. It is not waited for while windows are raised: the writes
    /// that they hold up may be what would free the memory.
    fn has_spare(&mut self) -> bool {
        let idle = self.in_flight() == 0;
        self.site.refill(&mut self.spare, idle)
    }

    /// Begins the next window, if there is one.
    fn begin(
        &mut self,
        index: usize,
        cursor: &mut Cursor,
        throttle: &Throttle,
    ) -> Result<Begun, Ended> {
        let (site, group) = (self.site, self.group);
        if !self.has_spare() {
            return Ok(Begun::Nothing);
        }
        let blocksize = (site.block_sectors() << 9).min(u64::from(u32::MAX)) as u32;
        let largest = site.max_bytes().min(WINDOW_BYTES as u64);
        let most = throttle.window_blocks(blocksize, largest);
        match cursor.next(most, |from, max| site.next_dirty(group, from, max)) {
            Step::Window(window) => {
                if !site.refine(group, window.run.first, &mut self.spare) {
                    return Err(Ended::CopyFailed);
                }
                self.tell_skipped(window.skipped);
                let is_new = !window.again;
                let seen = is_new.then(|| self.log.saw_marked(window.run.first, window.run.len));
                if let Some(line) = seen.flatten() {
                    self.overseer.tell(line);
                }
                let (_, len) = self.bytes(window.run);
                self.handed = self.handed.saturating_add(u64::from(len));
                self.raise(index, self.span(window.run));
                if let Some(place) = self.windows.get_mut(index) {
                    let (run, phase) = (window.run, Phase::Raising);
                    *place = Some(Window { run, phase });
                }
                Ok(Begun::Window)
            }
            Step::Wait => Ok(Begun::Nothing),
            Step::Done { skipped } => {
                self.tell_skipped(skipped);
                self.try_to_finish(index)
            }
            Step::Failed => Err(Ended::CopyFailed),
            Step::Unreadable if core::mem::take(&mut self.disbelieves) => {
                cursor.begin_anew();
                self.begin_comparing();
                Ok(Begun::Window)
            }
            Step::Unreadable => {
                self.tell_unreadable();
                Err(Ended::Unreadable(site.dirty(group)))
            }
        }
    }

    fn tell_skipped(&mut self, skipped: Option<Run>) {
        let line = skipped.and_then(|run| self.log.skipped_clean(run.first, run.len));
        if let Some(line) = line {
            self.overseer.tell(line);
        }
    }

    /// Tells the first runs that are marked still.
    fn tell_unreadable(&mut self) {
        let (site, group) = (self.site, self.group);
        let mut from = 0;
        for _ in 0..TOLD {
            let Some(run) = site.next_dirty(group, from, u64::MAX) else {
                return;
            };
            let (first, last) = (run.first, run.last());
            self.overseer.tell(Line::Unreadable { first, last });
            from = run.end();
        }
    }

    /// Sleeps until a window can go on, or the throttle may let another one begin.
    fn rest(&self, delay_ns: u64) {
        let ms = match u32::try_from(delay_ns.div_ceil(1_000_000)) {
            Ok(0) | Err(_) => TICK_MS,
            Ok(ms) => ms.min(TICK_MS),
        };
        let can_go_on = |(index, window): (usize, &Option<Window>)| match window {
            None => false,
            Some(Window { run, phase }) => match phase {
                Phase::Raising => self.site.is_clear(self.span(*run)),
                phase => self.outcome(index, *phase) != CopyOutcome::Going,
            },
        };
        // Whatever it was, the loop looks again.
        let _ = self.site.wait_resync(ms, || {
            self.check().is_err() || self.windows.iter().enumerate().any(can_go_on)
        });
    }

    /// Lowers all barriers, and waits for the transfers that are on their way: their slots are used
    /// by the next resync. What waits for a channel of a source that is gone is not waited for.
    fn abandon(&mut self) {
        self.site.kick_all(core::mem::take(&mut self.unkicked));
        for index in 0..COPIES_EACH {
            self.lower(index);
        }
        for index in 0..COPIES_EACH {
            let ended = || self.site.copy_outcome(self.group, index) != CopyOutcome::Going;
            // The channel's own time limit bounds this.
            while !ended() {
                self.site.give_up_copy(self.group, index);
                let _ = self.site.wait_resync(TICK_MS, ended);
            }
        }
    }
}
