// SPDX-License-Identifier: GPL-2.0

//! The resync thread of a returning group.
//!
//! It waits until no write goes on that was sent while the group was faulty, and then walks the
//! marked runs of the map in windows: raise the window's barrier, wait for the writes in it, read
//! from a group in sync, write to the returning one, clear the bits, lower the barrier. Several
//! windows are on their way at once. When the map is empty it raises the barrier over the whole
//! device, looks once more, and the group is in sync. Why this is right is argued in
//! Documentation/resync.rst.
//!
//! Whatever fails keeps its bits, and the group becomes faulty again.
//!
//! Locks: `Track::progress` is a spin lock and a leaf.

use crate::kapi::{
    iovec::Pages,
    kthread::{KThread, Main},
    scope::NoIo,
};
use crate::logic::{
    barrier::Span,
    bitmap::Run,
    group::GroupState,
    resync::{Bounds, CopyEnd, Cursor, Line, Progress, RunLog, Step, Throttle, Users},
};
use crate::mirror::{CopyOutcome, GroupFault, LeafPage, Mirror, COPIES_EACH};
use crate::wait::Woken;
use kernel::{
    current,
    prelude::*,
    str::CString,
    sync::{
        atomic::{
            ordering::{Acquire, Relaxed, Release},
            Atomic,
        },
        new_spinlock, Arc, SpinLock,
    },
    time::{Instant, Monotonic},
};

/// Bytes of the largest window.
const WINDOW_BYTES: usize = 256 << 10;
/// How long the thread sleeps at most.
const TICK_MS: u32 = 200;

/// What others see of a resync.
#[pin_data]
pub(crate) struct Track {
    #[pin]
    progress: SpinLock<Option<Progress>>,
    began: Instant<Monotonic>,
    stop: Atomic<bool>,
    ended: Atomic<bool>,
}

impl Track {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(0)
    }

    /// Position, last position and seconds left; nothing before the walk begins and after the end.
    pub(crate) fn progress(&self) -> Option<(u64, u64, u64)> {
        if self.has_ended() {
            return None;
        }
        let now = self.now_ns();
        let progress = self.progress.lock();
        progress
            .as_ref()
            .map(|p| (p.pos(), p.max(), p.finish_secs(now).unwrap_or(0)))
    }

    /// Whether the thread has done its work.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Acquire)
    }
}

/// A running resync. Dropping it ends it.
pub(crate) struct Resync {
    track: Arc<Track>,
    mirror: Arc<Mirror>,
    thread: Option<KThread<Walk>>,
}

impl Resync {
    /// Starts to bring `group` back, which became resyncing with `epoch`.
    pub(crate) fn start(mirror: Arc<Mirror>, group: usize, epoch: u32) -> Result<Self> {
        let track = Arc::pin_init(
            pin_init!(Track {
                progress <- new_spinlock!(None, "enbd::Track::progress"),
                began: Instant::now(),
                stop: Atomic::new(false),
                ended: Atomic::new(false),
            }),
            GFP_KERNEL,
        )?;
        let bytes = WINDOW_BYTES.max(mirror.settings.blocksize.load(Relaxed) as usize);
        let mut copies = KVec::with_capacity(COPIES_EACH, GFP_KERNEL)?;
        for _ in 0..COPIES_EACH {
            let pages = Arc::new(Pages::new(bytes)?, GFP_KERNEL)?;
            copies.push(Copy { pages, at: None }, GFP_KERNEL)?;
        }
        let walk = Walk {
            mirror: mirror.clone(),
            track: track.clone(),
            group,
            epoch,
            copies,
            handed: 0,
            copied: 0,
            spare: None,
            log: RunLog::new(),
        };
        let letter = mirror.letter();
        let name = CString::try_from_fmt(fmt!("enbd-{letter}-sync{group}"))?;
        let thread = KThread::spawn(&name, walk)?;
        pr_info!(
            "[{letter}] nbd_hotadd launched resync thread with pid {} for group {group}\n",
            thread.pid()
        );
        Ok(Self {
            track,
            mirror,
            thread: Some(thread),
        })
    }

    /// What others see of it.
    pub(crate) fn track(&self) -> &Arc<Track> {
        &self.track
    }
}

impl Drop for Resync {
    fn drop(&mut self) {
        self.track.stop.store(true, Release);
        self.mirror.resync_waiters.wake_all();
        drop(self.thread.take());
    }
}

