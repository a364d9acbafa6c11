// SPDX-License-Identifier: GPL-2.0

//! Requests of the device's users, and the memory of transfers.

use crate::logic::mirror::{Carrier, Op, Pdu, Request, Route};
use crate::logic::room::{Lease, Room};
use crate::store::Value;
use crate::world::World;
use std::sync::{
    atomic::{AtomicBool, Ordering::Relaxed},
    Arc, Mutex,
};

/// What a user asks for.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    pub op: Op,
    /// The first block.
    pub first: usize,
    /// How many blocks; 0 for a flush.
    pub len: usize,
    pub fua: bool,
}

/// How a request ended: the blocks that were read, or a positive errno.
pub type Ending = Result<Vec<Value>, i32>;

/// Where the user finds how the request ended.
pub type Slip = Arc<Mutex<Option<Ending>>>;

/// The memory of a request, which its user holds, too.
pub type Memory = Arc<Mutex<Vec<Value>>>;

/// A request on its way. Its user is told when the last handle is dropped.
pub struct Rq {
    world: Arc<World>,
    wish: Wish,
    tag: u32,
    pdu: Pdu,
    data: Memory,
    /// The one copy of the data that all groups are sent, with the room that it has.
    copy: Mutex<Option<(Vec<Value>, Lease)>>,
    slip: Slip,
}

/// Sectors of a block.
pub const BLOCK_SECTORS: u64 = 8;

/// One of the handles to a request.
#[derive(Clone)]
pub struct Handle(Arc<Rq>);

impl Handle {
    pub fn new(world: &Arc<World>, wish: Wish, tag: u32, data: Memory, slip: Slip) -> Self {
        Self(Arc::new(Rq {
            world: world.clone(),
            wish,
            tag,
            pdu: Pdu::default(),
            data,
            copy: Mutex::new(None),
            slip,
        }))
    }

    pub fn data(&self) -> &Memory {
        &self.0.data
    }

    /// Takes the copy of its data that all groups are sent, if there is room for it until the request
    /// ends; whether there is.
    pub fn copy_once(&self, room: &Mutex<Room>) -> bool {
        let lease = room.lock().unwrap().take(self.0.wish.len as u32);
        let data = self.0.data.lock().unwrap().clone();
        *self.0.copy.lock().unwrap() = lease.map(|lease| (data, lease));
        lease.is_some()
    }

    /// What a write sends.
    fn values(&self) -> Vec<Value> {
        match &*self.0.copy.lock().unwrap() {
            Some((copy, _)) => copy.clone(),
            None => self.0.data.lock().unwrap().clone(),
        }
    }
}

impl Drop for Rq {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let data = std::mem::take(&mut *self.data.lock().unwrap());
        let result = self.world.result(&self.pdu, self.tag).map(|()| data);
        // Before those are asked that wait for room.
        if let Some((_, lease)) = self.copy.get_mut().unwrap().take() {
            let mut room = self.world.room.lock().unwrap();
            room.give_back(lease, self.wish.len as u32);
        }
        if self.world.take_postponed() {
            self.world.kick_postponed();
        }
        self.world.tag_is_free(self.tag);
        *self.slip.lock().unwrap() = Some(result);
        self.world.clock.happened();
    }
}

impl Request for Handle {
    fn op(&self) -> Op {
        self.0.wish.op
    }

    fn sector(&self) -> u64 {
        self.0.wish.first as u64 * BLOCK_SECTORS
    }

    fn bytes(&self) -> u32 {
        (self.0.wish.len as u64 * BLOCK_SECTORS * 512) as u32
    }

    fn tag(&self) -> u32 {
        self.0.tag
    }

    fn fua(&self) -> bool {
        self.0.wish.fua
    }

    fn no_unmap(&self) -> bool {
        false
    }

    fn pdu(&self) -> &Pdu {
        &self.0.pdu
    }

    // Users go on with it all the same.
    fn withdraw_zeroes(&self) {}
}

/// Memory of the device's own, as that of a window of a resync.
#[derive(Clone, Default)]
pub struct Pages(Arc<Own>);

#[derive(Default)]
struct Own {
    values: Mutex<Vec<Value>>,
    /// It was sent from: the network may have it still, so nothing can be received into it.
    is_given: AtomicBool,
}

impl Pages {
    /// Memory that holds these blocks.
    pub fn holding(values: Vec<Value>) -> Self {
        let pages = Self::default();
        *pages.0.values.lock().unwrap() = values;
        pages
    }

    /// The blocks in it.
    pub fn values(&self) -> Vec<Value> {
        self.0.values.lock().unwrap().clone()
    }

    fn fill(&self, values: Vec<Value>) {
        assert!(
            !self.0.is_given.load(Relaxed),
            "data is received into memory that was sent from"
        );
        *self.0.values.lock().unwrap() = values;
    }
}

/// The memory of a transfer.
#[derive(Clone)]
pub enum Buffer {
    Rq(Handle),
    Pages(Pages),
}

impl Buffer {
    /// The blocks in it.
    pub fn values(&self, len: usize) -> Vec<Value> {
        let mut values = match self {
            Self::Rq(rq) => rq.values(),
            Self::Pages(pages) => pages.values(),
        };
        values.truncate(len);
        values
    }

    /// Puts the blocks of a read there.
    pub fn fill(&self, values: Vec<Value>) {
        match self {
            Self::Rq(rq) => *rq.data().lock().unwrap() = values,
            Self::Pages(pages) => pages.fill(values),
        }
    }

    /// The blocks in it, which are sent.
    pub fn given(&self, len: usize) -> Vec<Value> {
        if let Self::Pages(pages) = self {
            pages.0.is_given.store(true, Relaxed);
        }
        self.values(len)
    }
}

impl Carrier for Buffer {
    type Request = Handle;

    fn of(request: Handle) -> Self {
        Self::Rq(request)
    }

    fn request(&self) -> Option<&Handle> {
        match self {
            Self::Rq(rq) => Some(rq),
            Self::Pages(_) => None,
        }
    }

    fn into_request(self) -> Option<Handle> {
        match self {
            Self::Rq(rq) => Some(rq),
            Self::Pages(_) => None,
        }
    }
}
