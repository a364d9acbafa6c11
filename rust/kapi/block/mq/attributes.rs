// SPDX-License-Identifier: GPL-2.0

//! Files of a disk in sysfs, which can be read.
//!
//! C header: [`include/linux/sysfs.h`](srctree/include/linux/sysfs.h)

use super::{request::queue_data, Operations};
use crate::kapi::bindings;
use core::{
    fmt,
    ptr::{null, null_mut},
    slice,
};
use kernel::{error::from_result, ffi, page::PAGE_SIZE, prelude::*, str::NullTerminatedFormatter};

/// A file that is one of several of its kind.
pub(crate) struct Attribute<D: 'static> {
    /// How it is called.
    pub(crate) name: &'static CStr,
    /// Which of its kind it is.
    pub(crate) index: usize,
    /// Writes its value, without a newline. It may sleep, but not wait for who takes the disk away. What
    /// does not fit into a page is an error.
    pub(crate) show: fn(&D, usize, &mut dyn fmt::Write) -> fmt::Result,
}

/// An attribute, with what the kernel needs of it. That comes first, so that the one is found by the other.
#[repr(C)]
struct Entry<T: Operations> {
    raw: bindings::device_attribute,
    of: &'static Attribute<T::Data>,
}

/// What the kernel knows of the files of a disk.
///
/// # Invariants
///
/// `_list` has pointers to the elements of `_entries`, and then null; `_group` has one to that, and `groups`
/// one to that, and then null. None of them is changed or moved any more.
pub(super) struct Files<T: Operations> {
    _entries: KVec<Entry<T>>,
    _list: KVec<*mut bindings::attribute>,
    _group: KBox<bindings::attribute_group>,
    groups: KVec<*const bindings::attribute_group>,
}

impl<T: Operations> Files<T> {
    /// Those of [`Operations::ATTRIBUTES`].
    pub(super) fn new() -> Result<Self> {
        let count = T::ATTRIBUTES.len();
        let mut entries = KVec::with_capacity(count, GFP_KERNEL)?;
        let mut list = KVec::with_capacity(count.saturating_add(1), GFP_KERNEL)?;
        for of in T::ATTRIBUTES {
            let raw = bindings::device_attribute::default();
            entries.push(Entry { raw, of }, GFP_KERNEL)?;
        }
        for entry in &mut entries {
            // SAFETY: It is zeroes, and the name is there for ever.
            unsafe {
                bindings::enbd_attr_init(
                    &mut entry.raw,
                    entry.of.name.as_char_ptr(),
                    Some(show::<T>),
                )
            };
            list.push(&raw mut entry.raw.attr, GFP_KERNEL)?;
        }
        list.push(null_mut(), GFP_KERNEL)?;
        let mut group = KBox::new(bindings::attribute_group::default(), GFP_KERNEL)?;
        let dir = T::ATTRIBUTES_DIR.as_char_ptr();
        // SAFETY: It is zeroes; the list lives as long as it.
        unsafe { bindings::enbd_attr_group_init(&mut *group, dir, list.as_mut_ptr()) };
        let mut groups = KVec::with_capacity(2, GFP_KERNEL)?;
        groups.push(&raw const *group, GFP_KERNEL)?;
        groups.push(null(), GFP_KERNEL)?;
        // INVARIANT: As made above. What they point to is on the heap, and does not move with this.
        Ok(Self {
            _entries: entries,
            _list: list,
            _group: group,
            groups,
        })
    }

    /// For who adds a disk whose queue has data of `T`. It is read as long as the disk is there.
    pub(super) fn as_groups(&mut self) -> *mut *const bindings::attribute_group {
        self.groups.as_mut_ptr()
    }
}

/// # Safety
///
/// Only for sysfs, with the device of a disk that was added by [`super::GenDisk`] for `T`, the attribute of
/// an [`Entry`] of it, and a page of room.
unsafe extern "C" fn show<T: Operations>(
    device: *mut bindings::device,
    attribute: *mut bindings::device_attribute,
    buffer: *mut ffi::c_char,
) -> isize {
    // SAFETY: The entry begins with the attribute, and is there as long as the disk: taking that away waits
    // for this function.
    let of = unsafe { (*attribute.cast::<Entry<T>>()).of };
    // SAFETY: By the safety requirements of this function. The data is there as long as the disk.
    let data = unsafe { queue_data::<T::Data>(bindings::enbd_device_queue(device)) };
    // SAFETY: By the safety requirements of this function nobody else has that room.
    let room = unsafe { slice::from_raw_parts_mut(buffer.cast::<u8>(), PAGE_SIZE) };
    from_result(|| {
        let mut out = NullTerminatedFormatter::new(room).ok_or(EINVAL)?;
        let shown = (of.show)(&data, of.index, &mut out)
            .and_then(|()| fmt::Write::write_char(&mut out, '\n'));
        shown.map_err(|_| EOVERFLOW)?;
        let text = CStr::from_bytes_until_nul(room).map_err(|_| EOVERFLOW)?;
        Ok(text.to_bytes().len() as isize)
    })
}
