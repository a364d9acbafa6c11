// SPDX-License-Identifier: GPL-2.0

//! The block layer.

pub(crate) mod mq;
