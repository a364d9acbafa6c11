// SPDX-License-Identifier: GPL-2.0

//! `enbdctl up` of a mirror that remembers.
//!
//! Its exports say which member each of them is and who is current, and the module decides by that. So
//! all servers that can be reached are connected, each as the member that it is, and then `enable` is
//! asked for: enbdctl keeps no record, and claims nothing that the administrator has not said. What is
//! refused is refused in the module's words, and a device that was made for it is forgotten again.

use crate::command::{usable, Line};
use crate::config::{Config, Member};
use crate::found::{self, End};
use crate::identity::{check_members, check_ours};
use crate::module::Refusal;
use crate::places::Target;
use crate::problem::{Exit, Problem};
use crate::session::{explained, Session, Unreached};
use crate::sources::Claim;
use crate::up::{forget_new, send_settings, Wish, AGAIN};
use enbd_logic::logic::ids::GroupId;
use enbd_logic::logic::meta::{self, Ask};
use enbd_status::{Device, GroupState};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A server that is not there, or is no member.
pub type Lost = (String, Unreached);

/// How long a group that cannot be brought back at this moment is asked for again.
const HOTADD_FOR: Duration = Duration::from_secs(10);

/// Whether a mirror remembers: its configuration says so, or the module, or an export. Waits for a
/// server that tells, but not longer than `wait`.
pub fn remembers(
    session: &Session<'_>,
    config: &Config,
    device: Option<&Device>,
    wait: Duration,
) -> bool {
    if config.mirror.is_some() || device.is_some_and(|one| one.mirror.is_some()) {
        return true;
    }
    // What is connected already would have told it.
    if session.module.is_dry() || device.is_some_and(|one| !one.channels.is_empty()) {
        return false;
    }
    let began = Instant::now();
    loop {
        let looks = config.groups.iter();
        let ends: Vec<End> = looks
            .filter_map(|one| found::member(&one.uri, session.resolver).ok())
            .collect();
        let is_member = |end: &End| matches!(end, End::Member(_) | End::Damaged(_));
        if !ends.is_empty() || began.elapsed() >= wait {
            return ends.iter().any(is_member);
        }
        sleep(AGAIN.min(wait.saturating_sub(began.elapsed())));
    }
}

/// Brings a mirror up that is not enabled. The caller has the lock.
///
/// # Errors
///
/// No server can be reached, they are not the members of this mirror, or the module refuses.
pub fn up(
    session: &mut Session<'_>,
    config: &Config,
    device: Option<&Device>,
    wish: Wish,
) -> Result<Exit, Problem> {
    let ask = asked(config, device, wish.claim)?;
    if let Some(device) = device {
        check_ours(session, config, device)?;
    }
    let result = assemble(session, config, device, (ask, wish.wait));
    if result.is_err() && device.is_none() && !session.module.is_dry() {
        leave(session, config);
    }
    result
}

/// Has the module forget a device that was made for a start that was refused: nothing stays half
/// connected. What is missing is worth more than why it stays all the same.
pub fn leave(session: &mut Session<'_>, config: &Config) {
    if let Err(problem) = forget_new(session, config) {
        eprintln!("enbdctl: {problem}");
    }
}

/// The module's word for what the administrator says.
fn asked(config: &Config, device: Option<&Device>, claim: Claim) -> Result<Ask, Problem> {
    let name = &config.name;
    let ask = match claim {
        Claim::None => return Ok(Ask::Certain),
        Claim::AllEqual => {
            let what = format!("{name} remembers which groups are equal");
            let hint = "leave --assume-equal out";
            return Err(Problem::new(Exit::Refused, what).hint(hint));
        }
        Claim::Degraded => Ask::Degraded,
        Claim::Source(number) => match GroupId::new(usize::from(number)) {
            Some(group) => Ask::Source(group),
            None => return Err(no_group(name, number)),
        },
    };
    // The module goes by what it knows of a device that it has had already, and not by such a word.
    if device.is_some_and(|device| device.queued_max > 0) {
        let what =
            format!("{name} was enabled since it is connected: the module knows who is current");
        let hint = format!("enbdctl up {name}; or enbdctl down {name}, then again");
        return Err(Problem::new(Exit::Refused, what).hint(hint));
    }
    Ok(ask)
}

fn no_group(name: &str, number: u8) -> Problem {
    Problem::new(Exit::NotThere, format!("{name} has no group {number}"))
}

