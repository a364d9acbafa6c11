// SPDX-License-Identifier: GPL-2.0

//! `enbdctl status --json`.
//!
//! The schema is in Documentation/enbdctl.rst. Keys are only added; what the module does not tell is
//! null. Where an older module rounds, a key has the least that the number can be, and one of the
//! same name with `_max` behind it the most.

use crate::view::{self, dirty_bytes, Recovery, Subject, Verdict};
use enbd_status::{Bytes, Channel, Device, Figure, Group, Member, Settings};
use serde_json::{json, Value};

/// The version of the schema.
pub const VERSION: u32 = 1;

/// All devices.
pub fn status(devices: &[Subject<'_>]) -> Value {
    let devices: Vec<Value> = devices.iter().map(device).collect();
    json!({ "version": VERSION, "devices": devices })
}

fn device(subject: &Subject<'_>) -> Value {
    let device = subject.device;
    let verdict = Verdict::of(subject);
    let groups: Vec<Value> = device.groups.iter().map(|one| group(device, one)).collect();
    json!({
        "name": subject.name,
        "device": format!("/dev/nd{}", device.letter),
        "letter": device.letter,
        "size": device.size_kib.saturating_mul(1024),
        "blocksize": device.blocksize,
        "enabled": device.enabled,
        "read_only": device.read_only,
        "state": verdict.key(),
        "held": verdict == Verdict::Held,
        "last_error": { "errno": device.last_error, "text": device.error },
        "queued": device.queued,
        "group_count": device.group_count,
        "configured_group_count": Some(subject.wanted).filter(|&count| count > 0),
        "in_sync_count": view::in_sync(device),
        "groups": groups,
        "settings": device.settings.as_ref().map(settings),
        "mirror": device.mirror.as_ref().map(|mirror| json!({
            "uuid": mirror.uuid,
            "generation": mirror.generation,
            "event": mirror.event,
            "owner": mirror.owner,
            "intent": device.intent.map(|intent| json!({
                "regions": intent.regions,
                "marked_bytes": intent.bytes.least,
                "rounds": intent.rounds,
                "waits": intent.waits,
            })),
            "members": device.members.iter().map(member).collect::<Vec<_>>(),
        })),
        "other_lines": device.others.iter()
            .map(|line| json!({ "label": line.label, "text": line.text }))
            .collect::<Vec<_>>(),
    })
}

fn member(member: &Member) -> Value {
    json!({
        "group": member.number,
        "in_sync": member.stale.is_none(),
        "stale_since_event": member.stale.map(|(event, _)| event),
        "missed_bytes": member.stale.map(|(_, missed)| missed.least),
    })
}

/// What a module of before does not tell is left out.
fn settings(settings: &Settings) -> Value {
    let mut value = json!({
        "timeout": settings.timeout,
        "connect_timeout": settings.connect_timeout,
        "show_errs": settings.show_errs,
        "autoadd": settings.autoadd,
        "resync_min": settings.resync_min,
        "resync_max": settings.resync_max,
    });
    if let (Some(more), Some(all)) = (settings.more, value.as_object_mut()) {
        all.extend([
            (
                "compare".to_owned(),
                more.compare.map_or(json!("auto"), |on| json!(on)),
            ),
            ("owner_check".to_owned(), json!(more.owner_check)),
            ("intent".to_owned(), json!(more.intent)),
            ("intent_max".to_owned(), json!(more.intent_max)),
            ("intent_idle".to_owned(), json!(more.intent_idle)),
        ]);
    }
    value
}

fn group(device: &Device, group: &Group) -> Value {
    let channels: Vec<Value> = device
        .channels_of(group.number)
        .map(|one| channel(device.blocksize, one))
        .collect();
    let dirty = dirty_bytes(device, group);
    let resync = Recovery::of(device, group).map(|recovery| {
        json!({
            "done": recovery.done,
            "total": recovery.total,
            "eta": recovery.eta,
            "bytes_per_second": recovery.speed,
        })
    });
    json!({
        "group": group.number,
        "state": view::state_key(group.state),
        "volatile": group.volatile,
        "suspect": group.suspect,
        "reason": group.reason,
        "dirty_bytes": dirty.map(|figure| figure.least),
        "dirty_bytes_max": dirty.map(|figure| figure.most),
        "resync": resync,
        "channels": channels,
    })
}

fn channel(blocksize: u64, channel: &Channel) -> Value {
    let peer = channel.peer.as_ref();
    let bytes = |rounded: Figure, exact: fn(&Bytes) -> u64| {
        let exact = channel.bytes.as_ref().map(exact);
        exact.map_or_else(|| rounded.times(blocksize), Figure::exact)
    };
    let asked = bytes(channel.requested, |one| {
        one.requested_read.saturating_add(one.requested_written)
    });
    let done = bytes(channel.despatched, |one| {
        one.despatched_read.saturating_add(one.despatched_written)
    });
    let errors = bytes(channel.errored, |one| one.errored);
    let pending = bytes(channel.pending, |one| one.pending);
    json!({
        "uri": view::uri(channel).map(|uri| uri.to_string()),
        "up": channel.is_up(),
        "since": peer.map(|peer| peer.since_s),
        "reconnects": peer.map(|peer| peer.reconnects),
        "last_error": peer.and_then(|peer| peer.last_error.as_deref()),
        "read_bytes": channel.bytes.map(|bytes| bytes.despatched_read),
        "written_bytes": channel.bytes.map(|bytes| bytes.despatched_written),
        "requested_bytes": asked.least,
        "requested_bytes_max": asked.most,
        "despatched_bytes": done.least,
        "despatched_bytes_max": done.most,
        "errors": errors.least,
        "errors_max": errors.most,
        "pending": pending.least,
        "pending_max": pending.most,
    })
}
