// SPDX-License-Identifier: GPL-2.0

//! Reading over a connection that carries nothing else yet: it has to prove where it leads to
//! (`crate::logic::mirror::proof`).
//!
//! Context: the channel's own thread, before the channel is opened. All is asked at once; the whole
//! of it ends within the device's `connect_timeout`, and when the channel is told to stop.

use super::connect::{recv_all, send_all, Deadline};
use crate::kapi::{checksum::Crc32c, net::Socket};
use crate::logic::{
    evidence::{Sum, CHUNK_BYTES},
    mirror::Place,
    session::DownReason,
    wire::{
        reply::{self, REPLY_LEN},
        request::{self, Command, CommandFlags},
    },
};
use kernel::prelude::*;

/// The checksum of a chunk of zeroes.
const ZEROES: u32 = 0x6706_be76;

/// The checksum of a chunk.
pub(crate) fn sum_of(crc: Crc32c) -> Sum {
    match crc.value() {
        ZEROES => Sum::ZEROES,
        // Taken by zeroes.
        0 => Sum(1),
        value => Sum(value),
    }
}

/// Reads the places; a place that the server refuses is left as it is.
pub(super) fn probe(sock: &Socket, seconds: u32, places: &mut [Place]) -> Result<(), DownReason> {
    let deadline = Deadline::after_s(seconds);
    let longest = places.iter().map(|place| place.len).max().unwrap_or(0);
    let mut data = KVec::from_elem(0u8, longest as usize, GFP_KERNEL).map_err(no_memory)?;
    for (cookie, place) in places.iter().enumerate() {
        let header = request::encode(
            Command::Read,
            CommandFlags::NONE,
            cookie as u64,
            place.offset,
            place.len,
        );
        send_all(sock, &header, &deadline)?;
    }
    for _ in 0..places.len() {
        let mut header = [0u8; REPLY_LEN];
        recv_all(sock, &mut header, &deadline)?;
        let reply = reply::parse(&header).map_err(DownReason::Reply)?;
        let place = usize::try_from(reply.cookie)
            .ok()
            .and_then(|at| places.get_mut(at))
            .filter(|place| place.found.is_none())
            .ok_or(DownReason::UnknownCookie)?;
        if reply.error.is_some() {
            continue;
        }
        let data = data.get_mut(..place.len as usize).ok_or(DownReason::Cut)?;
        recv_all(sock, data, &deadline)?;
        let chunk = data
            .get(place.from as usize..)
            .and_then(|rest| rest.get(..CHUNK_BYTES as usize));
        place.found = chunk.map(|chunk| sum_of(Crc32c::new().bytes(chunk)));
    }
    Ok(())
}

fn no_memory(_: kernel::alloc::AllocError) -> DownReason {
    DownReason::System(ENOMEM.to_errno().saturating_neg())
}
