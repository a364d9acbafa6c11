// SPDX-License-Identifier: GPL-2.0

//! Servers that offer to write zeroes, and refuse it when they are asked.
//!
//! A server says with NBD_ENOTSUP, or with NBD_EINVAL, that it does not do it so. Its group is not
//! worse for that: it is sent the zeroes, in plain writes of [`PIECE`] bytes at most, one after the
//! other in the place of the one that was refused. Their data is a page of zeroes that there always is,
//! so this takes no memory, and what is on its way is bounded.
//!
//! A discard may leave what was there, but the same in all groups. So it is sent as zeroes, and those
//! in pieces as well; only where no other group takes writes nothing needs to be done, if all others
//! are marked: a discard is to save work, and pieces would fill the holes of a thin server.
//!
//! The same is done where the last group in sync was lost with a request of zeroes again and again. Its
//! server may take so long for many zeroes that it falls silent for longer than `timeout`: asked for the
//! same once more, it would never come to an end.
//!
//! That a request is sent so is seen by its transfer: a plain write for a request that has no data.

use super::{
    outcome,
    pdu::EIO,
    route::RequestOf,
    step::{Next, Numbered},
    Carrier, Losses, Memories, News, Op, Request, Transfer, World,
};
use crate::logic::{
    group::{GroupFault, GroupSet},
    ids::{GroupId, SlotId},
    wire::{
        reply::NbdError,
        request::{Command, CommandFlags},
    },
};

/// The largest piece, in bytes.
const PIECE: u32 = 1 << 20;
/// So many refusals of a device's servers until its users are offered neither zeroes nor discards any
/// more: what they do instead they do better themselves.
const MOST_REFUSALS: u64 = 8;

/// Whether a server has said that it does not write zeroes so, and may take them written.
pub(super) fn are_refused(command: Command, error: NbdError) -> bool {
    command == Command::WriteZeroes && matches!(error, NbdError::NotSup | NbdError::Inval)
}

/// The server of a group does not write zeroes so, or does not end doing it: what comes next.
pub(super) fn write_instead<W: World>(
    w: &W,
    group: GroupId,
    transfer: &Transfer<W::Buffer>,
) -> Next<W::Buffer> {
    let Some(rq) = transfer.buffer.request() else {
        return Next::Done;
    };
    let core = w.core();
    if core.zeroes_refused.fetch_add(1).wrapping_add(1) == MOST_REFUSALS {
        rq.withdraw_zeroes();
        w.tell(News::NoZeroes { group });
    }
    // While the request has its claim nothing is copied to a group that is out of service now.
    let is_alone = core.view().writable() == GroupSet::of(group);
    if rq.op() == Op::Discard && is_alone {
        outcome::mark_for_others(w, rq);
        w.keep_unrecorded(rq);
        rq.pdu().set_done_by(group);
        return Next::Done;
    }
    piece(w, group, rq, transfer.offset)
}

/// A group has done a transfer: if that was a piece, what comes next; nothing if it was the last one,
/// or none.
pub(super) fn after_piece<W: World>(
    w: &W,
    group: GroupId,
    transfer: &Transfer<W::Buffer>,
) -> Option<Next<W::Buffer>> {
    if transfer.command != Command::Write {
        return None;
    }
    let rq = transfer.buffer.request()?;
    let done = transfer.offset.saturating_add(u64::from(transfer.len));
    if rq.op() == Op::Write || done >= end_of(rq) {
        return None;
    }
    w.note_done(group, transfer);
    Some(piece(w, group, rq, done))
}

/// Sends the piece at `offset`, unless the group was taken out of service.
fn piece<W: World>(w: &W, group: GroupId, rq: &RequestOf<W>, offset: u64) -> Next<W::Buffer> {
    if !w.core().view().writable().has(group) {
        rq.pdu().fail(EIO);
        return outcome::write_failed(w, group, rq, GroupFault::NoChannel);
    }
    let flags = if rq.fua() {
        CommandFlags::FUA
    } else {
        CommandFlags::NONE
    };
    let most = PIECE
        .max(w.smallest_read(group))
        .min(w.largest_write(group));
    let len = end_of(rq).saturating_sub(offset).min(u64::from(most)) as u32;
    Next::Send(Numbered {
        group,
        number: SlotId::of_request(rq.tag()),
        transfer: Transfer::new(
            Command::Write,
            flags,
            offset,
            len,
            W::Buffer::of(rq.clone()),
        ),
    })
}

/// Where a request ends, in bytes.
fn end_of(rq: &impl Request) -> u64 {
    (rq.sector() << 9).saturating_add(u64::from(rq.bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_server_does_not_do_so_is_written() {
        assert!(are_refused(Command::WriteZeroes, NbdError::NotSup));
        assert!(are_refused(Command::WriteZeroes, NbdError::Inval));
        for error in [
            NbdError::Io,
            NbdError::NoSpc,
            NbdError::Perm,
            NbdError::Shutdown,
        ] {
            assert!(!are_refused(Command::WriteZeroes, error));
        }
        for command in [Command::Write, Command::Flush, Command::Read] {
            assert!(!are_refused(command, NbdError::NotSup));
        }
    }
}
