// SPDX-License-Identifier: GPL-2.0

//! The groups of a device. What is decided about them, where requests go and what their answers
//! mean, is in `crate::logic::mirror`; here is what that stands on in the kernel.
//!
//! | file | what |
//! |---|---|
//! | [`world`] | what the decisions need of the kernel |
//! | [`driver`] | requests, as the block layer gives them |
//! | [`home`] | what channels report |
//! | [`group`] | one group: its table of transfers, its export, its map |
//! | [`bounce`] | the pages for the one copy of each write |
//! | [`map`] | the dirty map of a group |
//! | [`notebook`] | what is known of the metadata |
//!
//! Locks: `parked`, `postponing`, `kept`, `copies`, `promise` and `map` are spin locks, `memory` and
//! `export` of a group mutexes; all are leaves, but that the words of
//! [`Core`](crate::logic::mirror::Core) are looked at under the first three, and that requests are
//! given back to the block layer under the second.

mod attributes;
mod bounce;
mod driver;
mod group;
mod home;
mod map;
mod notebook;
mod world;

pub(crate) use bounce::{BouncePool, LARGEST};
pub(crate) use driver::Driver;
pub(crate) use group::Group;
pub(crate) use map::LeafPage;

use crate::channel::{Channel, Count};
use crate::kapi::block::mq::Shared;
use crate::logic::{
    barrier::Claim,
    command::Label,
    evidence::{self, Evidence},
    export::Promise,
    group::View,
    ids::{ChannelId, GroupId},
    meta::{
        layout::region_shift,
        marks::{words_for, Marks},
    },
    mirror::{Copies, Core, States, Trial, World, TAGS},
    resync::Users,
    tell::Changes,
    MAX_CHANNELS, MAX_GROUPS,
};
use crate::sync::Word;
use crate::tidings::Tidings;
use crate::wait::{Waiters, Woken};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            ordering::{Acquire, Release},
            Atomic,
        },
        new_mutex, new_spinlock, Arc, Mutex, SetOnce, SpinLock,
    },
    time::{Instant, Monotonic},
};
use notebook::Notebook;

/// What an administrator can set.
pub(crate) struct Settings {
    /// Seconds that a request may go unanswered, and a group be without channels.
    pub(crate) timeout: Atomic<u32>,
    /// Seconds for connecting and negotiating.
    pub(crate) connect_timeout: Atomic<u32>,
    /// Fail requests when every group is gone, instead of holding them.
    pub(crate) show_errs: Atomic<bool>,
    /// Bytes a block, the unit of the dirty map and of the status text.
    pub(crate) blocksize: Atomic<u32>,
    /// KiB/s that a resync gets at least, and at most; 0 for no bound.
    pub(crate) resync_min: Atomic<u32>,
    /// See `resync_min`.
    pub(crate) resync_max: Atomic<u32>,
    /// As [`Compare::to_bits`](crate::logic::resync::Compare::to_bits) says.
    pub(crate) compare: Atomic<u32>,
    /// Seconds between two beats; 0 for none.
    pub(crate) owner_check: Atomic<u32>,
    /// Whether a device with metadata keeps intent pages, when it is enabled.
    pub(crate) intent: Atomic<bool>,
    /// MiB that are marked at most; 0 for no bound.
    pub(crate) intent_max: Atomic<u32>,
    /// Seconds until an idle mark is taken back.
    pub(crate) intent_idle: Atomic<u32>,
}

/// How long after their last request, in milliseconds, users are expected to have another one.
const LATELY_MS: u64 = 50;

/// Regions that marks have room for at least: a larger device that has the same letter later has larger
/// ones.
const LEAST_REGIONS: u64 = 16384;

/// So many words that are zero.
fn words(count: usize) -> Result<KVVec<Word>> {
    let mut words = KVVec::with_capacity(count, GFP_KERNEL)?;
    for _ in 0..count {
        words.push(Word::new(0), GFP_KERNEL)?;
    }
    Ok(words)
}

/// How many requests there are.
#[derive(Default)]
pub(crate) struct Load {
    now: Count,
    max: Count,
    /// There was one since this was last asked.
    seen: Count,
    /// When there was one last, as far as was asked, in milliseconds.
    seen_ms: Count,
}

impl Load {
    /// Requests that the device has.
    pub(crate) fn now(&self) -> u64 {
        self.now.get()
    }

