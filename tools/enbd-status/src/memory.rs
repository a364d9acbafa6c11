// SPDX-License-Identifier: GPL-2.0

//! The lines of a mirror that remembers.

use crate::figure::{plain, Figure};
use crate::model::{Intent, Member, Mirror};

/// `3a0e..., generation 6b3d..., event 17, in use by alice`.
pub(crate) fn mirror(text: &str) -> Option<Mirror> {
    let (uuid, rest) = text.split_once(", generation ")?;
    let (generation, rest) = rest.split_once(", event ")?;
    let (event, owner) = rest.split_once(", ")?;
    let owner = match owner {
        "clean" => None,
        owner => Some(owner.strip_prefix("in use by ")?.to_owned()),
    };
    Some(Mirror {
        uuid: uuid.to_owned(),
        generation: generation.to_owned(),
        event: plain(event)?,
        owner,
    })
}

/// `128 regions (128M), rounds 412, waits 377`.
pub(crate) fn intent(text: &str) -> Option<Intent> {
    let (regions, rest) = text.split_once(" regions (")?;
    let (bytes, rest) = rest.split_once("), rounds ")?;
    let (rounds, waits) = rest.split_once(", waits ")?;
    Some(Intent {
        regions: plain(regions)?,
        bytes: Figure::parse(bytes)?,
        rounds: plain(rounds)?,
        waits: plain(waits)?,
    })
}

/// `0 in sync`, or `1 stale since event 16, 3.10M missed`.
pub(crate) fn member(text: &str) -> Option<Member> {
    let (number, state) = text.split_once(' ')?;
    let number = u8::try_from(plain(number)?).ok()?;
    if state == "in sync" {
        return Some(Member {
            number,
            stale: None,
        });
    }
    let (event, missed) = state.strip_prefix("stale since event ")?.split_once(", ")?;
    let missed = Figure::parse(missed.strip_suffix(" missed")?)?;
    Some(Member {
        number,
        stale: Some((plain(event)?, missed)),
    })
}
