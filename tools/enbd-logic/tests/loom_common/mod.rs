// SPDX-License-Identifier: GPL-2.0

//! The parts of `rust/mirror` and `rust/resync.rs` that use the barrier, as the models run them.
//!
//! Claims, windows, views and words are the driver's own. What surrounds them there is tied to the
//! kernel (request.rs: `claim()`, `park()`, `unpark()`; state.rs; mod.rs: `change_view()`), so it is
//! retold here, step by step in the same order. Each retold function takes the slip that it makes,
//! if any: a model that cannot fail shows nothing, and the slips show that it can.
//!
//! Two groups: 0 is in sync and the source, 1 is the one that returns. A server's block is an
//! atomic without ordering, so that a copy which nothing orders after a write reads the old value.

#![allow(dead_code)] // Each model uses its own part.

use enbd_logic::{
    logic::{
        barrier::{Claim, Span, Window, CHUNK_SECTORS},
        group::{GroupEvent, GroupSet, Refusal, View},
        ids::GroupId,
        MAX_GROUPS,
    },
    sync::Word,
};
use loom::{
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        Mutex,
    },
    thread::yield_now,
};

/// The group that is in sync throughout.
pub(crate) const SOURCE: GroupId = GroupId::new(0).unwrap();
/// The group that returns.
pub(crate) const TARGET: GroupId = GroupId::new(1).unwrap();

/// What a model gets wrong on purpose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Slip {
    None,
    /// The writer looks at the windows and only then claims.
    ClaimAfterWindows,
    /// The writer does not look at the view again after it has claimed.
    ViewBeforeClaim,
    /// The writer marks the map of the faulty group when its claim is gone.
    MarkAfterWithdraw,
    /// The resync waits for the claims and only then raises its window.
    RaiseAfterWait,
    /// The resync reads the map without waiting for writes of older views.
    NotSettled,
    /// A write is put aside without a second look at the windows.
    ParkBlindly,
    /// The resync clears what it copied without a look at the group's state.
    ClearBlindly,
    /// The resync looks for writes that were put aside and only then lowers its window.
    LowerAfterUnpark,
}

/// The chunk number `chunk`.
pub(crate) fn chunk(chunk: u64) -> Span {
    Span::new(chunk * CHUNK_SECTORS, CHUNK_SECTORS)
}

/// One block of both groups, and of the map of the group that returns.
#[derive(Default)]
pub(crate) struct Block {
    source: AtomicU64,
    target: AtomicU64,
    inside: AtomicBool,
    dirty: Mutex<bool>,
}

impl Block {
    /// A block that the returning group does not have; `dirty` if its map says so.
    pub(crate) fn stale(dirty: bool) -> Self {
        Self {
            source: AtomicU64::new(1),
            dirty: Mutex::new(dirty),
            ..Self::default()
        }
    }

    /// A block that both groups have.
    pub(crate) fn equal() -> Self {
        Self::default()
    }

    fn enter(&self) {
        let others = self.inside.swap(true, Relaxed);
        assert!(!others, "a write and a copy at once");
    }

    fn leave(&self) {
        self.inside.swap(false, Relaxed);
    }

    /// A write, to the groups in `writable`.
    pub(crate) fn write(&self, value: u64, writable: GroupSet) {
        self.enter();
        self.source.store(value, Relaxed);
        if writable.has(TARGET) {
            self.target.store(value, Relaxed);
        }
        self.leave();
    }

    /// The returning server forgets what it had not made durable.
    pub(crate) fn forget(&self) {
        self.target.store(0, Relaxed);
    }

    /// Whether the map knows of every difference.
    pub(crate) fn is_accounted_for(&self) -> bool {
        self.is_dirty() || self.source.load(Relaxed) == self.target.load(Relaxed)
    }

    fn copy(&self) {
        self.enter();
        let value = self.source.load(Relaxed);
        self.target.store(value, Relaxed);
        self.leave();
    }

    pub(crate) fn mark(&self) {
        *self.dirty.lock().unwrap() = true;
    }

    pub(crate) fn is_dirty(&self) -> bool {
        *self.dirty.lock().unwrap()
    }

    /// To be asked when all threads have ended.
    pub(crate) fn check(&self, value: u64) {
        assert_eq!(self.source.load(Relaxed), value, "the write is gone");
        let target = self.target.load(Relaxed);
        assert_eq!(target, value, "the mirrors differ");
        assert!(!self.is_dirty(), "a mark is left");
    }
}

/// The words of a device.
pub(crate) struct Mirror {
    view: Word,
    claims: [Claim; 2],
    windows: [Window; MAX_GROUPS],
    parked: Mutex<Vec<Parked>>,
    pub(crate) slip: Slip,
}

/// A write that waits for a window.
#[derive(Clone, Copy)]
pub(crate) struct Parked {
    pub(crate) tag: usize,
    pub(crate) span: Span,
}

/// The view after `events`.
pub(crate) fn view_of(events: &[(GroupId, GroupEvent)]) -> View {
    events.iter().fold(View::default(), |view, (group, event)| {
        view.after(*group, *event).expect("a legal change")
    })
}

impl Mirror {
    /// A device with this view.
    pub(crate) fn new(events: &[(GroupId, GroupEvent)], slip: Slip) -> Self {
        Self {
            view: Word::new(view_of(events).bits()),
            claims: Default::default(),
            windows: Default::default(),
            parked: Mutex::new(Vec::new()),
            slip,
        }
    }

