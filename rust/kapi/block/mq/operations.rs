// SPDX-License-Identifier: GPL-2.0

//! What a driver does, and the C callbacks that call it.
//!
//! C header: [`include/linux/blk-mq.h`](srctree/include/linux/blk-mq.h)

use super::attributes::Attribute;
use super::request::{queue_data, Pdu, Released, Shared};
use crate::kapi::bindings;
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{error::from_result, ffi, prelude::*, sync::ArcBorrow};

/// A block driver. All callbacks run in process context and may sleep.
pub(crate) trait Operations: Sized + 'static {
    /// The driver's data of a disk.
    type Data: Send + Sync + 'static;
    /// The driver's data behind each request. It lives as long as the tag set.
    type Pdu: Send + Sync + Default;
    /// The module that an open disk pins.
    type Owner: kernel::ModuleMetadata;

    /// The directory of [`Operations::ATTRIBUTES`] in that of the disk in sysfs.
    const ATTRIBUTES_DIR: &'static CStr;
    /// What programs can read there, from before they hear that the disk was added.
    const ATTRIBUTES: &'static [Attribute<Self::Data>];

    /// Takes a request, which has been started. `last` is false when another one follows at once.
    fn queue_rq(data: ArcBorrow<'_, Self::Data>, rq: Shared<Self>, last: bool);

    /// Says that what followed a request with `last == false` did not come.
    fn commit_rqs(data: ArcBorrow<'_, Self::Data>);

    /// The last [`Shared`] of the request was dropped: says how it ends. That happens afterwards,
    /// since it may let the disk go, and `data` with it.
    fn released(data: ArcBorrow<'_, Self::Data>, rq: Released<'_, Self>) -> Result;

    /// Somebody opens the disk.
    fn open(data: ArcBorrow<'_, Self::Data>) -> Result;
}

/// Holds the tables of C callbacks of `T`.
pub(super) struct Callbacks<T: Operations>(PhantomData<T>);

impl<T: Operations> Callbacks<T> {
    /// # Safety
    ///
    /// Only for blk-mq, which gives a valid `bd` with a request of a tag set of `T`, and its
    /// hardware queue.
    unsafe extern "C" fn queue_rq(
        hctx: *mut bindings::blk_mq_hw_ctx,
        bd: *const bindings::blk_mq_queue_data,
    ) -> bindings::blk_status_t {
        // SAFETY: By the safety requirements of this function.
        let (rq, last, q) = unsafe { ((*bd).rq, (*bd).last, (*hctx).queue) };
        let Some(rq) = NonNull::new(rq) else {
            return 0;
        };
        // SAFETY: blk-mq calls this under the SRCU of the tag set, which `GenDisk` waits for before
        // it frees the data: it is there until we return, whatever becomes of the request.
        let data = unsafe { queue_data(q) };
        // SAFETY: `queue_rq` gives the request to the driver.
        let rq = unsafe { Shared::start(rq) };
        T::queue_rq(data, rq, last);
        0
    }

    /// # Safety
    ///
    /// Only for blk-mq.
    unsafe extern "C" fn commit_rqs(hctx: *mut bindings::blk_mq_hw_ctx) {
        // SAFETY: The hardware queue is valid; the data is there as in `queue_rq`.
        let data = unsafe { queue_data((*hctx).queue) };
        T::commit_rqs(data);
    }

    /// Drivers of this kind keep their own time, since an answer may still come after a request was
    /// given up.
    ///
    /// # Safety
    ///
    /// Only for blk-mq.
    unsafe extern "C" fn timeout(_rq: *mut bindings::request) -> bindings::blk_eh_timer_return {
        bindings::blk_eh_timer_return_BLK_EH_RESET_TIMER
    }

    /// # Safety
    ///
    /// Only for blk-mq, which gives a request that has room for a `Pdu<T::Pdu>` behind it.
    unsafe extern "C" fn init_request(
        _set: *mut bindings::blk_mq_tag_set,
        rq: *mut bindings::request,
        _hctx_idx: ffi::c_uint,
        _numa_node: ffi::c_int,
    ) -> ffi::c_int {
        from_result(|| {
            let pdu = Pdu::new(T::Pdu::default());
            // SAFETY: By the safety requirements of this function.
            unsafe { rq.add(1).cast::<Pdu<T::Pdu>>().write(pdu) };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Only for blk-mq, with a request that `init_request` was called for.
    unsafe extern "C" fn exit_request(
        _set: *mut bindings::blk_mq_tag_set,
        rq: *mut bindings::request,
        _hctx_idx: ffi::c_uint,
    ) {
        // SAFETY: By the safety requirements of this function.
        unsafe { core::ptr::drop_in_place(rq.add(1).cast::<Pdu<T::Pdu>>()) };
    }

    /// # Safety
    ///
    /// Only for the block layer, on an added disk of [`super::GenDisk`], under its `open_mutex`.
    unsafe extern "C" fn open(
        disk: *mut bindings::gendisk,
        _mode: bindings::blk_mode_t,
    ) -> ffi::c_int {
        // SAFETY: The disk is live, so its queue and data are there.
        let data = unsafe { queue_data((*disk).queue) };
        from_result(|| T::open(data).map(|()| 0))
    }

    pub(super) const MQ: &'static bindings::blk_mq_ops = &bindings::blk_mq_ops {
        queue_rq: Some(Self::queue_rq),
        commit_rqs: Some(Self::commit_rqs),
        timeout: Some(Self::timeout),
        init_request: Some(Self::init_request),
        exit_request: Some(Self::exit_request),
        ..pin_init::zeroed()
    };

    pub(super) const DISK: &'static bindings::block_device_operations =
        &bindings::block_device_operations {
            open: Some(Self::open),
            owner: kernel::module::this_module::<T::Owner>().as_ptr(),
            ..pin_init::zeroed()
        };
}
