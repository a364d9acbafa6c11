// SPDX-License-Identifier: GPL-2.0

//! `enbdctl up`. What mirrors that remember do is in [`assembly`]; the rest of this is of the others.
//!
//! Before the disk is enabled the module takes all groups for equal, so only groups that are known
//! to be are connected until then; that the mirror runs, and nobody can know any more, is written
//! down before `enable`; the rest joins afterwards and is copied. Each step may be the last: `up`
//! goes on from wherever an earlier one was interrupted.

use crate::assembly;
use crate::command::Line;
use crate::config::Config;
use crate::identity::check_identity;
use crate::problem::{Exit, Problem};
use crate::record::{members, Record};
use crate::session::{Session, Unreached};
use crate::show::not_up;
use crate::sources::{decide, Claim};
use enbd_status::{Device, GroupState};
use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long to wait before a server that is not there is tried again.
pub const AGAIN: Duration = Duration::from_millis(500);

/// How it is wished.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// What the user says of who is current.
    pub claim: Claim,
    /// How long to wait for servers.
    pub wait: Duration,
}

/// Brings a mirror up.
///
/// # Errors
///
/// Nobody knows which group is current, no server can be reached, or the module refuses.
pub fn up(session: &mut Session<'_>, config: &Config, wish: Wish) -> Result<Exit, Problem> {
    let _lock = session.lock(config.letter)?;
    let status = session.status()?;
    let device = status.device(config.letter);
    if let Some(device) = device.filter(|device| device.enabled) {
        if device.mirror.is_some() {
            return assembly::join(session, config, device);
        }
        check_identity(config, device)?;
        check_ours(session, config, device)?;
        let all: BTreeSet<u8> = (0u8..)
            .zip(&config.groups)
            .map(|(group, _)| group)
            .collect();
        let lost = join(session, config, Some(device), &all)?;
        save_running(session, config)?;
        report(config, "is up already", &lost);
        return Ok(Exit::Ok);
    }
    let began = Instant::now();
    let remembers = assembly::remembers(session, config, device, wish.wait);
    let wish = Wish {
        wait: wish.wait.saturating_sub(began.elapsed()),
        ..wish
    };
    if remembers {
        return assembly::up(session, config, device, wish);
    }
    let sources = sources(session, config, device, wish.claim)?;
    send_settings(session, config, device)?;
    let (good, mut lost) = connect_sources(session, config, device, &sources, wish.wait);
    let now = session.status()?.device(config.letter).cloned();
    if now.as_ref().is_some_and(|now| now.mirror.is_some()) {
        // A server that did not answer before has told it.
        let result = assembly::up(session, config, now.as_ref(), wish);
        if result.is_err() && device.is_none() {
            assembly::leave(session, config);
        }
        return result;
    }
    if good.is_empty() {
        if device.is_none() && !session.module.is_dry() {
            forget_new(session, config)?;
        }
        return Err(none_reached(config, &lost));
    }
    start(session, config, &good)?;
    let all: BTreeSet<u8> = (0u8..)
        .zip(&config.groups)
        .map(|(group, _)| group)
        .collect();
    let rest: BTreeSet<u8> = all.difference(&sources).copied().collect();
    let now = match session.module.is_dry() {
        true => None,
        false => session.status()?.device(config.letter).cloned(),
    };
    lost.extend(join(session, config, now.as_ref(), &rest)?);
    save_running(session, config)?;
    report(config, "is up", &lost);
    Ok(Exit::Ok)
}

/// Sends the settings of a configuration.
///
/// # Errors
///
/// The module refuses one.
pub fn send_settings(
    session: &mut Session<'_>,
    config: &Config,
    device: Option<&Device>,
) -> Result<(), Problem> {
    for line in &config.settings {
        // The module refuses another block size, or the same, where blocks are marked.
        let same = device.is_some_and(|one| line.text().ends_with(&format!("={}", one.blocksize)));
        if !(same && line.text().starts_with("blocksize[")) {
            session.command(&config.name, line)?;
        }
    }
    Ok(())
}