fn assemble(
    session: &mut Session<'_>,
    config: &Config,
    device: Option<&Device>,
    (ask, wait): (Ask, Duration),
) -> Result<Exit, Problem> {
    let name = &config.name;
    send_settings(session, config, device)?;
    if device.and_then(|device| device.name.as_ref()) != Some(name) {
        session.make(name, Line::setting(config.letter, "name", name))?;
    }
    let lost = connect_all(session, config, wait)?;
    if !session.module.is_dry() {
        check_members(session, config, &lost)?;
        // What was known of it without metadata is not to be believed ever again.
        session.store.forget(name)?;
    }
    let line = usable(Line::enable(config.letter, ask))?;
    if let Err(refusal) = session.module.command(&line) {
        let mut problem = refused(name, &refusal);
        problem.what.push_str(&list(&lost));
        return Err(problem);
    }
    report(config, "is up", &lost);
    Ok(Exit::Ok)
}

/// Connects all servers of the configuration, again and again until all are there or the time is up.
fn connect_all(
    session: &mut Session<'_>,
    config: &Config,
    wait: Duration,
) -> Result<Vec<Lost>, Problem> {
    let began = Instant::now();
    let mut left: Vec<&Member> = config.groups.iter().collect();
    loop {
        let mut lost = Vec::new();
        let mut again = Vec::new();
        for member in left {
            let device = session.status()?.device(config.letter).cloned();
            if let Err(unreached) = connect(session, config.letter, member, device.as_ref()) {
                lost.push((member.uri.to_string(), unreached));
                again.push(member);
            }
        }
        let worth = lost.iter().any(|(_, unreached)| unreached.passes);
        if !worth || began.elapsed() >= wait {
            return Ok(lost);
        }
        left = again;
        sleep(AGAIN.min(wait.saturating_sub(began.elapsed())));
    }
}

/// Connects a server as the member that it is, or adds the channels of it that are not there.
///
/// # Errors
///
/// It cannot be reached, or is no member.
pub fn connect(
    session: &mut Session<'_>,
    letter: char,
    member: &Member,
    device: Option<&Device>,
) -> Result<(), Unreached> {
    let Some(device) = device else {
        return session.attach(letter, member);
    };
    if let Some((group, present)) = session.group_at(device, &member.uri)? {
        let missing = usize::from(member.channels).saturating_sub(present);
        let mut wanted = member.clone();
        wanted.channels = u8::try_from(missing).unwrap_or(member.channels);
        return match wanted.channels {
            0 => Ok(()),
            _ => session.connect(letter, group, &wanted, Some(device)),
        };
    }
    let result = session.attach(letter, member);
    let there = result.as_ref().err().and_then(|one| one.errno) == Some(libc::EEXIST);
    match there.then(|| group_without_channels(session, member, device)) {
        Some(Some(group)) => session.connect(letter, group, member, Some(device)),
        _ => result,
    }
}

/// The group that a server is the member of, if it is there and has no channel any more.
fn group_without_channels(session: &Session<'_>, member: &Member, device: &Device) -> Option<u8> {
    let end = found::member(&member.uri, session.resolver).ok()?;
    let superblock = end.superblock()?;
    let number = u8::try_from(superblock.member.index()).ok()?;
    let ours = device.mirror.as_ref()?.uuid == found::mirror_of(superblock);
    let group = device.group(number).filter(|_| ours)?;
    let has_channels = device.channels_of(group.number).next().is_some();
    (!has_channels).then_some(number)
}

/// A start that was refused, with what to do about it.
pub fn refused(name: &str, refusal: &Refusal) -> Problem {
    let problem = explained(name, refusal);
    let hint = match reason(&refusal.why) {
        Some(meta::Refusal::Missing(_)) => format!(
            "start its server, then again; enbdctl up {name} --degraded goes on without it, and what only it has is lost"
        ),
        Some(meta::Refusal::Split(..) | meta::Refusal::SetBack(_)) => format!(
            "enbdctl up {name} --source GROUP takes what that one has, and what only others have is lost"
        ),
        Some(meta::Refusal::Stale) => format!(
            "start the server of one that is in sync, then again; enbdctl up {name} --source GROUP takes what that one has all the same"
        ),
        Some(meta::Refusal::Foreign(_) | meta::Refusal::Place(_) | meta::Refusal::Odd(_)) => {
            "enbdctl probe URI shows what an export is".to_owned()
        }
        Some(meta::Refusal::NoSource(_)) => {
            format!("enbdctl up {name} --source with another one")
        }
        _ if refusal.errno == libc::EBUSY && refusal.why.contains("another client") => format!(
            "enbdctl down {name} there; if that host is gone, then again: its beats are waited for"
        ),
        _ => return problem,
    };
    problem.hint(hint)
}

