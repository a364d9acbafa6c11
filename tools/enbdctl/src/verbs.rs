// SPDX-License-Identifier: GPL-2.0

//! The verbs that have one command carried out, or few: what is so already is no error.

use crate::assembly::refused;
use crate::command::{usable, Line};
use crate::config::{Member, DEFAULT_CHANNELS};
use crate::identity::check_identity;
use crate::module::Watcher;
use crate::places::{Configs, Places, Target};
use crate::problem::{Exit, Problem};
use crate::record::{members, Record};
use crate::session::{Session, Unreached};
use crate::show::{not_up, subject};
use crate::size::{parse_speed, seconds};
use crate::toml_text::near;
use crate::uri::Uri;
use crate::view::{self, Recovery, Verdict};
use enbd_logic::logic::MAX_GROUPS;
use enbd_status::{Device, Group, GroupState};
use std::time::{Duration, Instant};

/// The settings that there are.
const SETTINGS: [&str; 12] = [
    "blocksize",
    "timeout",
    "connect_timeout",
    "show_errs",
    "autoadd",
    "resync_min",
    "resync_max",
    "compare",
    "owner_check",
    "intent",
    "intent_max",
    "intent_idle",
];

/// What to wait for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Goal {
    /// All groups are in sync
    Synced,
    /// There is a disk
    Enabled,
    /// It is not OK any more
    Degraded,
}

/// Enables a device that exists.
///
/// # Errors
///
/// It does not exist, or the module refuses.
pub fn enable(session: &mut Session<'_>, target: &Target) -> Result<Exit, Problem> {
    let _lock = session.lock(target.letter)?;
    let device = session.device(target)?;
    if device.enabled {
        return Ok(Exit::Ok);
    }
    let line = usable(Line::number(target.letter, "enable", 1))?;
    let config = session.config_of(target);
    if let Some(config) = &config {
        check_identity(config, &device)?;
    }
    let Some(config) = config.filter(|_| !session.module.is_dry() && device.mirror.is_none())
    else {
        let result = session.module.command(&line);
        let result = result.map_err(|refusal| refused(&target.name, &refusal));
        return result.map(|()| Exit::Ok);
    };
    // From now on nobody can know who is in sync: that must be written down before.
    let before = session.store.load(&config.name)?;
    let in_sync = |group| {
        let group = device.group(group);
        group.is_some_and(|group| group.state == GroupState::InSync)
    };
    let record = Record::new(target.letter, false, members(&config, &device, in_sync));
    session.store.save(&config.name, &record)?;
    let result = session.command(&target.name, &line);
    if result.is_err() {
        session.store.restore(&config.name, before.as_ref())?;
    }
    result.map(|()| Exit::Ok)
}

/// Sees to it that a group has so many channels to a server.
///
/// # Errors
///
/// The server cannot be reached, or the module refuses.
pub fn connect(
    session: &mut Session<'_>,
    target: &Target,
    group: u8,
    uri: &Uri,
    channels: Option<u8>,
) -> Result<Exit, Problem> {
    let _lock = session.lock(target.letter)?;
    let status = session.status()?;
    let wanted = channels.or(uri.channels).unwrap_or(DEFAULT_CHANNELS);
    let lost = |unreached| lost(target, group, uri, unreached);
    let present = match status.device(target.letter) {
        Some(device) => session.present(device, group, uri).map_err(lost)?.0,
        None => 0,
    };
    let missing = usize::from(wanted).saturating_sub(present);
    let missing = u8::try_from(missing).unwrap_or(wanted);
    if missing > 0 {
        let member = Member {
            uri: uri.clone(),
            channels: missing,
        };
        session
            .connect(target.letter, group, &member, status.device(target.letter))
            .map_err(lost)?;
    }
    Ok(Exit::Ok)
}

fn lost(target: &Target, group: u8, uri: &Uri, unreached: Unreached) -> Problem {
    let what = format!("{}: group {group}, {uri}: {}", target.name, unreached.why);
    Problem::new(Exit::Refused, what)
}

