// SPDX-License-Identifier: GPL-2.0

//! The disk that users see: `enable`, `blocksize`.

use super::{clock, companion::Companion, keeper, memory, scout, Control, Device, Failure};
use crate::kapi::{
    block::mq::{GenDisk, Limits, TagSet},
    kthread::{KThread, Main},
};
use crate::logic::{
    barrier::MAX_SECTORS,
    export::Promise,
    group::GroupState,
    ids::GroupId,
    meta::Ask,
    mirror::{Decides, Memories, Route, States, World, TAGS},
    wire::handshake::Export,
};
use crate::mirror::{Driver, Mirror, LARGEST};
use kernel::{
    prelude::*,
    str::CString,
    sync::{atomic::ordering::Relaxed, new_mutex, Arc, Mutex},
};

/// The largest request to write zeroes or to discard, in bytes. Many servers have to write them, and
/// a request of many of these is sent all at once, so that the first answer comes when nearly all are
/// written.
const MAX_ZEROES: u32 = 32 << 20;
/// The most blocks of a device: the dirty map of a group takes 16 bytes of memory for each 32768 of
/// them, 32 MiB, whatever size a server claims to have.
const MAX_BLOCKS: u64 = 1 << 36;
/// The block layer wants to be able to send a page.
const MIN_REQUEST: u64 = 4096;
/// The most pieces of memory in one request.
const MAX_SEGMENTS: u16 = 2048;

/// What the exports of all groups have in common.
struct Common {
    limits: Limits,
    promise: Promise,
}

impl Device {
    /// What a device over the groups that exist would be.
    fn common(&self) -> Result<Common, Failure> {
        let mut all: Option<Common> = None;
        for group in GroupId::all() {
            let export = *self.mirror.group(group).export.lock();
            let Some(export) = export else { continue };
            if self.mirror.view().state(group) == GroupState::Absent {
                continue;
            }
            let one = Common::of(&export);
            all = Some(match all {
                None => one,
                Some(other) => other.stack(one),
            });
        }
        let mut common = all.ok_or(Failure::new(ENOTCONN, "the device has no group"))?;
        self.fit_to_blocks(&mut common)?;
        Ok(common)
    }

    /// Cuts the size to whole blocks, and looks whether servers and block size go together.
    fn fit_to_blocks(&self, common: &mut Common) -> Result<(), Failure> {
        let block = self.mirror.block_sectors() << 9;
        let limits = &mut common.limits;
        common.promise.bytes = self
            .mirror
            .blocks_of(common.promise.bytes >> 9)
            .saturating_mul(block);
        let refusal = if common.promise.bytes == 0 {
            Some((EINVAL, "the device would be smaller than a block"))
        } else if common.promise.bytes >> 9 >= MAX_SECTORS {
            Some((EFBIG, "the device would be too large"))
        } else if common.promise.bytes / block > MAX_BLOCKS {
            Some((EFBIG, "the device would have more than 2^36 blocks"))
        } else if u64::from(limits.logical_block) > block {
            Some((EINVAL, "a server needs larger blocks than the block size"))
        } else if u64::from(limits.max_bytes) < block.max(MIN_REQUEST) {
            Some((
                EINVAL,
                "a server takes no request as large as a block or a page",
            ))
        } else {
            None
        };
        if let Some((error, reason)) = refusal {
            return Err(Failure::new(error, reason));
        }
        // What the administrator counts in is what writers should write in.
        let unit = u32::try_from(block).unwrap_or(limits.physical_block);
        limits.physical_block = limits.physical_block.min(unit).max(limits.logical_block);
        Ok(())
    }

