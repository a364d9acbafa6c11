// SPDX-License-Identifier: GPL-2.0

//! What the decisions of a mirror (`crate::logic::mirror`) need of the kernel.

use super::{Driver, Mirror};
use crate::channel::sum_of;
use crate::kapi::{
    block::mq::Shared,
    iovec::{Buffer, Pages},
};
use crate::logic::{
    barrier::Claim,
    evidence::{Evidence, Sum, CHUNK_BYTES},
    ids::{ChannelId, GroupId, SlotId},
    meta::Marks,
    mirror::{decide, memory::Notes, Carrier, Copies, Core, News, Transfer, Trial, World},
    unflushed::Unflushed,
    wire::handshake::Export,
};
use crate::sync::Word;
use crate::wait::Woken;
use kernel::{
    prelude::*,
    sync::{atomic::ordering::Relaxed, Arc},
    time::{delay::fsleep, Delta},
};

/// How long whoever has a signal, and does not give up, sleeps until he looks again, in milliseconds.
const SIGNALLED_MS: i64 = 10;

impl Carrier for Buffer<Driver> {
    type Request = Shared<Driver>;

    fn of(request: Shared<Driver>) -> Self {
        Self::Request(request)
    }

    fn request(&self) -> Option<&Shared<Driver>> {
        match self {
            Self::Request(rq) => Some(rq),
            Self::Pages(_) => None,
        }
    }

    fn into_request(self) -> Option<Shared<Driver>> {
        match self {
            Self::Request(rq) => Some(rq),
            Self::Pages(_) => None,
        }
    }
}

impl Mirror {
    fn export_of(&self, group: GroupId) -> Option<Export> {
        *self.group(group).export.lock()
    }
}

impl World for Mirror {
    type Buffer = Buffer<Driver>;
    type Words = KVVec<Word>;

    fn core(&self) -> &Core {
        &self.core
    }

    fn claims(&self) -> &[Claim] {
        &self.claims
    }

    fn unflushed(&self, group: GroupId) -> Option<&Unflushed<KVVec<Word>>> {
        self.group(group).unflushed()
    }

    fn evidence(&self) -> &Evidence<KVVec<Word>> {
        &self.evidence
    }

    fn wants_evidence(&self) -> bool {
        let now = World::now_ms(self);
        if self.evidence_ms.get() == now {
            return false;
        }
        // Two that come at once may both be remembered: no harm.
        self.evidence_ms.set(now);
        true
    }

    fn with_trial<R>(&self, f: impl FnOnce(&mut Trial<Shared<Driver>>) -> R) -> R {
        f(&mut self.trial.lock())
    }

    fn with_copies<R>(&self, f: impl FnOnce(&mut Copies) -> R) -> R {
        f(&mut self.copies.lock())
    }

    fn now_ms(&self) -> u64 {
        self.age_ns() / 1_000_000
    }

    fn timeout_ms(&self) -> u64 {
        u64::from(self.settings.timeout.load(Relaxed)).saturating_mul(1000)
    }

    fn show_errs(&self) -> bool {
        self.settings.show_errs.load(Relaxed)
    }

    fn block_sectors(&self) -> u64 {
        u64::from(self.settings.blocksize.load(Relaxed) >> 9).max(1)
    }

    fn is_volatile(&self, group: GroupId) -> bool {
        self.group(group).is_volatile()
    }

    fn load(&self, channel: ChannelId) -> u64 {
        self.channel(channel).load()
    }

    fn is_full(&self, channel: ChannelId) -> bool {
        self.channel(channel).is_full()
    }

    fn open(&self, channel: ChannelId) {
        self.channel(channel).open();
    }

    fn is_open(&self, channel: ChannelId) -> bool {
        self.channel(channel).is_open()
    }

    fn submit(
        &self,
        group: GroupId,
        channel: ChannelId,
        number: SlotId,
        transfer: Transfer<Buffer<Driver>>,
    ) -> Result<(), Transfer<Buffer<Driver>>> {
        match self.group(group).table() {
            Some(table) => self.channel(channel).submit(group, table, number, transfer),
            None => Err(transfer),
        }
    }

    fn kick(&self, channel: ChannelId) {
        self.channel(channel).kick(self);
    }

    fn put_waiting(
        &self,
        group: GroupId,
        number: SlotId,
        transfer: Transfer<Buffer<Driver>>,
    ) -> Result<(), Transfer<Buffer<Driver>>> {
        let Some(table) = self.group(group).table() else {
            return Err(transfer);
        };
        let bytes = u64::from(transfer.len);
        table.put(number, transfer, None)?;
        self.waiting.add(bytes);
        Ok(())
    }