/// Has the module forget a device that was made for this start.
///
/// # Errors
///
/// The module refuses.
pub fn forget_new(session: &mut Session<'_>, config: &Config) -> Result<(), Problem> {
    if session.status()?.device(config.letter).is_none() {
        return Ok(());
    }
    session.make(&config.name, Line::number(config.letter, "reset", 1))
}

/// The groups to connect before `enable`.
fn sources(
    session: &Session<'_>,
    config: &Config,
    device: Option<&Device>,
    claim: Claim,
) -> Result<BTreeSet<u8>, Problem> {
    let record = session.store.load(&config.name)?;
    let Some(device) = device else {
        return decide(config, record.as_ref(), claim);
    };
    // The device exists and is disabled. If it has been enabled the module knows its states.
    let runs = record.as_ref().filter(|record| record.is_run_of(device));
    let sources = match (runs, claim) {
        (Some(record), Claim::None) => {
            check_ours(session, config, device)?;
            let known = |(_, one): &(u8, &crate::config::Member)| {
                record.was_in_sync(&one.uri.to_string()) == Some(true)
            };
            return Ok((0u8..)
                .zip(&config.groups)
                .filter(known)
                .map(|(group, _)| group)
                .collect());
        }
        _ => decide(config, record.as_ref(), claim)?,
    };
    for group in &device.groups {
        let missing = matches!(group.state, GroupState::Faulty | GroupState::Resyncing);
        if !missing && !sources.contains(&group.number) {
            let what = format!(
                "{}: the device {} exists, and its group {} is connected but not known to be current",
                config.name, config.letter, group.number
            );
            let hint = format!("enbdctl reset {}, then again", config.letter);
            return Err(Problem::new(Exit::Refused, what).hint(hint));
        }
    }
    check_ours(session, config, device)?;
    Ok(sources)
}

/// Fails if a channel of the device leads elsewhere than the configuration says.
fn check_ours(session: &Session<'_>, config: &Config, device: &Device) -> Result<(), Problem> {
    for (group, member) in (0u8..).zip(&config.groups) {
        // A name that cannot be resolved now says nothing.
        let Ok((_, others)) = session.present(device, group, &member.uri) else {
            continue;
        };
        if others {
            let what = format!(
                "{}: the device {} exists, and its group {group} has channels to others than {}",
                config.name, config.letter, member.uri
            );
            let hint = format!(
                "enbdctl status {} shows them; enbdctl down {} ends them",
                config.letter, config.letter
            );
            return Err(Problem::new(Exit::Refused, what).hint(hint));
        }
    }
    Ok(())
}

/// Connects the sources, again and again until all are there or the time is up.
fn connect_sources(
    session: &mut Session<'_>,
    config: &Config,
    device: Option<&Device>,
    sources: &BTreeSet<u8>,
    wait: Duration,
) -> (BTreeSet<u8>, Vec<(u8, Unreached)>) {
    let began = Instant::now();
    let mut good = BTreeSet::new();
    loop {
        let mut lost = Vec::new();
        for group in sources.iter().copied() {
            if good.contains(&group) {
                continue;
            }
            match connect_missing(session, config, device, group) {
                Ok(()) => {
                    good.insert(group);
                }
                Err(unreached) => lost.push((group, unreached)),
            }
        }
        let worth = lost.iter().any(|(_, unreached)| unreached.passes);
        if !worth || began.elapsed() >= wait {
            return (good, lost);
        }
        sleep(AGAIN.min(wait.saturating_sub(began.elapsed())));
    }
}

/// Adds the channels of a group that are not there.
fn connect_missing(
    session: &mut Session<'_>,
    config: &Config,
    device: Option<&Device>,
    group: u8,
) -> Result<(), Unreached> {
    let Some(member) = config.groups.get(usize::from(group)) else {
        return Ok(());
    };
    let present = match device {
        Some(device) => session.present(device, group, &member.uri)?.0,
        None => 0,
    };
    let missing = usize::from(member.channels).saturating_sub(present);
    let mut wanted = member.clone();
    wanted.channels = u8::try_from(missing).unwrap_or(member.channels);
    match wanted.channels {
        0 => Ok(()),
        _ => session.connect(config.letter, group, &wanted, device),
    }
}