/// Why a resync ended early.
enum Ended {
    /// It was told to.
    Stopped,
    /// The group is not resyncing any more.
    GroupLeft,
    /// A block could not be copied.
    CopyFailed,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Phase {
    Raising,
    Reading,
    Writing,
}

#[derive(Clone, Copy)]
struct Window {
    run: Run,
    phase: Phase,
}

struct Copy {
    pages: Arc<Pages>,
    at: Option<Window>,
}

/// What the thread has.
struct Walk {
    mirror: Arc<Mirror>,
    track: Arc<Track>,
    group: usize,
    epoch: u32,
    copies: KVec<Copy>,
    /// Bytes that were handed out to be copied.
    handed: u64,
    /// Blocks that were copied.
    copied: u64,
    /// A page for making coarse bits fine.
    spare: Option<LeafPage>,
    log: RunLog,
}

impl Main for Walk {
    fn main(mut self) {
        // Memory that we wait for must not wait for us.
        let _scope = NoIo::enter();
        let result = self.settle().and_then(|()| self.walk());
        self.abandon();
        let line = self.log.finish();
        self.tell(line);
        let letter = self.mirror.letter();
        let group = self.group;
        self.tell_summary();
        match result {
            Ok(()) => {
                if let Some(g) = self.mirror.group(group) {
                    g.map.tell_removed(letter);
                }
                pr_info!("[{letter}] group {group} is in sync\n");
            }
            Err(Ended::CopyFailed) => {
                pr_info!("[{letter}] nbd_resync of group {group} failed, its blocks stay marked\n");
                // Refused only if the group is faulty already.
                let _ = self.mirror.fault(group, GroupFault::Resync);
            }
            Err(Ended::Stopped | Ended::GroupLeft) => {
                pr_info!("[{letter}] nbd_resync of group {group} ended early\n");
                let _ = self.mirror.fault(group, GroupFault::Resync);
            }
        }
        self.track.ended.store(true, Release);
        self.mirror.resync_waiters.wake_all();
    }
}

impl Walk {
    fn check(&self) -> Result<(), Ended> {
        if self.track.stop.load(Acquire) {
            return Err(Ended::Stopped);
        }
        if self.mirror.view().state(self.group) != GroupState::Resyncing {
            return Err(Ended::GroupLeft);
        }
        Ok(())
    }

    fn sleep(&self, ms: u32, holds: impl FnMut() -> bool) -> Woken {
        self.mirror.resync_waiters.wait(Some(ms), holds)
    }

    /// Waits until `holds`, as long as there is something to wait for.
    fn wait_for(&self, mut holds: impl FnMut() -> bool) -> Result<(), Ended> {
        loop {
            self.check()?;
            let woken = self.sleep(TICK_MS, || holds() || self.check().is_err());
            if woken == Woken::Holds {
                return self.check();
            }
        }
    }

    /// Waits for the writes that were sent while the group was faulty.
    fn settle(&self) -> Result<(), Ended> {
        self.mirror.settling(true);
        let settled = self.wait_for(|| self.mirror.is_settled(self.epoch));
        self.mirror.settling(false);
        settled
    }

    fn walk(&mut self) -> Result<(), Ended> {
        let blocks = self.mirror.blocks_of(self.mirror.sectors());
        let mut cursor = Cursor::new(blocks);
        let now = self.track.now_ns();
        let mut throttle = Throttle::new(now, self.bounds());
        *self.track.progress.lock() = Some(Progress::new(now, blocks, self.dirty()));
        loop {
            self.check()?;
            let mut moved = false;
            for index in 0..self.copies.len() {
                moved |= self.advance(index, &mut cursor);
            }
            let mut delay = 0;
            if let Some(index) = self.copies.iter().position(|copy| copy.at.is_none()) {
                throttle.set_bounds(self.bounds());
                let now = self.track.now_ns();
                delay = throttle.delay_ns(now, self.handed, self.users());
                if delay == 0 {
                    match self.begin(index, &mut cursor, &throttle)? {
                        Begun::Window => moved = true,
                        Begun::Nothing => {}
                        Begun::Synced => return Ok(()),
                    }
                }
            }
            self.tell_progress(&cursor);
            if !moved {
                self.rest(delay);
            }
        }
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            min: u64::from(self.mirror.settings.resync_min.load(Relaxed)),
            max: u64::from(self.mirror.settings.resync_max.load(Relaxed)),
        }
    }

    fn users(&self) -> Users {
        if self.mirror.load.now() > 0 {
            Users::Busy
        } else {
            Users::Quiet
        }
    }

