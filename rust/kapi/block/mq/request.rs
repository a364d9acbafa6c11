// SPDX-License-Identifier: GPL-2.0

//! Started requests.
//!
//! A request that the block layer gave to the driver is in one of two hands:
//!
//! ```text
//!   queue_rq --> Shared x n --last one dropped--> Owned --released(), end()--> the block layer
//!                  ^   |                           | |
//!                  |   +----- try_into_owned() ----+ +---------- requeue() ---> the block layer
//!                  +------------ share() ----------+
//! ```
//!
//! C header: [`include/linux/blk-mq.h`](srctree/include/linux/blk-mq.h)

use super::Operations;
use crate::kapi::{bindings, bounce::Bounce};
use core::{cell::UnsafeCell, marker::PhantomData, ops::ControlFlow, ptr::NonNull};
use kernel::{
    prelude::*,
    sync::atomic::ordering,
    sync::{Arc, ArcBorrow, Refcount},
    types::ForeignOwnable,
};

/// What is behind each `struct request`: the count of [`Shared`] handles, the copy of the request's
/// data, then the driver's own data.
#[repr(C)]
pub(super) struct Pdu<P> {
    shares: Refcount,
    /// Written to by who has the request alone, read by who shares it.
    bounce: UnsafeCell<Option<Bounce>>,
    driver: P,
}

impl<P> Pdu<P> {
    /// That of a request that the driver does not have.
    pub(super) fn new(driver: P) -> Self {
        Self {
            shares: Refcount::new(0),
            bounce: UnsafeCell::new(None),
            driver,
        }
    }
}

/// The operation that a request asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Op {
    /// Read into the request's pages.
    Read,
    /// Write the request's pages.
    Write,
    /// Make what was written before durable.
    Flush,
    /// The range's content is no longer needed.
    Discard,
    /// The range becomes zeroes.
    WriteZeroes,
    /// Something that the driver does not know.
    Other,
}

/// A started request.
///
/// # Invariants
///
/// `0` is a request that the block layer gave to the driver of `T` and that has not been ended. Its
/// PDU is initialised.
struct Started<T: Operations>(NonNull<bindings::request>, PhantomData<fn() -> T>);

impl<T: Operations> Started<T> {
    fn rq(&self) -> *mut bindings::request {
        self.0.as_ptr()
    }

    fn pdu(&self) -> &Pdu<T::Pdu> {
        // SAFETY: By the type invariant the PDU, which lies behind the request, is initialised, and
        // it lives as long as the tag set, which outlives the request.
        unsafe { &*self.rq().add(1).cast::<Pdu<T::Pdu>>() }
    }

    fn op(&self) -> Op {
        // SAFETY: By the type invariant; `cmd_flags` does not change while the request is started.
        let op = unsafe { (*self.rq()).cmd_flags } & bindings::ENBD_REQ_OP_MASK;
        match op {
            bindings::req_op_REQ_OP_READ => Op::Read,
            bindings::req_op_REQ_OP_WRITE => Op::Write,
            bindings::req_op_REQ_OP_FLUSH => Op::Flush,
            bindings::req_op_REQ_OP_DISCARD => Op::Discard,
            bindings::req_op_REQ_OP_WRITE_ZEROES => Op::WriteZeroes,
            _ => Op::Other,
        }
    }

    fn bytes(&self) -> u32 {
        // SAFETY: By the type invariant; it changes only when the request is ended.
        unsafe { (*self.rq()).__data_len }
    }

