// SPDX-License-Identifier: GPL-2.0

//! `enbdctl down` and `disable`: the disk is flushed and taken away, who is in sync is written down,
//! and `down` then has the module forget the device.

use crate::command::Line;
use crate::places::Target;
use crate::problem::{Exit, Problem};
use crate::record::{shown, Member, Record};
use crate::session::{explained, Session};
use enbd_status::{Device, GroupState};

/// Whether the module is to forget the device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Then {
    /// It stays, with its channels and states.
    Keep,
    /// It is forgotten.
    Forget,
}

/// Takes a disk away. What is down already is no error.
///
/// # Errors
///
/// The disk is in use, or the module refuses.
pub fn down(session: &mut Session<'_>, target: &Target, then: Then) -> Result<Exit, Problem> {
    let _lock = session.lock(target.letter)?;
    let status = session.status()?;
    let Some(device) = status.device(target.letter) else {
        return match then {
            Then::Forget => Ok(Exit::Ok),
            Then::Keep => Err(crate::show::not_up(&target.name, target.letter)),
        };
    };
    let mut unflushed = None;
    if device.enabled {
        unflushed = disable(session, target)?;
    }
    // A mirror that remembers has written it to its exports.
    if !session.module.is_dry() && device.mirror.is_none() {
        record(session, target, device.enabled, unflushed.as_ref())?;
    }
    if then == Then::Forget {
        session.make(&target.name, Line::number(target.letter, "reset", 1))?;
    }
    match unflushed {
        None => Ok(Exit::Ok),
        Some(problem) => Err(problem.hint("a server may have lost what was written last")),
    }
}

/// Disables it. Gives what a server did not flush; the disk is gone then, too.
fn disable(session: &mut Session<'_>, target: &Target) -> Result<Option<Problem>, Problem> {
    let line = crate::command::usable(Line::number(target.letter, "enable", 0))?;
    let Err(refusal) = session.module.command(&line) else {
        return Ok(None);
    };
    let gone = !session.device(target)?.enabled;
    let problem = explained(&target.name, &refusal);
    if gone {
        Ok(Some(problem))
    } else {
        Err(problem)
    }
}

/// Writes down who is in sync, where that is known.
fn record(
    session: &Session<'_>,
    target: &Target,
    ran: bool,
    unflushed: Option<&Problem>,
) -> Result<(), Problem> {
    if session.config_of(target).is_none() {
        return Ok(());
    }
    let device = session.device(target)?;
    let before = session.store.load(&target.name)?;
    // Disabled, and never enabled since: what is known is what was known before.
    let runs = before
        .as_ref()
        .is_some_and(|record| record.is_run_of(&device));
    if !ran && !runs {
        return Ok(());
    }
    let members = members(session, target, &device, before.as_ref());
    let mut record = Record::new(target.letter, true, members);
    if let Some(problem) = unflushed {
        record.clean = false;
        record.note = Some(format!(
            "when it was stopped, a server did not flush ({})",
            problem.what
        ));
    }
    session.store.save(&target.name, &record)
}

/// The groups by their servers: as they were called when the device was started, or as the
/// configuration calls them, where that is where their channels lead; else as the module shows them.
fn members(
    session: &Session<'_>,
    target: &Target,
    device: &Device,
    before: Option<&Record>,
) -> Vec<Member> {
    let config = session.config_of(target);
    let started = before.filter(|record| !record.clean && record.is_of_this_boot());
    let mut members = Vec::new();
    for group in &device.groups {
        let number = group.number;
        let shown = shown(device, number);
        let is_same = |member: &&Member| {
            member.group == number
                && member.shown.is_some()
                && (shown.is_none() || member.shown == shown)
        };
        let known = started.and_then(|record| record.groups.iter().find(is_same));
        let own = config
            .as_ref()
            .and_then(|config| config.groups.get(usize::from(number)))
            .filter(|own| matches!(session.present(device, number, &own.uri), Ok((1.., false))));
        let uri = known
            .map(|member| member.uri.clone())
            .or_else(|| own.map(|own| own.uri.to_string()))
            .or_else(|| shown.clone());
        if let Some(uri) = uri {
            members.push(Member {
                group: number,
                uri,
                in_sync: group.state == GroupState::InSync,
                shown,
            });
        }
    }
    members
}