    fn take_waiting(&self, group: GroupId, number: SlotId) -> Option<Transfer<Buffer<Driver>>> {
        let table = self.group(group).table()?;
        let (transfer, _) = table.take(number, None, |_, _| true)?;
        self.waiting.sub(u64::from(transfer.len));
        Some(transfer)
    }

    fn park_if(
        &self,
        request: Shared<Driver>,
        still: impl FnOnce() -> bool,
    ) -> Option<Shared<Driver>> {
        let mut parked = self.parked.lock();
        if !still() {
            return Some(request);
        }
        // There is room for all requests. Were there none, the request would fail when it is
        // dropped here, which is better than to lose it.
        let no_room = parked.push_within_capacity(request).err();
        drop(parked);
        drop(no_room);
        None
    }

    fn parked(&self) -> usize {
        self.parked.lock().len()
    }

    fn unpark_first(&self) -> Option<Shared<Driver>> {
        self.parked.lock().remove(0).ok()
    }

    fn postpone_if(
        &self,
        request: Shared<Driver>,
        still: impl FnOnce() -> bool,
    ) -> Option<Shared<Driver>> {
        let _guard = self.postponing.lock();
        if !still() {
            return Some(request);
        }
        // It was not sent, so there is no other handle.
        if let Ok(request) = request.try_into_owned() {
            self.load.leave();
            request.requeue();
        }
        None
    }

    fn copy_once(&self, request: Shared<Driver>) -> Result<Shared<Driver>, Shared<Driver>> {
        // Before it is sent there is no other handle.
        let mut request = request.try_into_owned()?;
        let bounce = self.bounces.copy(&request);
        let has_room = bounce.is_some();
        *request.bounce_mut() = bounce;
        let request = request.share();
        if has_room {
            Ok(request)
        } else {
            Err(request)
        }
    }

    fn has_room(&self, bytes: u32) -> bool {
        self.bounces.has_room(bytes)
    }

    fn postponing<R>(&self, f: impl FnOnce() -> R) -> R {
        let _guard = self.postponing.lock();
        f()
    }

    fn mark_blocks(&self, group: GroupId, first: u64, len: u64) {
        self.group(group).map.mark(self.letter, first, len);
    }

    fn mark_all(&self, group: GroupId) {
        self.group(group).map.mark_all();
    }

    fn clear_all(&self, group: GroupId) {
        self.group(group).map.clear_all();
    }

    fn is_marked(&self, group: GroupId, first: u64, len: u64) -> bool {
        let next = self.group(group).map.next_dirty(first, len.max(1));
        next.is_some_and(|run| run.first < first.saturating_add(len))
    }

    fn smallest_read(&self, group: GroupId) -> u32 {
        self.export_of(group).map_or(512, |e| e.block.min.max(512))
    }

    fn largest_write(&self, group: GroupId) -> u32 {
        self.export_of(group).map_or(512, |e| e.block.max_payload)
    }

    fn writes_zeroes(&self, group: GroupId) -> bool {
        self.export_of(group)
            .is_some_and(|e| e.flags.write_zeroes())
    }

    fn largest_request(&self, group: GroupId) -> u32 {
        self.export_of(group).map_or(4096, |e| e.block.max_payload)
    }

    fn export_sectors(&self, group: GroupId) -> u64 {
        self.export_of(group).map_or(0, |e| e.size >> 9)
    }

    fn memory(&self, len: u32) -> Option<Buffer<Driver>> {
        // Not waited for: it may be this channel that can bring it back.
        let pages = Pages::new(len as usize, GFP_NOWAIT).ok()?;
        let pages = Arc::new(pages, GFP_NOWAIT).ok()?;
        Some(Buffer::Pages(pages))
    }

    fn checksum(&self, buffer: &Buffer<Driver>, from: u32) -> Option<Sum> {
        let sum = buffer.checksum(from as usize, CHUNK_BYTES as usize);
        sum.map(sum_of)
    }

    fn marks(&self) -> Option<&Marks<KVVec<Word>>> {
        self.marks.as_ref()
    }

    fn intent_idle_ms(&self) -> u64 {
        u64::from(self.settings.intent_idle.load(Relaxed)).saturating_mul(1000)
    }

    fn most_marked(&self) -> u64 {
        u64::from(self.settings.intent_max.load(Relaxed)).saturating_mul(1 << 20)
    }

    fn owner_check_s(&self) -> u64 {
        u64::from(self.settings.owner_check.load(Relaxed))
    }

    fn random(&self) -> u64 {
        u64::from(crate::kapi::random()) << 32 | u64::from(crate::kapi::random())
    }

