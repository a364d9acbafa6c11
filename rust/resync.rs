// SPDX-License-Identifier: GPL-2.0

//! The resync thread of a returning group. What it does is in `crate::logic::resync`; here is what
//! that stands on in the kernel.
//!
//! Locks: `Track::progress` is a spin lock and a leaf.

use crate::kapi::{
    iovec::{Buffer, Pages},
    kthread::{KThread, Main},
    scope::noio,
};
use crate::logic::{
    bitmap::Run,
    ids::GroupId,
    mirror::{World, COPIES_EACH},
    resync::{
        walk, Bounds, Compare, Ended, Line, Overseer, Progress, Site, Users, Walked, WINDOW_BYTES,
    },
};
use crate::mirror::{Driver, LeafPage, Mirror};
use crate::tidings::Tidings;
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
};

/// What others see of a resync.
#[pin_data]
pub(crate) struct Track {
    #[pin]
    progress: SpinLock<Option<Progress>>,
    stop: Atomic<bool>,
    ended: Atomic<bool>,
}

impl Track {
    /// Position, last position and seconds left at `now_ns`; nothing before the walk begins and
    /// after the end.
    pub(crate) fn progress(&self, now_ns: u64) -> Option<(u64, u64, u64)> {
        if self.has_ended() {
            return None;
        }
        let progress = self.progress.lock();
        progress
            .as_ref()
            .map(|p| (p.pos(), p.max(), p.finish_secs(now_ns).unwrap_or(0)))
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
    thread: Option<KThread<Errand>>,
}

impl Resync {
    /// Starts to bring `group` back, which became resyncing with `epoch`. Only where that `is_news` the
    /// log has more of it than its result.
    pub(crate) fn start(
        mirror: Arc<Mirror>,
        group: GroupId,
        epoch: u32,
        is_news: bool,
    ) -> Result<Self> {
        let track = Arc::pin_init(
            pin_init!(Track {
                progress <- new_spinlock!(None, "enbd::Track::progress"),
                stop: Atomic::new(false),
                ended: Atomic::new(false),
            }),
            GFP_KERNEL,
        )?;
        let bytes = WINDOW_BYTES.max(mirror.settings.blocksize.load(Relaxed) as usize);
        let mut pages = KVec::with_capacity(COPIES_EACH, GFP_KERNEL)?;
        for _ in 0..COPIES_EACH {
            pages.push(
                Arc::new(Pages::new(bytes, GFP_KERNEL)?, GFP_KERNEL)?,
                GFP_KERNEL,
            )?;
        }
        let errand = Errand {
            mirror: mirror.clone(),
            track: track.clone(),
            group,
            epoch,
            pages,
            is_news,
        };
        let (letter, number) = (mirror.letter(), group.index());
        let name = CString::try_from_fmt(fmt!("enbd-{letter}-sync{number}"))?;
        // What comes back while others work is done in one go.
        let thread = KThread::spawn_batch(&name, errand)?;
        if is_news {
            pr_info!(
                "[{letter}] nbd_hotadd launched resync thread with pid {} for group {number}\n",
                thread.pid()
            );
        }
        Ok(Self {
            track,
            mirror,
            thread: Some(thread),
        })
    }

    /// Tells it to end, without waiting for that.
    pub(crate) fn stop(&self) {
        self.track.stop.store(true, Release);
        self.mirror.wake_resyncs();
    }

    /// What others see of it.
    pub(crate) fn track(&self) -> &Arc<Track> {
        &self.track
    }
}

impl Drop for Resync {
    fn drop(&mut self) {
        self.stop();
        drop(self.thread.take());
    }
}

/// What the thread is given.
struct Errand {
    mirror: Arc<Mirror>,
    track: Arc<Track>,
    group: GroupId,
    epoch: u32,
    pages: KVec<Arc<Pages>>,
    is_news: bool,
}

impl Main for Errand {
    fn main(self) {
        // Memory that we wait for must not wait for us.
        noio(|| self.resync());
    }
}

impl Errand {
    fn resync(self) {
        let Self {
            mirror,
            track,
            group,
            epoch,
            mut pages,
            is_news,
        } = self;
        let began = mirror.now_ns();
        let mut watch = Watch {
            letter: mirror.letter(),
            track: &track,
            tidings: &mirror.tidings,
            is_news,
        };
        let walked = walk(&*mirror, &mut watch, group, epoch, &mut pages);
        if is_news || walked.result.is_ok() {
            tell_copied(&mirror, group, began, &walked);
        }
        tell_end(&mirror, group, &walked);
        track.ended.store(true, Release);
        mirror.wake_resyncs();
        mirror.changed();
    }
}

fn tell_copied(mirror: &Mirror, group: GroupId, began_ns: u64, walked: &Walked) {
    let (letter, number) = (mirror.letter(), group.index());
    pr_info!(
        "[{letter}] nbd_resync of group {number} by pid {} copied {} blocks ({} bytes) in {} ms, \
         {} marked runs, {} clean runs, {} clean blocks compared\n",
        current!().pid(),
        walked.copied,
        walked.copied.saturating_mul(mirror.block_sectors() << 9),
        mirror.now_ns().saturating_sub(began_ns) / 1_000_000,
        walked.runs.marked.runs,
        walked.runs.clean.runs,
        walked.compared
    );
    if let Some(same) = walked.same {
        pr_info!(
            "[{letter}] nbd_resync of group {number} compared before it wrote: {same} blocks were equal\n"
        );
    }
}

fn tell_end(mirror: &Mirror, group: GroupId, walked: &Walked) {
    let (letter, number) = (mirror.letter(), group.index());
    match walked.result {
        Ok(()) => {
            mirror.group(group).map.tell_removed(letter);
            pr_info!("[{letter}] group {number} is in sync\n");
        }
        Err(Ended::CopyFailed) => {
            pr_info!("[{letter}] nbd_resync of group {number} failed, its blocks stay marked\n");
        }
        Err(Ended::Unreadable(blocks)) => pr_warn!(
            "[{letter}] group {number} is in sync but for {blocks} blocks that no group in sync can read: \
             write them anew, and 'hotadd[{letter}]={number}' again\n"
        ),
        Err(Ended::Differs) => pr_warn!(
            "[{letter}] nbd_resync of group {number} refused: blocks that it did not miss are not \
             the mirror's; if it is the right server, 'hotadd[{letter}]={number} full' copies all\n"
        ),
        Err(Ended::Stopped | Ended::GroupLeft) => {
            pr_info!("[{letter}] nbd_resync of group {number} ended early\n");
        }
    }
}

struct Watch<'a> {
    letter: char,
    track: &'a Track,
    tidings: &'a Tidings,
    is_news: bool,
}

