// SPDX-License-Identifier: GPL-2.0

//! Started requests.
//!
//! A request that the block layer gave to the driver is in one of two hands:
//!
//! ```text
//!   queue_rq --> Shared x n --last one dropped--> Owned --end()--> the block layer
//!                  ^                               |
//!                  +------------ share() ----------+
//! ```
//!
//! C header: [`include/linux/blk-mq.h`](srctree/include/linux/blk-mq.h)

use super::Operations;
use crate::kapi::bindings;
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{
    prelude::*,
    sync::atomic::{ordering, Atomic},
    sync::{Arc, ArcBorrow},
    types::ForeignOwnable,
};

/// What is behind each `struct request`: the count of [`Shared`] handles, then the driver's own
/// data.
#[repr(C)]
pub(super) struct Pdu<P> {
    pub(super) shares: Atomic<u32>,
    pub(super) driver: P,
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
        // SAFETY: By the type invariant; `cmd_flags` does not change while the request is started.
        let op = unsafe { (*self.0.rq()).cmd_flags } & bindings::ENBD_REQ_OP_MASK;
        match op {
            bindings::req_op_REQ_OP_READ => Op::Read,
            bindings::req_op_REQ_OP_WRITE => Op::Write,
            bindings::req_op_REQ_OP_FLUSH => Op::Flush,
            bindings::req_op_REQ_OP_DISCARD => Op::Discard,
            bindings::req_op_REQ_OP_WRITE_ZEROES => Op::WriteZeroes,
            _ => Op::Other,
        }
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
        // SAFETY: As in `sector`.
        unsafe { (*self.0.rq()).__data_len }
    }

    /// Appends the request's memory from byte `from` on to `out`, as far as its capacity and
    /// `limit` bytes go; gives the number of bytes appended.
    pub(in crate::kapi) fn segments(
        &self,
        mut from: usize,
        limit: usize,
        out: &mut KVec<bindings::bio_vec>,
    ) -> usize {
        let mut added = 0usize;
        // SAFETY: By the type invariant the request and its bios stay until the request is ended.
        let mut bio = unsafe { (*self.0.rq()).bio };
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
                // SAFETY: `bi_io_vec` holds entries for all `bi_size` bytes from `bi_idx` on.
                let mut vec = unsafe { *vecs.add(idx) };
                let whole = (vec.bv_len as usize).saturating_sub(skip).min(left);
                left -= whole;
                idx += 1;
                let passed = from.min(whole);
                from -= passed;
                let len = (whole - passed).min(limit - added);
                if len > 0 {
                    vec.bv_offset = vec.bv_offset.wrapping_add((skip + passed) as u32);
                    vec.bv_len = len as u32;
                    if out.push_within_capacity(vec).is_err() {
                        return added;
                    }
                    added += len;
                }
                skip = 0;
                if added == limit {
                    return added;
                }
            }
            bio = next;
        }
        added
    }

    /// Gives up the share; the request alone if it was the last one. To be called once.
    fn give_up(&self) -> Option<Owned<T>> {
        // Full ordering: what each holder did comes before what is done with the request
        // afterwards.
        let was_last = self.0.pdu().shares.fetch_sub(1, ordering::Full) == 1;
        // INVARIANT: The last share was given up just now.
        was_last.then(|| Owned(Started(self.0 .0, PhantomData)))
    }

    /// The request alone, if this is the only handle to it; else the handle is given up.
    pub(crate) fn into_owned(self) -> Option<Owned<T>> {
        let owned = self.give_up();
        core::mem::forget(self);
        owned
    }
}

impl<T: Operations> Clone for Shared<T> {
    fn clone(&self) -> Self {
        // Whoever clones has a share already, so nothing has to be ordered.
        self.0.pdu().shares.add(1, ordering::Relaxed);
        // INVARIANT: Counted just now.
        Self(Started(self.0 .0, PhantomData))
    }
}

impl<T: Operations> Drop for Shared<T> {
    fn drop(&mut self) {
        let Some(owned) = self.give_up() else {
            return;
        };
        // SAFETY: By the type invariant the request is started, so its queue, whose data `GenDisk`
        // set, exists.
        let data = unsafe { queue_data((*owned.0.rq()).q) };
        T::released(data, owned);
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
        started.pdu().shares.store(1, ordering::Relaxed);
        // INVARIANT: Counted just now.
        Shared(started)
    }

    /// The driver's data behind the request.
    pub(crate) fn pdu(&self) -> &T::Pdu {
        &self.0.pdu().driver
    }

    /// The number of the request in its tag set.
    pub(crate) fn tag(&self) -> u32 {
        // SAFETY: As in `Shared::tag`.
        unsafe { (*self.0.rq()).tag as u32 }
    }

    /// Gives the request back to the block layer, which brings it again some time after
    /// [`Owned::kick_requeued`] was called for any request of the queue. Does not sleep.
    pub(crate) fn requeue(self) {
        let rq = self.0.rq();
        core::mem::forget(self);
        // SAFETY: By the type invariant the request is started, and nobody else has a handle to it.
        unsafe { bindings::blk_mq_requeue_request(rq, false) };
    }

    /// Lets the block layer bring the requests that were given back to it. May be called anywhere.
    pub(crate) fn kick_requeued(&self) {
        // SAFETY: By the type invariant the request is started, so its queue exists.
        unsafe { bindings::blk_mq_kick_requeue_list((*self.0.rq()).q) };
    }

    /// Ends the request: it belongs to the block layer again.
    pub(crate) fn end(self, result: Result) {
        let rq = self.0.rq();
        core::mem::forget(self);
        Self::end_raw(rq, result);
    }

    fn end_raw(rq: *mut bindings::request, result: Result) {
        let status = match result {
            Ok(()) => 0,
            // SAFETY: Only maps numbers.
            Err(e) => unsafe { bindings::errno_to_blk_status(e.to_errno()) },
        };
        // SAFETY: By the type invariant of `Owned` the request is started, and nobody else has a
        // handle to it. All callers give theirs up.
        unsafe { bindings::blk_mq_end_request(rq, status) };
    }
}

impl<T: Operations> Drop for Owned<T> {
    fn drop(&mut self) {
        Self::end_raw(self.0.rq(), Err(EIO));
    }
}
