// SPDX-License-Identifier: GPL-2.0

//! The world of a mirror, on the host: what the driver is to it in the kernel.

use crate::blocks::Blocks;
use crate::channel::{Channel, Trip};
use crate::clock::Clock;
use crate::late::Late;
use crate::logic::{
    barrier::{Claim, Span},
    bitmap::{slots_for, DirtyMap, Leaf, Run, Slot, LEAF_WORDS},
    evidence::{self, Evidence, Piece, Sum, CHUNK_BYTES, LATEST},
    group::{GroupFault, GroupState, View},
    ids::{ChannelId, GroupId, SlotId},
    meta::{bytes::Block, Found, BLOCK},
    mirror::{
        self,
        memory::Notes,
        proof::{must_hold, PLACES, ZEROES},
        Carrier, Copies, Core, Memory, News, Request, Route, States, Transfer, Trial,
    },
    resync::{Bounds, Site, Users},
    room::Room,
    unflushed::{Unflushed, WORDS},
    MAX_GROUPS,
};
use crate::oracle::Oracle;
use crate::quiet::Gate;
use crate::request::{Buffer, Handle, Pages, BLOCK_SECTORS};
use crate::scale::Scale;
use crate::server::{Power, Server};
use crate::store::{Value, EXPORT_BLOCKS, RING};
use crate::sync::Word;
use crate::table::{table, Table};
use crate::wiring::{Goal, Wiring};
use shuttle::rand::{thread_rng, Rng};
use shuttle::sync::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex as StdMutex};

/// Requests that users have at once, at most.
pub const QUEUE_DEPTH: usize = 8;

/// Blocks of the largest write: so many have room for a copy for certain.
const RESERVE: u32 = crate::user::LARGEST as u32;
/// Blocks that there is room for: so few that often there is none.
const COPIED_BLOCKS: u32 = RESERVE + 3;

/// The checksum of a block.
pub fn sum_of(value: Value) -> Sum {
    Sum(value as u32)
}

/// Numbers of errors.
const EINVAL: i32 = 22;
const EOPNOTSUPP: i32 = 95;

/// In how many of the blocks that could be remembered a store has to differ at least.
const KNOWABLE: usize = 4;

/// Milliseconds that a thread is held up at most where others would hardly let it stop.
const MOST_HELD_UP_MS: u64 = 8000;

pub struct Page(Box<[u64; LEAF_WORDS]>);

impl Page {
    fn new() -> Self {
        Self(Box::new([0; LEAF_WORDS]))
    }
}

impl Leaf for Page {
    fn words(&self) -> &[u64; LEAF_WORDS] {
        &self.0
    }

    fn words_mut(&mut self) -> &mut [u64; LEAF_WORDS] {
        &mut self.0
    }
}

type Map = DirtyMap<Page, Vec<Slot<Page>>>;

/// What is known of the metadata, and room for a block.
struct Notebook {
    memory: Memory,
    found: Found,
    block: Box<Block>,
}

impl Default for Notebook {
    fn default() -> Self {
        Self {
            memory: Memory::default(),
            found: Found::default(),
            block: Box::new([0; BLOCK as usize]),
        }
    }
}

/// Who serves certain blocks at one moment.
pub struct Serving {
    groups: Vec<GroupId>,
    view: View,
    troubles: u64,
    trips: Vec<Trip>,
}

impl Serving {
    /// A group that did from then until `after`, when nothing has changed in between.
    pub fn all_the_time(&self, after: &Self) -> Option<GroupId> {
        let is_calm =
            self.view == after.view && self.troubles == after.troubles && self.trips == after.trips;
        let mut both = self.groups.iter().filter(|g| after.groups.contains(g));
        both.next().copied().filter(|_| is_calm)
    }
}