/// Removes the channels of a group, or those to one server.
///
/// # Errors
///
/// There is no such channel, or the module refuses.
pub fn disconnect(
    session: &mut Session<'_>,
    target: &Target,
    group: u8,
    uri: Option<&Uri>,
) -> Result<Exit, Problem> {
    let _lock = session.lock(target.letter)?;
    let device = session.device(target)?;
    let Some(uri) = uri else {
        session.make(&target.name, Line::disconnect(target.letter, group, None))?;
        return Ok(Exit::Ok);
    };
    let words = crate::resolve::addresses(uri, session.resolver)
        .map_err(|why| Problem::new(Exit::Refused, format!("{}: {why}", target.name)))?;
    let mut found = false;
    for word in words {
        let one = std::slice::from_ref(&word);
        let leads = |channel| crate::resolve::leads_to(channel, one, &uri.export) == Some(true);
        if device.channels_of(group).any(leads) {
            found = true;
            session.make(
                &target.name,
                Line::disconnect(target.letter, group, Some(&word)),
            )?;
        }
    }
    match found {
        true => Ok(Exit::Ok),
        false => {
            let what = format!("{}: group {group} has no channel to {uri}", target.name);
            let hint = format!("enbdctl status {} shows them", target.name);
            Err(Problem::new(Exit::NotThere, what).hint(hint))
        }
    }
}

/// The group of a device.
fn find<'a>(target: &Target, device: &'a Device, number: u8) -> Result<&'a Group, Problem> {
    device.group(number).ok_or_else(|| {
        let known: Vec<String> = device
            .groups
            .iter()
            .map(|one| one.number.to_string())
            .collect();
        let what = format!("{} has no group {number}", target.name);
        let problem = Problem::new(Exit::NotThere, what);
        match known.as_slice() {
            [] => problem,
            known => problem.hint(format!("it has: {}", known.join(", "))),
        }
    })
}

/// Stops I/O to a group.
///
/// # Errors
///
/// It is the last in sync, or the module refuses.
pub fn fail(session: &mut Session<'_>, target: &Target, number: u8) -> Result<Exit, Problem> {
    let _lock = session.lock(target.letter)?;
    let device = session.device(target)?;
    let group = find(target, &device, number)?;
    take_out(session, target, &device, group)?;
    Ok(Exit::Ok)
}

/// Sets a group faulty that is not so already.
fn take_out(
    session: &mut Session<'_>,
    target: &Target,
    device: &Device,
    group: &Group,
) -> Result<(), Problem> {
    if group.state == GroupState::Faulty {
        return Ok(());
    }
    if group.state == GroupState::InSync && view::in_sync(device) == 1 {
        return Err(last_in_sync(target, device, group.number));
    }
    session.make(
        &target.name,
        Line::number(target.letter, "setfaulty", group.number),
    )
}

fn last_in_sync(target: &Target, device: &Device, number: u8) -> Problem {
    let name = &target.name;
    let what = format!(
        "group {number} is the last group in sync of {name}: failing it would stop all I/O (EBUSY)"
    );
    let mut problem = Problem::new(Exit::Refused, what);
    problem.errno = Some(libc::EBUSY);
    let other = device.groups.iter().find(|group| group.number != number);
    match other.map(|group| (group, Recovery::of(device, group))) {
        Some((group, Some(recovery))) => {
            let left = recovery
                .eta
                .map(|eta| format!(", {} left", seconds(eta)))
                .unwrap_or_default();
            problem.hint(format!(
                "group {} is resyncing{left}: enbdctl wait {name} && enbdctl fail {name} {number}",
                group.number
            ))
        }
        Some((group, None)) => problem.hint(format!(
            "enbdctl resync {name} {} && enbdctl wait {name}, before",
            group.number
        )),
        None => problem.hint(format!("enbdctl add {name} URI gives it another group")),
    }
}