    fn dirty(&self) -> u64 {
        self.mirror.group(self.group).map_or(0, |g| g.map.dirty())
    }

    fn span(&self, run: Run) -> Span {
        let unit = self.mirror.block_sectors();
        Span::new(run.first.saturating_mul(unit), run.len.saturating_mul(unit))
    }

    /// Offset and length of a run in bytes.
    fn bytes(&self, run: Run) -> (u64, u32) {
        let unit = self.mirror.block_sectors() << 9;
        let len = run.len.saturating_mul(unit);
        (
            run.first.saturating_mul(unit),
            len.min(u64::from(u32::MAX)) as u32,
        )
    }

    /// Takes one window a step further; whether there was one to take.
    fn advance(&mut self, index: usize, cursor: &mut Cursor) -> bool {
        let Some(copy) = self.copies.get(index) else {
            return false;
        };
        let Some(Window { run, phase }) = copy.at else {
            return false;
        };
        let (offset, len) = self.bytes(run);
        let outcome = self.mirror.copy_outcome(self.group, index);
        let next = match (phase, outcome) {
            (Phase::Raising, _) => {
                if !self.mirror.is_clear(self.span(run)) {
                    return false;
                }
                let pages = &copy.pages;
                self.mirror.copy_read(self.group, index, offset, len, pages);
                Some(Phase::Reading)
            }
            (_, CopyOutcome::Going) => return false,
            (Phase::Reading, CopyOutcome::Done) => {
                let pages = &copy.pages;
                self.mirror
                    .copy_write(self.group, index, offset, len, pages);
                Some(Phase::Writing)
            }
            (Phase::Writing, CopyOutcome::Done) => {
                if let Some(g) = self.mirror.group(self.group) {
                    g.map.clear(run, || self.check().is_ok());
                }
                self.copied = self.copied.saturating_add(run.len);
                self.end_window(index, run, cursor, CopyEnd::Copied);
                None
            }
            (_, CopyOutcome::Failed) => {
                self.end_window(index, run, cursor, CopyEnd::Failed);
                None
            }
        };
        if let (Some(phase), Some(copy)) = (next, self.copies.get_mut(index)) {
            copy.at = Some(Window { run, phase });
        }
        true
    }

    fn end_window(&mut self, index: usize, run: Run, cursor: &mut Cursor, how: CopyEnd) {
        // The cursor gave us the window, so it knows it.
        let _ = cursor.ended(run, how);
        self.lower(index);
    }

    fn lower(&mut self, index: usize) {
        if let Some(copy) = self.copies.get_mut(index) {
            copy.at = None;
        }
        if let Some(window) = self.mirror.window(self.group, index) {
            window.lower();
        }
        self.mirror.unpark();
    }

    /// Sees to it that a page is at hand. It is not waited for while windows are raised: the writes
    /// that they hold up may be what would free the memory.
    fn has_spare(&mut self) -> bool {
        if self.spare.is_none() {
            let idle = self.copies.iter().all(|copy| copy.at.is_none());
            let flags = if idle { GFP_KERNEL } else { GFP_NOWAIT };
            self.spare = LeafPage::new(flags);
        }
        self.spare.is_some()
    }

    /// Begins the next window, if there is one.
    fn begin(
        &mut self,
        index: usize,
        cursor: &mut Cursor,
        throttle: &Throttle,
    ) -> Result<Begun, Ended> {
        if !self.has_spare() {
            return Ok(Begun::Nothing);
        }
        let mirror = self.mirror.clone();
        let Some(g) = mirror.group(self.group) else {
            return Err(Ended::GroupLeft);
        };
        let blocksize = mirror.settings.blocksize.load(Relaxed);
        let largest = mirror.max_bytes().min(WINDOW_BYTES as u64);
        let most = throttle.window_blocks(blocksize, largest);
        match cursor.next(most, |from, max| g.map.next_dirty(from, max)) {
            Step::Window(window) => {
                g.map
                    .refine(window.run.first, &mut self.spare)
                    .map_err(|_| Ended::CopyFailed)?;
                if let Some(run) = window.skipped {
                    let line = self.log.skipped_clean(run.first, run.len);
                    self.tell(line);
                }
                let line = self.log.saw_marked(window.run.first, window.run.len);
                self.tell(line);
                let (_, len) = self.bytes(window.run);
                self.handed = self.handed.saturating_add(u64::from(len));
                if let Some(barrier) = mirror.window(self.group, index) {
                    barrier.raise(self.span(window.run));
                }
                if let Some(copy) = self.copies.get_mut(index) {
                    let (run, phase) = (window.run, Phase::Raising);
                    copy.at = Some(Window { run, phase });
                }
                Ok(Begun::Window)
            }
            Step::Wait => Ok(Begun::Nothing),
            Step::Done { skipped } => {
                if let Some(run) = skipped {
                    let line = self.log.skipped_clean(run.first, run.len);
                    self.tell(line);
                }
                self.try_to_finish(index)
            }
            Step::Failed => Err(Ended::CopyFailed),
        }
    }

