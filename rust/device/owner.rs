// SPDX-License-Identifier: GPL-2.0

//! Whether another client has the mirror. NBD knows no reservation: nobody can be kept away, but a
//! second one can be noticed, as the multiple mount protection of ext4 does it.
//!
//! | when | what |
//! |---|---|
//! | a start finds that somebody had the mirror and did not end in order | the beats are read twice, two intervals apart: if one has moved the start is refused |
//! | a start has recorded that it has the mirror | after a second the records are read back: if one is somebody else's it gives way |
//! | the device is enabled | before each beat the last one is read: if it is somebody else's nothing is written any more |
//!
//! Locks: it waits under `control`, for two minutes at most.

use super::{Device, Failure};
use crate::logic::{
    group::GroupSet,
    ids::GroupId,
    meta::Uuid,
    mirror::{
        member::{Failed, Members},
        World,
    },
    MAX_GROUPS,
};
use crate::wait::Woken;
use kernel::{prelude::*, sync::atomic::ordering::Relaxed};

/// How long after a start it is looked whether somebody else has started, too, in milliseconds.
const SETTLE_MS: u32 = 1000;

/// A beat as far as it matters here: whose, and the counter.
type Sign = ([u64; 2], u64);

/// The signs of each group, and the longest time between two in seconds.
struct Signs {
    of: [Option<Sign>; MAX_GROUPS],
    interval_s: u64,
}

impl Device {
    /// Waits until it is seen whether somebody has the mirror still, which had it when it was last
    /// heard of.
    pub(super) fn await_owner(&self, mirror: Uuid) -> Result<(), Failure> {
        let before = self.signs(mirror)?;
        if before.interval_s == 0 {
            return Ok(());
        }
        let ms = before.interval_s.saturating_mul(2000);
        pr_info!(
            "[{}] the mirror was not ended in order: waiting {} s to see whether somebody has it\n",
            self.id.letter(),
            ms / 1000
        );
        self.pause(u32::try_from(ms).unwrap_or(u32::MAX))?;
        let after = self.signs(mirror)?;
        if before.of == after.of {
            return Ok(());
        }
        let reason = "another client has the mirror: it is in use";
        Err(Failure::new(EBUSY, reason))
    }

    /// A start was recorded on these groups: gives way if somebody else has done so at the same time.
    pub(super) fn settle(&self, sources: GroupSet) -> Result<(), Failure> {
        if self.mirror.settings.owner_check.load(Relaxed) == 0 {
            return Ok(());
        }
        self.pause(SETTLE_MS)?;
        if self.shows_last(sources)? {
            return Ok(());
        }
        let reason = "another client has just started the mirror";
        Err(Failure::new(EBUSY, reason))
    }

    fn pause(&self, ms: u32) -> Result<(), Failure> {
        match self.mirror.wait(ms, || false) {
            Woken::Signal => Err(Failure::new(EINTR, "interrupted")),
            Woken::TimedOut | Woken::Holds => Ok(()),
        }
    }

    /// The beats of all groups that are there.
    fn signs(&self, mirror: Uuid) -> Result<Signs, Failure> {
        let mut signs = Signs {
            of: [None; MAX_GROUPS],
            interval_s: 0,
        };
        for group in GroupId::all() {
            if self.mirror.core().group(group).up().is_empty() {
                continue;
            }
            let found = self.in_time(|ended| self.mirror.read_beat(group, mirror, ended));
            let beat = match found {
                Ok(beat) => beat,
                Err(Failed::Bad(_)) => None,
                Err(failed) => return Err(failed.into()),
            };
            if let Some(beat) = beat {
                signs.interval_s = signs.interval_s.max(beat.interval_s);
                *group.pick_mut(&mut signs.of) = Some((beat.nonce, beat.counter));
            }
        }
        Ok(signs)
    }
}
