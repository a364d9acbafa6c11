// SPDX-License-Identifier: GPL-2.0

//! What the driver is to a mirror.

use super::{sum_of, Notebook, Page, World, EINVAL, EOPNOTSUPP, MOST_HELD_UP_MS};
use crate::logic::{
    barrier::Claim,
    evidence::{Evidence, Sum, CHUNK_BYTES},
    group::GroupFault,
    ids::{ChannelId, GroupId, SlotId},
    meta::Marks,
    mirror::{self, memory::Notes, Carrier, Copies, Core, News, Request, Transfer, Trial},
    unflushed::Unflushed,
};
use crate::request::{Buffer, Handle, Pages, BLOCK_SECTORS};
use crate::store::EXPORT_BLOCKS;
use crate::sync::Word;
use shuttle::rand::{thread_rng, Rng};
use std::sync::atomic::Ordering::Relaxed;

impl mirror::World for World {
    type Buffer = Buffer;
    type Words = Vec<Word>;

    fn core(&self) -> &Core {
        &self.core
    }

    fn claims(&self) -> &[Claim] {
        &self.claims
    }

    fn unflushed(&self, group: GroupId) -> Option<&Unflushed<Vec<Word>>> {
        self.unflushed.get(group.index())
    }

    fn evidence(&self) -> &Evidence<Vec<Word>> {
        &self.evidence
    }

    fn wants_evidence(&self) -> bool {
        true
    }

    fn with_trial<R>(&self, f: impl FnOnce(&mut Trial<Handle>) -> R) -> R {
        f(&mut self.trial.lock().unwrap())
    }

    fn with_copies<R>(&self, f: impl FnOnce(&mut Copies) -> R) -> R {
        f(&mut self.copies.lock().unwrap())
    }

    fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    fn timeout_ms(&self) -> u64 {
        if self.patient.load(Relaxed) {
            10 * crate::channel::TIMEOUT_MS
        } else {
            crate::channel::TIMEOUT_MS
        }
    }

    fn show_errs(&self) -> bool {
        self.scale.show_errs
    }

    fn block_sectors(&self) -> u64 {
        BLOCK_SECTORS
    }

    fn is_volatile(&self, _group: GroupId) -> bool {
        false
    }

    fn load(&self, channel: ChannelId) -> u64 {
        self.channels[channel].load()
    }

    fn is_full(&self, channel: ChannelId) -> bool {
        self.channels[channel].is_full()
    }

    fn open(&self, channel: ChannelId) {
        self.channels[channel].open();
    }

    fn is_open(&self, channel: ChannelId) -> bool {
        self.channels[channel].is_open()
    }

    fn submit(
        &self,
        group: GroupId,
        channel: ChannelId,
        number: SlotId,
        transfer: Transfer<Buffer>,
    ) -> Result<(), Transfer<Buffer>> {
        if thread_rng().gen_ratio(1, 500) {
            // Held up between the choice and the sending, for as long as a server may take to crash
            // and to come back.
            self.clock
                .wait(thread_rng().gen_range(0..MOST_HELD_UP_MS), || false);
        }
        self.channels[channel].submit(&self.tables[group], number, transfer)
    }

    fn kick(&self, channel: ChannelId) {
        self.channels[channel].kick(self);
    }

    fn put_waiting(
        &self,
        group: GroupId,
        number: SlotId,
        transfer: Transfer<Buffer>,
    ) -> Result<(), Transfer<Buffer>> {
        self.tables[group].put(number, transfer, None)
    }

    fn take_waiting(&self, group: GroupId, number: SlotId) -> Option<Transfer<Buffer>> {
        let taken = self
            .tables
            .get(group.index())?
            .take(number, None, |_, _| true);
        Some(taken?.0)
    }

    fn park_if(&self, request: Handle, still: impl FnOnce() -> bool) -> Option<Handle> {
        let mut parked = self.parked.lock().unwrap();
        if !still() {
            return Some(request);
        }
        parked.push_back(request);
        None
    }

    fn parked(&self) -> usize {
        self.parked.lock().unwrap().len()
    }

    fn unpark_first(&self) -> Option<<Buffer as Carrier>::Request> {
        self.parked.lock().unwrap().pop_front()
    }

    fn postpone_if(&self, request: Handle, still: impl FnOnce() -> bool) -> Option<Handle> {
        let mut postponed = self.postponed.lock().unwrap();
        if !still() {
            return Some(request);
        }
        crate::trace!(self, "tag {} is postponed", request.tag());
        postponed.push_back(request);
        None
    }

    fn postponing<R>(&self, f: impl FnOnce() -> R) -> R {
        let _guard = self.postponed.lock().unwrap();
        f()
    }

    fn copy_once(&self, request: Handle) -> Result<Handle, Handle> {
        // The network gives up what it had, or has it still.
        if thread_rng().gen() {
            self.room.lock().unwrap().regain();
        }
        if request.copy_once(&self.room) {
            Ok(request)
        } else {
            crate::trace!(self, "no room for a copy of tag {}", request.tag());
            Err(request)
        }
    }

    fn has_room(&self, bytes: u32) -> bool {
        let blocks = u64::from(bytes) / (BLOCK_SECTORS * 512);
        self.room.lock().unwrap().has(blocks as u32)
    }

    fn mark_blocks(&self, group: GroupId, first: u64, len: u64) {
        crate::trace!(self, "group {group} misses blocks {first}+{len}");
        let lacks = self.lacks_page();
        let mut map = self.maps[group].lock().unwrap();
        map.mark(first, len, &mut || (!lacks).then(Page::new));
    }

