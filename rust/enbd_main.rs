// SPDX-License-Identifier: GPL-2.0

//! enbd: a block device mirrored over NBD servers, after the Enhanced Network Block Device of 1998
//! to 2007.
//!
//! The rooms, from the top; imports point down only:
//!
//! | room | what |
//! |---|---|
//! | [`procfs`] | /proc/nbdinfo: commands and status |
//! | [`device`] | a device's life: settings, channels, disk |
//! | [`resync`] | the thread that brings a group back |
//! | [`mirror`] | the groups of a device: fan-out, completion, faults, dirty maps |
//! | [`channel`] | one socket: connect, negotiate, send, receive |
//! | [`tidings`] | that something has changed, for programs that poll |
//! | [`wait`], [`sync`] | waiting, and the atomics of `logic` |
//! | [`kapi`] | safe bindings for what the kernel crate lacks; the only unsafe code |
//! | [`logic`] | decisions without a kernel |

#![deny(unsafe_code)]

use kernel::{prelude::*, sync::Arc};

mod channel;
mod device;
mod kapi;
// Its tests on the host use more of it than the driver does.
#[allow(dead_code, unused_imports)]
mod logic;
mod mirror;
mod procfs;
mod resync;
mod sync;
mod tidings;
mod wait;

module! {
    type: Enbd,
    name: "enbd",
    authors: ["The enbd authors"],
    description: "Block device mirrored over NBD servers",
    license: "GPL",
}

/// The module. The file goes first, so that no command comes any more; then the devices, none of
/// which is open, since an open device pins the module.
struct Enbd {
    file: Option<kapi::proc_fs::ProcFile<procfs::Registry>>,
    registry: Arc<procfs::Registry>,
}

impl kernel::Module for Enbd {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let tidings = Arc::pin_init(tidings::Tidings::new(), GFP_KERNEL)?;
        let registry = Arc::pin_init(procfs::Registry::new(tidings), GFP_KERNEL)?;
        let file = kapi::proc_fs::ProcFile::new(c"nbdinfo", registry.clone())?;
        Ok(Self {
            file: Some(file),
            registry,
        })
    }
}

impl Drop for Enbd {
    fn drop(&mut self) {
        drop(self.file.take());
        self.registry.clear();
    }
}
