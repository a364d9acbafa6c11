// SPDX-License-Identifier: GPL-2.0

//! The client's side of the NBD protocol, as bytes: what is sent, and what may come back.
//!
//! Shape: [`handshake`] is a state machine that is told what was sent and received; [`request`] and
//! [`reply`] turn one header each into bytes and back. None of them does I/O, allocates or waits.
//! Units: sizes and offsets are bytes; every number on the wire is big-endian.
//! Errors: everything that a server sends is foreign. What does not fit becomes a reason enum with
//! `as_str()` for the log and `errno()` for the caller; error numbers are positive, see [`errno`].
//! Source: doc/proto.md of NetworkBlockDevice/nbd, cited below by section title as "proto.md".
//! Of its options we use fixed newstyle, NBD_OPT_GO and NBD_OPT_ABORT: no TLS, no structured
//! replies, no extended headers, so every reply is a simple one.

pub mod errno;
mod export;
pub mod handshake;
mod reason;
pub mod reply;
pub mod request;