/// Writes down that the mirror runs, and enables it. If it is refused, nothing has been written to
/// any group, and what was known before stays known.
fn start(session: &mut Session<'_>, config: &Config, good: &BTreeSet<u8>) -> Result<(), Problem> {
    let enable = Line::number(config.letter, "enable", 1);
    if session.module.is_dry() {
        return session.make(&config.name, enable);
    }
    let before = session.store.load(&config.name)?;
    let status = session.status()?;
    let device = status.device(config.letter);
    let device = device.ok_or_else(|| not_up(&config.name, config.letter))?;
    let members = members(config, device, |group| good.contains(&group));
    let record = Record::new(config.letter, false, members);
    session.store.save(&config.name, &record)?;
    let result = session.make(&config.name, enable);
    if result.is_err() {
        session.store.restore(&config.name, before.as_ref())?;
    }
    result
}

/// Writes down that a device runs, and its servers as they are by now.
fn save_running(session: &Session<'_>, config: &Config) -> Result<(), Problem> {
    if session.module.is_dry() {
        return Ok(());
    }
    let status = session.status()?;
    let device = status.device(config.letter);
    let device = device.ok_or_else(|| not_up(&config.name, config.letter))?;
    let in_sync = |group| {
        let group = device.group(group);
        group.is_some_and(|group| group.state == GroupState::InSync)
    };
    let record = Record::new(config.letter, false, members(config, device, in_sync));
    session.store.save(&config.name, &record)
}

/// Connects groups of a device that is enabled, and has those copied that are faulty since. A group
/// that has all its channels is left as it is: somebody may have set it faulty.
fn join(
    session: &mut Session<'_>,
    config: &Config,
    device: Option<&Device>,
    groups: &BTreeSet<u8>,
) -> Result<Vec<(u8, Unreached)>, Problem> {
    let mut lost = Vec::new();
    for group in groups.iter().copied() {
        let had = device.is_some_and(|one| one.channels_of(group).next().is_some());
        if let Err(unreached) = connect_missing(session, config, device, group) {
            lost.push((group, unreached));
            continue;
        }
        if had {
            continue;
        }
        let faulty = session.module.is_dry() || is_faulty(session, config, group)?;
        if faulty {
            let result = session.make(&config.name, Line::hotadd(config.letter, group, false));
            // enbd may have been faster.
            if let (Err(problem), true) = (result, is_faulty(session, config, group)?) {
                return Err(problem);
            }
        }
    }
    Ok(lost)
}

fn is_faulty(session: &Session<'_>, config: &Config, group: u8) -> Result<bool, Problem> {
    let status = session.status()?;
    let group = status
        .device(config.letter)
        .and_then(|device| device.group(group));
    Ok(group.is_some_and(|group| group.state == GroupState::Faulty))
}

fn unreached_words(config: &Config, lost: &[(u8, Unreached)]) -> Vec<String> {
    let uri = |group: u8| {
        config
            .groups
            .get(usize::from(group))
            .map(|one| one.uri.to_string())
    };
    lost.iter()
        .map(|(group, unreached)| {
            format!(
                "group {group}, {}: {}",
                uri(*group).unwrap_or_default(),
                unreached.why
            )
        })
        .collect()
}

fn none_reached(config: &Config, lost: &[(u8, Unreached)]) -> Problem {
    let words = unreached_words(config, lost).join("\n  ");
    let what = format!(
        "{}: no group that is current can be connected:\n  {words}",
        config.name
    );
    Problem::new(Exit::Refused, what)
        .hint("start a server, then again; --wait=SECONDS waits longer")
}

/// Tells what has come of it, on standard error: standard output is for programs.
fn report(config: &Config, how: &str, lost: &[(u8, Unreached)]) {
    for words in unreached_words(config, lost) {
        eprintln!("enbdctl: {}: {words}", config.name);
    }
    if !lost.is_empty() {
        let name = &config.name;
        eprintln!("  {name} {how} without that; when the server is back: enbdctl up {name}");
    }
}