/// Brings a faulty group back.
///
/// # Errors
///
/// The module refuses.
pub fn resync(
    session: &mut Session<'_>,
    target: &Target,
    number: u8,
    full: bool,
) -> Result<Exit, Problem> {
    let _lock = session.lock(target.letter)?;
    let device = session.device(target)?;
    let group = find(target, &device, number)?;
    match (group.state, full) {
        (GroupState::Resyncing, false) | (GroupState::InSync, false) => return Ok(Exit::Ok),
        (GroupState::InSync, true) => {
            let what = format!(
                "{}: group {number} is in sync: nothing is copied to it",
                target.name
            );
            let name = &target.name;
            let hint = format!("enbdctl fail {name} {number}, then again");
            return Err(Problem::new(Exit::Refused, what).hint(hint));
        }
        _ => {}
    }
    session.make(&target.name, Line::hotadd(target.letter, number, full))?;
    Ok(Exit::Ok)
}

/// Gives an enabled device one more group, and has everything copied to it.
///
/// # Errors
///
/// The device is not enabled, the server cannot be reached, or the module refuses.
pub fn add(
    session: &mut Session<'_>,
    target: &Target,
    uri: &Uri,
    channels: Option<u8>,
) -> Result<Exit, Problem> {
    let _lock = session.lock(target.letter)?;
    let device = session.device(target)?;
    let name = &target.name;
    if !device.enabled {
        let what =
            format!("{name} is disabled: a group that it gets now would be taken to be equal");
        let hint = format!(
            "enbdctl enable {name}, then again; or enbdctl connect {name} GROUP URI if it is equal"
        );
        return Err(Problem::new(Exit::Refused, what).hint(hint));
    }
    for group in &device.groups {
        let (count, _) = session
            .present(&device, group.number, uri)
            .map_err(|unreached| lost(target, group.number, uri, unreached))?;
        if count > 0 {
            eprintln!("enbdctl: {uri} is group {} of {name} already", group.number);
            return Ok(Exit::Ok);
        }
    }
    if device.groups.len() < device.group_count {
        let what = format!("{name} has a group without channels, the number of which is not shown");
        let hint = format!("enbdctl connect {name} GROUP URI with a number of your own");
        return Err(Problem::new(Exit::Refused, what).hint(hint));
    }
    let free = (0u8..)
        .take(MAX_GROUPS)
        .find(|number| device.group(*number).is_none());
    let Some(group) = free else {
        let what = format!("{name} has {MAX_GROUPS} groups, which is the most");
        return Err(Problem::new(Exit::Refused, what));
    };
    let member = Member {
        uri: uri.clone(),
        channels: channels.or(uri.channels).unwrap_or(DEFAULT_CHANNELS),
    };
    session
        .connect(target.letter, group, &member, Some(&device))
        .map_err(|unreached| lost(target, group, uri, unreached))?;
    session.make(name, Line::hotadd(target.letter, group, false))?;
    if let Some(config) = session.config_of(target) {
        let path = config.path.display();
        eprintln!("{name} has it as group {group} until it is down; to keep it, in {path}:\n  [[group]]\n  uri = \"{uri}\"");
    }
    Ok(Exit::Ok)
}

/// Drops a group, which is set faulty first.
///
/// # Errors
///
/// It is the last in sync, or the module refuses.
pub fn remove(session: &mut Session<'_>, target: &Target, number: u8) -> Result<Exit, Problem> {
    let _lock = session.lock(target.letter)?;
    let device = session.device(target)?;
    let group = find(target, &device, number)?;
    take_out(session, target, &device, group)?;
    session.make(
        &target.name,
        Line::number(target.letter, "hotremove", number),
    )?;
    if session
        .config_of(target)
        .is_some_and(|config| usize::from(number) < config.groups.len())
    {
        let name = &target.name;
        eprintln!(
            "it is still in the configuration of {name}: the next enbdctl up {name} brings it back"
        );
    }
    Ok(Exit::Ok)
}

