// SPDX-License-Identifier: GPL-2.0

//! The verbs that only look: `status`, `list`, `config check`, and the makers of the manual.

use crate::cli;
use crate::config::Config;
use crate::json;
use crate::module::{Module, Proc};
use crate::monitor_config::{self, MonitorConfig};
use crate::places::{target, Configs, Places};
use crate::problem::{Exit, Problem};
use crate::screen::{self, Colour, Shown};
use crate::usage;
use crate::view::{Subject, Verdict};
use enbd_status::{Device, Status};
use std::fmt::Write;
use std::path::Path;

/// The name of a device: the module's own, or that of its only configuration.
pub fn name_of<'a>(device: &'a Device, configs: &'a Configs) -> Option<&'a str> {
    let config = || {
        configs
            .of_letter(device.letter)
            .map(|config| config.name.as_str())
    };
    device.name.as_deref().or_else(config)
}

/// A device with its name and what its configuration says.
pub fn subject<'a>(device: &'a Device, configs: &'a Configs) -> Subject<'a> {
    let config = configs.of_letter(device.letter);
    Subject {
        name: name_of(device, configs),
        device,
        wanted: config.map_or(0, |config| config.groups.len()),
    }
}

/// The devices that are asked for.
///
/// # Errors
///
/// The one that was named is not there.
pub fn chosen<'a>(
    word: Option<&str>,
    status: &'a Status,
    configs: &'a Configs,
) -> Result<Vec<Subject<'a>>, Problem> {
    let Some(word) = word else {
        return Ok(status
            .devices
            .iter()
            .map(|one| subject(one, configs))
            .collect());
    };
    let target = target(word, configs)?;
    match status.device(target.letter) {
        Some(device) => Ok(vec![subject(device, configs)]),
        None => Err(not_up(&target.name, target.letter)),
    }
}

/// A device that does not exist.
pub fn not_up(name: &str, letter: char) -> Problem {
    let what = format!("{name} is not up: there is no device {letter}");
    let problem = Problem::new(Exit::NotThere, what);
    if name.len() > 1 {
        problem.hint(format!("enbdctl up {name}"))
    } else {
        problem
    }
}

/// `enbdctl status`.
///
/// # Errors
///
/// The module or the device is not there.
pub fn status(places: &Places, word: Option<&str>, as_json: bool) -> Result<Exit, Problem> {
    let configs = Configs::load(places)?;
    let status = Proc::new(&places.nbdinfo).status()?;
    let devices = chosen(word, &status, &configs)?;
    if as_json {
        crate::print(&format!("{:#}\n", json::status(&devices)));
    } else {
        let shown: Vec<Shown> = devices
            .iter()
            .map(|subject| Shown {
                subject: *subject,
                uses: usage::of(subject.device.letter),
            })
            .collect();
        crate::print(&screen::text(&shown, word.is_some(), Colour::of_stdout()));
        if shown.is_empty() {
            crate::print("no device is up\n");
        }
    }
    Ok(exit(&devices, word.is_some()))
}

/// The worst verdict. Of several devices those that are disabled do not count: nobody uses them.
pub fn exit(devices: &[Subject<'_>], alone: bool) -> Exit {
    let verdicts = devices.iter().map(Verdict::of);
    let counted = verdicts.filter(|verdict| alone || *verdict != Verdict::Disabled);
    counted.map(Verdict::exit).max().unwrap_or(Exit::Ok)
}

/// `enbdctl list`.
///
/// # Errors
///
/// The configurations cannot be read.
pub fn list(places: &Places, names: bool) -> Result<Exit, Problem> {
    let configs = Configs::load(places)?;
    let status = Proc::new(&places.nbdinfo).status();
    let mut out = String::new();
    if names {
        // For completion: what there is, and no complaint.
        let status = status.unwrap_or_default();
        let unnamed = status
            .devices
            .iter()
            .filter(|one| name_of(one, &configs).is_none());
        let letters = unnamed.map(|device| device.letter);
        for config in configs.good() {
            let _ = writeln!(out, "{}", config.name);
        }
        for letter in letters {
            let _ = writeln!(out, "{letter}");
        }
        crate::print(&out);
        return Ok(Exit::Ok);
    }
    let status = status?;
    for device in &status.devices {
        let subject = subject(device, &configs);
        let (name, word) = (subject.label(), Verdict::of(&subject).as_str());
        let _ = writeln!(out, "{name:<8}  /dev/nd{}   {word}", device.letter);
    }
    let is_down = |config: &&Config| status.device(config.letter).is_none();
    for config in configs.good().filter(is_down) {
        let _ = writeln!(out, "{:<8}  /dev/nd{}   not up", config.name, config.letter);
    }
    crate::print(&out);
    for problem in configs.problems() {
        eprintln!("enbdctl: {problem}");
    }
    Ok(Exit::Ok)
}

/// `enbdctl config check`.
///
/// # Errors
///
/// The one that was named is wrong or not there.
pub fn check(places: &Places, word: Option<&str>) -> Result<Exit, Problem> {
    let configs = Configs::load(places)?;
    let monitor = || MonitorConfig::load(places).map(|wishes| wishes.summary());
    if word == Some(monitor_config::STEM) {
        crate::print(&monitor()?.unwrap_or_default());
        return Ok(Exit::Ok);
    }
    if let Some(name) = word {
        let config = configs.named(name)?;
        crate::print(&summary(config));
        return Ok(Exit::Ok);
    }
    let mut exit = Exit::Ok;
    for config in configs.good() {
        match configs.check_alone(config) {
            Ok(()) => crate::print(&summary(config)),
            Err(problem) => {
                eprintln!("enbdctl: {problem}");
                exit = Exit::Usage;
            }
        }
    }
    let monitor = monitor();
    if let Ok(Some(summary)) = &monitor {
        crate::print(summary);
    }
    for problem in configs.problems().chain(monitor.as_ref().err()) {
        eprintln!("enbdctl: {problem}");
        exit = exit.max(problem.exit);
    }
    Ok(exit)
}

fn summary(config: &Config) -> String {
    let count = config.groups.len();
    let noun = if count == 1 { "group" } else { "groups" };
    format!(
        "{}: /dev/nd{}, {count} {noun}\n",
        config.path.display(),
        config.letter
    )
}

/// Writes the manual pages: one for enbdctl, and one for each verb.
///
/// # Errors
///
/// They cannot be written.
pub fn man(dir: &Path) -> Result<Exit, Problem> {
    std::fs::create_dir_all(dir).map_err(|error| Problem::file("make", dir, &error))?;
    let mut command = cli::command().disable_help_subcommand(true);
    command.build();
    let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    for page in std::iter::once(&command).chain(verbs) {
        clap_mangen::Man::new(page.clone())
            .section("8")
            .manual("enbd")
            .generate_to(dir)
            .map_err(|error| Problem::file("write into", dir, &error))?;
    }
    Ok(Exit::Ok)
}

/// Writes a completion.
pub fn completion(shell: clap_complete::Shell) -> Exit {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut cli::command(), "enbdctl", &mut text);
    crate::print(&String::from_utf8_lossy(&text));
    Exit::Ok
}
