// SPDX-License-Identifier: GPL-2.0

//! The groups of a device: where requests go, what their answers mean, and what a group misses.
//!
//! | file | what |
//! |---|---|
//! | [`request`] | a request's way to the groups and back |
//! | [`group`] | one group: its table of transfers, its channels, its map |
//! | [`state`] | changes of a group's state, and the waiting for what saw the old one |
//! | [`home`] | what channels report |
//! | [`copy`] | the transfers of a resync |
//! | [`map`] | the dirty map of a group |
//!
//! The states of all groups are one word, [`View`]; a request takes one look at it. How writes,
//! state changes and resyncs keep out of each other's way is said in `crate::logic::barrier`.
//!
//! A transfer that finds no channel up waits in the table of its group, and goes on when a channel
//! comes up, or comes back when the group is faulted. So a request is held where it would be
//! served.
//!
//! Lock order: `exports` of a group > everything of the channel room; `parked`, `map` and slots are
//! leaves.

mod copy;
mod group;
mod home;
mod map;
mod request;
mod state;

pub(crate) use copy::{CopyOutcome, COPIES_EACH};
pub(crate) use group::{Group, GroupFault, Promise};
pub(crate) use map::LeafPage;
pub(crate) use request::Driver;

use crate::channel::{Channel, Count};
use crate::kapi::block::mq::Shared;
use crate::logic::{
    barrier::{Claim, Window},
    group::View,
    unflushed::REGIONS,
    MAX_CHANNELS, MAX_GROUPS,
};
use crate::sync::Word;
use crate::wait::{Waiters, Woken};
use copy::Copies;
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            ordering::{Acquire, Full, Relaxed, Release},
            Atomic,
        },
        new_spinlock, SpinLock,
    },
};

/// Requests that a device can have at once.
pub(crate) const TAGS: u32 = 256;

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
}

/// How many requests there are.
#[derive(Default)]
pub(crate) struct Load {
    now: Count,
    max: Count,
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

    fn enter(&self) {
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
    view: Word,
    #[pin]
    groups: [Group; MAX_GROUPS],
    #[pin]
    channels: [Channel<Driver>; MAX_CHANNELS],
    claims: KVec<Claim>,
    windows: [[Window; COPIES_EACH]; MAX_GROUPS],
    #[pin]
    parked: SpinLock<KVec<Shared<Driver>>>,
    #[pin]
    copies: Copies,
    /// For whoever waits for a change of a group's or a channel's state.
    #[pin]
    pub(crate) waiters: Waiters,
    /// For resyncs, which wait for claims and copies too.
    #[pin]
    pub(crate) resync_waiters: Waiters,
    /// Resyncs that wait for claims of any range.
    settling: Atomic<u32>,
    /// Requests fail instead of waiting for a group: the device is being enabled or taken away.
    failing: Atomic<bool>,
    /// Nobody may open the disk any more.
    sealed: Atomic<bool>,
    /// Sectors of the enabled device; 0 while it is not.
    sectors: Atomic<u64>,
    /// Sectors of the device when it was last enabled.
    last_sectors: Atomic<u64>,
    /// What the enabled device has promised its users.
    #[pin]
    promise: SpinLock<Option<Promise>>,
    /// Channels that have transfers to send for requests that were not the last of their batch.
    unkicked: Atomic<u32>,
    last_active: Atomic<u32>,
    /// Moves on with each choice, so that what is equally good is taken in turn.
    turn: Atomic<u32>,
    pub(crate) settings: Settings,
    pub(crate) load: Load,
    /// Bytes of transfers that wait for a channel.
    pub(crate) waiting: Count,
}

impl Mirror {
    /// A device `letter` without groups.
    pub(crate) fn new(letter: char) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            letter,
            view: Word::new(0),
            groups <- pin_init::pin_init_array_from_fn(|_| Group::new()),
            channels <- pin_init::pin_init_array_from_fn(|i| Channel::new(i as u8)),
            claims: {
                let mut claims = KVec::with_capacity(TAGS as usize, GFP_KERNEL)?;
                for _ in 0..TAGS {
                    claims.push(Claim::default(), GFP_KERNEL)?;
                }
                claims
            },
            windows: core::array::from_fn(|_| core::array::from_fn(|_| Window::default())),
            parked <- new_spinlock!(
                KVec::with_capacity(TAGS as usize, GFP_KERNEL)?,
                "enbd::Mirror::parked"
            ),
            copies <- Copies::new(),
            waiters <- Waiters::new(),
            resync_waiters <- Waiters::new(),
            settling: Atomic::new(0),
            failing: Atomic::new(false),
            sealed: Atomic::new(false),
            sectors: Atomic::new(0),
            last_sectors: Atomic::new(0),
            promise <- new_spinlock!(None, "enbd::Mirror::promise"),
            unkicked: Atomic::new(0),
            last_active: Atomic::new(0),
            turn: Atomic::new(0),
            settings: Settings {
                timeout: Atomic::new(30),
                connect_timeout: Atomic::new(10),
                show_errs: Atomic::new(false),
                blocksize: Atomic::new(4096),
                resync_min: Atomic::new(0),
                resync_max: Atomic::new(0),
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
        View::from_bits(self.view.load())
    }

