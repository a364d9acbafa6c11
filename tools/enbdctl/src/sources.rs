// SPDX-License-Identifier: GPL-2.0

//! Which groups may be taken to be equal when a mirror is started. enbdctl does not guess: it knows
//! from a record, is told, or refuses.

use crate::config::Config;
use crate::problem::{Exit, Problem};
use crate::record::Record;
use std::collections::BTreeSet;

/// What the user says of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Claim {
    /// Nothing.
    None,
    /// All groups are equal.
    AllEqual,
    /// This group is current, and all others are to be overwritten.
    Source(u8),
    /// To go on without members that may be newer; of a mirror that remembers.
    Degraded,
}

/// The groups that are current, by number.
///
/// # Errors
///
/// Nobody knows, or what is claimed is known to be wrong.
pub fn decide(
    config: &Config,
    record: Option<&Record>,
    claim: Claim,
) -> Result<BTreeSet<u8>, Problem> {
    let all: BTreeSet<u8> = (0u8..)
        .zip(&config.groups)
        .map(|(group, _)| group)
        .collect();
    let uri = |group: u8| {
        config
            .groups
            .get(usize::from(group))
            .map(|one| one.uri.to_string())
    };
    match claim {
        Claim::Source(group) if all.contains(&group) => Ok(BTreeSet::from([group])),
        Claim::Source(group) => {
            let what = format!("{} has no group {group}", config.name);
            Err(Problem::new(Exit::NotThere, what))
        }
        Claim::AllEqual => {
            let record = record.filter(|record| record.clean);
            let stale = |group: &u8| {
                let known = record.and_then(|record| record.was_in_sync(&uri(*group)?));
                known == Some(false)
            };
            match all.iter().copied().find(stale) {
                None => Ok(all),
                Some(group) => Err(refusal(
                    config,
                    &format!("group {group} is known not to be equal: it was not in sync when the mirror was stopped"),
                    "leave --assume-equal out, and it is resynced",
                )),
            }
        }
        Claim::Degraded => Err(refusal(
            config,
            "no group that was reached has metadata, so nobody knows who may be newer",
            "--source GROUP if you know which one is current",
        )),
        Claim::None => known(config, &all, record),
    }
}

fn known(
    config: &Config,
    all: &BTreeSet<u8>,
    record: Option<&Record>,
) -> Result<BTreeSet<u8>, Problem> {
    let hint = "--source GROUP if you know which one is current (the others are overwritten), \
                --assume-equal if they are equal";
    let Some(record) = record else {
        if all.len() == 1 {
            return Ok(all.clone());
        }
        return Err(refusal(
            config,
            "nothing is recorded of which groups are in sync",
            hint,
        ));
    };
    if !record.clean {
        // With one server there is nothing to mistake it for.
        if let ([member], [own]) = (record.groups.as_slice(), config.groups.as_slice()) {
            if member.uri == own.uri.to_string() {
                return Ok(all.clone());
            }
        }
        let note = record
            .note
            .as_deref()
            .unwrap_or("it was not stopped in order");
        let then = record.in_sync_words();
        let why = format!("nobody knows which groups are in sync: {note}; when it was last looked at, those were: {then}");
        return Err(refusal(config, &why, hint));
    }
    let in_sync = |group: &u8| {
        let uri = config
            .groups
            .get(usize::from(*group))
            .map(|one| one.uri.to_string());
        uri.and_then(|uri| record.was_in_sync(&uri)) == Some(true)
    };
    let sources: BTreeSet<u8> = all.iter().copied().filter(in_sync).collect();
    if sources.is_empty() {
        let then = record.in_sync_words();
        let why = format!("no group of the configuration was in sync when the mirror was stopped; those were: {then}");
        return Err(refusal(config, &why, hint));
    }
    Ok(sources)
}

fn refusal(config: &Config, why: &str, hint: &str) -> Problem {
    Problem::new(Exit::Refused, format!("{}: {why}", config.name)).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::{decide, Claim};
    use crate::config::Config;
    use crate::record::{Member, Record};
    use std::path::Path;

    fn config(hosts: &[&str]) -> Config {
        let groups: String = hosts
            .iter()
            .map(|host| format!("[[group]]\nuri = \"nbd://{host}/d\"\n"))
            .collect();
        Config::parse(Path::new("data.toml"), &format!("device = \"a\"\n{groups}")).expect("good")
    }

    fn record(clean: bool, members: &[(&str, bool)]) -> Record {
        let member = |(group, (host, in_sync)): (u8, &(&str, bool))| Member {
            group,
            uri: format!("nbd://{host}/d"),
            in_sync: *in_sync,
            shown: None,
        };
        Record::new('a', clean, (0u8..).zip(members).map(member).collect())
    }

    fn sources(hosts: &[&str], record: Option<&Record>, claim: Claim) -> Result<Vec<u8>, String> {
        let sources = decide(&config(hosts), record, claim);
        sources
            .map(|all| all.into_iter().collect())
            .map_err(|problem| problem.what)
    }

    #[test]
    fn without_a_record() {
        let refused = sources(&["h", "i"], None, Claim::None).expect_err("nobody knows");
        assert_eq!(
            refused,
            "data: nothing is recorded of which groups are in sync"
        );
        assert_eq!(sources(&["h"], None, Claim::None), Ok(vec![0]));
        assert_eq!(sources(&["h", "i"], None, Claim::AllEqual), Ok(vec![0, 1]));
        assert_eq!(sources(&["h", "i"], None, Claim::Source(1)), Ok(vec![1]));
        assert!(sources(&["h", "i"], None, Claim::Source(2)).is_err());
    }

    #[test]
    fn after_an_orderly_end() {
        let record = record(true, &[("h", true), ("i", false)]);
        assert_eq!(
            sources(&["h", "i"], Some(&record), Claim::None),
            Ok(vec![0])
        );
        // The numbers follow the file, what is known follows the servers.
        assert_eq!(
            sources(&["i", "j", "h"], Some(&record), Claim::None),
            Ok(vec![2])
        );
        assert!(sources(&["i"], Some(&record), Claim::None).is_err());
        assert!(sources(&["j"], Some(&record), Claim::None).is_err());
        assert!(sources(&["h", "i"], Some(&record), Claim::AllEqual).is_err());
        assert_eq!(
            sources(&["h", "j"], Some(&record), Claim::AllEqual),
            Ok(vec![0, 1])
        );
        assert_eq!(
            sources(&["h", "i"], Some(&record), Claim::Source(1)),
            Ok(vec![1])
        );
    }

    #[test]
    fn after_a_crash() {
        let two = record(false, &[("h", true), ("i", true)]);
        let refused = sources(&["h", "i"], Some(&two), Claim::None).expect_err("nobody knows");
        assert!(
            refused.contains("those were: nbd://h/d, nbd://i/d"),
            "{refused}"
        );
        assert!(sources(&["h"], Some(&two), Claim::None).is_err());
        assert_eq!(
            sources(&["h", "i"], Some(&two), Claim::Source(0)),
            Ok(vec![0])
        );
        let one = record(false, &[("h", true)]);
        assert_eq!(sources(&["h"], Some(&one), Claim::None), Ok(vec![0]));
        assert!(sources(&["h", "i"], Some(&one), Claim::None).is_err());
        assert!(sources(&["i"], Some(&one), Claim::None).is_err());
    }
}