    pub(crate) fn view(&self) -> View {
        View::from_bits(self.view.load())
    }

    /// `Mirror::change_view()`.
    pub(crate) fn change(&self, group: GroupId, event: GroupEvent) -> Result<View, Refusal> {
        let mut old = self.view.load();
        loop {
            let new = View::from_bits(old).after(group, event)?;
            match self.view.compare_exchange(old, new.bits()) {
                Ok(_) => return Ok(new),
                Err(now) => old = now,
            }
        }
    }

    /// `Mirror::claim()`.
    pub(crate) fn claim(&self, tag: usize, span: Span) -> Option<View> {
        if self.slip == Slip::ClaimAfterWindows {
            let view = self.view();
            if self.is_held(view.resyncing(), span) {
                return None;
            }
            self.claims[tag].publish(span, view.epoch());
            return Some(view);
        }
        let mut view = self.view();
        loop {
            self.claims[tag].publish(span, view.epoch());
            if self.slip == Slip::ViewBeforeClaim {
                break;
            }
            let now = self.view();
            if now == view {
                break;
            }
            view = now;
        }
        if self.is_held(view.resyncing(), span) {
            self.withdraw(tag);
            return None;
        }
        Some(view)
    }

    pub(crate) fn withdraw(&self, tag: usize) {
        self.claims[tag].withdraw();
    }

    fn is_held(&self, resyncing: GroupSet, span: Span) -> bool {
        resyncing.iter().any(|g| g.pick(&self.windows).holds(span))
    }

    /// A claim for sure: waits for the windows.
    pub(crate) fn claim_patiently(&self, tag: usize, span: Span) -> View {
        loop {
            if let Some(view) = self.claim(tag, span) {
                return view;
            }
            while self.is_held(self.view().resyncing(), span) {
                yield_now();
            }
        }
    }

    /// `Mirror::park()`; false if the write has to be routed again.
    pub(crate) fn park(&self, write: Parked) -> bool {
        let mut parked = self.parked.lock().unwrap();
        if self.slip == Slip::ParkBlindly || self.is_held(self.view().resyncing(), write.span) {
            parked.push(write);
            return true;
        }
        false
    }

    /// `Mirror::unpark()`.
    pub(crate) fn unpark(&self, mut route: impl FnMut(Parked)) {
        let count = self.parked_now();
        for _ in 0..count {
            let write = {
                let mut parked = self.parked.lock().unwrap();
                if parked.is_empty() {
                    break;
                }
                parked.remove(0)
            };
            route(write);
        }
    }

    /// How many writes wait for a window.
    pub(crate) fn parked_now(&self) -> usize {
        self.parked.lock().unwrap().len()
    }

    /// `Mirror::is_settled()`, waited for.
    pub(crate) fn settle(&self, epoch: u32) {
        if self.slip == Slip::NotSettled {
            return;
        }
        while self.claims.iter().any(|claim| claim.age(epoch) != 0) {
            yield_now();
        }
    }

    /// Raises the window of `group` and waits until no write goes on in it.
    pub(crate) fn raise(&self, group: GroupId, span: Span) {
        if self.slip == Slip::RaiseAfterWait {
            self.wait_until_clear(span);
            group.pick(&self.windows).raise(span);
            return;
        }
        group.pick(&self.windows).raise(span);
        self.wait_until_clear(span);
    }

    /// Raises the window of `group`, and waits for nothing.
    pub(crate) fn raise_only(&self, group: GroupId, span: Span) {
        group.pick(&self.windows).raise(span);
    }

    fn wait_until_clear(&self, span: Span) {
        while self.claims.iter().any(|claim| claim.blocks(span)) {
            yield_now();
        }
    }

    pub(crate) fn lower(&self, group: GroupId) {
        group.pick(&self.windows).lower();
    }

    /// A window over `span`, which has these blocks, from its raising to its lowering.
    pub(crate) fn copy_window(&self, group: GroupId, span: Span, blocks: &[&Block]) {
        self.raise(group, span);
        for block in blocks {
            block.copy();
            self.clear(block);
        }
        self.lower(group);
    }

    /// `GroupMap::clear()`: a group that was faulted meanwhile keeps its marks.
    fn clear(&self, block: &Block) {
        let mut dirty = block.dirty.lock().unwrap();
        if self.slip == Slip::ClearBlindly || self.view().resyncing().has(TARGET) {
            *dirty = false;
        }
    }

    /// The walk of a resync over a device of one chunk, to its end: in sync, or faulty again.
    pub(crate) fn walk(&self, block: &Block) {
        let span = chunk(0);
        while self.view().resyncing().has(TARGET) {
            if block.is_dirty() {
                self.copy_window(TARGET, span, &[block]);
                continue;
            }
            self.raise(TARGET, span);
            let synced = !block.is_dirty() && self.change(TARGET, GroupEvent::Synced).is_ok();
            self.lower(TARGET);
            if synced {
                return;
            }
        }
    }
}

/// Runs `model` in every interleaving with at most `preemptions` switches that no wait asked for;
/// in every one at all if that is nothing.
pub(crate) fn explore(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(preemptions);
    builder.max_branches = 100_000;
    builder.check(model);
}
