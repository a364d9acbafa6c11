// SPDX-License-Identifier: GPL-2.0

//! The world of a mirror, on the host: what the driver is to it in the kernel.

mod driver;
mod site;

use crate::channel::{Channel, Trip};
use crate::clock::Clock;
use crate::hosts::Hosts;
use crate::late::Late;
use crate::logic::{
    barrier::{Claim, Span},
    bitmap::{slots_for, DirtyMap, Leaf, Slot, LEAF_WORDS},
    evidence::{self, Evidence, Piece, Sum, LATEST},
    group::{GroupFault, GroupState, View},
    ids::{ChannelId, GroupId},
    meta::{
        bytes::Block,
        marks::{words_for, Marks},
        Found, BLOCK,
    },
    mirror::{
        self,
        proof::{must_hold, PLACES, ZEROES},
        Copies, Core, Memory, Route, States, Trial,
    },
    room::Room,
    unflushed::{Unflushed, WORDS},
    MAX_GROUPS,
};
use crate::oracle::Oracle;
use crate::quiet::Gate;
use crate::request::{Handle, BLOCK_SECTORS};
use crate::scale::Scale;
use crate::server::{Power, Server};
use crate::store::{Value, TAIL};
use crate::sync::Word;
use crate::table::{table, Table};
use crate::wiring::Wiring;
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

/// Regions that there may be.
const MOST_REGIONS: u64 = 64;

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
    /// What stays when this client is gone.
    pub hosts: Arc<Hosts>,
    pub channels: Vec<Channel>,
    pub tables: Vec<Table>,
    pub oracle: Arc<Oracle>,
    /// Where users stop, so that it gets quiet.
    pub gate: Gate,
    /// How often something went wrong, or was healed.
    pub troubles: AtomicU64,
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
    /// Where writes may be on their way.
    marks: Marks<Vec<Word>>,
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
    /// The client ends: all of its threads do.
    pub ending: AtomicBool,
    /// Its host has crashed.
    crashed: AtomicBool,
    /// The device is being disabled: what looks after it ends.
    closing: AtomicBool,
    /// There is memory for everything.
    roomy: AtomicBool,
    /// Which groups have a server.
    linked: Vec<AtomicBool>,
}

impl World {
    pub fn new(scale: Scale, hosts: Arc<Hosts>) -> Arc<Self> {
        let words = || (0..WORDS).map(|_| Word::new(0)).collect::<Vec<_>>();
        let map = || {
            let slots = (0..slots_for(scale.blocks as u64)).map(|_| Slot::Clean);
            DirtyMap::new(slots.collect::<Vec<_>>(), scale.blocks as u64).ok()
        };
        let world = Arc::new(Self {
            scale,
            channels: (0..scale.groups * scale.channels_each)
                .map(|i| Channel::new(i, i / scale.channels_each))
                .collect(),
            tables: (0..scale.groups).map(|_| table()).collect(),
            oracle: hosts.oracle.clone(),
            gate: Gate::default(),
            troubles: AtomicU64::new(0),
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
            marks: Marks::new((0..words_for(MOST_REGIONS)).map(|_| Word::new(0)).collect()),
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
            crashed: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            roomy: AtomicBool::new(false),
            linked: (0..scale.groups).map(|_| AtomicBool::new(false)).collect(),
            clock: hosts.clock.clone(),
            hosts,
        });
        assert!(scale.groups <= MAX_GROUPS);
        for group in scale.all_groups() {
            let g = mirror::World::core(&*world).group(group);
            g.set_single(!scale.multi_conn);
            for channel in ChannelId::all().take(scale.groups * scale.channels_each) {
                g.set_apart(channel, !scale.multi_conn);
            }
        }
        world
    }

    /// The world of the first client: all groups hold the same, and the device is enabled.
    pub fn first(scale: Scale, hosts: Arc<Hosts>) -> Arc<Self> {
        let world = Self::new(scale, hosts);
        for group in scale.all_groups() {
            world.set_linked(group, true);
            world.join(group).expect("the first time");
        }
        world.enabled();
        if scale.memory {
            crate::remember::create(&world);
        }
        world
    }

