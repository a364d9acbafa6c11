// SPDX-License-Identifier: GPL-2.0

//! Network namespaces and kernel sockets.
//!
//! C header: [`include/linux/net.h`](srctree/include/linux/net.h)

use super::{bindings, scope::noreclaim};
use core::{
    net::{Ipv4Addr, Ipv6Addr},
    ptr,
};
use kernel::{error::to_result, prelude::*};

/// A network namespace, with a reference.
///
/// # Invariants
///
/// `0` is valid, and we own a reference to it.
pub(crate) struct Net(*mut bindings::net);

// SAFETY: Namespaces are reference counted and may be used from any thread.
unsafe impl Send for Net {}
// SAFETY: As above.
unsafe impl Sync for Net {}

impl Net {
    /// The namespace of the calling task; none if that is on its way out.
    pub(crate) fn current() -> Option<Self> {
        // SAFETY: Looks at the current task.
        let net = unsafe { bindings::enbd_get_current_net() };
        // INVARIANT: The helper has taken a reference. There must be no `Self` of NULL, not even one
        // that is dropped at once.
        (!net.is_null()).then(|| Self(net))
    }

    /// The number that the interface `name` has now, never 0; nothing if there is none.
    pub(crate) fn interface(&self, name: &[u8]) -> Option<u32> {
        let mut text = [0u8; bindings::IFNAMSIZ as usize];
        let (_, room) = text.split_last_mut()?;
        room.get_mut(..name.len())?.copy_from_slice(name);
        // SAFETY: The namespace is valid by the type invariant, and `text` ends with a NUL.
        let index = unsafe { bindings::enbd_net_ifindex(self.0, text.as_ptr().cast()) };
        u32::try_from(index).ok().filter(|&index| index != 0)
    }
}

impl PartialEq for Net {
    /// Whether both are one namespace.
    fn eq(&self, other: &Self) -> bool {
        // Neither is freed, and its place used again, while we hold references.
        ptr::eq(self.0, other.0)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::enbd_put_net(self.0) };
    }
}

/// Where to connect to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Endpoint<'a> {
    /// TCP over IPv4.
    Tcp4(Ipv4Addr, u16),
    /// TCP over IPv6, through the interface with this number; 0 for any.
    Tcp6(Ipv6Addr, u16, u32),
    /// A unix stream socket, by its path as the first process sees it.
    Unix(&'a [u8]),
}

/// The bytes of a `struct sockaddr_un`, the largest of those that we use.
const SOCKADDR_MAX: usize = 110;

#[repr(C, align(8))]
struct SockAddr {
    bytes: [u8; SOCKADDR_MAX],
    len: usize,
}

impl Endpoint<'_> {
    fn family(&self) -> Family {
        match self {
            Self::Tcp4(..) => Family::Inet,
            Self::Tcp6(..) => Family::Inet6,
            Self::Unix(_) => Family::Unix,
        }
    }

    /// The layouts are those of `sockaddr_in`, `sockaddr_in6` and `sockaddr_un` in the user API.
    fn to_sockaddr(self) -> Result<SockAddr> {
        let mut addr = SockAddr {
            bytes: [0; SOCKADDR_MAX],
            len: 0,
        };
        let mut put = |at: usize, data: &[u8]| -> Result {
            let end = at.checked_add(data.len()).ok_or(EINVAL)?;
            addr.bytes
                .get_mut(at..end)
                .ok_or(ENAMETOOLONG)?
                .copy_from_slice(data);
            addr.len = addr.len.max(end);
            Ok(())
        };
        put(0, &(self.family().to_raw() as u16).to_ne_bytes())?;
        match self {
            Self::Tcp4(ip, port) => {
                put(2, &port.to_be_bytes())?;
                put(4, &ip.octets())?;
                put(8, &[0; 8])?;
            }
            Self::Tcp6(ip, port, scope) => {
                put(2, &port.to_be_bytes())?;
                put(8, &ip.octets())?;
                put(24, &scope.to_ne_bytes())?;
            }
            Self::Unix(path) => {
                put(2, path)?;
                put(2 + path.len(), &[0])?;
            }
        }
        Ok(addr)
    }
}