    /// Makes durable what was copied: the users may have flushed it before it was copied, and count
    /// on that.
    fn flush(&self, index: usize) -> Result<(), Ended> {
        let Some(copy) = self.copies.get(index) else {
            return Ok(());
        };
        if !self.mirror.copy_flush(self.group, index, &copy.pages) {
            return Ok(());
        }
        let outcome = || self.mirror.copy_outcome(self.group, index);
        self.wait_for(|| outcome() != CopyOutcome::Going)?;
        match outcome() {
            CopyOutcome::Done => Ok(()),
            _ => Err(Ended::CopyFailed),
        }
    }

    /// With the barrier over the whole device raised: if the map is still empty, the group is in
    /// sync.
    fn try_to_finish(&mut self, index: usize) -> Result<Begun, Ended> {
        self.flush(index)?;
        let whole = Span::new(0, self.mirror.sectors());
        if let Some(window) = self.mirror.window(self.group, index) {
            window.raise(whole);
        }
        let mirror = self.mirror.clone();
        let clear = self.wait_for(|| mirror.is_clear(whole));
        let synced = clear.is_ok() && self.dirty() == 0 && mirror.synced(self.group).is_ok();
        self.lower(index);
        clear?;
        if synced {
            return Ok(Begun::Synced);
        }
        Ok(Begun::Window)
    }

    /// Sleeps until a window can go on, or the throttle may let another one begin.
    fn rest(&self, delay_ns: u64) {
        let ms = match u32::try_from(delay_ns.div_ceil(1_000_000)) {
            Ok(0) | Err(_) => TICK_MS,
            Ok(ms) => ms.min(TICK_MS),
        };
        // Whatever it was, the loop looks again.
        let _ = self.sleep(ms, || {
            self.check().is_err()
                || self.copies.iter().enumerate().any(|(index, copy)| {
                    copy.at.is_some_and(|window| match window.phase {
                        Phase::Raising => self.mirror.is_clear(self.span(window.run)),
                        _ => self.mirror.copy_outcome(self.group, index) != CopyOutcome::Going,
                    })
                })
        });
    }

    /// Lowers all barriers, and waits for the transfers that are on their way: their slots are used
    /// by the next resync.
    fn abandon(&mut self) {
        for index in 0..self.copies.len() {
            self.lower(index);
            let ended = || self.mirror.copy_outcome(self.group, index) != CopyOutcome::Going;
            // The channel's own time limit bounds this.
            while !ended() {
                let _ = self.sleep(TICK_MS, ended);
            }
        }
    }

    fn tell_progress(&self, cursor: &Cursor) {
        let (now, dirty) = (self.track.now_ns(), self.dirty());
        if let Some(progress) = &mut *self.track.progress.lock() {
            progress.update(now, cursor.pos(), self.copied, dirty);
        }
    }

    fn tell(&self, line: Option<Line>) {
        let letter = self.mirror.letter();
        match line {
            Some(Line::Marked { first, last }) => {
                pr_info!("[{letter}] nbd_resync saw marked blocks {first}-{last}\n");
            }
            Some(Line::Clean { first, last }) => {
                pr_info!("[{letter}] nbd_resync skipped clean blocks {first}-{last}\n");
            }
            None => {}
        }
    }

    fn tell_summary(&self) {
        let summary = self.log.summary();
        pr_info!(
            "[{}] nbd_resync of group {} by pid {} copied {} blocks ({} bytes) in {} ms, \
             {} marked runs, {} clean runs\n",
            self.mirror.letter(),
            self.group,
            current!().pid(),
            self.copied,
            self.copied.saturating_mul(self.mirror.block_sectors() << 9),
            self.track.now_ns() / 1_000_000,
            summary.marked.runs,
            summary.clean.runs
        );
    }
}

/// What came of the wish to begin a window.
enum Begun {
    Window,
    Nothing,
    Synced,
}
