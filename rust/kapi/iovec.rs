// SPDX-License-Identifier: GPL-2.0

//! Memory that is sent from and received into.
//!
//! [`Buffer`] names the memory and keeps it. [`Outgoing`] collects messages, each a short header
//! and perhaps a buffer, into one vector for one call of the network; [`Incoming`] receives into a
//! buffer.

use super::{
    bindings,
    block::mq::{Operations, Shared},
    bounce::Bounce,
    checksum::Crc32c,
    net::Socket,
    pages,
    ring::Ring,
};
use kernel::{
    page::{Page, PAGE_SIZE},
    prelude::*,
    sync::Arc,
};

pub(crate) use super::pages::Pages;

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
    /// The checksum of `len` bytes from `from` on: of a request in the copy of its data. Nothing if
    /// there are fewer.
    pub(crate) fn checksum(&self, from: usize, len: usize) -> Option<Crc32c> {
        match self {
            Self::Request(rq) => rq.bounce()?.checksum(from, len),
            Self::Pages(pages) => Crc32c::new().pages(pages.iter(), from, len),
        }
    }
}

/// A buffer that is sent from, and does not change meanwhile.
enum Source<T: Operations> {
    Request(Shared<T>),
    Pages(pages::Sending),
}

impl<T: Operations> Source<T> {
    /// EIO if somebody receives into the buffer.
    fn new(buffer: Buffer<T>) -> Result<Self> {
        match buffer {
            Buffer::Request(rq) => Ok(Self::Request(rq)),
            Buffer::Pages(pages) => pages::Sending::new(pages).map(Self::Pages).ok_or(EIO),
        }
    }

    /// Describes what is sent: of a request the copy of its data, zeroes if it stands for those, or
    /// nothing if there is none.
    fn segments(&self, from: usize, limit: usize, out: &mut KVec<bindings::bio_vec>) -> usize {
        match self {
            Self::Request(rq) if rq.is_of_zeroes() => describe_zeroes(limit, out),
            Self::Request(rq) => rq.bounce().map_or(0, |b| b.segments(from, limit, out)),
            Self::Pages(pages) => pages.segments(from, limit, out),
        }
    }

    /// Whether the network may take the pages that are sent, instead of copying them.
    fn takes_pages(&self) -> bool {
        match self {
            Self::Request(rq) => rq.bounce().is_some_and(Bounce::takes_pages),
            Self::Pages(_) => true,
        }
    }
}

/// Appends `limit` bytes of zeroes to `out`, as far as its capacity goes; gives how many. All of them
/// are one page, which nobody writes to.
fn describe_zeroes(limit: usize, out: &mut KVec<bindings::bio_vec>) -> usize {
    let mut added = 0usize;
    while added < limit {
        let len = PAGE_SIZE.min(limit - added);
        let vec = bindings::bio_vec {
            // SAFETY: Only gives the page.
            bv_page: unsafe { bindings::enbd_zero_page() },
            bv_len: len as u32,
            bv_offset: 0,
        };
        if out.push_within_capacity(vec).is_err() {
            break;
        }
        added += len;
    }
    added
}

