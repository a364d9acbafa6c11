// SPDX-License-Identifier: GPL-2.0

//! One mirror group.

use super::{map::GroupMap, Driver, Mirror};
use crate::channel::{Channel, Count, Table};
use crate::logic::{
    channel::DownReason,
    group::GroupSet,
    unflushed::{Unflushed, WORDS},
    wire::handshake::Export,
};
use crate::sync::Word;
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            ordering::{Acquire, Full, Relaxed, Release},
            Atomic,
        },
        new_mutex, Mutex, SetOnce,
    },
    time::{Instant, Monotonic},
};

/// Why a group is faulty.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum GroupFault {
    /// The administrator said so.
    Admin,
    /// It joined a device that was enabled already.
    Joined,
    /// It refused a write or a flush, with this errno.
    Refused(i32),
    /// A channel was lost with writes that the server may still carry out.
    WriteLost,
    /// It was without a channel for too long.
    NoChannel,
    /// Its resync failed.
    Resync,
    /// Its server was lost with writes that may not have been durable.
    CacheLost,
}

impl GroupFault {
    /// Whether enbd brings the group back by itself once it can.
    pub(crate) fn is_own(self) -> bool {
        !matches!(self, Self::Admin | Self::Joined)
    }

    /// A short phrase for the status and the log.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "set faulty by the administrator",
            Self::Joined => "joined an enabled device, all blocks marked",
            Self::Refused(28) => "the server refused a write: no space",
            Self::Refused(1) => "the server refused a write: not permitted",
            Self::Refused(_) => "the server refused a write",
            Self::WriteLost => "a channel was lost with unanswered writes",
            Self::NoChannel => "no channel was up for the timeout",
            Self::Resync => "the resync failed",
            Self::CacheLost => "the server was lost with writes that it had not flushed",
        }
    }
}

/// What is known of a group, apart from its state.
pub(crate) struct Info {
    /// What its server offers; set while it has channels.
    pub(crate) export: Option<Export>,
    /// Why it is, or was last, faulty.
    pub(crate) fault: Option<GroupFault>,
    /// Since when, and for how many milliseconds, the server may still carry out writes of a
    /// channel that was removed.
    pub(crate) suspect_for: Option<(Instant<Monotonic>, u32)>,
    /// Since when no channel is up.
    pub(crate) down_since: Option<Instant<Monotonic>>,
}

/// One mirror group. A device has a fixed number of them, most of them absent.
#[pin_data]
pub(crate) struct Group {
    table: SetOnce<Table<Driver>>,
    /// The channels that carry requests, one bit each.
    up: Atomic<u32>,
    /// One channel works and the others stand by: the server does not promise that a flush on one
    /// covers all.
    single: Atomic<bool>,
    /// The channel that works then.
    working: Atomic<u32>,
    /// Protects what control and channels know of the group.
    #[pin]
    pub(crate) info: Mutex<Info>,
    /// Refused requests since it joined.
    refused: Count,
    /// Channels whose server may still carry out writes that were given back.
    suspects: Atomic<u32>,
    /// The server was lost, and what it had not made durable is not marked yet.
    lost: Atomic<bool>,
    /// Raised when a channel is lost in a way that a crash of the server's host could look like.
    doubt: Atomic<u32>,
    /// The doubt that was last dispelled, or acted upon.
    settled_doubt: Atomic<u32>,
    /// What the server has acknowledged and may not have made durable.
    unflushed: SetOnce<Unflushed<KVVec<Word>>>,
    /// What it misses.
    #[pin]
    pub(crate) map: GroupMap,
}

