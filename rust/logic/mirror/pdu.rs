// SPDX-License-Identifier: GPL-2.0

//! The words that hold the state of a request on its way.

use super::Core;
use crate::logic::{group::GroupSet, ids::GroupId, word::OptWord};
use crate::sync::Word;

/// What is known of a request on its way.
pub struct Pdu {
    /// The groups that did it.
    done_by: Word,
    /// The groups that refused it (reads only).
    refused_by: Word,
    /// Why it failed, a positive errno; 0 if it did not.
    errno: Word,
    /// It has a claim.
    claimed: Word,
    /// A flush: [`Core::losses`] when it began; nothing of any other request.
    began: OptWord,
    /// It may not end well yet: a group that lacks it is still recorded as in sync.
    unrecorded: Word,
    /// A write: what it proposes to be remembered; 0 if it proposes nothing.
    evidence: Word,
}

impl Default for Pdu {
    fn default() -> Self {
        Self {
            done_by: Word::new(0),
            refused_by: Word::new(0),
            errno: Word::new(0),
            claimed: Word::new(0),
            began: OptWord::default(),
            unrecorded: Word::new(0),
            evidence: Word::new(0),
        }
    }
}

impl Pdu {
    /// Forgets the last request that had it.
    pub fn reset(&self) {
        self.done_by.store(0);
        self.refused_by.store(0);
        self.errno.store(0);
        self.claimed.store(0);
        self.began.clear();
        self.unrecorded.store(0);
        self.evidence.store(0);
    }

    /// What the write proposes to be remembered: [`Proposal::to_bits`].
    ///
    /// [`Proposal::to_bits`]: crate::logic::evidence::Proposal::to_bits
    pub(super) fn set_evidence(&self, bits: u64) {
        self.evidence.store(bits);
    }

    pub(super) fn evidence(&self) -> u64 {
        self.evidence.load()
    }

    /// A group did it. Each group says so at most once.
    pub(super) fn set_done_by(&self, group: GroupId) {
        let set = GroupSet::of(group);
        self.done_by.fetch_add(u64::from(set.bits()));
    }

    pub(super) fn done_by(&self) -> GroupSet {
        GroupSet::from_bits(self.done_by.load() as u8)
    }

    pub(super) fn set_refused_by(&self, group: GroupId) {
        let set = self.refused_by().with(group);
        // Reads are at one group at a time, so nobody else changes it now.
        self.refused_by.store(u64::from(set.bits()));
    }

    pub(super) fn refused_by(&self) -> GroupSet {
        GroupSet::from_bits(self.refused_by.load() as u8)
    }

    /// It failed with this positive errno. What a server said tells more than that one was lost.
    pub(super) fn fail(&self, errno: i32) {
        if errno == EIO && self.errno.load() != 0 {
            return;
        }
        self.errno.store(u64::from(errno.unsigned_abs()));
    }

    /// Whether some group did not do it.
    pub(super) fn has_failed(&self) -> bool {
        self.errno.load() != 0
    }

    /// The positive errno with which it ends if it did not succeed.
    pub(super) fn errno(&self) -> i32 {
        match self.errno.load() as i32 {
            0 => EIO,
            errno => errno,
        }
    }

    /// A group lacks it that is still recorded as in sync, or no such group does any more.
    pub(super) fn set_unrecorded(&self, unrecorded: bool) {
        self.unrecorded.store(u64::from(unrecorded));
    }

    /// Whether a group lacks it that is still recorded as in sync.
    pub(super) fn is_unrecorded(&self) -> bool {
        self.unrecorded.load() != 0
    }

    pub(super) fn set_claimed(&self, claimed: bool) {
        self.claimed.store(u64::from(claimed));
    }

    /// It is a flush, and begins now.
    pub(super) fn begin_flush(&self, core: &Core) {
        self.began.set(core.losses.load());
    }

    /// Whether it is a flush.
    pub(super) fn is_flush(&self) -> bool {
        self.began.get().is_some()
    }

    /// It is a flush, and what it was to make durable may have been lost since it began.
    pub(super) fn has_missed_loss(&self, core: &Core) -> bool {
        let began = self.began.get();
        began.is_some_and(|losses| losses != core.losses.load())
    }

    pub(super) fn is_claimed(&self) -> bool {
        self.claimed.load() != 0
    }
}

/// An I/O error, as a positive errno.
pub(super) const EIO: i32 = 5;
/// Not supported, as a positive errno.
pub(super) const EOPNOTSUPP: i32 = 95;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_misses_what_is_lost_after_it_began() {
        let (core, pdu) = (Core::default(), Pdu::default());
        core.losses.fetch_add(1);
        assert!(!pdu.has_missed_loss(&core));
        pdu.begin_flush(&core);
        assert!(!pdu.has_missed_loss(&core));
        core.losses.fetch_add(1);
        assert!(pdu.has_missed_loss(&core));
        pdu.reset();
        assert!(!pdu.has_missed_loss(&core));
    }
}