/// A buffer that is received into, and not sent from meanwhile.
enum Target<'a, T: Operations> {
    Request(&'a Shared<T>),
    Pages(pages::Filling<'a>),
}

impl<'a, T: Operations> Target<'a, T> {
    /// EIO if somebody sends from the buffer, or it was given to the network.
    fn new(buffer: &'a Buffer<T>) -> Result<Self> {
        match buffer {
            Buffer::Request(rq) => Ok(Self::Request(rq)),
            Buffer::Pages(pages) => pages::Filling::new(pages).map(Self::Pages).ok_or(EIO),
        }
    }

    /// Describes what is received into: nothing if it is a request but no read.
    fn segments(&self, from: usize, limit: usize, out: &mut KVec<bindings::bio_vec>) -> usize {
        match self {
            Self::Request(rq) => rq.segments_to_fill(from, limit, out),
            Self::Pages(pages) => pages.segments(from, limit, out),
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
    source: Source<T>,
    len: usize,
}

impl<T: Operations> Body<T> {
    fn new(buffer: Buffer<T>, len: usize) -> Result<Self> {
        let source = Source::new(buffer)?;
        Ok(Self { source, len })
    }
}

/// Messages on their way to a socket. Where the socket takes pages, and all that is collected may be
/// taken so, headers are written to a [`Ring`] and nothing is copied any more; else the network
/// copies all of it.
///
/// # Invariants
///
/// `vecs` describes `total` bytes, of which `done` were sent: headers in `ring` or in `headers`, and
/// what the sources of `bodies` send. `rest`, if any, is where in the last body that starts which did
/// not fit into `vecs`. With `spliced` all of it may be taken as it is.
pub(crate) struct Outgoing<T: Operations> {
    sock: Arc<Socket>,
    vecs: KVec<bindings::bio_vec>,
    /// Where `sock` takes pages.
    ring: Option<Ring>,
    spliced: bool,
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
    pub(crate) fn new(sock: Arc<Socket>) -> Result<Self> {
        Ok(Self {
            vecs: KVec::with_capacity(VECS, GFP_KERNEL)?,
            ring: sock.takes_pages().then(Ring::new).transpose()?,
            spliced: false,
            headers: Page::alloc_page(GFP_KERNEL)?,
            used: 0,
            bodies: KVec::with_capacity(MESSAGES, GFP_KERNEL)?,
            messages: 0,
            ends: KVec::with_capacity(MESSAGES, GFP_KERNEL)?,
            last: false,
            done: 0,
            total: 0,
            rest: None,
            sock,
        })
    }

    /// Where the messages go.
    pub(crate) fn socket(&self) -> &Socket {
        &self.sock
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
    }

    /// Starts to describe anew. From here on the pages may be taken, if the socket does so.
    fn begin(&mut self) {
        self.vecs.clear();
        self.done = 0;
        self.total = 0;
        self.spliced = self.ring.is_some();
        if let Some(ring) = &mut self.ring {
            ring.begin();
        }
    }

    /// Collects a message. Only where [`Outgoing::has_room`] says so, and with a body that is as
    /// long as that; ENOSPC otherwise. EIO if somebody receives into the buffer.
    pub(crate) fn push(&mut self, header: &[u8], body: Option<(Buffer<T>, usize)>) -> Result {
        if !self.has_room(header.len()) {
            return Err(ENOSPC);
        }
        let body = body
            .map(|(buffer, len)| Body::new(buffer, len))
            .transpose()?;
        if self.messages == 0 {
            self.begin();
        }
        self.push_header(header)?;
        self.messages += 1;
        if let Some(body) = body {
            self.spliced &= body.source.takes_pages();
            self.bodies.push_within_capacity(body).map_err(|_| ENOSPC)?;
            self.fill(0)?;
        }
        let end = self.rest.map_or(self.total, |_| usize::MAX);
        self.ends.push_within_capacity(end).map_err(|_| ENOSPC)
    }

    fn push_header(&mut self, header: &[u8]) -> Result {
        self.total += header.len();
        if let Some(ring) = self
            .ring
            .as_mut()
            .filter(|ring| ring.has_room(header.len()))
        {
            return ring.push(header, &mut self.vecs);
        }
        self.spliced = false;
        // SAFETY: `header` is valid for reading, and the range lies in the page, as `has_room` says;
        // nobody else writes to it, and the network does not take the page.
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
        self.vecs.push_within_capacity(vec).map_err(|_| ENOSPC)
    }

    /// How many messages, from the last one back, were not given to the socket as a whole.
    pub(crate) fn unsent(&self) -> usize {
        if self.last {
            return 1;
        }
        self.ends.iter().filter(|&&end| end > self.done).count()
    }

    /// Describes the last body from byte `from` on, as far as there is room; ENOSPC if it is shorter.
    fn fill(&mut self, from: usize) -> Result {
        let Some(body) = self.bodies.as_slice().last() else {
            self.rest = None;
            return Ok(());
        };
        let described = body.source.segments(from, body.len - from, &mut self.vecs);
        let next = from + described;
        if next < body.len && self.vecs.len() < self.vecs.capacity() {
            return Err(ENOSPC);
        }
        self.rest = (next < body.len).then_some(next);
        self.total += described;
        Ok(())
    }

    /// Sends what was collected, as far as the socket takes it: at once, or, if `wait` is set,
    /// within its time limit.
    /// When all is sent the messages are forgotten
    /// and their buffers given up.
    pub(crate) fn send(&mut self, wait: bool) -> Result<Sent> {
        let mut flags = 0;
        if !wait {
            flags |= bindings::MSG_DONTWAIT;
        }
        while self.messages > 0 {
            let pages = if self.spliced {
                bindings::MSG_SPLICE_PAGES
            } else {
                0
            };
            let hold = if self.rest.is_some() {
                bindings::MSG_MORE
            } else {
                0
            };
            let flags = flags | pages | hold;
            // SAFETY: By the type invariant the memory is kept by `self`; with `spliced` it lies in
            // pages of the ring and of copies, which are written to only while nobody else has a
            // reference to them, or in `Pages` that are given, and are not received into before
            // nobody else has one.
            match unsafe {
                self.sock
                    .send_vecs(&self.vecs, self.done, self.total, flags)
            } {
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
            let spliced = self.spliced;
            self.begin();
            self.spliced &= spliced;
            match self.rest {
                Some(from) => {
                    self.last = true;
                    self.fill(from)?;
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

    /// Copies bytes that came already to the start of `buffer`. EIO if it is shorter, is no read's,
    /// or was given to the network.
    pub(crate) fn copy_in<T: Operations>(&mut self, buffer: &Buffer<T>, data: &[u8]) -> Result {
        let target = Target::new(buffer)?;
        let mut copied = 0;
        while let Some(rest) = data.get(copied..).filter(|rest| !rest.is_empty()) {
            self.0.clear();
            let total = target.segments(copied, rest.len(), &mut self.0);
            let mut iter = bindings::iov_iter::default();
            // SAFETY: `target` keeps the memory, which is a read's or our own and so may be written
            // to; `rest` is valid for reading and at least `total` long.
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
    /// if the buffer is shorter, is no read's, or was given to the network.
    pub(crate) fn recv<T: Operations>(
        &mut self,
        sock: &Socket,
        buffer: &Buffer<T>,
        from: usize,
        len: usize,
    ) -> Result<usize> {
        let target = Target::new(buffer)?;
        self.0.clear();
        let limit = len.checked_sub(from).ok_or(EINVAL)?;
        let total = target.segments(from, limit, &mut self.0);
        if total == 0 {
            return Err(EIO);
        }
        // SAFETY: `target` keeps the memory, which is a read's or our own and so may be written to.
        let got = unsafe { sock.recv_vecs(&self.0, total) };
        self.0.clear();
        got
    }
}