/// Which of the module's reasons not to start a sentence is.
fn reason(why: &str) -> Option<meta::Refusal> {
    use meta::Refusal as R;
    let of_group: [fn(GroupId) -> R; 7] = [
        R::Foreign,
        R::Place,
        R::Odd,
        R::Missing,
        R::SetBack,
        R::NoSource,
        |group| R::Split(group, group),
    ];
    let groups = GroupId::all().flat_map(|group| of_group.map(|of| of(group)));
    let mut all = groups.chain([R::NoMember, R::Stale]);
    all.find(|one| one.as_str() == why)
}

/// Connects the servers of a device that is enabled, and brings back those that were not there. One
/// that was connected stays as it is: somebody may have set it faulty.
///
/// # Errors
///
/// The device is another one.
pub fn join(session: &mut Session<'_>, config: &Config, device: &Device) -> Result<Exit, Problem> {
    check_ours(session, config, device)?;
    let mut lost = Vec::new();
    let target = Target {
        name: config.name.clone(),
        letter: config.letter,
    };
    for member in &config.groups {
        let had = matches!(session.group_at(device, &member.uri), Ok(Some(_)));
        let result = connect(session, config.letter, member, Some(device));
        let result = match result {
            Ok(()) if !had && !session.module.is_dry() => bring_back(session, &target, member)?,
            result => result,
        };
        if let Err(unreached) = result {
            lost.push((member.uri.to_string(), unreached));
        }
    }
    report(config, "is up already", &lost);
    Ok(Exit::Ok)
}

/// Has a group copied that was just connected, if it is faulty.
///
/// # Errors
///
/// The module is not loaded any more.
pub fn bring_back(
    session: &mut Session<'_>,
    target: &Target,
    member: &Member,
) -> Result<Result<(), Unreached>, Problem> {
    let began = Instant::now();
    loop {
        let status = session.status()?;
        let Some(device) = status.device(target.letter) else {
            return Ok(Ok(()));
        };
        let group = match session.group_at(device, &member.uri) {
            Ok(found) => found.and_then(|(number, _)| device.group(number)),
            Err(unreached) => return Ok(Err(unreached)),
        };
        let Some(group) = group.filter(|group| group.state == GroupState::Faulty) else {
            return Ok(Ok(()));
        };
        let line = usable(Line::hotadd(target.letter, group.number, false))?;
        let Err(refusal) = session.module.command(&line) else {
            return Ok(Ok(()));
        };
        // enbd may be just doing it, or have to wait for what was on its way.
        if refusal.errno != libc::EBUSY || began.elapsed() >= HOTADD_FOR {
            return Ok(Err(not_brought_back(target, group.number, &refusal)));
        }
        sleep(AGAIN);
    }
}

fn not_brought_back(target: &Target, group: u8, refusal: &Refusal) -> Unreached {
    let (name, errno) = (&target.name, crate::module::errno_name(refusal.errno));
    let mut why = format!(
        "group {group} is not brought back: {} ({errno})",
        refusal.why
    );
    if refusal.why.contains("'full'") {
        why.push_str(&format!(
            "; enbdctl resync {name} {group} --full overwrites it"
        ));
    }
    Unreached {
        why,
        passes: false,
        errno: Some(refusal.errno),
    }
}

/// A line for each server that is not there.
pub fn list(lost: &[Lost]) -> String {
    let line = |(uri, unreached): &Lost| format!("\n  {uri}: {}", unreached.why);
    lost.iter().map(line).collect()
}

/// Tells which servers are not there, on standard error: standard output is for programs.
fn report(config: &Config, how: &str, lost: &[Lost]) {
    let name = &config.name;
    for (uri, unreached) in lost {
        eprintln!("enbdctl: {name}: {uri}: {}", unreached.why);
        // It has no metadata: only the administrator knows what it is for.
        if unreached.is_no_member() {
            eprintln!(
                "  hint: enbdctl add {name} {uri} makes it a member, and copies everything to it"
            );
        }
    }
    if lost.iter().any(|(_, unreached)| unreached.passes) {
        eprintln!("  {name} {how} without that; when the server is back: enbdctl up {name}");
    }
}

#[cfg(test)]
mod tests {
    use super::{meta, reason, GroupId};

    #[test]
    fn reasons_of_the_module() {
        let one = GroupId::new(1).expect("there is a group 1");
        for refusal in [
            meta::Refusal::Missing(one),
            meta::Refusal::Split(one, one),
            meta::Refusal::SetBack(one),
            meta::Refusal::Stale,
        ] {
            assert_eq!(reason(refusal.as_str()), Some(refusal));
        }
        assert_eq!(reason("another client has the mirror"), None);
    }
}