    pub(super) fn enable(self: &Arc<Self>, control: &mut Control, ask: Ask) -> Result<(), Failure> {
        if control.disk.is_some() {
            return Err(Failure::new(EBUSY, "the device is enabled already"));
        }
        let mirror = &self.mirror;
        let start = self.decide(ask)?;
        if start.is_none() && mirror.view().readable().is_empty() {
            return Err(Failure::new(ENOTCONN, "the device has no group in sync"));
        }
        if let Some(start) = &start {
            mirror.settings.blocksize.store(start.block, Relaxed);
        }
        let mut common = self.common()?;
        if let Some(start) = &start {
            common.promise.bytes = start.layout.device_bytes;
        }
        let sectors = common.promise.bytes >> 9;
        self.set_up_maps(sectors)?;
        let last_sectors = mirror.core().last_sectors();
        let clock = Companion::start(self.clone(), "clock", clock::tick)?;
        let keeper = Companion::start(self.clone(), "keep", keeper::keep)?;
        let recorder = match &start {
            Some(_) => Some(Companion::start(self.clone(), "record", memory::record)?),
            None => None,
        };
        let tags = Arc::pin_init(TagSet::new(TAGS), GFP_KERNEL)?;
        if common.promise.write {
            mirror.bounces.fill()?;
        }
        if let Some(start) = &start {
            if let Err(why) = self.record_start(start) {
                mirror.bounces.drain();
                return Err(why.into());
            }
        }
        mirror.set_size(sectors, Some(common.promise));
        mirror.seal(false);
        // Partitions are looked for at once; should the servers be gone that must fail rather than
        // wait.
        mirror.set_failing(true);
        let disk = self.add_disk(&common, tags);
        mirror.set_failing(false);
        match disk {
            Ok(disk) => {
                *self.voice.lock() = Some(disk.device());
                control.disk = Some(disk);
                match Companion::start(self.clone(), "look", scout::look) {
                    Ok(scout) => control.scout = Some(scout),
                    // The device does without.
                    Err(_) => {
                        pr_info!("[{}] nobody looks for twins: no memory\n", self.id.letter())
                    }
                }
                control.clock = Some(clock);
                control.keeper = Some(keeper);
                control.recorder = recorder;
                self.read_only.store(!common.promise.write, Relaxed);
                Ok(())
            }
            Err(e) => {
                mirror.bounces.drain();
                mirror.set_size(0, None);
                drop(recorder);
                match &start {
                    // What the last client left in the servers' caches was not flushed yet.
                    Some(start) if start.is_unclean => mirror.stop_records(),
                    Some(_) => self.end(),
                    None => {}
                }
                mirror.core().set_last_sectors(last_sectors);
                Err(e.into())
            }
        }
    }

    /// Sees to it that each group has a map for `sectors` sectors.
    ///
    /// What lies behind the old end of a device that has grown was never written through it, nor
    /// copied, and nobody has said that it is equal: it is copied from the one group in sync.
    fn set_up_maps(&self, sectors: u64) -> Result<(), Failure> {
        let mirror = &self.mirror;
        let last = mirror.core().last_sectors();
        let grown_by = match last {
            0 => 0,
            last => sectors.saturating_sub(last),
        };
        if grown_by > 0 && mirror.view().readable().len() > 1 {
            let reason = "the device has grown: set all groups but one faulty before";
            return Err(Failure::new(EUCLEAN, reason));
        }
        let blocks = mirror.blocks_of(sectors);
        for group in GroupId::all() {
            let state = mirror.view().state(group);
            if state == GroupState::Absent {
                continue;
            }
            mirror.group(group).map.set_up(blocks)?;
            if state == GroupState::Faulty && grown_by > 0 {
                mirror.mark(group, last, grown_by);
            }
        }
        Ok(())
    }

