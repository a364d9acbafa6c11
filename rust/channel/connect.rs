// SPDX-License-Identifier: GPL-2.0

//! Connecting and negotiating: fixed newstyle, as `crate::logic::wire::handshake` decides.
//!
//! Context: the channel's own thread. The whole of it ends within the device's `connect_timeout`,
//! and when the channel is told to stop, which shuts the socket down: at once, or, where a unix
//! socket's server does not accept, within [`UNIX_TICK_MS`].

use super::{Channel, Home, Spec};
use crate::kapi::{
    block::mq::Operations,
    net::{Endpoint, Socket},
};
use crate::logic::wire::handshake::{Export, Handshake, Step, SCRATCH};
use crate::logic::{ids::Lane, session::DownReason};
use kernel::{
    prelude::*,
    sync::Arc,
    time::{Delta, Instant, Monotonic},
};

/// How long a connect to a unix socket waits before it looks whether it is to end.
const UNIX_TICK_MS: u32 = 500;

/// A point in time before which the server has to answer.
pub(super) struct Deadline(Instant<Monotonic>, Delta);

impl Deadline {
    pub(super) fn after_s(seconds: u32) -> Self {
        Self(Instant::now(), Delta::from_secs(i64::from(seconds)))
    }

    /// Milliseconds left, at least 1; nothing when the time is over.
    fn left_ms(&self) -> Option<u32> {
        let left = (self.1.as_millis()).saturating_sub(self.0.elapsed().as_millis());
        u32::try_from(left).ok().filter(|&ms| ms > 0)
    }
}

impl<T: Operations> Channel<T> {
    /// Connects to the server of `spec` and negotiates, as far as its group may have what is there.
    pub(super) fn connect<H: Home<Ops = T>>(
        &self,
        home: &H,
        spec: &Spec,
    ) -> Result<Arc<Socket>, DownReason> {
        let deadline = Deadline::after_s(home.connect_timeout_s());
        let to = spec.endpoint()?;
        let sock = Socket::new(&spec.net, to)
            .and_then(|sock| Ok(Arc::new(sock, GFP_KERNEL)?))
            .map_err(system)?;
        // From now on whoever stops the channel can wake us up.
        self.link.lock().sock = Some(sock.clone());
        if self.is_stopping() {
            return Err(DownReason::Removed);
        }
        let result = self
            .dial(&sock, to, &deadline)
            .and_then(|()| Self::negotiate(&sock, spec, &deadline));
        if self.is_stopping() {
            return Err(DownReason::Removed);
        }
        let export = result?;
        let is_new = {
            let mut link = self.link.lock();
            link.export = Some(export);
            !link.ever_up
        };
        let (group, channel) = (spec.group, self.id);
        home.admit(Lane { group, channel }, &export, is_new)?;
        Ok(sock)
    }

    fn dial(&self, sock: &Socket, to: Endpoint<'_>, deadline: &Deadline) -> Result<(), DownReason> {
        let is_unix = matches!(to, Endpoint::Unix(_));
        loop {
            let left = deadline.left_ms().ok_or(DownReason::ConnectTimeout)?;
            // Shutting a unix socket down does not wake up who waits until the server accepts.
            let ms = if is_unix {
                left.min(UNIX_TICK_MS)
            } else {
                left
            };
            sock.set_timeouts(ms, ms);
            match sock.connect(to) {
                Err(e) if e == EAGAIN && is_unix && !self.is_stopping() => {}
                result => return result.map_err(timed),
            }
        }
    }

    fn negotiate(sock: &Socket, spec: &Spec, deadline: &Deadline) -> Result<Export, DownReason> {
        let mut scratch = KVec::from_elem(0u8, SCRATCH, GFP_KERNEL)
            .map_err(|_| DownReason::System(ENOMEM.to_errno().saturating_neg()))?;
        let mut handshake = Handshake::new(&spec.export).map_err(DownReason::Handshake)?;
        loop {
            match handshake.next() {
                Step::Send(bytes) => {
                    send_all(sock, bytes, deadline)?;
                    handshake.sent();
                }
                Step::Recv(want) => {
                    let Some(buf) = scratch.get_mut(..want) else {
                        return Err(DownReason::Cut);
                    };
                    recv_all(sock, buf, deadline)?;
                    if let Err(reason) = handshake.received(buf) {
                        return Err(refuse(sock, reason));
                    }
                }
                Step::Done(export) => return Ok(export),
                Step::Failed(reason) => return Err(refuse(sock, reason)),
            }
        }
    }
}

/// Says good-bye as the protocol asks for, as far as the socket takes it.
fn refuse(sock: &Socket, reason: crate::logic::wire::handshake::HandshakeReason) -> DownReason {
    if let Some(bytes) = reason.farewell() {
        // The connection is given up anyway.
        let _ = sock.send(bytes);
    }
    DownReason::Handshake(reason)
}

pub(super) fn send_all(
    sock: &Socket,
    mut bytes: &[u8],
    deadline: &Deadline,
) -> Result<(), DownReason> {
    while !bytes.is_empty() {
        let ms = deadline.left_ms().ok_or(DownReason::ConnectTimeout)?;
        sock.set_timeouts(ms, ms);
        let n = sock.send(bytes).map_err(timed)?;
        bytes = bytes.get(n..).unwrap_or_default();
    }
    Ok(())
}

pub(super) fn recv_all(
    sock: &Socket,
    mut buf: &mut [u8],
    deadline: &Deadline,
) -> Result<(), DownReason> {
    while !buf.is_empty() {
        let ms = deadline.left_ms().ok_or(DownReason::ConnectTimeout)?;
        sock.set_timeouts(ms, ms);
        let n = sock.recv(buf).map_err(timed)?;
        if n == 0 {
            return Err(DownReason::Cut);
        }
        buf = buf.get_mut(n..).unwrap_or_default();
    }
    Ok(())
}

fn system(e: Error) -> DownReason {
    DownReason::System(e.to_errno().saturating_neg())
}

/// What an error means on a socket that has a time limit.
fn timed(e: Error) -> DownReason {
    if e == EAGAIN || e == EINPROGRESS {
        DownReason::ConnectTimeout
    } else {
        system(e)
    }
}