    fn mark_all(&self, group: GroupId) {
        self.maps[group].lock().unwrap().mark_all(&mut drop);
    }

    fn clear_all(&self, group: GroupId) {
        self.maps[group].lock().unwrap().clear_all(&mut drop);
    }

    fn is_marked(&self, group: GroupId, first: u64, len: u64) -> bool {
        let next = self.maps[group].lock().unwrap().next_dirty(first, len);
        next.is_some_and(|run| run.first < first + len)
    }

    fn smallest_read(&self, _group: GroupId) -> u32 {
        CHUNK_BYTES
    }

    fn largest_write(&self, _group: GroupId) -> u32 {
        // So small that zeroes take several.
        2 * BLOCK_SECTORS as u32 * 512
    }

    fn writes_zeroes(&self, _group: GroupId) -> bool {
        true
    }

    fn largest_request(&self, _group: GroupId) -> u32 {
        8 * CHUNK_BYTES
    }

    fn export_sectors(&self, _group: GroupId) -> u64 {
        let blocks = if self.scale.memory {
            EXPORT_BLOCKS
        } else {
            self.scale.blocks
        };
        blocks as u64 * BLOCK_SECTORS
    }

    fn memory(&self, _len: u32) -> Option<Buffer> {
        (!self.lacks_page()).then(|| Buffer::Pages(Pages::default()))
    }

    fn checksum(&self, buffer: &Buffer, from: u32) -> Option<Sum> {
        let at = (from / CHUNK_BYTES) as usize;
        buffer.values(at + 1).get(at).copied().map(sum_of)
    }

    fn marks(&self) -> Option<&Marks<Vec<Word>>> {
        self.scale.memory.then_some(&self.marks)
    }

    fn intent_idle_ms(&self) -> u64 {
        self.scale.intent_idle_ms
    }

    fn most_marked(&self) -> u64 {
        self.scale.most_marked
    }

    fn owner_check_s(&self) -> u64 {
        self.scale.owner_check_s
    }

    fn random(&self) -> u64 {
        thread_rng().gen()
    }

    fn with_notes<R>(&self, f: impl FnOnce(Notes<'_>) -> R) -> R {
        let mut notes = self.notes.lock().unwrap();
        let Notebook {
            memory,
            found,
            block,
        } = &mut *notes;
        f(Notes {
            memory,
            found,
            block,
        })
    }

    fn holding(&self, bytes: &[u8]) -> Option<Buffer> {
        let value = self.hosts.blocks.number(bytes);
        (!self.lacks_page()).then(|| Buffer::Pages(Pages::holding(vec![value])))
    }

    fn content(&self, buffer: &Buffer, from: u32, to: &mut [u8]) -> bool {
        let at = (from / CHUNK_BYTES) as usize;
        let value = buffer.values(at + 1).get(at).copied();
        let (Some(value), Ok(to)) = (value, to.try_into()) else {
            return false;
        };
        self.hosts.blocks.bytes(value, to);
        true
    }

    fn has_fua(&self, _group: GroupId) -> bool {
        true
    }

    fn keep_if(&self, request: &Handle, still: impl FnOnce() -> bool) -> bool {
        let mut kept = self.kept.lock().unwrap();
        if !still() {
            return false;
        }
        kept.push(request.clone());
        true
    }

    fn take_kept(&self) -> Option<Handle> {
        self.kept.lock().unwrap().pop()
    }

    fn wait(&self, ms: u32, holds: &mut dyn FnMut() -> bool) -> bool {
        self.clock.wait(u64::from(ms), holds)
    }

    fn wake(&self) {
        self.clock.happened();
    }

    fn changed(&self) {
        self.clock.happened();
    }

    fn wake_resyncs(&self) {
        self.clock.happened();
    }

    fn tell(&self, news: News) {
        crate::trace!(self, "{news:?}");
        if self.has_crashed() {
            return;
        }
        // Two failures at once: what was taken out of service had everything, and what is left has
        // crashed. In the first case enbd cannot know yet, in the second one it says so.
        let is_lossy = |g: GroupId| self.hosts.lossy[g].load(Relaxed);
        if let News::Faulty {
            group,
            fault: GroupFault::Refused(EINVAL | EOPNOTSUPP),
        } = news
        {
            panic!("group {group} is faulted since its server does not write zeroes");
        }
        let lost = match news {
            // Another one that was in sync has a channel, or had one a moment ago.
            News::Faulty {
                fault: GroupFault::Doubted,
                ..
            } => false,
            News::Faulty { group, .. } => {
                !is_lossy(group) && self.core.view().readable().iter().all(is_lossy)
            }
            News::BackAlone { group, .. } => is_lossy(group),
            News::Twins { groups } => panic!("{groups:?} are taken for one store"),
            News::Refused { .. }
            | News::Rescued { .. }
            | News::OtherData { .. }
            | News::Unproved { .. }
            | News::Recorded { .. }
            | News::Member { .. }
            | News::AwaitsOwner { .. }
            | News::Starts { .. }
            | News::Stands { .. }
            | News::Fenced { .. }
            | News::NoZeroes { .. }
            | News::Unequal { .. } => false,
        };
        if matches!(news, News::BackAlone { .. }) && !self.scale.multi_conn {
            // Nobody can flush what was written on channels that have ended.
            self.oracle.doubt();
        }
        if lost {
            crate::trace!(self, "two failures at once took data");
            self.oracle.lose();
        }
    }
}
