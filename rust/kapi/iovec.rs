// SPDX-License-Identifier: GPL-2.0

//! Memory that is sent from and received into.
//!
//! [`Buffer`] names the memory and keeps it. [`Outgoing`] collects messages, each a short header
//! and perhaps a buffer, into one vector for one call of the network; [`Incoming`] receives into a
//! buffer.

use super::{
    bindings,
    block::mq::{Operations, Shared},
    net::Socket,
    ring::{is_exclusive, Ring},
};
use kernel::{
    alloc::Flags,
    page::{Page, PAGE_SIZE},
    prelude::*,
    sync::{
        atomic::{ordering::Relaxed, Atomic},
        Arc,
    },
};

/// Pages for our own transfers. The network takes them as they are, and must not see them change,
/// so once they were given to it they are not received into before [`Pages::reclaim`].
pub(crate) struct Pages {
    pages: KVec<Page>,
    given: Atomic<bool>,
}

impl Pages {
    /// Pages for `bytes` bytes.
    pub(crate) fn new(bytes: usize, flags: Flags) -> Result<Self> {
        let count = bytes.div_ceil(PAGE_SIZE);
        let mut pages = KVec::with_capacity(count, flags)?;
        for _ in 0..count {
            pages.push(Page::alloc_page(flags)?, flags)?;
        }
        Ok(Self {
            pages,
            given: Atomic::new(false),
        })
    }

    /// Bytes that there is room for.
    pub(crate) fn size(&self) -> usize {
        self.pages.len().saturating_mul(PAGE_SIZE)
    }

    /// Takes the pages back from the network. False if it has references to them still. Nothing may
    /// be on its way from here, as when all transfers from here have ended.
    pub(crate) fn reclaim(&self) -> bool {
        if self.given.load(Relaxed) {
            if !self.pages.iter().all(is_exclusive) {
                return false;
            }
            self.given.store(false, Relaxed);
        }
        true
    }

    /// Whether the first `len` bytes are those of `other`. If a transfer writes to either meanwhile
    /// the answer means nothing.
    pub(crate) fn is_same(&self, other: &Self, len: usize) -> bool {
        let mut left = len;
        for (ours, theirs) in self.pages.iter().zip(other.pages.iter()) {
            let part = left.min(PAGE_SIZE);
            // SAFETY: Both are pages of ours, and C's memcmp() may read what others write.
            if !unsafe { bindings::enbd_is_same(ours.as_ptr(), theirs.as_ptr(), part) } {
                return false;
            }
            left -= part;
        }
        left == 0
    }

    fn segments(&self, from: usize, limit: usize, out: &mut KVec<bindings::bio_vec>) -> usize {
        let mut added = 0usize;
        let mut skip = from % PAGE_SIZE;
        for page in self.pages.iter().skip(from / PAGE_SIZE) {
            let len = (PAGE_SIZE - skip).min(limit - added);
            if len == 0 {
                break;
            }
            let vec = bindings::bio_vec {
                bv_page: page.as_ptr(),
                bv_len: len as u32,
                bv_offset: skip as u32,
            };
            if out.push_within_capacity(vec).is_err() {
                break;
            }
            added += len;
            skip = 0;
        }
        added
    }
}

/// Memory that the data of a transfer is in, kept while the value lives.
pub(crate) enum Buffer<T: Operations> {
    /// That of a request.
    Request(Shared<T>),
    /// Pages of our own.
    Pages(Arc<Pages>),
}

impl<T: Operations> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Request(rq) => Self::Request(rq.clone()),
            Self::Pages(pages) => Self::Pages(pages.clone()),
        }
    }
}

impl<T: Operations> Buffer<T> {
    fn segments(&self, from: usize, limit: usize, out: &mut KVec<bindings::bio_vec>) -> usize {
        match self {
            Self::Request(rq) => rq.segments(from, limit, out),
            Self::Pages(pages) => pages.segments(from, limit, out),
        }
    }