pub struct World {
    pub scale: Scale,
    pub clock: Arc<Clock>,
    pub servers: Vec<Server>,
    /// One for each group.
    pub wiring: Vec<Wiring>,
    pub channels: Vec<Channel>,
    pub tables: Vec<Table>,
    pub oracle: Arc<Oracle>,
    /// Where users stop, so that it gets quiet.
    pub gate: Gate,
    /// Which servers lost something that was not copied back since.
    pub lossy: Vec<AtomicBool>,
    /// How often something went wrong, or was healed.
    pub troubles: AtomicU64,
    /// Which servers' hosts are crashing at this moment.
    pub shaken: Vec<AtomicBool>,
    /// How often each server has lost something.
    pub losses: Vec<AtomicU64>,
    /// How often each group was led to another store than it had, and how often it had been when
    /// it was last copied as a whole.
    pub strange: Vec<AtomicU64>,
    pub accounted: Vec<AtomicU64>,
    core: Core,
    claims: Vec<Claim>,
    unflushed: Vec<Unflushed<Vec<Word>>>,
    evidence: Evidence<Vec<Word>>,
    copies: Mutex<Copies>,
    trial: Mutex<Trial<Handle>>,
    parked: Mutex<VecDeque<Handle>>,
    /// Requests that may not end before it is recorded that a group lacks them.
    kept: Mutex<Vec<Handle>>,
    /// What is known of the metadata.
    notes: Mutex<Notebook>,
    /// The bytes of the metadata that is on the servers.
    pub blocks: Blocks,
    /// Requests that were given back, and those of them that may be asked for again.
    postponed: Mutex<VecDeque<Handle>>,
    kicked: Mutex<VecDeque<Handle>>,
    maps: Vec<Mutex<Map>>,
    free_tags: StdMutex<Vec<u32>>,
    /// For the copies of what is written.
    pub room: StdMutex<Room>,
    /// When users' requests began that are on their way.
    pub late: Late,
    /// The administrator gives groups without channels more time.
    pub patient: AtomicBool,
    /// A user's flush is on its way.
    pub flushing: AtomicBool,
    /// Requests of users on their way.
    pub load: AtomicUsize,
    /// The time of faults is over: all threads that serve end.
    pub ending: AtomicBool,
}

impl World {
    pub fn new(scale: Scale) -> Arc<Self> {
        let clock = Arc::new(Clock::new());
        let words = || (0..WORDS).map(|_| Word::new(0)).collect::<Vec<_>>();
        let map = || {
            let slots = (0..slots_for(scale.blocks as u64)).map(|_| Slot::Clean);
            DirtyMap::new(slots.collect::<Vec<_>>(), scale.blocks as u64).ok()
        };
        let world = Arc::new(Self {
            scale,
            servers: (0..scale.groups)
                .map(|_| Server::new(scale.blocks, scale.multi_conn, clock.clone()))
                .collect(),
            wiring: (0..scale.groups)
                .map(|_| Wiring::new(scale.blocks, scale.multi_conn, clock.clone()))
                .collect(),
            channels: (0..scale.groups * scale.channels_each)
                .map(|i| Channel::new(i, i / scale.channels_each))
                .collect(),
            tables: (0..scale.groups).map(|_| table()).collect(),
            oracle: Arc::new(Oracle::new(scale.blocks)),
            gate: Gate::default(),
            lossy: (0..scale.groups).map(|_| AtomicBool::new(false)).collect(),
            troubles: AtomicU64::new(0),
            shaken: (0..scale.groups).map(|_| AtomicBool::new(false)).collect(),
            losses: (0..scale.groups).map(|_| AtomicU64::new(0)).collect(),
            strange: (0..scale.groups).map(|_| AtomicU64::new(0)).collect(),
            accounted: (0..scale.groups).map(|_| AtomicU64::new(0)).collect(),
            core: Core::default(),
            claims: (0..QUEUE_DEPTH).map(|_| Claim::default()).collect(),
            unflushed: (0..scale.groups)
                .filter_map(|_| Unflushed::new(words()))
                .collect(),
            evidence: Evidence::new((0..evidence::WORDS).map(|_| Word::new(0)).collect())
                .expect("as many as it needs"),
            copies: Mutex::new(Copies::default()),
            trial: Mutex::new(Trial::default()),
            parked: Mutex::new(VecDeque::new()),
            kept: Mutex::new(Vec::new()),
            notes: Mutex::new(Notebook::default()),
            blocks: Blocks::default(),
            postponed: Mutex::new(VecDeque::new()),
            kicked: Mutex::new(VecDeque::new()),
            maps: (0..scale.groups)
                .filter_map(|_| map())
                .map(Mutex::new)
                .collect(),
            free_tags: StdMutex::new((0..QUEUE_DEPTH as u32).collect()),
            room: StdMutex::new(Room::new(COPIED_BLOCKS, RESERVE)),
            late: Late::new(),
            patient: AtomicBool::new(false),
            flushing: AtomicBool::new(false),
            load: AtomicUsize::new(0),
            ending: AtomicBool::new(false),
            clock,
        });
        assert!(scale.groups <= MAX_GROUPS);
        for group in scale.all_groups() {
            let g = mirror::World::core(&*world).group(group);
            g.set_single(!scale.multi_conn);
            for channel in ChannelId::all().take(scale.groups * scale.channels_each) {
                g.set_apart(channel, !scale.multi_conn);
            }
            world.join(group).expect("the first time");
        }
        world.set_sectors(scale.blocks as u64 * BLOCK_SECTORS);
        if scale.memory {
            crate::remember::create(&world);
        }
        world
    }