/// A kernel stream socket that is fit to carry block I/O.
///
/// # Invariants
///
/// `0` is a valid socket that we own, of the family `1`.
pub(crate) struct Socket(*mut bindings::socket, Family);

/// The family of a socket, and of what it connects to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Family {
    Inet,
    Inet6,
    Unix,
}

impl Family {
    fn to_raw(self) -> u32 {
        match self {
            Self::Inet => bindings::AF_INET,
            Self::Inet6 => bindings::AF_INET6,
            Self::Unix => bindings::AF_UNIX,
        }
    }

    fn protocol(self) -> u32 {
        match self {
            Self::Inet | Self::Inet6 => bindings::IPPROTO_TCP,
            Self::Unix => 0,
        }
    }
}

// SAFETY: Sockets are internally synchronised.
unsafe impl Send for Socket {}
// SAFETY: As above.
unsafe impl Sync for Socket {}

impl Socket {
    /// A new socket in `net`, not connected, of the kind that `to` needs.
    pub(crate) fn new(net: &Net, to: Endpoint<'_>) -> Result<Self> {
        let mut sock = ptr::null_mut();
        let family = to.family();
        // SAFETY: `net` is valid, and `sock` takes the result.
        to_result(unsafe {
            bindings::sock_create_kern(
                net.0,
                family.to_raw() as i32,
                bindings::sock_type_SOCK_STREAM as i32,
                family.protocol() as i32,
                &mut sock,
            )
        })?;
        // SAFETY: Fresh and valid.
        unsafe { bindings::enbd_sock_prepare(sock) };
        // INVARIANT: As made above.
        Ok(Self(sock, family))
    }

    /// Whether it takes pages instead of copying them.
    pub(super) fn takes_pages(&self) -> bool {
        self.1 != Family::Unix
    }

    /// How long a receive and a send (or connect) may wait, in milliseconds; 0 for no limit.
    pub(crate) fn set_timeouts(&self, recv_ms: u32, send_ms: u32) {
        // SAFETY: By the type invariant.
        unsafe { bindings::enbd_sock_set_timeouts(self.0, recv_ms, send_ms) };
    }

    /// How long the connection may be idle, in seconds, until the other side's kernel is asked whether
    /// it is there still, how often it is asked, and how many questions may go unanswered. Each from 1
    /// to 127; others change nothing. Nothing is asked over a unix socket.
    pub(crate) fn set_keepalive(&self, idle_s: u8, interval_s: u8, count: u8) {
        let (idle_s, interval_s, count) = (idle_s.into(), interval_s.into(), count.into());
        // SAFETY: By the type invariant.
        unsafe { bindings::enbd_sock_set_keepalive(self.0, idle_s, interval_s, count) };
    }

    /// Connects; EINPROGRESS when the send timeout ran out before, EAFNOSUPPORT if the socket is of
    /// another family. The path of a unix socket is looked up in the root of the calling task, of
    /// a kernel thread in that of the first process.
    pub(crate) fn connect(&self, to: Endpoint<'_>) -> Result {
        if to.family() != self.1 {
            return Err(EAFNOSUPPORT);
        }
        let mut addr = to.to_sockaddr()?;
        let len = addr.len as i32;
        // SAFETY: `addr` holds `len` bytes of an address of the socket's family. The protocols get a
        // copy in a `sockaddr_storage`, so that what they write behind its end is not ours.
        to_result(unsafe {
            bindings::enbd_sock_connect(self.0, ptr::from_mut(&mut addr.bytes).cast(), len)
        })
    }

    /// Sends no more: the other side sees the end, and may still answer what it got.
    pub(crate) fn shutdown_send(&self) {
        // SAFETY: By the type invariant.
        unsafe {
            bindings::kernel_sock_shutdown(self.0, bindings::sock_shutdown_cmd_SHUT_WR);
        }
    }

    /// Neither sends nor receives any more, and wakes up whoever waits for that.
    pub(crate) fn shutdown(&self) {
        // SAFETY: By the type invariant.
        unsafe {
            bindings::kernel_sock_shutdown(self.0, bindings::sock_shutdown_cmd_SHUT_RDWR);
        }
    }

