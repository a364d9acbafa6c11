// SPDX-License-Identifier: GPL-2.0

//! The lines that were added to those of 2003: `Channel`, `Bytes`, `Group` and `Settings`.

use crate::figure::plain;
use crate::model::{Bytes, GroupState, MoreSettings, Peer, Settings};

/// What stands where something is kept from the reader.
const HIDDEN: &str = "-";

/// `0 tcp 192.0.2.1:10809 disk, up 12s, reconnects 0, last error: why`: its number and the rest.
pub(crate) fn channel(text: &str) -> Option<(usize, Peer)> {
    let (number, text) = text.split_once(' ')?;
    let number = usize::try_from(plain(number)?).ok()?;
    let (transport, text) = text.split_once(' ')?;
    // Neither an address nor a name has a blank, so that this comma is not one of theirs.
    let up = text.find(", up ").map(|at| (at, ", up "));
    let down = text.find(", down ").map(|at| (at, ", down "));
    let (at, link) = up.into_iter().chain(down).min()?;
    let (place, rest) = (text.get(..at)?, text.get(at.checked_add(link.len())?..)?);
    let (address, export) = place.split_once(' ').unwrap_or((place, ""));
    if address.is_empty() || export.contains(' ') {
        return None;
    }
    let (since, rest) = rest.split_once("s, reconnects ")?;
    let (reconnects, last_error) = match rest.split_once(", ") {
        Some((reconnects, more)) => (reconnects, Some(more)),
        None => (rest, None),
    };
    let last_error = last_error.map(|more| more.strip_prefix("last error: ").unwrap_or(more));
    let hidden = address == HIDDEN;
    let shown = |word: &str| (!hidden).then(|| word.to_owned());
    Some((
        number,
        Peer {
            transport: transport.to_owned(),
            address: shown(address),
            export: shown(export),
            since_s: plain(since)?,
            reconnects: plain(reconnects)?,
            last_error: last_error.map(str::to_owned),
        },
    ))
}

/// A `Group` line, taken apart.
pub(crate) struct GroupLine {
    pub(crate) number: u8,
    pub(crate) state: GroupState,
    /// An older module does not say it here.
    pub(crate) dirty: Option<u64>,
    pub(crate) volatile: bool,
    pub(crate) suspect: bool,
    pub(crate) reason: Option<String>,
}

/// `1 faulty, dirty 763, volatile, suspect, reason: why`.
pub(crate) fn group(text: &str) -> Option<GroupLine> {
    let (number, text) = text.split_once(' ')?;
    let (words, reason) = match text.split_once(", reason: ") {
        Some((words, reason)) => (words, Some(reason.to_owned())),
        None => (text, None),
    };
    let mut words = words.split(", ");
    let state = match words.next()? {
        "in sync" => GroupState::InSync,
        "faulty" => GroupState::Faulty,
        "resyncing" => GroupState::Resyncing,
        _ => return None,
    };
    Some(GroupLine {
        number: u8::try_from(plain(number)?).ok()?,
        state,
        dirty: words
            .clone()
            .find_map(|word| plain(word.strip_prefix("dirty ")?)),
        volatile: words.clone().any(|word| word == "volatile"),
        suspect: words.any(|word| word == "suspect"),
        reason,
    })
}

/// `0 requested_read=4096 requested_written=0 ...`: its number and the rest. A key that is not known
/// is left out.
pub(crate) fn bytes(text: &str) -> Option<(usize, Bytes)> {
    let (number, text) = text.split_once(' ')?;
    let get = |key| value(text, key);
    Some((
        usize::try_from(plain(number)?).ok()?,
        Bytes {
            requested_read: get("requested_read")?,
            requested_written: get("requested_written")?,
            despatched_read: get("despatched_read")?,
            despatched_written: get("despatched_written")?,
            errored: get("errored")?,
            pending: get("pending")?,
        },
    ))
}

/// `timeout=30 connect_timeout=10 ...`.
pub(crate) fn settings(text: &str) -> Option<Settings> {
    let get = |key| value(text, key);
    let switch = |key| match get(key)? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    };
    let is_told = |key: &str| {
        text.split(' ')
            .any(|word| word.split('=').next() == Some(key))
    };
    let more = match is_told("compare") {
        false => None,
        true => Some(MoreSettings {
            compare: match text.split(' ').any(|word| word == "compare=auto") {
                true => None,
                false => Some(switch("compare")?),
            },
            owner_check: get("owner_check")?,
            intent: switch("intent")?,
            intent_max: get("intent_max")?,
            intent_idle: get("intent_idle")?,
        }),
    };
    Some(Settings {
        timeout: get("timeout")?,
        connect_timeout: get("connect_timeout")?,
        show_errs: switch("show_errs")?,
        autoadd: switch("autoadd")?,
        resync_min: get("resync_min")?,
        resync_max: get("resync_max")?,
        more,
    })
}

/// The number of the word `key=number`.
fn value(text: &str, key: &str) -> Option<u64> {
    let find = |word: &str| plain(word.strip_prefix(key)?.strip_prefix('=')?);
    text.split(' ').find_map(find)
}

#[cfg(test)]
mod tests {
    use super::channel;

    #[test]
    fn names_and_addresses_with_commas() {
        let (number, peer) =
            channel("3 unix /run/a,b, a,, down 4s, reconnects 2, last error: x, up 1s")
                .expect("a channel");
        assert_eq!((number, peer.address.as_deref()), (3, Some("/run/a,b,")));
        assert_eq!(peer.export.as_deref(), Some("a,"));
        assert_eq!((peer.since_s, peer.reconnects), (4, 2));
        assert_eq!(peer.last_error.as_deref(), Some("x, up 1s"));
    }

    #[test]
    fn what_is_kept_from_the_reader() {
        for text in [
            "0 tcp -, up 1s, reconnects 0",
            "0 tcp - -, up 1s, reconnects 0",
        ] {
            let (_, peer) = channel(text).expect("a channel");
            assert_eq!((peer.address, peer.export), (None, None));
        }
        let (_, peer) = channel("0 tcp 192.0.2.1:1 -, up 1s, reconnects 0").expect("a channel");
        assert_eq!(peer.export.as_deref(), Some("-"));
    }

    #[test]
    fn what_is_no_channel() {
        for text in [
            "",
            "0",
            "0 tcp",
            "0 tcp x",
            "0 tcp x, up",
            "0 tcp x, up 1, reconnects 0",
            "x tcp y, up 1s, reconnects 0",
            "0 tcp x, up 1s, reconnects x",
            "0 tcp x y z, up 1s, reconnects 0",
        ] {
            assert!(channel(text).is_none(), "{text}");
        }
    }
}
