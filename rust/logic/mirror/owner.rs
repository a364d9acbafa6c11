// SPDX-License-Identifier: GPL-2.0

//! The beat of an enabled device: another client can see that somebody has the mirror, and this one
//! sees another one's.

use super::{
    member::{Keep, Members},
    Memories, News, Route, World,
};
use crate::logic::meta::Beat;

/// The beats of this life of the device.
#[derive(Default)]
pub(super) struct Beats {
    /// How many there were.
    count: u64,
    /// When the last one was, in milliseconds.
    last_ms: u64,
}

impl Beats {
    /// Whether the next one is due.
    pub(super) fn is_due(&self, now_ms: u64, interval_s: u64) -> bool {
        let since = now_ms.saturating_sub(self.last_ms);
        interval_s > 0 && (self.count == 0 || since >= interval_s.saturating_mul(1000))
    }
}

/// Counts up on all groups in sync, unless another client is found to do so: then nothing is written
/// any more. A beat that fails changes nothing: whoever does not answer is found by requests.
pub(super) fn beat<W: World>(w: &W, beats: &mut Beats, ended: &dyn Fn() -> bool) {
    let own = w.with_memory(|memory| {
        let record = memory.record.as_ref()?;
        Some((record.mirror, record.owner?))
    });
    let Some((mirror, owner)) = own else {
        return;
    };
    beats.last_ms = w.now_ms();
    let next = Beat {
        mirror,
        nonce: owner.nonce,
        counter: beats.count.saturating_add(1),
        interval_s: w.owner_check_s(),
        name: owner.name,
    };
    for group in w.core().view().readable().iter() {
        let found = w.read_beat(group, mirror, ended);
        let is_told = w.with_memory(|memory| memory.told.has(group));
        match found {
            // The first one overwrites that of whoever had the device before.
            Ok(Some(found)) if found.nonce != owner.nonce && is_told => {
                w.core().fence();
                w.tell(News::Fenced { group });
                w.drop_kept();
                w.unpark();
                return;
            }
            Ok(_) => {
                // A server that loses its cache does not show an older client's again.
                let keep = if is_told { Keep::Cached } else { Keep::Durable };
                if w.write_beat(group, &next, keep, ended).is_ok() {
                    w.with_memory(|memory| memory.told = memory.told.with(group));
                }
            }
            Err(_) => {}
        }
    }
    beats.count = next.counter;
}