    /// The most that it had at once.
    pub(crate) fn max(&self) -> u64 {
        self.max.get()
    }

    /// What the users do. To be asked more often than every [`LATELY_MS`] milliseconds.
    pub(crate) fn users(&self, now_ms: u64) -> Users {
        if self.seen.get() > 0 {
            self.seen.set(0);
            self.seen_ms.set(now_ms);
        }
        if self.now() > 0 {
            Users::Busy
        } else if now_ms.saturating_sub(self.seen_ms.get()) < LATELY_MS {
            Users::Lately
        } else {
            Users::Quiet
        }
    }

    fn enter(&self) {
        self.seen.set(1);
        let now = self.now.increment();
        // Only for the status text: a maximum that is lost to a race is one too low for a moment.
        if now > self.max.get() {
            self.max.set(now);
        }
    }

    fn leave(&self) {
        self.now.sub(1);
    }
}

/// The groups of a device, their channels, and the requests on their way.
#[pin_data]
pub(crate) struct Mirror {
    letter: char,
    began: Instant<Monotonic>,
    core: Core,
    #[pin]
    groups: [Group; MAX_GROUPS],
    #[pin]
    channels: [Channel<Driver>; MAX_CHANNELS],
    claims: KVec<Claim>,
    /// Writes that wait for a window of a resync.
    #[pin]
    parked: SpinLock<KVec<Shared<Driver>>>,
    /// A write is being given back, since it overlaps another one.
    #[pin]
    postponing: SpinLock<()>,
    /// Requests that may not end before it is recorded that a group lacks them.
    #[pin]
    kept: SpinLock<KVec<Shared<Driver>>>,
    /// What is known of the metadata.
    #[pin]
    memory: Mutex<Notebook>,
    /// Where writes may be on their way; set once the device has metadata.
    marks: SetOnce<Marks<KVVec<Word>>>,
    #[pin]
    copies: SpinLock<Copies>,
    /// A write that is sent from group to group.
    #[pin]
    trial: SpinLock<Trial<Shared<Driver>>>,
    /// What is remembered of the content.
    evidence: Evidence<KVVec<Word>>,
    /// When a write was remembered last, in milliseconds.
    evidence_ms: Count,
    /// The copies of writes.
    #[pin]
    pub(crate) bounces: BouncePool,
    /// For programs that watch.
    pub(crate) tidings: Arc<Tidings>,
    /// What the keeper may have to tell of.
    pub(crate) changes: Changes,
    /// For whoever waits for a change of a group's or a channel's state.
    #[pin]
    pub(crate) waiters: Waiters,
    /// For resyncs, which wait for claims and copies too.
    #[pin]
    pub(crate) resync_waiters: Waiters,
    /// How programs and people call the device.
    #[pin]
    pub(crate) name: SpinLock<Option<Label>>,
    /// Nobody may open the disk any more.
    sealed: Atomic<bool>,
    /// What the enabled device has promised its users.
    #[pin]
    promise: SpinLock<Option<Promise>>,
    pub(crate) settings: Settings,
    pub(crate) load: Load,
    /// Bytes of transfers that wait for a channel.
    pub(crate) waiting: Count,
}