    /// A number for a request, when one is free.
    pub fn take_tag(&self) -> u32 {
        let mut tag = None;
        self.clock.wait(u64::MAX, || {
            tag = self.free_tags.lock().unwrap().pop();
            tag.is_some()
        });
        self.load.fetch_add(1, Relaxed);
        let tag = tag.expect("waited for");
        self.late.begins(tag, self.clock.now_ms());
        tag
    }

    pub fn tag_is_free(&self, tag: u32) {
        self.load.fetch_sub(1, Relaxed);
        self.late.ends(tag);
        self.free_tags.lock().unwrap().push(tag);
    }

    /// What the block layer does when it may ask again for what was given back.
    pub fn kick_postponed(&self) {
        let mut postponed = self.postponed.lock().unwrap();
        self.kicked.lock().unwrap().append(&mut postponed);
        drop(postponed);
        self.clock.happened();
    }

    /// The thread of the block layer that asks again.
    pub fn ask_again(&self) {
        while !self.is_ending() {
            let mut request = None;
            self.clock.wait(1000, || {
                request = self.kicked.lock().unwrap().pop_front();
                request.is_some() || self.is_ending()
            });
            if let Some(request) = request {
                self.kick_all(self.route(request));
            }
        }
    }

    pub fn is_ending(&self) -> bool {
        self.ending.load(Relaxed)
    }

    /// The server of `group` has lost something, or will lose it in the next crash, when the groups
    /// stood as in `view`.
    pub fn loses(&self, group: GroupId, view: View) {
        let has_everything = |g: GroupId| view.readable().has(g) && !self.lossy[g].load(Relaxed);
        let others = self
            .scale
            .all_groups()
            .any(|g| g != group && has_everything(g));
        self.losses[group].fetch_add(1, Relaxed);
        self.lossy[group].store(true, Relaxed);
        if view.readable().has(group) && !others {
            crate::trace!(self, "group {group} alone had data that it has lost");
            self.oracle.lose();
        }
    }

    /// Which groups can serve a read of these blocks, now.
    pub fn who_serves(&self, first: usize, len: usize) -> Serving {
        let core = mirror::World::core(self);
        let view = core.view();
        let unit = BLOCK_SECTORS / mirror::World::block_sectors(self);
        let (from, count) = (first as u64 * unit, len as u64 * unit);
        let has_it = |&group: &GroupId| {
            let g = core.group(group);
            let health = g.health();
            let is_good = match view.state(group) {
                GroupState::InSync => true,
                GroupState::Faulty => {
                    let fault = g.fault();
                    matches!(fault, Some(GroupFault::Refused(_) | GroupFault::Resync))
                        && !health.is_unmarked()
                        && !health.is_unproved()
                        && !health.is_checking()
                        && !g.is_suspect(mirror::World::now_ms(self))
                        && !mirror::World::is_marked(self, group, from, count)
                }
                GroupState::Absent | GroupState::Resyncing => false,
            };
            let server = &self.servers[group];
            let is_there = server.power() == Power::On && !server.is_cut();
            is_good && is_there && !g.up().is_empty() && server.can_read(first, len)
        };
        Serving {
            groups: self.scale.all_groups().filter(has_it).collect(),
            view,
            troubles: self.troubles.load(Relaxed),
            trips: self.channels.iter().map(Channel::trip).collect(),
        }
    }

    /// What the groups are to a read of these blocks, for people.
    pub fn who_has(&self, first: usize, len: usize) -> String {
        let core = mirror::World::core(self);
        let tell = |group: GroupId| {
            let g = core.group(group);
            let (state, fault) = (core.view().state(group), g.fault());
            let (health, up) = (g.health(), g.up().bits());
            let is_marked = mirror::World::is_marked(self, group, first as u64, len as u64);
            let can_read = self.servers[group].can_read(first, len);
            format!("[{group}: {state:?} {fault:?} {health:x?} up {up} marked {is_marked} readable {can_read}]")
        };
        self.scale.all_groups().map(tell).collect()
    }

    /// Where a connection of `group` leads.
    pub fn server(&self, group: GroupId, goal: Goal) -> &Server {
        match goal {
            Goal::Right => &self.servers[group],
            Goal::Stray => self.wiring[group].stray(),
        }
    }