    /// Group number `group`.
    pub(crate) fn group(&self, group: usize) -> Option<&Group> {
        self.groups.get(group)
    }

    /// All channels, used or not.
    pub(crate) fn channels(&self) -> &[Channel<Driver>] {
        &self.channels
    }

    /// The channel that was the last to be active.
    pub(crate) fn last_active(&self) -> u32 {
        self.last_active.load(Relaxed)
    }

    /// Sectors of 512 bytes in a block.
    pub(crate) fn block_sectors(&self) -> u64 {
        u64::from(self.settings.blocksize.load(Relaxed) >> 9).max(1)
    }

    /// How many whole blocks `sectors` sectors have.
    pub(crate) fn blocks_of(&self, sectors: u64) -> u64 {
        sectors.checked_div(self.block_sectors()).unwrap_or(0)
    }

    /// Whether `bytes` bytes are whole blocks.
    pub(crate) fn is_whole_blocks(&self, bytes: u64) -> bool {
        bytes.checked_rem(self.block_sectors() << 9) == Some(0)
    }

    /// Sectors of the enabled device; 0 while it is not enabled.
    pub(crate) fn sectors(&self) -> u64 {
        self.sectors.load(Acquire)
    }

    /// Sectors of the device when it was last enabled; 0 if it never was.
    pub(crate) fn last_sectors(&self) -> u64 {
        self.last_sectors.load(Acquire)
    }

    /// Bytes of the largest request that all groups take.
    pub(crate) fn max_bytes(&self) -> u64 {
        let promise = *self.promise.lock();
        promise.map_or(4096, |p| u64::from(p.max_bytes))
    }

    /// Tells the size of the device that is being enabled, and what it promises; 0 when it is
    /// disabled.
    pub(crate) fn set_sectors(&self, sectors: u64, promise: Option<Promise>) {
        *self.promise.lock() = promise;
        self.sectors.store(sectors, Release);
        if sectors == 0 || self.last_sectors.xchg(sectors, Full) == sectors {
            return;
        }
        // What was noted before was in regions of another size.
        for unflushed in self.groups.iter().filter_map(Group::unflushed) {
            let mut noted = false;
            unflushed.lose(|_, _| noted = true);
            if noted {
                unflushed.note(0, REGIONS);
            }
        }
    }

    /// Lets requests that cannot be served fail (or wait again), and looks after those that wait.
    pub(crate) fn set_failing(&self, failing: bool) {
        // Full: who lets a transfer wait looks at this afterwards.
        self.failing.xchg(failing, Full);
        if failing {
            self.fail_waiting();
        }
    }

    fn is_failing(&self) -> bool {
        self.failing.load(Acquire)
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

    fn change_view(
        &self,
        change: impl Fn(View) -> Result<View, crate::logic::group::Refusal>,
    ) -> Result<View, crate::logic::group::Refusal> {
        let mut old = self.view.load();
        loop {
            let new = change(View::from_bits(old))?;
            match self.view.compare_exchange(old, new.bits()) {
                Ok(_) => {
                    self.waiters.wake_all();
                    self.resync_waiters.wake_all();
                    return Ok(new);
                }
                Err(now) => old = now,
            }
        }
    }

    /// A number that is another one each time, with no pattern that choices of two or four could
    /// fall into.
    fn next_turn(&self) -> u32 {
        let turn = self.turn.load(Relaxed);
        let next = turn.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Two that come at once may take the same turn: no harm.
        self.turn.store(next, Relaxed);
        next >> 16
    }

    fn full_barrier(&self) {
        // A read-modify-write that changes nothing.
        self.last_active.fetch_add(0, Full);
    }
}