    /// Whether it was given to the network, and not taken back.
    fn is_given(&self) -> bool {
        match self {
            Self::Request(_) => false,
            Self::Pages(pages) => pages.given.load(Relaxed),
        }
    }
}

/// The room for headers is one page.
const HEADERS: usize = PAGE_SIZE;
/// Pieces of memory in one call of the network.
const VECS: usize = 512;
/// Bytes from which on a call is worth its cost.
const ENOUGH: usize = 128 << 10;
/// Messages in one call.
pub(crate) const MESSAGES: usize = 64;

/// What became of an attempt to send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sent {
    /// Everything that was collected is with the socket.
    All,
    /// The socket takes no more now.
    Blocked,
}

struct Body<T: Operations> {
    buffer: Buffer<T>,
    len: usize,
}

/// Messages on their way to a socket. Where the socket takes pages they are copied into those of a
/// [`Ring`], as far as that has room, so that the network need not get pages itself, and [`Pages`]
/// are given to it as they are; else the network copies them.
///
/// # Invariants
///
/// `vecs` describes `total` bytes, of which `done` were sent: if `copied`, in `ring` and in the
/// [`Pages`] of `bodies`, else in `headers` and in the buffers of `bodies`. `rest`, if any, is
/// where in the last body that starts which did not fit into `vecs`.
pub(crate) struct Outgoing<T: Operations> {
    vecs: KVec<bindings::bio_vec>,
    /// Where the socket takes pages.
    ring: Option<Ring>,
    copied: bool,
    /// For what is copied.
    pieces: KVec<bindings::bio_vec>,
    headers: Page,
    used: usize,
    bodies: KVec<Body<T>>,
    messages: usize,
    /// Where in the description each message ends.
    ends: KVec<usize>,
    /// All but the last message were sent.
    last: bool,
    done: usize,
    total: usize,
    rest: Option<usize>,
}

// SAFETY: The vectors describe memory that the value itself keeps.
unsafe impl<T: Operations> Send for Outgoing<T> {}

impl<T: Operations> Outgoing<T> {
    /// Room for messages to `sock`.
    pub(crate) fn new(sock: &Socket) -> Result<Self> {
        Ok(Self {
            vecs: KVec::with_capacity(VECS, GFP_KERNEL)?,
            ring: sock.takes_pages().then(Ring::new).transpose()?,
            copied: false,
            pieces: KVec::with_capacity(VECS, GFP_KERNEL)?,
            headers: Page::alloc_page(GFP_KERNEL)?,
            used: 0,
            bodies: KVec::with_capacity(MESSAGES, GFP_KERNEL)?,
            messages: 0,
            ends: KVec::with_capacity(MESSAGES, GFP_KERNEL)?,
            last: false,
            done: 0,
            total: 0,
            rest: None,
        })
    }

    /// Whether nothing is on its way.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Whether another message with a header of `header` bytes can be collected. None joins the rest
    /// of a large one: [`Outgoing::unsent`] could not tell them apart.
    pub(crate) fn has_room(&self, header: usize) -> bool {
        self.done == 0
            && self.rest.is_none()
            && !self.last
            && self.messages < MESSAGES
            && self.total < ENOUGH
            && self.used + header <= HEADERS
            && self.vecs.len() + 3 <= VECS
            && match &self.ring {
                Some(ring) if self.copied && self.messages > 0 => ring.has_room(header),
                _ => true,
            }
    }

    /// Starts to describe anew. From here on it is copied if there is room.
    fn begin(&mut self) {
        self.vecs.clear();
        self.done = 0;
        self.total = 0;
        self.copied = self.ring.as_mut().is_some_and(|ring| {
            ring.begin();
            ring.has_room(PAGE_SIZE)
        });
    }