    fn with_notes<R>(&self, f: impl FnOnce(Notes<'_>) -> R) -> R {
        f(self.memory.lock().lend())
    }

    fn holding(&self, bytes: &[u8]) -> Option<Buffer<Driver>> {
        // Not waited for: the writes that a record holds up may be what would free it.
        let pages = Pages::holding(bytes, GFP_NOWAIT).ok()?;
        let pages = Arc::new(pages, GFP_NOWAIT).ok()?;
        Some(Buffer::Pages(pages))
    }

    fn content(&self, buffer: &Buffer<Driver>, from: u32, to: &mut [u8]) -> bool {
        match buffer {
            Buffer::Pages(pages) => pages.copy_to(from as usize, to),
            Buffer::Request(_) => false,
        }
    }

    fn has_fua(&self, group: GroupId) -> bool {
        self.export_of(group).is_some_and(|e| e.flags.fua())
    }

    fn keep_if(&self, request: &Shared<Driver>, still: impl FnOnce() -> bool) -> bool {
        let mut kept = self.kept.lock();
        if !still() {
            return false;
        }
        // There is room for each request and each group. Were there none, the request would end with
        // an error, since it is noted as unrecorded.
        kept.push_within_capacity(request.clone()).is_ok()
    }

    fn take_kept(&self) -> Option<Shared<Driver>> {
        self.kept.lock().pop()
    }

    fn wait(&self, ms: u32, holds: &mut dyn FnMut() -> bool) -> bool {
        match self.waiters.wait(Some(ms), holds) {
            Woken::Holds => true,
            Woken::TimedOut => false,
            Woken::Signal => {
                // Who does not give up for it waits again, which a signal would end at once each time.
                fsleep(Delta::from_millis(SIGNALLED_MS));
                false
            }
        }
    }

    fn wake(&self) {
        self.waiters.wake_all();
    }

    fn changed(&self) {
        self.changes.note();
        self.tidings.tell();
        self.waiters.wake_all();
    }

    fn wake_resyncs(&self) {
        self.resync_waiters.wake_all();
    }

    fn tell(&self, news: News) {
        let letter = self.letter;
        if matches!(news, News::Faulty { .. }) {
            // The reason was not there yet when the state changed, or is another one.
            self.changed();
        }
        match news {
            News::Faulty { group, fault } => {
                let (number, why) = (group.index(), fault.as_str());
                pr_info!("[{letter}] group {number} is faulty: {why}\n");
            }
            News::Refused {
                group,
                command,
                len,
                offset,
                error,
            } => pr_info!(
                "[{letter}] group {}: {} of {len} bytes at {offset} refused: {}\n",
                group.index(),
                command.as_str(),
                error.as_str()
            ),
            News::OtherData { group, offset } => pr_warn!(
                "[{letter}] group {}: a server does not hold the data of the group, at {offset} \
                 for one\n",
                group.index()
            ),
            News::Unproved { group } => pr_warn!(
                "[{letter}] group {} is back as the only one, and nothing shows that it is the \
                 same server\n",
                group.index()
            ),
            News::NoZeroes { group } => pr_info!(
                "[{letter}] group {} refuses to write zeroes again and again: zeroes and discards are \
                 not offered to users any more\n",
                group.index()
            ),
            News::Twins { groups } => pr_warn!(
                "[{letter}] groups {} and {} lead to the same store: there is one copy of everything\n",
                groups.0.index(),
                groups.1.index()
            ),
            News::Fenced { group } => pr_err!(
                "[{letter}] another client has the mirror, as group {} shows: nothing is written any more\n",
                group.index()
            ),
            News::Recorded {
                generation,
                event,
                in_sync,
            } => pr_info!(
                "[{letter}] recorded: generation {:016x}, event {event}, {} in sync\n",
                generation.bits(),
                in_sync.len()
            ),
            News::Member {
                group,
                generation,
                event,
            } => pr_info!(
                "[{letter}] group {} is a member of a mirror, generation {:016x}, event {event}\n",
                group.index(),
                generation.bits()
            ),
            News::AwaitsOwner { ms } => pr_info!(
                "[{letter}] the mirror was not ended in order: waiting {} s to see whether somebody has it\n",
                ms / 1000
            ),
            News::Starts { drawn } => pr_info!("[{letter}] {}\n", decide::why_so(drawn)),
            News::Stands { group, standing } => {
                pr_info!("[{letter}] group {} {}\n", group.index(), standing.as_str());
            }
            News::Unequal { groups, offset } => pr_warn!(
                "[{letter}] groups {} and {} do not hold the same, at {offset} for one\n",
                groups.0.index(),
                groups.1.index()
            ),
            News::Rescued { group, offset, len } => pr_warn!(
                "[{letter}] group {}, which is faulty, served {len} bytes at {offset} that no group in \
                 sync can read\n",
                group.index()
            ),
            News::BackAlone {
                group,
                regions,
                sectors,
            } => pr_warn!(
                "[{letter}] group {} is back as the only one; it may have lost writes that \
                 were not flushed, in {regions} regions of {} KiB\n",
                group.index(),
                sectors / 2
            ),
        }
    }
}
