// SPDX-License-Identifier: GPL-2.0

//! Whether what is connected is the mirror that a configuration means: no other one is started, and
//! nothing is copied to the members of another one.

use crate::assembly::{list, Lost};
use crate::config::Config;
use crate::problem::{Exit, Problem};
use crate::record::Record;
use crate::session::Session;
use enbd_status::Device;

/// Fails if a channel of the device leads to a server that the configuration does not have, or if it is
/// called otherwise.
///
/// # Errors
///
/// Which of these it is.
pub fn check_ours(session: &Session<'_>, config: &Config, device: &Device) -> Result<(), Problem> {
    let (name, letter) = (&config.name, config.letter);
    let refused = |why: String| {
        let what = format!("{name}: the device {letter} exists, and {why}");
        let hint = format!("enbdctl status {letter} shows it; enbdctl down {letter} ends it");
        Err(Problem::new(Exit::Refused, what).hint(hint))
    };
    if let Some(other) = device.name.as_ref().filter(|&other| other != name) {
        return refused(format!("is called {other}"));
    }
    check_identity(config, device)?;
    let mut known = 0usize;
    for member in &config.groups {
        match session.count(device, &member.uri) {
            Ok(count) => known = known.saturating_add(count),
            // A name that cannot be resolved now says nothing.
            Err(_) => return Ok(()),
        }
    }
    if known < device.channels.len() {
        return refused("has channels to others than the configuration".to_owned());
    }
    Ok(())
}

/// Fails unless what was connected is the mirror that is meant.
///
/// # Errors
///
/// There is none, or it is another one.
pub fn check_members(session: &Session<'_>, config: &Config, lost: &[Lost]) -> Result<(), Problem> {
    let name = &config.name;
    let status = session.status()?;
    let device = status.device(config.letter);
    let Some(mirror) = device.and_then(|device| device.mirror.as_ref()) else {
        let what = format!(
            "{name}: no member of the mirror can be connected:{}",
            list(lost)
        );
        let hint = "start a server, then again; --wait=SECONDS waits longer";
        return Err(Problem::new(Exit::Refused, what).hint(hint));
    };
    let Some(wanted) = &config.mirror else {
        let record = session.store.load(name)?;
        return check_record(config, record.as_ref(), lost, &mirror.uuid);
    };
    match *wanted == mirror.uuid {
        true => Ok(()),
        false => Err(other_mirror(config, wanted, &mirror.uuid)),
    }
}

fn other_mirror(config: &Config, wanted: &str, found: &str) -> Problem {
    let (name, path) = (&config.name, config.path.display());
    let what = format!("{name}: the exports are those of mirror {found}, not of {wanted}");
    let hint = format!("if that is meant, write mirror = \"{found}\" into {path}");
    Problem::new(Exit::Refused, what).hint(hint)
}

/// Fails if a device that has channels, or a disk, is no part of the mirror that the configuration says.
///
/// # Errors
///
/// Which one it is.
pub fn check_identity(config: &Config, device: &Device) -> Result<(), Problem> {
    let Some(wanted) = &config.mirror else {
        return Ok(());
    };
    match &device.mirror {
        Some(mirror) if mirror.uuid == *wanted => Ok(()),
        Some(mirror) => Err(other_mirror(config, wanted, &mirror.uuid)),
        None if device.channels.is_empty() && !device.enabled => Ok(()),
        None => {
            let (name, letter) = (&config.name, config.letter);
            let what =
                format!("{name}: the device {letter} has no metadata, and is not mirror {wanted}");
            let hint = format!("enbdctl status {letter} shows it; enbdctl down {letter} ends it");
            Err(Problem::new(Exit::Refused, what).hint(hint))
        }
    }
}

/// Fails if the record of a mirror without metadata knows a server as current that is no member now:
/// then what has metadata is another mirror, of which nobody has spoken.
fn check_record(
    config: &Config,
    record: Option<&Record>,
    lost: &[Lost],
    found: &str,
) -> Result<(), Problem> {
    let is_member = |uri: &str| {
        let mut all = config.groups.iter().map(|member| member.uri.to_string());
        all.any(|one| one == uri) && lost.iter().all(|(one, _)| one != uri)
    };
    let groups = record.into_iter().flat_map(|record| &record.groups);
    let mut current = groups.filter(|member| member.in_sync);
    let Some(other) = current.find(|member| !is_member(&member.uri)) else {
        return Ok(());
    };
    let (name, uri, path) = (&config.name, &other.uri, config.path.display());
    let what = format!(
        "{name}: by its record {uri} is current, which is no member of the mirror {found} that others have:{}",
        list(lost)
    );
    let hint = format!("if that mirror is meant, write mirror = \"{found}\" into {path}");
    Err(Problem::new(Exit::Refused, what).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::check_record;
    use crate::config::Config;
    use crate::record::{Member, Record};
    use crate::session::Unreached;
    use std::path::Path;

    #[test]
    fn metadata_of_another_mirror() {
        let text =
            "device = \"a\"\n[[group]]\nuri = \"nbd://h/d\"\n[[group]]\nuri = \"nbd://i/d\"\n";
        let config = Config::parse(Path::new("data.toml"), text).expect("good");
        let lost = |host: &str| {
            let unreached = Unreached {
                why: "it has no metadata".to_owned(),
                passes: false,
                errno: Some(libc::ENOENT),
            };
            [(format!("nbd://{host}/d"), unreached)]
        };
        let record = |hosts: &[&str]| {
            let member = |(group, host): (u8, &&str)| Member {
                group,
                uri: format!("nbd://{host}/d"),
                in_sync: *host != "i",
                shown: None,
            };
            Record::new('a', true, (0..).zip(hosts).map(member).collect())
        };
        let two = record(&["h", "i"]);
        let why = check_record(&config, Some(&two), &lost("h"), "M").expect_err("h is current");
        assert!(why.what.contains("by its record nbd://h/d is current"));
        assert!(check_record(&config, Some(&record(&["g"])), &[], "M").is_err());
        assert!(check_record(&config, Some(&two), &lost("i"), "M").is_ok());
        assert!(check_record(&config, Some(&two), &[], "M").is_ok());
        assert!(check_record(&config, None, &lost("h"), "M").is_ok());
    }
}