    /// Adds the disk in a thread of its own, and waits for it.
    fn add_disk(&self, common: &Common, tags: Arc<TagSet<Driver>>) -> Added {
        let letter = self.id.letter();
        let added = Arc::pin_init(new_mutex!(None, "enbd::Added"), GFP_KERNEL)?;
        let add = Add {
            name: CString::try_from_fmt(fmt!("nd{letter}"))?,
            tags,
            limits: common.limits,
            sectors: common.promise.bytes >> 9,
            read_only: !common.promise.write,
            mirror: self.mirror.clone(),
            added: added.clone(),
        };
        let name = CString::try_from_fmt(fmt!("enbd-{letter}-add"))?;
        drop(KThread::spawn(&name, add)?);
        let disk = added.lock().take();
        disk.unwrap_or(Err(EIO))
    }

    pub(super) fn set_blocksize(&self, control: &Control, bytes: u32) -> Result<(), Failure> {
        if control.disk.is_some() {
            return Err(Failure::new(EBUSY, "the device is enabled"));
        }
        for group in GroupId::all() {
            let g = self.mirror.group(group);
            if g.map.dirty() > 0 {
                return Err(Failure::new(
                    EBUSY,
                    "a dirty map is in units of the old block size",
                ));
            }
            let export = *g.export.lock();
            if export.is_some_and(|e| e.size.checked_rem(u64::from(bytes)) != Some(0)) {
                let reason = "the size of an export is not a multiple of the block size";
                return Err(Failure::new(EINVAL, reason));
            }
        }
        // What a server loses from now on finds no map, and is remembered as all.
        for group in GroupId::all() {
            self.mirror.group(group).map.drop_units();
        }
        self.mirror.settings.blocksize.store(bytes, Relaxed);
        Ok(())
    }
}

/// The disk, or why there is none.
type Added = Result<Arc<GenDisk<Driver>>>;

/// What a thread that adds a disk is given.
struct Add {
    name: CString,
    tags: Arc<TagSet<Driver>>,
    limits: Limits,
    sectors: u64,
    read_only: bool,
    mirror: Arc<Mirror>,
    added: Arc<Mutex<Option<Added>>>,
}

impl Main for Add {
    fn main(self) {
        let disk = GenDisk::add(
            &self.name,
            self.tags,
            self.limits,
            self.sectors,
            self.read_only,
            self.mirror,
        );
        let disk = disk.and_then(|disk| Ok(Arc::new(disk, GFP_KERNEL)?));
        *self.added.lock() = Some(disk);
    }
}

impl Common {
    /// What one export has.
    fn of(export: &Export) -> Self {
        let flags = export.flags;
        let promise = Promise::of(export);
        let promise = Promise {
            max_bytes: promise.max_bytes.min(LARGEST),
            ..promise
        };
        let limits = Limits {
            logical_block: export.block.min,
            physical_block: export.block.preferred,
            max_bytes: promise.max_bytes,
            max_segments: MAX_SEGMENTS,
            max_zeroes_bytes: if promise.zeroes { MAX_ZEROES } else { 0 },
            // It is sent as zeroes, which a server without TRIM would have to write.
            max_discard_bytes: if promise.zeroes && flags.trim() {
                MAX_ZEROES
            } else {
                0
            },
            write_cache: promise.flush,
            fua: promise.fua,
            rotational: flags.rotational(),
        };
        Self { limits, promise }
    }

    /// The strictest of both. There is a cache to flush if any server has one: those that have no
    /// FLUSH are named as volatile.
    fn stack(self, other: Self) -> Self {
        let (l, m) = (self.limits, other.limits);
        let promise = self.promise.stack(other.promise);
        let limits = Limits {
            logical_block: l.logical_block.max(m.logical_block),
            physical_block: l.physical_block.max(m.physical_block),
            max_bytes: l.max_bytes.min(m.max_bytes),
            max_segments: MAX_SEGMENTS,
            max_zeroes_bytes: l.max_zeroes_bytes.min(m.max_zeroes_bytes),
            max_discard_bytes: l.max_discard_bytes.min(m.max_discard_bytes),
            write_cache: l.write_cache || m.write_cache,
            fua: promise.fua,
            rotational: l.rotational || m.rotational,
        };
        Self { limits, promise }
    }
}