    /// Calls `f` with each piece of the request's memory until it says that it is enough. Only
    /// reads and writes have any.
    fn each_vec(&self, mut f: impl FnMut(bindings::bio_vec) -> ControlFlow<()>) {
        if !matches!(self.op(), Op::Read | Op::Write) {
            return;
        }
        // SAFETY: By the type invariant the request and its bios stay until the request is ended.
        let mut bio = unsafe { (*self.rq()).bio };
        while !bio.is_null() {
            // SAFETY: As above; `bio` is one of the request's.
            let (mut left, mut idx, mut skip, vecs, next) = unsafe {
                let iter = (*bio).bi_iter;
                let vecs = (*bio).bi_io_vec;
                (
                    iter.bi_size as usize,
                    iter.bi_idx as usize,
                    iter.bi_offset as usize,
                    vecs,
                    (*bio).bi_next,
                )
            };
            while left > 0 {
                // SAFETY: The bios of reads and writes have data: `bi_io_vec` holds entries, none of
                // them empty, for all `bi_size` bytes from `bi_idx` on.
                let mut vec = unsafe { *vecs.add(idx) };
                let len = (vec.bv_len as usize).saturating_sub(skip).min(left);
                vec.bv_offset = vec.bv_offset.wrapping_add(skip as u32);
                vec.bv_len = len as u32;
                left -= len;
                idx += 1;
                skip = 0;
                if f(vec).is_break() {
                    return;
                }
            }
            bio = next;
        }
    }
}

/// One of the handles to a started request.
///
/// # Invariants
///
/// It accounts for one of the PDU's `shares`.
pub(crate) struct Shared<T: Operations>(Started<T>);

// SAFETY: Requests may be used and ended on any CPU; the PDU is `Sync`, as `Operations` demands.
unsafe impl<T: Operations> Send for Shared<T> {}
// SAFETY: As above; `&Shared` only reads fields that do not change while the request is started.
unsafe impl<T: Operations> Sync for Shared<T> {}

/// The only handle to a started request.
///
/// # Invariants
///
/// The PDU's `shares` is zero.
pub(crate) struct Owned<T: Operations>(Started<T>);

// SAFETY: As for `Shared`.
unsafe impl<T: Operations> Send for Owned<T> {}

impl<T: Operations> Shared<T> {
    /// # Safety
    ///
    /// `rq` must be a request that the block layer just gave to the driver of `T` through
    /// `queue_rq`.
    pub(super) unsafe fn start(rq: NonNull<bindings::request>) -> Self {
        // SAFETY: By the safety requirements of this function.
        unsafe { bindings::blk_mq_start_request(rq.as_ptr()) };
        // INVARIANT: By the safety requirements of this function.
        Owned(Started(rq, PhantomData)).share()
    }

    /// The driver's data behind the request.
    pub(crate) fn pdu(&self) -> &T::Pdu {
        &self.0.pdu().driver
    }

    /// The number of the request in its tag set. No two requests that the driver has at one time
    /// share it.
    pub(crate) fn tag(&self) -> u32 {
        // SAFETY: By the type invariant; the tag of a started request does not change and is not
        // negative.
        unsafe { (*self.0.rq()).tag as u32 }
    }

    /// What it asks for.
    pub(crate) fn op(&self) -> Op {
        self.0.op()
    }

    /// Whether the write has to be durable when it ends.
    pub(crate) fn fua(&self) -> bool {
        // SAFETY: As in `op`.
        unsafe { (*self.0.rq()).cmd_flags & bindings::ENBD_REQ_FUA != 0 }
    }

    /// Whether zeroes must be backed by storage.
    pub(crate) fn no_unmap(&self) -> bool {
        // SAFETY: As in `op`.
        unsafe { (*self.0.rq()).cmd_flags & bindings::ENBD_REQ_NOUNMAP != 0 }
    }

    /// The first sector, in units of 512 bytes.
    pub(crate) fn sector(&self) -> u64 {
        // SAFETY: By the type invariant; it changes only when the request is ended.
        unsafe { (*self.0.rq()).__sector }
    }

    /// The length in bytes.
    pub(crate) fn bytes(&self) -> u32 {
        self.0.bytes()
    }

    /// Lets users ask the disk neither for discards nor for writes of zeroes any more. Those that were
    /// asked for before still come.
    pub(crate) fn withdraw_zeroes(&self) {
        // SAFETY: By the type invariant the request is started, so its queue exists. Who reads the two
        // limits meanwhile finds the old or the new number.
        unsafe { bindings::enbd_queue_disable_zeroes((*self.0.rq()).q) };
    }