    /// Neither sends nor receives any more, as [`Socket::shutdown`], and what was not sent yet, or
    /// was not acknowledged, is thrown away: the other side gets a reset.
    pub(crate) fn abort(&self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::enbd_sock_abort(self.0) };
    }

    /// Whether a receive that found the end has really seen the other side close; false after a
    /// reset.
    pub(crate) fn peer_closed(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::enbd_sock_peer_closed(self.0) }
    }

    /// Sends bytes; gives how many were taken.
    pub(crate) fn send(&self, data: &[u8]) -> Result<usize> {
        let mut vec = bindings::kvec {
            iov_base: data.as_ptr().cast_mut().cast(),
            iov_len: data.len(),
        };
        let mut msg = bindings::msghdr {
            msg_flags: bindings::MSG_NOSIGNAL,
            ..Default::default()
        };
        // SAFETY: The socket is valid; the vector describes `data`, which is only read.
        count(unsafe { bindings::kernel_sendmsg(self.0, &mut msg, &mut vec, 1, data.len()) })
    }

    /// Receives up to `data.len()` bytes and gives how many came; 0 when the other side has closed,
    /// EAGAIN after the timeout. Waits for all of them, unless the time runs out in between.
    pub(crate) fn recv(&self, data: &mut [u8]) -> Result<usize> {
        self.recv_flags(data, bindings::MSG_WAITALL as i32)
    }

    /// Like [`Socket::recv`], but waits only for the first byte.
    pub(crate) fn recv_some(&self, data: &mut [u8]) -> Result<usize> {
        self.recv_flags(data, 0)
    }

    fn recv_flags(&self, data: &mut [u8], flags: i32) -> Result<usize> {
        let mut vec = bindings::kvec {
            iov_base: data.as_mut_ptr().cast(),
            iov_len: data.len(),
        };
        let mut msg = bindings::msghdr::default();
        // SAFETY: The socket is valid; the vector describes `data`, which we may write to.
        count(noreclaim(|| unsafe {
            bindings::kernel_recvmsg(self.0, &mut msg, &mut vec, 1, data.len(), flags)
        }))
    }

    /// Sends from a vector whose first `done` of `total` bytes were sent before; gives how many
    /// more were taken.
    ///
    /// # Safety
    ///
    /// The memory that `vecs` describes, `total` bytes, must stay until this returns. With
    /// `MSG_SPLICE_PAGES` it must be whole pages' memory, not slab's, and its content must not
    /// change as long as anybody else has a reference to the pages.
    pub(super) unsafe fn send_vecs(
        &self,
        vecs: &[bindings::bio_vec],
        done: usize,
        total: usize,
        flags: u32,
    ) -> Result<usize> {
        let mut msg = bindings::msghdr {
            msg_flags: bindings::MSG_NOSIGNAL | flags,
            ..Default::default()
        };
        // SAFETY: By the safety requirements of this function; `done` is at most `total`.
        unsafe {
            bindings::iov_iter_bvec(
                &mut msg.msg_iter,
                bindings::ITER_SOURCE,
                vecs.as_ptr(),
                vecs.len(),
                total,
            );
            bindings::iov_iter_advance(&mut msg.msg_iter, done);
            count(bindings::sock_sendmsg(self.0, &mut msg))
        }
    }

    /// Receives into a vector of `total` bytes; otherwise like [`Socket::recv`].
    ///
    /// # Safety
    ///
    /// The memory that `vecs` describes, `total` bytes, must be ours to write to until this
    /// returns.
    pub(super) unsafe fn recv_vecs(
        &self,
        vecs: &[bindings::bio_vec],
        total: usize,
    ) -> Result<usize> {
        let mut msg = bindings::msghdr::default();
        // SAFETY: By the safety requirements of this function.
        unsafe {
            bindings::iov_iter_bvec(
                &mut msg.msg_iter,
                bindings::ITER_DEST,
                vecs.as_ptr(),
                vecs.len(),
                total,
            );
        }
        // SAFETY: As above; the socket is valid.
        count(noreclaim(|| unsafe {
            bindings::sock_recvmsg(self.0, &mut msg, bindings::MSG_WAITALL as i32)
        }))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::enbd_sock_release(self.0) };
    }
}

/// A byte count, or a negative errno.
fn count(ret: i32) -> Result<usize> {
    to_result(ret)?;
    Ok(ret as usize)
}