impl Mirror {
    /// A device `letter` without groups.
    pub(crate) fn new(letter: char, tidings: Arc<Tidings>) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            letter,
            began: Instant::now(),
            core: Core::default(),
            groups <- pin_init::pin_init_array_from_fn(|_| Group::new()),
            channels <- pin_init::pin_init_array_from_fn(Channel::new),
            claims: {
                let mut claims = KVec::with_capacity(TAGS as usize, GFP_KERNEL)?;
                for _ in 0..TAGS {
                    claims.push(Claim::default(), GFP_KERNEL)?;
                }
                claims
            },
            parked <- new_spinlock!(
                KVec::with_capacity(TAGS as usize, GFP_KERNEL)?,
                "enbd::Mirror::parked"
            ),
            postponing <- new_spinlock!((), "enbd::Mirror::postponing"),
            kept <- new_spinlock!(
                KVec::with_capacity(TAGS as usize * MAX_GROUPS, GFP_KERNEL)?,
                "enbd::Mirror::kept"
            ),
            memory <- new_mutex!(Notebook::new()?, "enbd::Mirror::memory"),
            marks: SetOnce::new(),
            copies <- new_spinlock!(Copies::default(), "enbd::Mirror::copies"),
            trial <- new_spinlock!(Trial::default(), "enbd::Mirror::trial"),
            evidence: Evidence::new(words(evidence::WORDS)?).ok_or(EINVAL)?,
            evidence_ms: Count::default(),
            bounces <- BouncePool::new(),
            tidings,
            changes: Changes::default(),
            waiters <- Waiters::new(),
            resync_waiters <- Waiters::new(),
            name <- new_spinlock!(None, "enbd::Mirror::name"),
            sealed: Atomic::new(false),
            promise <- new_spinlock!(None, "enbd::Mirror::promise"),
            settings: Settings {
                timeout: Atomic::new(30),
                connect_timeout: Atomic::new(10),
                show_errs: Atomic::new(false),
                blocksize: Atomic::new(4096),
                resync_min: Atomic::new(0),
                resync_max: Atomic::new(0),
                compare: Atomic::new(0),
                owner_check: Atomic::new(5),
                intent: Atomic::new(true),
                intent_max: Atomic::new(0),
                intent_idle: Atomic::new(30),
            },
            load: Load::default(),
            waiting: Count::default(),
        }? Error)
    }

    /// The letter of the device.
    pub(crate) fn letter(&self) -> char {
        self.letter
    }

    /// The states of the groups now.
    pub(crate) fn view(&self) -> View {
        self.core.view()
    }

    /// A group, be it absent.
    pub(crate) fn group(&self, group: GroupId) -> &Group {
        group.pick(&self.groups)
    }

    /// A channel, be it unused.
    pub(crate) fn channel(&self, channel: ChannelId) -> &Channel<Driver> {
        channel.pick(&self.channels)
    }

    /// How many whole blocks `sectors` sectors have.
    pub(crate) fn blocks_of(&self, sectors: u64) -> u64 {
        sectors.checked_div(World::block_sectors(self)).unwrap_or(0)
    }

    /// Whether `bytes` bytes are whole blocks.
    pub(crate) fn is_whole_blocks(&self, bytes: u64) -> bool {
        bytes.checked_rem(self.block_sectors() << 9) == Some(0)
    }

    /// Nanoseconds since the device was made.
    pub(crate) fn age_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(0)
    }

    /// Bytes of the largest request that all groups take.
    pub(crate) fn promised_bytes(&self) -> u64 {
        let promise = *self.promise.lock();
        promise.map_or(4096, |p| u64::from(p.max_bytes))
    }

    /// Tells the size of the device that is being enabled, and what it promises; 0 when it is
    /// disabled.
    pub(crate) fn set_size(&self, sectors: u64, promise: Option<Promise>) {
        *self.promise.lock() = promise;
        self.set_sectors(sectors);
    }

    /// Forgets all marks, for a device of `bytes` bytes that is about to be enabled.
    pub(crate) fn prepare_marks(&self, bytes: u64) -> Result {
        let shift = region_shift(bytes);
        if self.marks.as_ref().is_none() {
            let regions = (bytes >> shift).saturating_add(1);
            // Commands for one device come one at a time, so nobody else populates this now.
            self.marks
                .populate(Marks::new(words(words_for(regions.max(LEAST_REGIONS)))?));
        }
        if let Some(marks) = self.marks.as_ref() {
            marks.prepare(bytes, shift);
        }
        Ok(())
    }

    /// Keeps the marks of the device, which is about to be enabled again, with the same size.
    pub(crate) fn keep_marks(&self, bytes: u64) -> Result {
        match self.marks.as_ref() {
            Some(marks) => marks.keep(),
            None => self.prepare_marks(bytes)?,
        }
        Ok(())
    }

    /// Drops a group's map and export, after the group was dropped.
    pub(crate) fn forget(&self, group: GroupId) {
        let g = self.group(group);
        g.map.remove();
        *g.export.lock() = None;
    }

    /// Lets nobody open the disk any more, or lets them again.
    pub(crate) fn seal(&self, sealed: bool) {
        self.sealed.store(sealed, Release);
    }

    fn is_sealed(&self) -> bool {
        self.sealed.load(Acquire)
    }

    /// Waits until `holds`, at most `ms` milliseconds.
    pub(crate) fn wait(&self, ms: u32, holds: impl FnMut() -> bool) -> Woken {
        self.waiters.wait(Some(ms), holds)
    }
}
