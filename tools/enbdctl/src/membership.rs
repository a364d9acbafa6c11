// SPDX-License-Identifier: GPL-2.0

//! `enbdctl attach` and `forget`: one member of a mirror that remembers comes, or is none any more.

use crate::assembly::{bring_back, connect};
use crate::command::Line;
use crate::config::{Member, DEFAULT_CHANNELS};
use crate::found::{self, End};
use crate::places::Target;
use crate::problem::{Exit, Problem};
use crate::session::Session;
use crate::up::send_settings;
use crate::uri::Uri;
use enbd_status::Device;

/// Connects the server of a member, and has it copied what it misses if the device is enabled.
///
/// # Errors
///
/// It cannot be reached, is not this member, or the module refuses.
pub fn attach(
    session: &mut Session<'_>,
    target: &Target,
    group: u8,
    uri: Option<&Uri>,
    channels: Option<u8>,
) -> Result<Exit, Problem> {
    let _lock = session.lock(target.letter)?;
    let name = &target.name;
    let mut member = member(session, target, group, uri)?;
    member.channels = channels.unwrap_or(member.channels);
    check_number(session, name, group, &member.uri)?;
    let status = session.status()?;
    let device = status.device(target.letter);
    if let (None, Some(config)) = (device, session.config_of(target)) {
        send_settings(session, &config, None)?;
        session.make(name, Line::setting(target.letter, "name", name))?;
    }
    connect(session, target.letter, &member, device).map_err(|unreached| {
        let what = format!("{name}: group {group}, {}: {}", member.uri, unreached.why);
        Problem::new(Exit::Refused, what)
    })?;
    if device.is_none_or(|device| !device.enabled) || session.module.is_dry() {
        return Ok(Exit::Ok);
    }
    match bring_back(session, target, &member)? {
        Ok(()) => Ok(Exit::Ok),
        Err(unreached) => Err(Problem::new(
            Exit::Refused,
            format!("{name}: {}", unreached.why),
        )),
    }
}

/// The server that is meant: the one that was named, or that of the configuration.
fn member(
    session: &Session<'_>,
    target: &Target,
    group: u8,
    uri: Option<&Uri>,
) -> Result<Member, Problem> {
    if let Some(uri) = uri {
        return Ok(Member {
            uri: uri.clone(),
            channels: uri.channels.unwrap_or(DEFAULT_CHANNELS),
        });
    }
    let config = session.config_of(target);
    let member = config.and_then(|config| config.groups.get(usize::from(group)).cloned());
    member.ok_or_else(|| {
        let name = &target.name;
        let what = format!("no configuration says which server group {group} of {name} has");
        Problem::new(Exit::NotThere, what).hint(format!("enbdctl attach {name} {group} URI"))
    })
}

/// Fails if an export is another member than this one, or none.
fn check_number(session: &Session<'_>, name: &str, group: u8, uri: &Uri) -> Result<(), Problem> {
    if session.module.is_dry() {
        return Ok(());
    }
    let refused = |why: String| Problem::new(Exit::Refused, format!("{name}: {uri} {why}"));
    match found::member(uri, session.resolver) {
        // The module says why, and more exactly.
        Err(_) | Ok(End::Damaged(_)) => Ok(()),
        Ok(End::Member(superblock)) if superblock.member.index() == usize::from(group) => Ok(()),
        Ok(End::Member(superblock)) => {
            let number = superblock.member.index();
            let hint = format!("enbdctl attach {name} {number} {uri}");
            Err(refused(format!("is group {number}, not {group}")).hint(hint))
        }
        Ok(_) => {
            let hint =
                format!("enbdctl add {name} {uri} makes it one, and copies everything to it");
            Err(refused("is no member of a mirror".to_owned()).hint(hint))
        }
    }
}

/// Takes a member out of the mirror, for good.
///
/// # Errors
///
/// The device is enabled, others are missing, or the module refuses.
pub fn forget(session: &mut Session<'_>, target: &Target, group: u8) -> Result<Exit, Problem> {
    let _lock = session.lock(target.letter)?;
    let device = session.device(target)?;
    let name = &target.name;
    if device.enabled {
        let what = format!("{name} is enabled: a member is forgotten while it is not");
        let hint = format!(
            "enbdctl disable {name} && enbdctl forget {name} {group} && enbdctl enable {name}"
        );
        return Err(Problem::new(Exit::Refused, what).hint(hint));
    }
    if !device.members.iter().any(|member| member.number == group) {
        let what = format!("group {group} is no member of {name}");
        let problem = Problem::new(Exit::NotThere, what);
        let known: Vec<String> = device
            .members
            .iter()
            .map(|member| member.number.to_string())
            .collect();
        return Err(match known.as_slice() {
            [] => problem.hint(format!("{name} has no metadata")),
            known => problem.hint(format!("there are: {}", known.join(", "))),
        });
    }
    let uri = servers(&device, group);
    session.make(name, Line::number(target.letter, "forget", group))?;
    if let Some(config) = session
        .config_of(target)
        .filter(|_| !session.module.is_dry())
    {
        let path = config.path.display();
        let which = uri.map_or_else(|| format!("group {group}"), |uri| uri.to_string());
        eprintln!("{name} does not need it any more; take {which} out of {path}");
    }
    Ok(Exit::Ok)
}

/// The server of a group, if it has a channel.
fn servers(device: &Device, group: u8) -> Option<Uri> {
    device.channels_of(group).find_map(crate::view::uri)
}