    /// Collects a message. Only where [`Outgoing::has_room`] says so; ENOSPC otherwise.
    pub(crate) fn push(&mut self, header: &[u8], body: Option<(Buffer<T>, usize)>) -> Result {
        if !self.has_room(header.len()) {
            return Err(ENOSPC);
        }
        if self.messages == 0 {
            self.begin();
        }
        // SAFETY: `header` is valid for reading, and the range lies in the page, as was checked;
        // nobody else writes to it.
        unsafe {
            self.headers
                .write_raw(header.as_ptr(), self.used, header.len())
        }?;
        let vec = bindings::bio_vec {
            bv_page: self.headers.as_ptr(),
            bv_len: header.len() as u32,
            bv_offset: self.used as u32,
        };
        self.used += header.len();
        self.messages += 1;
        match &mut self.ring {
            Some(ring) if self.copied => {
                let mut iter = bindings::iov_iter::default();
                // SAFETY: The vector describes what was just written to `headers`.
                let n = unsafe {
                    bindings::iov_iter_bvec(
                        &mut iter,
                        bindings::ITER_SOURCE,
                        &vec,
                        1,
                        header.len(),
                    );
                    ring.copy(&mut iter, header.len(), &mut self.vecs)
                };
                self.total += n;
                if n != header.len() {
                    return Err(ENOSPC);
                }
            }
            _ => {
                self.vecs.push_within_capacity(vec).map_err(|_| ENOSPC)?;
                self.total += header.len();
            }
        }
        if let Some((buffer, len)) = body {
            let body = Body { buffer, len };
            self.bodies.push_within_capacity(body).map_err(|_| ENOSPC)?;
            self.fill(0);
        }
        let end = self.rest.map_or(self.total, |_| usize::MAX);
        self.ends.push_within_capacity(end).map_err(|_| ENOSPC)
    }

    /// How many messages, from the last one back, were not given to the socket as a whole.
    pub(crate) fn unsent(&self) -> usize {
        if self.last {
            return 1;
        }
        self.ends.iter().filter(|&&end| end > self.done).count()
    }

    /// Describes the last body from byte `from` on.
    fn fill(&mut self, from: usize) {
        let Some(body) = self.bodies.as_slice().last() else {
            self.rest = None;
            return;
        };
        let mut next = from;
        match &mut self.ring {
            Some(ring) if self.copied && matches!(body.buffer, Buffer::Request(_)) => {
                let mut whole = true;
                while next < body.len {
                    self.pieces.clear();
                    let len = body
                        .buffer
                        .segments(next, body.len - next, &mut self.pieces);
                    if len == 0 {
                        whole = false;
                        break;
                    }
                    let mut iter = bindings::iov_iter::default();
                    // SAFETY: `body` keeps the memory that `pieces` describes.
                    let n = unsafe {
                        bindings::iov_iter_bvec(
                            &mut iter,
                            bindings::ITER_SOURCE,
                            self.pieces.as_ptr(),
                            self.pieces.len(),
                            len,
                        );
                        ring.copy(&mut iter, len, &mut self.vecs)
                    };
                    next += n;
                    if n < len {
                        break;
                    }
                }
                self.pieces.clear();
                // What had no room is sent after this, from where it is if it must be.
                self.rest = (next < body.len && whole).then_some(next);
            }
            _ => {
                if let (Buffer::Pages(pages), true) = (&body.buffer, self.copied) {
                    pages.given.store(true, Relaxed);
                }
                next += body.buffer.segments(next, body.len - next, &mut self.vecs);
                self.rest = (next < body.len && next > from).then_some(next);
            }
        }
        self.total += next - from;
    }

