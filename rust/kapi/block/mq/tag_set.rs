// SPDX-License-Identifier: GPL-2.0

//! Tag sets.
//!
//! C header: [`include/linux/blk-mq.h`](srctree/include/linux/blk-mq.h)

use super::operations::Callbacks;
use super::{request::Pdu, Operations};
use crate::kapi::bindings;
use core::{
    marker::PhantomData,
    mem::{align_of, size_of},
    pin::Pin,
};
use kernel::{error::to_result, prelude::*, types::Opaque};
use pin_init::PinInit;

/// The requests of a disk, numbered from 0 over all its hardware queues, with the driver's data
/// behind each.
///
/// # Invariants
///
/// `inner` is an allocated tag set whose requests have room for a `Pdu<T::Pdu>`.
#[pin_data(PinnedDrop)]
pub(crate) struct TagSet<T: Operations> {
    #[pin]
    inner: Opaque<bindings::blk_mq_tag_set>,
    _ops: PhantomData<fn() -> T>,
}

impl<T: Operations> TagSet<T> {
    /// `depth` requests, which all CPUs share.
    pub(crate) fn new(depth: u32) -> impl PinInit<Self, Error> {
        // The block layer puts the PDU right behind the request.
        const {
            assert!(align_of::<Pdu<T::Pdu>>() <= align_of::<bindings::request>());
        }
        let cmd_size = size_of::<Pdu<T::Pdu>>() as u32;
        try_pin_init!(Self {
            inner <- Opaque::try_ffi_init(move |slot: *mut bindings::blk_mq_tag_set| {
                let set = bindings::blk_mq_tag_set {
                    ops: Callbacks::<T>::MQ,
                    nr_hw_queues: 1,
                    nr_maps: 1,
                    queue_depth: depth,
                    cmd_size,
                    numa_node: bindings::NUMA_NO_NODE,
                    flags: bindings::BLK_MQ_F_BLOCKING | bindings::BLK_MQ_F_NO_SCHED_BY_DEFAULT,
                    ..pin_init::zeroed()
                };
                // SAFETY: `slot` is valid for writing, and stays where it is since it is pinned.
                unsafe { slot.write(set) };
                // SAFETY: The fields that drivers set are set.
                to_result(unsafe { bindings::blk_mq_alloc_tag_set(slot) })
            }),
            _ops: PhantomData,
        })
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::blk_mq_tag_set {
        self.inner.get()
    }
}

#[pinned_drop]
impl<T: Operations> PinnedDrop for TagSet<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariant; disks keep a reference to their tag set, so none uses it
        // any more.
        unsafe { bindings::blk_mq_free_tag_set(self.inner.get()) };
    }
}

// SAFETY: Tag sets are internally synchronised.
unsafe impl<T: Operations> Sync for TagSet<T> {}
// SAFETY: Tag sets may be freed on any thread.
unsafe impl<T: Operations> Send for TagSet<T> {}
