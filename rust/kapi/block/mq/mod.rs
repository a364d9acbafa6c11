// SPDX-License-Identifier: GPL-2.0

//! blk-mq for a driver that sends requests away and gets the answers later, several copies of one
//! request at once.
//!
//! | here | in C | what it is |
//! |---|---|---|
//! | [`Operations`] | `blk_mq_ops` and the disk's | what the driver does |
//! | [`Shared`] | `struct request` | a started request; clones count, and it ends with the last |
//! | [`Owned`] | `struct request` | the only handle to a started request |
//! | [`Released`] | `struct request` | the same, of a request that is about to end |
//! | [`TagSet`] | `struct blk_mq_tag_set` | requests, with the driver's data behind each |
//! | [`Limits`] | `struct queue_limits` | what requests the disk takes |
//! | [`GenDisk`] | `struct gendisk` | the disk that users see |
//! | [`Attribute`] | `struct device_attribute` | a file of the disk in sysfs |
//! | [`DiskDevice`] | its `struct device` | what programs hear of it |
//!
//! A driver that has a [`Shared`] may read the request and its pages; the block layer cannot get it
//! back meanwhile. When the last clone is dropped, [`Operations::released`] says how the request
//! ends. Who finds that he has the only clone may take the request as [`Owned`] before, to share and
//! send it anew or to give it back to the block layer. An [`Owned`] that is dropped ends with an I/O
//! error: a request is never lost and never ended twice.
//!
//! C header: [`include/linux/blk-mq.h`](srctree/include/linux/blk-mq.h)

mod attributes;
mod disk_device;
mod gen_disk;
mod limits;
mod operations;
mod request;
mod tag_set;

pub(crate) use attributes::Attribute;
pub(crate) use disk_device::DiskDevice;
pub(crate) use gen_disk::GenDisk;
pub(crate) use limits::Limits;
pub(crate) use operations::Operations;
pub(crate) use request::{Op, Owned, Released, Shared};
pub(crate) use tag_set::TagSet;