    /// Sends what was collected, as far as the socket takes it: at once, or, if `wait` is set,
    /// within its time limit.
    /// `more` says that other messages follow at once. When all is sent the messages are forgotten
    /// and their buffers given up.
    pub(crate) fn send(&mut self, sock: &Socket, more: bool, wait: bool) -> Result<Sent> {
        let mut flags = 0;
        if !wait {
            flags |= bindings::MSG_DONTWAIT;
        }
        while self.messages > 0 {
            let pages = if self.copied {
                bindings::MSG_SPLICE_PAGES | bindings::MSG_NO_SHARED_FRAGS
            } else {
                0
            };
            let hold = if more || self.rest.is_some() {
                bindings::MSG_MORE
            } else {
                0
            };
            let flags = flags | pages | hold;
            // SAFETY: By the type invariant the memory is kept by `self`; with `copied` it lies in
            // pages of the ring, which sees to it that they do not change, or in `Pages` that are
            // `given`, and so not received into before nobody else has a reference.
            match unsafe { sock.send_vecs(&self.vecs, self.done, self.total, flags) } {
                Ok(n) => self.done += n.min(self.total - self.done),
                Err(e) if e == EAGAIN => return Ok(Sent::Blocked),
                Err(e) => return Err(e),
            }
            if self.done < self.total {
                if wait {
                    // It took a while. The caller may want to do something else now.
                    return Ok(Sent::Blocked);
                }
                continue;
            }
            self.begin();
            match self.rest {
                Some(from) => {
                    self.last = true;
                    self.fill(from);
                }
                None => self.forget(),
            }
        }
        Ok(Sent::All)
    }

    /// Forgets all messages and gives up their buffers.
    fn forget(&mut self) {
        self.abandon();
        self.done = 0;
        self.total = 0;
        self.used = 0;
        self.ends.clear();
        self.last = false;
    }

    /// Gives up all buffers, as nothing more is to be sent. [`Outgoing::unsent`] is as it was.
    pub(crate) fn abandon(&mut self) {
        self.vecs.clear();
        self.messages = 0;
        self.rest = None;
        self.bodies.clear();
    }
}

/// Receives into buffers.
pub(crate) struct Incoming(KVec<bindings::bio_vec>);

// SAFETY: The vector describes memory only while `recv` runs.
unsafe impl Send for Incoming {}

impl Incoming {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(KVec::with_capacity(VECS, GFP_KERNEL)?))
    }

    /// Copies bytes that came already to the start of `buffer`. EIO if it is shorter, EBUSY if it
    /// was given to the network.
    pub(crate) fn copy_in<T: Operations>(&mut self, buffer: &Buffer<T>, data: &[u8]) -> Result {
        let mut copied = 0;
        if buffer.is_given() {
            return Err(EBUSY);
        }
        while let Some(rest) = data.get(copied..).filter(|rest| !rest.is_empty()) {
            self.0.clear();
            let total = buffer.segments(copied, rest.len(), &mut self.0);
            let mut iter = bindings::iov_iter::default();
            // SAFETY: `buffer` keeps the memory, which is in the hands of the caller alone, as in
            // `recv`; `rest` is valid for reading and at least `total` long.
            let n = unsafe {
                bindings::iov_iter_bvec(
                    &mut iter,
                    bindings::ITER_DEST,
                    self.0.as_ptr(),
                    self.0.len(),
                    total,
                );
                bindings::_copy_to_iter(rest.as_ptr().cast(), total, &mut iter)
            };
            self.0.clear();
            if n == 0 {
                return Err(EIO);
            }
            copied += n.min(total);
        }
        Ok(())
    }

    /// Receives bytes of `buffer` from `from` on, at most up to `len`; like [`Socket::recv`]. EIO
    /// if the buffer is shorter, EBUSY if it was given to the network.
    pub(crate) fn recv<T: Operations>(
        &mut self,
        sock: &Socket,
        buffer: &Buffer<T>,
        from: usize,
        len: usize,
    ) -> Result<usize> {
        self.0.clear();
        if buffer.is_given() {
            return Err(EBUSY);
        }
        let total = buffer.segments(from, len.checked_sub(from).ok_or(EINVAL)?, &mut self.0);
        if total == 0 {
            return Err(EIO);
        }
        // SAFETY: `buffer` keeps the memory. It is a read's, or our own, and in the hands of the
        // caller alone.
        let got = unsafe { sock.recv_vecs(&self.0, total) };
        self.0.clear();
        got
    }
}
