// SPDX-License-Identifier: GPL-2.0

//! The Linux error numbers that the wire can lead to, positive.
//!
//! Source: include/uapi/asm-generic/errno-base.h and errno.h, as used by x86, arm64 and riscv.
//! They are repeated here since this room may import neither the kernel crate nor libc.

/// Operation not permitted.
pub const EPERM: i32 = 1;
/// No such file or directory.
pub const ENOENT: i32 = 2;
/// I/O error.
pub const EIO: i32 = 5;
/// Out of memory.
pub const ENOMEM: i32 = 12;
/// Permission denied.
pub const EACCES: i32 = 13;
/// Invalid argument.
pub const EINVAL: i32 = 22;
/// File too large.
pub const EFBIG: i32 = 27;
/// No space left on device.
pub const ENOSPC: i32 = 28;
/// File name too long.
pub const ENAMETOOLONG: i32 = 36;
/// Protocol error.
pub const EPROTO: i32 = 71;
/// Value too large for its data type.
pub const EOVERFLOW: i32 = 75;
/// Message too long.
pub const EMSGSIZE: i32 = 90;
/// Protocol not supported.
pub const EPROTONOSUPPORT: i32 = 93;
/// Operation not supported.
pub const EOPNOTSUPP: i32 = 95;
/// Connection reset by peer.
pub const ECONNRESET: i32 = 104;
/// Cannot send after transport endpoint shutdown.
pub const ESHUTDOWN: i32 = 108;