impl Group {
    pub(super) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            table: SetOnce::new(),
            up: Atomic::new(0),
            single: Atomic::new(false),
            working: Atomic::new(0),
            info <- new_mutex!(Info {
                export: None,
                fault: None,
                suspect_for: None,
                down_since: None,
            }, "enbd::Group::info"),
            refused: Count::default(),
            suspects: Atomic::new(0),
            lost: Atomic::new(false),
            doubt: Atomic::new(0),
            settled_doubt: Atomic::new(0),
            unflushed: SetOnce::new(),
            map <- GroupMap::new(),
        })
    }

    /// The group's transfers; nothing while it never had a channel.
    pub(crate) fn table(&self) -> Option<&Table<Driver>> {
        self.table.as_ref()
    }

    /// Makes what the group needs while it has channels, if it is not there yet.
    pub(crate) fn prepare(&self) -> Result {
        // Commands for one device come one at a time, so nobody else populates these now.
        if self.unflushed.as_ref().is_none() {
            let mut words = KVVec::with_capacity(WORDS, GFP_KERNEL)?;
            for _ in 0..WORDS {
                words.push(Word::new(0), GFP_KERNEL)?;
            }
            self.unflushed
                .populate(Unflushed::new(words).ok_or(EINVAL)?);
        }
        if self.table.as_ref().is_none() {
            self.table.populate(Table::new()?);
        }
        Ok(())
    }

    /// What the server has acknowledged and may not have made durable.
    pub(super) fn unflushed(&self) -> Option<&Unflushed<KVVec<Word>>> {
        self.unflushed.as_ref()
    }

    /// The server is lost for sure.
    pub(super) fn set_lost(&self) {
        self.lost.store(true, Release);
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Acquire)
    }

    /// Whether the server was lost since this was last asked.
    pub(super) fn take_lost(&self) -> bool {
        self.lost.load(Acquire) && self.lost.xchg(false, Full)
    }

    pub(super) fn doubt(&self) -> u32 {
        self.doubt.load(Relaxed)
    }

    pub(super) fn raise_doubt(&self) {
        self.doubt.fetch_add(1, Full);
    }

    pub(super) fn settle_doubt(&self, doubt: u32) {
        self.settled_doubt.store(doubt, Release);
    }

    pub(super) fn is_doubted(&self) -> bool {
        self.doubt.load(Acquire) != self.settled_doubt.load(Acquire)
    }

    /// Whether the server may still carry out writes that were given back.
    pub(crate) fn is_suspect(&self) -> bool {
        let later = self.info.lock().suspect_for;
        self.suspects.load(Acquire) != 0
            || later.is_some_and(|(since, ms)| since.elapsed().as_millis() < i64::from(ms))
    }

    pub(super) fn suspect(&self, suspect: bool) {
        if suspect {
            self.suspects.fetch_add(1, Full);
        } else {
            self.suspects.fetch_sub(1, Full);
        }
    }

    /// The channels that carry requests.
    pub(crate) fn up(&self) -> u32 {
        self.up.load(Acquire)
    }

    pub(super) fn add_up(&self, channel: u8) {
        self.change_up(|up| up | bit(channel));
    }

    pub(super) fn remove_up(&self, channel: u8) -> u32 {
        self.change_up(|up| up & !bit(channel))
    }

    fn change_up(&self, f: impl Fn(u32) -> u32) -> u32 {
        let mut old = self.up.load(Relaxed);
        loop {
            // Full: who parks a transfer looks at `up` afterwards, who changes `up` looks for
            // parked ones afterwards.
            match self.up.cmpxchg(old, f(old), Full) {
                Ok(_) => return f(old),
                Err(now) => old = now,
            }
        }
    }

    /// Counts a refused request; whether this one is to be told, which get rarer the more there
    /// are.
    pub(super) fn count_refused(&self) -> bool {
        self.refused.increment().is_power_of_two()
    }

    pub(super) fn is_single(&self) -> bool {
        self.single.load(Relaxed)
    }

    /// The channel that works while the others stand by: the one that did, as long as it is up.
    fn working(&self, up: u32) -> usize {
        let working = self.working.load(Relaxed);
        if up & bit(working as u8) != 0 {
            return working as usize;
        }
        let next = up.trailing_zeros();
        self.working.store(next, Relaxed);
        next as usize
    }

    pub(super) fn set_single(&self, single: bool) {
        self.single.store(single, Relaxed);
    }

    /// Whether the server keeps writes in a cache that cannot be flushed.
    pub(crate) fn is_volatile(&self) -> bool {
        let export = self.info.lock().export;
        export.is_some_and(|e| !e.flags.flush() && !e.flags.read_only())
    }
}