/// Changes settings. All are looked at before the first is sent.
///
/// # Errors
///
/// One is wrong, or the module refuses.
pub fn set(session: &mut Session<'_>, target: &Target, words: &[String]) -> Result<Exit, Problem> {
    let lines: Vec<Line> = words
        .iter()
        .map(|word| setting(target.letter, word))
        .collect::<Result<_, _>>()?;
    let _lock = session.lock(target.letter)?;
    // A setting would make a device that does not exist.
    session.device(target)?;
    for line in &lines {
        session.command(&target.name, line)?;
    }
    Ok(Exit::Ok)
}

fn setting(letter: char, word: &str) -> Result<Line, Problem> {
    let wrong = |what: String| Problem::new(Exit::Usage, what);
    let (key, value) = word
        .split_once('=')
        .ok_or_else(|| wrong(format!("{word:?} is no setting: KEY=VALUE")))?;
    if !SETTINGS.contains(&key) {
        let problem = wrong(format!("there is no setting {key:?}"));
        return Err(match near(key, &SETTINGS) {
            Some(near) => problem.hint(format!("perhaps {near}")),
            None => problem.hint(format!("there are: {}", SETTINGS.join(", "))),
        });
    }
    let value = match (key, value) {
        ("show_errs" | "autoadd" | "intent" | "compare", "true" | "on" | "yes") => "1".to_owned(),
        ("show_errs" | "autoadd" | "intent" | "compare", "false" | "off" | "no") => "0".to_owned(),
        ("resync_min" | "resync_max", text) => parse_speed(text)
            .map_err(|why| wrong(format!("{key}: {why}")))?
            .to_string(),
        (_, text) => text.to_owned(),
    };
    Line::setting(letter, key, &value).map_err(|why| wrong(format!("{word:?}: {why}")))
}

/// Has the module forget a device, with all that is held.
///
/// # Errors
///
/// It does not exist, it is open, or the module refuses.
pub fn reset(session: &mut Session<'_>, target: &Target) -> Result<Exit, Problem> {
    let _lock = session.lock(target.letter)?;
    let device = session.device(target)?;
    session.make(&target.name, Line::number(target.letter, "reset", 1))?;
    let name = &target.name;
    let told = device.mirror.is_some() || session.module.is_dry();
    if device.enabled && !told && session.config_of(target).is_some() {
        eprintln!("{name} was not stopped in order: the next enbdctl up {name} must be told which group is current");
    }
    Ok(Exit::Ok)
}

/// Waits until a device is as wished.
///
/// # Errors
///
/// The module is not loaded, or the device is not there and not waited for.
pub fn wait(
    places: &Places,
    configs: &Configs,
    target: &Target,
    goal: Goal,
    limit: Option<Duration>,
) -> Result<Exit, Problem> {
    let mut watcher = Watcher::open(&places.nbdinfo)?;
    let began = Instant::now();
    loop {
        let status = watcher.status()?;
        let device = status
            .device(target.letter)
            .map(|one| subject(one, configs));
        let verdict = device.as_ref().map(Verdict::of);
        let reached = match (goal, device.as_ref(), verdict) {
            (Goal::Enabled, device, _) => device.is_some_and(|one| one.device.enabled),
            (_, None, _) => return Err(not_up(&target.name, target.letter)),
            (Goal::Synced, Some(one), _) => one.is_synced(),
            (Goal::Degraded, _, verdict) => {
                matches!(verdict, Some(Verdict::Degraded | Verdict::Held))
            }
        };
        if reached {
            return Ok(Exit::Ok);
        }
        let left = limit.map(|limit| limit.saturating_sub(began.elapsed()));
        if left == Some(Duration::ZERO) {
            let word = verdict.map_or("not there", Verdict::as_str);
            let what = format!(
                "{} is {word} after {} s",
                target.name,
                began.elapsed().as_secs()
            );
            let exit = verdict
                .map_or(Exit::NotThere, Verdict::exit)
                .max(Exit::Degraded);
            return Err(Problem::new(exit, what));
        }
        watcher.wait(left.unwrap_or(Duration::MAX))?;
    }
}
