// SPDX-License-Identifier: GPL-2.0

//! Whether another client has the mirror. NBD knows no reservation: nobody can be kept away, but a
//! second one can be noticed, as the multiple mount protection of ext4 does it.
//!
//! | when | what |
//! |---|---|
//! | a start finds that somebody had the mirror and did not end in order | the beats are read twice, two intervals apart: if one has moved the start is refused |
//! | a start has recorded that it has the mirror | after a second the records are read back: if one is somebody else's it gives way |
//! | the device is enabled | before each beat the last one is read ([`super::owner`]): if it is somebody else's nothing is written any more |

use super::{
    decide::{NotStarted, Starter},
    member::{Failed, Members},
    News, World,
};
use crate::logic::{group::GroupSet, ids::GroupId, meta::Uuid, MAX_GROUPS};

/// How long after a start it is looked whether somebody else has started, too, in milliseconds.
const SETTLE_MS: u32 = 1000;

/// A beat as far as it matters here: whose, and the counter.
type Sign = ([u64; 2], u64);

/// The signs of each group, and the longest time between two in seconds.
struct Signs {
    of: [Option<Sign>; MAX_GROUPS],
    interval_s: u64,
}

/// Waits until it is seen whether somebody has the mirror still, which had it when it was last heard of.
pub(super) fn await_owner<S: Starter + ?Sized>(s: &S, mirror: Uuid) -> Result<(), NotStarted> {
    let before = signs(s, mirror)?;
    if before.interval_s == 0 {
        return Ok(());
    }
    let ms = before.interval_s.saturating_mul(2000);
    s.mirror().tell(News::AwaitsOwner { ms });
    pause(s, u32::try_from(ms).unwrap_or(u32::MAX))?;
    let after = signs(s, mirror)?;
    if before.of == after.of {
        Ok(())
    } else {
        Err(NotStarted::InUse)
    }
}

/// A start was recorded on these groups: gives way if somebody else has done so at the same time.
pub(super) fn settle<S: Starter + ?Sized>(s: &S, sources: GroupSet) -> Result<(), NotStarted> {
    if s.mirror().owner_check_s() == 0 {
        return Ok(());
    }
    pause(s, SETTLE_MS)?;
    if shows_last(s, sources)? {
        Ok(())
    } else {
        Err(NotStarted::Overtaken)
    }
}

/// Whether each of these groups shows the superblock that it is known to have.
pub(super) fn shows_last<S: Starter + ?Sized>(s: &S, groups: GroupSet) -> Result<bool, NotStarted> {
    let mirror = s.mirror();
    for group in groups.iter() {
        s.in_time(|ended| mirror.read_member(group, ended))?;
        let is_last = mirror.with_notes(|notes| {
            let found = group.pick(notes.found).as_ref();
            found.is_some_and(|found| notes.memory.is_last(found))
        });
        if !is_last {
            return Ok(false);
        }
    }
    Ok(true)
}

fn pause<S: Starter + ?Sized>(s: &S, ms: u32) -> Result<(), NotStarted> {
    s.pause(ms).then_some(()).ok_or(NotStarted::Interrupted)
}

/// The beats of all groups that are there.
fn signs<S: Starter + ?Sized>(s: &S, of: Uuid) -> Result<Signs, NotStarted> {
    let mirror = s.mirror();
    let mut signs = Signs {
        of: [None; MAX_GROUPS],
        interval_s: 0,
    };
    for group in GroupId::all() {
        if mirror.core().group(group).up().is_empty() {
            continue;
        }
        let beat = match s.in_time(|ended| mirror.read_beat(group, of, ended)) {
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