    /// Whether enbd can know that the server of `group`, whose store it knows, is another one if it
    /// finds `content`: whichever of the places it remembers it asks for, some differ.
    pub fn is_knowable(&self, group: GroupId, content: &[Value]) -> bool {
        let is_claimed = |block: usize| {
            let span = Span::new(block as u64 * BLOCK_SECTORS, BLOCK_SECTORS);
            self.claims.iter().any(|claim| claim.blocks(span))
        };
        let pieces: Vec<_> = self.evidence.pieces(0).collect();
        let asked = |block: &usize| {
            let tells = |piece: &&Piece| piece.chunk == *block as u64 && piece.sum != Sum::ZEROES;
            let piece = pieces.iter().find(tells);
            piece.filter(|piece| must_hold(self, group, piece.chunk))
        };
        let differs = |block: &usize| {
            let is_other = |piece: &Piece| piece.sum != sum_of(content[*block]);
            asked(block).is_some_and(is_other) && !is_claimed(*block)
        };
        let blocks = content.len() - RING;
        let differing = (0..blocks).filter(differs).count();
        let alike = (0..blocks).filter_map(|block| asked(&block)).count() - differing;
        // One place is the superblock's.
        let others = LATEST + ZEROES + usize::from(self.scale.memory);
        differing >= KNOWABLE && alike < PLACES - others
    }

    /// Whether a store that is not the one that `group` had may have been written to, or compared,
    /// since the group was last copied as a whole.
    pub fn may_differ(&self, group: GroupId) -> bool {
        self.strange[group].load(Relaxed) != self.accounted[group].load(Relaxed)
    }

    fn lacks_page(&self) -> bool {
        thread_rng().gen_ratio(self.scale.no_page, 1000)
    }
}

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

    fn largest_request(&self, _group: GroupId) -> u32 {
        CHUNK_BYTES
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

    fn owner_check_s(&self) -> u64 {
        0
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
        let value = self.blocks.number(bytes);
        (!self.lacks_page()).then(|| Buffer::Pages(Pages::new(StdMutex::new(vec![value]))))
    }

    fn content(&self, buffer: &Buffer, from: u32, to: &mut [u8]) -> bool {
        let at = (from / CHUNK_BYTES) as usize;
        let value = buffer.values(at + 1).get(at).copied();
        let (Some(value), Ok(to)) = (value, to.try_into()) else {
            return false;
        };
        self.blocks.bytes(value, to);
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
        // Two failures at once: what was taken out of service had everything, and what is left has
        // crashed. In the first case enbd cannot know yet, in the second one it says so.
        let is_lossy = |g: GroupId| self.lossy[g].load(Relaxed);
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

impl Site for World {
    type Pages = Pages;
    type Spare = Option<Page>;

    fn buffer(&self, pages: &Pages) -> Buffer {
        Buffer::Pages(pages.clone())
    }

    fn renew(&self, _pages: &mut Pages, may_wait: bool) -> bool {
        may_wait || !self.lacks_page()
    }

    fn is_same(&self, a: &Pages, b: &Pages, _len: usize) -> bool {
        *a.lock().unwrap() == *b.lock().unwrap()
    }

    fn is_zeroes(&self, pages: &Pages, len: usize) -> bool {
        let blocks = len / CHUNK_BYTES as usize;
        let pages = pages.lock().unwrap();
        pages.iter().take(blocks).all(|&value| value == 0)
    }

    fn now_ns(&self) -> u64 {
        self.clock.now_ms() * 1_000_000
    }

    fn wait_resync(&self, ms: u32, holds: impl FnMut() -> bool) -> bool {
        self.clock.wait(u64::from(ms), holds)
    }

    fn bounds(&self) -> Bounds {
        Bounds { min: 0, max: 0 }
    }

    fn users(&self) -> Users {
        if self.load.load(Relaxed) > 0 {
            Users::Busy
        } else {
            Users::Quiet
        }
    }

    fn max_bytes(&self) -> u64 {
        // Windows of a few blocks, so that there are several.
        4 * BLOCK_SECTORS * 512
    }

    fn dirty(&self, group: GroupId) -> u64 {
        self.maps[group].lock().unwrap().dirty()
    }

    fn next_dirty(&self, group: GroupId, from: u64, max: u64) -> Option<Run> {
        self.maps[group].lock().unwrap().next_dirty(from, max)
    }

    fn clear_blocks(&self, group: GroupId, run: Run, still: impl FnOnce() -> bool) {
        let mut map = self.maps[group].lock().unwrap();
        if still() {
            crate::trace!(self, "group {group} got blocks {}+{}", run.first, run.len);
            map.clear(run.first, run.len, &mut drop);
        }
    }

    fn refill(&self, spare: &mut Option<Page>, may_wait: bool) -> bool {
        if spare.is_none() && (may_wait || !self.lacks_page()) {
            *spare = Some(Page::new());
        }
        spare.is_some()
    }

    fn refine(&self, group: GroupId, block: u64, spare: &mut Option<Page>) -> bool {
        let mut map = self.maps[group].lock().unwrap();
        if !map.is_coarse(block) {
            return true;
        }
        let Some(page) = spare.take() else {
            return false;
        };
        *spare = map.refine(block, page).err();
        true
    }
}