fn bit(channel: u8) -> u32 {
    1u32.checked_shl(u32::from(channel)).unwrap_or(0)
}

/// What an enabled device has promised its users, so that a server that joins later has to have it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Promise {
    /// FLUSH makes writes durable.
    pub(crate) flush: bool,
    /// Writes can be made durable one by one.
    pub(crate) fua: bool,
    /// There is a command to write zeroes.
    pub(crate) zeroes: bool,
    /// The disk can be written.
    pub(crate) write: bool,
    /// Bytes of the smallest request.
    pub(crate) block: u32,
    /// Bytes of the largest request.
    pub(crate) max_bytes: u32,
}

impl Promise {
    fn is_kept_by(&self, export: &Export) -> bool {
        let flags = export.flags;
        (flags.flush() || !self.flush)
            && (flags.fua() || !self.fua)
            && (flags.write_zeroes() || !self.zeroes)
            && (!flags.read_only() || !self.write)
            && export.block.min <= self.block
            && export.block.max_payload >= self.max_bytes
    }
}

impl Mirror {
    /// The channel of `group` for the next transfer: the one with the fewest bytes on it, and
    /// among equals each in turn.
    pub(super) fn pick_channel(&self, group: usize) -> Option<&Channel<Driver>> {
        let g = self.groups.get(group)?;
        let up = g.up();
        if up == 0 {
            return None;
        }
        if up.is_power_of_two() {
            return self.channels.get(up.trailing_zeros() as usize);
        }
        if g.is_single() {
            return self.channels.get(g.working(up));
        }
        let count = up.count_ones();
        let first = self.next_turn() % count;
        let mut best: Option<((u64, u32), &Channel<Driver>)> = None;
        let mut left = up;
        for at in 0..count {
            let channel = self.channels.get(left.trailing_zeros() as usize)?;
            left &= left.wrapping_sub(1);
            let key = (channel.load(), (at + count - first) % count);
            if best.is_none_or(|(least, _)| key < least) {
                best = Some((key, channel));
            }
        }
        best.map(|(_, channel)| channel)
    }

    /// The group whose next channel has the fewest bytes on it, and among equals each in turn;
    /// nothing if none has a channel.
    pub(super) fn least_loaded(&self, groups: GroupSet) -> Option<usize> {
        if groups.len() == 1 {
            let only = groups.iter().next()?;
            return (self.groups.get(only)?.up() != 0).then_some(only);
        }
        let count = groups.len().max(1);
        let first = self.next_turn() % count;
        groups
            .iter()
            .zip(0..count)
            .filter_map(|(g, at)| {
                let load = self.pick_channel(g)?.load();
                Some(((load, (at + count - first) % count), g))
            })
            .min()
            .map(|(_, g)| g)
    }

    /// Whether a group may have a channel to `export`.
    pub(super) fn admit_export(&self, group: usize, export: &Export) -> Result<(), DownReason> {
        let g = self.groups.get(group).ok_or(DownReason::Removed)?;
        if !self.is_whole_blocks(export.size) {
            return Err(DownReason::OddSize);
        }
        // What was there once must not be cut off, be the device enabled or not.
        if export.size >> 9 < self.last_sectors() {
            return Err(DownReason::TooSmall);
        }
        if self.sectors() > 0 {
            let promise = *self.promise.lock();
            if promise.is_some_and(|p| !p.is_kept_by(export)) {
                return Err(DownReason::LacksFeature);
            }
        }
        let mut info = g.info.lock();
        match &info.export {
            Some(known) if known != export => return Err(DownReason::OtherExport),
            Some(_) => {}
            None => info.export = Some(*export),
        }
        drop(info);
        // A read-only export has nothing to flush.
        let single = !export.flags.can_multi_conn() && !export.flags.read_only();
        g.set_single(single);
        Ok(())
    }
}
