// SPDX-License-Identifier: GPL-2.0

//! The end of a connection: what was not answered is given back.
//!
//! What a server that was not seen to close may still carry out is a danger to newer writes of the
//! same blocks. If another group is in sync this one is faulted, and is not brought back before the
//! danger is over; else the writes are not given back before.

use super::Fence;
use crate::logic::wire::request::Command;

/// A connection that has ended, with the mirror that it belonged to.
pub trait HangUp {
    /// Whether it was sent writes that were not answered.
    fn has_unanswered_writes(&self) -> bool;
    /// Gives back those transfers that `wanted`, given the command and whether it was sent, wants:
    /// as lost, with `fence` if they were sent.
    fn give_back(&mut self, fence: Fence, wanted: impl Fn(Command, bool) -> bool);
    /// Waits until the server will carry out nothing more of what it was sent. Where that cannot be
    /// seen any more, or where users' writes wait for it (`pressing`), as much time as a request
    /// may take has to do; gives that, in milliseconds, if the wait has to end before.
    fn await_fence(&mut self, pressing: bool) -> u32;
    /// See [`Losses::suspect`](super::Losses::suspect).
    fn suspect(&self, suspect: bool);
    /// See [`Losses::suspect_for`](super::Losses::suspect_for).
    fn suspect_for(&self, ms: u32);
    /// See [`Losses::give_up_group`](super::Losses::give_up_group).
    fn give_up_group(&self) -> bool;
}

/// Gives back all that was not answered on a connection that ended with `fence` and takes no more.
pub fn hang_up(line: &mut impl HangUp, fence: Fence) {
    if fence == Fence::Fenced || !line.has_unanswered_writes() {
        return line.give_back(Fence::Fenced, |_, _| true);
    }
    line.suspect(true);
    let given_up = line.give_up_group();
    if given_up {
        line.give_back(Fence::Open, |_, _| true);
    } else {
        line.give_back(Fence::Fenced, |command, sent| !sent || !is_write(command));
    }
    let fence = match line.await_fence(!given_up) {
        0 => Fence::Fenced,
        ms => {
            line.suspect_for(ms);
            Fence::Open
        }
    };
    line.give_back(fence, |_, _| true);
    line.suspect(false);
}

/// Whether a command that is carried out late could undo a newer one.
pub fn is_write(command: Command) -> bool {
    matches!(
        command,
        Command::Write | Command::WriteZeroes | Command::Trim
    )
}