impl Overseer for Watch<'_> {
    fn is_stopped(&self) -> bool {
        self.track.stop.load(Acquire)
    }

    fn begins(&mut self, now_ns: u64, blocks: u64, dirty: u64) {
        *self.track.progress.lock() = Some(Progress::new(now_ns, blocks, dirty));
        // Its line is there now.
        self.tidings.tell();
    }

    fn came_to(&mut self, now_ns: u64, pos: u64, copied: u64, dirty: u64) {
        if let Some(progress) = &mut *self.track.progress.lock() {
            progress.update(now_ns, pos, copied, dirty);
        }
    }

    fn tell(&mut self, line: Line) {
        let letter = self.letter;
        match line {
            Line::Marked { .. } | Line::Clean { .. } if !self.is_news => {}
            Line::Marked { first, last } => {
                pr_info!("[{letter}] nbd_resync saw marked blocks {first}-{last}\n");
            }
            Line::Unreadable { first, last } => pr_warn!(
                "[{letter}] nbd_resync cannot read blocks {first}-{last} in any group in sync\n"
            ),
            Line::Clean { first, last } => {
                pr_info!("[{letter}] nbd_resync skipped clean blocks {first}-{last}\n");
            }
        }
    }
}

impl Site for Mirror {
    type Pages = Arc<Pages>;
    type Spare = Option<LeafPage>;

    fn buffer(&self, pages: &Arc<Pages>) -> Buffer<Driver> {
        Buffer::Pages(pages.clone())
    }

    fn renew(&self, pages: &mut Arc<Pages>, may_wait: bool) -> bool {
        if pages.reclaim() {
            return true;
        }
        // The network has not seen yet that all has arrived, or the connection hangs.
        let flags = if may_wait { GFP_KERNEL } else { GFP_NOWAIT };
        let fresh = Pages::new(pages.size(), flags).and_then(|new| Ok(Arc::new(new, flags)?));
        fresh.map(|fresh| *pages = fresh).is_ok()
    }

    fn is_same(&self, a: &Arc<Pages>, b: &Arc<Pages>, len: usize) -> bool {
        a.is_same(b, len)
    }

    fn is_zeroes(&self, pages: &Arc<Pages>, len: usize) -> bool {
        pages.is_zeroes(len)
    }

    fn now_ns(&self) -> u64 {
        self.age_ns()
    }

    fn wait_resync(&self, ms: u32, holds: impl FnMut() -> bool) -> bool {
        self.resync_waiters.wait(Some(ms), holds) == Woken::Holds
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            min: u64::from(self.settings.resync_min.load(Relaxed)),
            max: u64::from(self.settings.resync_max.load(Relaxed)),
        }
    }

    fn compare(&self) -> Compare {
        Compare::from_bits(self.settings.compare.load(Relaxed))
    }

    fn users(&self) -> Users {
        self.load.users(self.now_ms())
    }

    fn max_bytes(&self) -> u64 {
        self.promised_bytes()
    }

    fn dirty(&self, group: GroupId) -> u64 {
        self.group(group).map.dirty()
    }

    fn next_dirty(&self, group: GroupId, from: u64, max: u64) -> Option<Run> {
        self.group(group).map.next_dirty(from, max)
    }

    fn clear_blocks(&self, group: GroupId, run: Run, still: impl FnOnce() -> bool) {
        self.group(group).map.clear(run, still);
    }

    fn refill(&self, spare: &mut Option<LeafPage>, may_wait: bool) -> bool {
        if spare.is_none() {
            *spare = LeafPage::new(if may_wait { GFP_KERNEL } else { GFP_NOWAIT });
        }
        spare.is_some()
    }

    fn refine(&self, group: GroupId, block: u64, spare: &mut Option<LeafPage>) -> bool {
        self.group(group).map.refine(block, spare).is_ok()
    }
}