    /// Whether it stands for zeroes, and has no data.
    pub(in crate::kapi) fn is_of_zeroes(&self) -> bool {
        matches!(self.op(), Op::Discard | Op::WriteZeroes)
    }

    /// Appends the memory that a read fills, from byte `from` on, to `out`, as far as its capacity
    /// and `limit` bytes go; gives the number of bytes appended: none if it is no read.
    pub(in crate::kapi) fn segments_to_fill(
        &self,
        mut from: usize,
        limit: usize,
        out: &mut KVec<bindings::bio_vec>,
    ) -> usize {
        let mut added = 0usize;
        if self.op() != Op::Read {
            return added;
        }
        self.0.each_vec(|mut vec| {
            let whole = vec.bv_len as usize;
            let passed = from.min(whole);
            from -= passed;
            let len = (whole - passed).min(limit - added);
            if len > 0 {
                vec.bv_offset = vec.bv_offset.wrapping_add(passed as u32);
                vec.bv_len = len as u32;
                if out.push_within_capacity(vec).is_err() {
                    return ControlFlow::Break(());
                }
                added += len;
            }
            if added == limit {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        added
    }

    /// The copy of its data that the driver has made, if it has.
    pub(crate) fn bounce(&self) -> Option<&Bounce> {
        // SAFETY: Written to only through `Owned`, which does not exist while there are shares.
        unsafe { &*self.0.pdu().bounce.get() }.as_ref()
    }

    /// Gives up the share; the request alone if it was the last one. To be called once.
    fn give_up(&self) -> Option<Owned<T>> {
        // What each holder did comes before what is done with the request afterwards. A count that
        // has overflown never gets here, so that its request never ends.
        let was_last = self.0.pdu().shares.dec_and_test();
        // INVARIANT: The last share was given up just now.
        was_last.then(|| Owned(Started(self.0 .0, PhantomData)))
    }

    /// The request alone, if this is the only handle to it; else the handle as it was.
    pub(crate) fn try_into_owned(self) -> Result<Owned<T>, Self> {
        // `Refcount` has nothing that leaves the count as it was. Full ordering: as in `give_up`.
        let shares = self.0.pdu().shares.as_atomic();
        if shares.cmpxchg(1, 0, ordering::Full).is_err() {
            return Err(self);
        }
        let rq = self.0 .0;
        core::mem::forget(self);
        // INVARIANT: The last share was given up just now.
        Ok(Owned(Started(rq, PhantomData)))
    }
}

impl<T: Operations> Clone for Shared<T> {
    fn clone(&self) -> Self {
        // Whoever clones has a share already, so nothing has to be ordered.
        self.0.pdu().shares.inc();
        // INVARIANT: Counted just now.
        Self(Started(self.0 .0, PhantomData))
    }
}

impl<T: Operations> Drop for Shared<T> {
    fn drop(&mut self) {
        let Some(mut owned) = self.give_up() else {
            return;
        };
        // SAFETY: By the type invariant the request is started, and it is ended only below, where
        // `data` is used no more: `del_gendisk` waits for it, and `GenDisk` frees the data after
        // that.
        let data = unsafe { queue_data((*owned.0.rq()).q) };
        let result = T::released(data, Released(&mut owned));
        owned.end(result);
    }
}

/// The driver's data of a queue.
///
/// # Safety
///
/// `q` must be the queue of a [`super::GenDisk`] with data of type `D`, and must outlive the
/// result.
pub(super) unsafe fn queue_data<'a, D: 'static>(
    q: *mut bindings::request_queue,
) -> ArcBorrow<'a, D> {
    // SAFETY: By the safety requirements of this function; `GenDisk` made `queuedata` with
    // `into_foreign`.
    unsafe { <Arc<D> as ForeignOwnable>::borrow((*q).queuedata) }
}

impl<T: Operations> Owned<T> {
    /// Shares the request again, to send it anew.
    pub(crate) fn share(self) -> Shared<T> {
        let rq = self.0 .0;
        core::mem::forget(self);
        let started = Started(rq, PhantomData);
        started.pdu().shares.set(1);
        // INVARIANT: Counted just now.
        Shared(started)
    }

    /// What it asks for.
    pub(crate) fn op(&self) -> Op {
        self.0.op()
    }

    /// The length in bytes.
    pub(crate) fn bytes(&self) -> u32 {
        self.0.bytes()
    }

    /// The copy of the request's data, to be set or taken. One that is left is dropped with the
    /// request.
    pub(crate) fn bounce_mut(&mut self) -> &mut Option<Bounce> {
        // SAFETY: By the type invariant there are no shares, and `self` is borrowed alone.
        unsafe { &mut *self.0.pdu().bounce.get() }
    }

    /// Calls `f` with each piece of the memory that a read or a write has, and its length, for
    /// reading.
    pub(in crate::kapi) fn each_segment(&self, mut f: impl FnMut(bindings::iov_iter, usize)) {
        self.0.each_vec(|vec| {
            let mut iter = bindings::iov_iter::default();
            let len = vec.bv_len as usize;
            // SAFETY: `vec` describes `len` bytes, and outlives the use of `iter` by `f`.
            unsafe {
                bindings::iov_iter_bvec(&mut iter, bindings::ITER_SOURCE, &vec, 1, len);
            }
            f(iter, len);
            ControlFlow::Continue(())
        });
    }

    /// Gives the request back to the block layer, which brings it again some time after
    /// [`Released::kick_requeued`] was called for any request of the queue. Does not sleep.
    pub(crate) fn requeue(mut self) {
        drop(self.bounce_mut().take());
        let rq = self.0.rq();
        core::mem::forget(self);
        // SAFETY: By the type invariant the request is started, and nobody else has a handle to it.
        unsafe { bindings::blk_mq_requeue_request(rq, false) };
    }

    /// Ends the request: it belongs to the block layer again.
    fn end(mut self, result: Result) {
        self.end_raw(result);
        core::mem::forget(self);
    }

    /// To be called once, by who gives the handle up.
    fn end_raw(&mut self, result: Result) {
        drop(self.bounce_mut().take());
        let status = match result {
            Ok(()) => 0,
            // SAFETY: Only maps numbers.
            Err(e) => unsafe { bindings::errno_to_blk_status(e.to_errno()) },
        };
        // SAFETY: By the type invariant the request is started, and nobody else has a handle to it.
        // All callers give theirs up.
        unsafe { bindings::blk_mq_end_request(self.0.rq(), status) };
    }
}

/// A request that ends when the driver has said how. It cannot be ended or exchanged before.
pub(crate) struct Released<'a, T: Operations>(&'a mut Owned<T>);

impl<T: Operations> Released<'_, T> {
    /// The driver's data behind the request.
    pub(crate) fn pdu(&self) -> &T::Pdu {
        &self.0 .0.pdu().driver
    }

    /// The number of the request in its tag set.
    pub(crate) fn tag(&self) -> u32 {
        // SAFETY: As in `Shared::tag`.
        unsafe { (*self.0 .0.rq()).tag as u32 }
    }

    /// Takes the copy of the request's data, if there is one. One that is left is dropped with the
    /// request.
    pub(crate) fn take_bounce(&mut self) -> Option<Bounce> {
        self.0.bounce_mut().take()
    }

    /// Lets the block layer bring the requests that were given back to it. May be called anywhere.
    pub(crate) fn kick_requeued(&self) {
        // SAFETY: By the type invariant the request is started, so its queue exists.
        unsafe { bindings::blk_mq_kick_requeue_list((*self.0 .0.rq()).q) };
    }
}

impl<T: Operations> Drop for Owned<T> {
    fn drop(&mut self) {
        self.end_raw(Err(EIO));
    }
}
