// SPDX-License-Identifier: GPL-2.0

//! enbd: a block device mirrored over NBD servers.

#![deny(unsafe_code)]
#![allow(dead_code)]

use kernel::prelude::*;

mod kapi;
mod sync;

module! {
    type: Enbd,
    name: "enbd",
    authors: ["The enbd authors"],
    description: "Block device mirrored over NBD servers",
    license: "GPL",
}

struct Enbd;

impl kernel::Module for Enbd {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        pr_info!("loaded\n");
        Ok(Self)
    }
}