    /// The device is enabled.
    pub fn enabled(&self) {
        self.set_sectors(self.scale.blocks as u64 * BLOCK_SECTORS);
    }

    /// Whether a group has a server, where its channels connect to.
    pub fn is_linked(&self, group: GroupId) -> bool {
        self.linked[group].load(Relaxed)
    }

    pub fn set_linked(&self, group: GroupId, linked: bool) {
        self.linked[group].store(linked, Relaxed);
        self.clock.happened();
    }

    /// The client's host crashes: its threads go on until they notice, but nothing of what they do leaves it.
    pub fn crash(&self) {
        self.crashed.store(true, Relaxed);
        self.ending.store(true, Relaxed);
        let servers = self.hosts.servers.iter();
        let strays = self.hosts.wiring.iter().map(Wiring::stray);
        // No other thread goes on before all connections are lost: there is no word of shuttle's here.
        servers.chain(strays).for_each(Server::lose_client);
        self.forget_refused();
        self.clock.happened();
    }

    /// A later client does not know that a server which is in sync, as it is recorded, has refused a flush, and
    /// may show what it has failed to make durable for as long as its host does not crash, too. That is a hole
    /// (todo.rst): here it shows what it has made durable.
    fn forget_refused(&self) {
        let view = self.core.view();
        for group in view.readable().iter() {
            if self.hosts.servers[group].forget_refused() {
                self.hosts.loses(group, view);
            }
        }
    }

    /// Whether the device is being disabled, or the client ends.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Relaxed) || self.is_ending()
    }

    pub fn set_closing(&self, closing: bool) {
        self.closing.store(closing, Relaxed);
        self.clock.happened();
    }

    pub fn has_crashed(&self) -> bool {
        self.crashed.load(Relaxed)
    }

    /// Calls `f`, while there is memory for everything.
    pub fn with_room<R>(&self, f: impl FnOnce() -> R) -> R {
        self.roomy.store(true, Relaxed);
        let result = f();
        self.roomy.store(false, Relaxed);
        result
    }

    /// Drops what was held when the client's threads ended.
    pub fn drop_held(&self) {
        let queues = [&self.parked, &self.postponed, &self.kicked];
        let held: Vec<_> = (queues.iter())
            .flat_map(|queue| std::mem::take(&mut *queue.lock().unwrap()))
            .chain(std::mem::take(&mut *self.kept.lock().unwrap()))
            .collect();
        drop(held);
    }

    /// A number for a request, when one is free; nothing if the client has crashed.
    pub fn take_tag(&self) -> Option<u32> {
        let mut tag = None;
        self.clock.wait(u64::MAX, || {
            tag = self.free_tags.lock().unwrap().pop();
            tag.is_some() || self.has_crashed()
        });
        let tag = tag?;
        self.load.fetch_add(1, Relaxed);
        self.late.begins(tag, self.clock.now_ms());
        Some(tag)
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
        while !self.is_closing() {
            let mut request = None;
            self.clock.wait(1000, || {
                request = self.kicked.lock().unwrap().pop_front();
                request.is_some() || self.is_closing()
            });
            if let Some(request) = request {
                self.kick_all(self.route(request));
            }
        }
    }

    pub fn is_ending(&self) -> bool {
        self.ending.load(Relaxed)
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
            let server = &self.hosts.servers[group];
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
            let can_read = self.hosts.servers[group].can_read(first, len);
            format!("[{group}: {state:?} {fault:?} {health:x?} up {up} marked {is_marked} readable {can_read}]")
        };
        self.scale.all_groups().map(tell).collect()
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
        let blocks = content.len() - TAIL;
        let differing = (0..blocks).filter(differs).count();
        let alike = (0..blocks).filter_map(|block| asked(&block)).count() - differing;
        // One place is the superblock's.
        let others = LATEST + ZEROES + usize::from(self.scale.memory);
        differing >= KNOWABLE && alike < PLACES - others
    }

    fn lacks_page(&self) -> bool {
        // Who calls for that has time to try again.
        !self.roomy.load(Relaxed) && thread_rng().gen_ratio(self.scale.no_page, 1000)
    }
}
