// SPDX-License-Identifier: GPL-2.0

//! enbdctl: see the library beside this file.

use clap::Parser;
use enbdctl::cli::{Cli, ConfigVerb, Verb};
use enbdctl::config::Config;
use enbdctl::create::create;
use enbdctl::down::{down, Then};
use enbdctl::membership::{attach, forget};
use enbdctl::module::{Dry, Module, Proc};
use enbdctl::places::{target, Configs, Places};
use enbdctl::probe::probe;
use enbdctl::problem::{Exit, Problem};
use enbdctl::resolve::System;
use enbdctl::session::Session;
use enbdctl::sources::Claim;
use enbdctl::up::{up, Wish};
use enbdctl::{check, cli, events, examine, metrics, monitor, show, verbs, watch};
use std::process::ExitCode;
use std::time::Duration;

fn run(cli: &Cli) -> Result<Exit, Problem> {
    let places = cli.dirs.places();
    match &cli.verb {
        Verb::Status { device, json } => show::status(&places, device.as_deref(), *json),
        Verb::List { names } => show::list(&places, *names),
        Verb::Watch { device } => watch::watch(&places, device.as_deref()),
        Verb::Events { device, json, now } => {
            let wish = events::Wish {
                json: *json,
                now: *now,
            };
            events::events(&places, device.as_deref(), wish)
        }
        Verb::Check { device } => Ok(check::check(&places, device.as_deref())),
        Verb::Metrics { output } => metrics::metrics(&places, output.as_deref()),
        Verb::Monitor { test: true } => monitor::trial(&places),
        Verb::Monitor { test: false } => monitor::monitor(&places),
        Verb::Config {
            what: ConfigVerb::Check { device },
        } => show::check(&places, device.as_deref()),
        Verb::Wait {
            device,
            goal,
            timeout,
        } => {
            let configs = Configs::load(&places)?;
            let target = target(device, &configs)?;
            let limit = timeout.map(Duration::from_secs);
            verbs::wait(&places, &configs, &target, *goal, limit)
        }
        Verb::Examine { export } => examine::examine(export),
        Verb::Probe { uri } => probe(uri, &System),
        Verb::Man { dir } => show::man(dir),
        Verb::Completion { shell } => Ok(show::completion(*shell)),
        verb if cli.dry_run => change(verb, &places, &mut Dry::new(&places.nbdinfo)),
        verb => change(verb, &places, &mut Proc::new(&places.nbdinfo)),
    }
}

/// The verbs that change something.
fn change(verb: &Verb, places: &Places, module: &mut dyn Module) -> Result<Exit, Problem> {
    let session = &mut Session::new(places, module, &System)?;
    match verb {
        Verb::Up {
            device,
            wait,
            source,
            assume_equal,
            degraded,
            ..
        } => {
            let claim = match source {
                Some(group) => Claim::Source(*group),
                None if *assume_equal => Claim::AllEqual,
                None if *degraded => Claim::Degraded,
                None => Claim::None,
            };
            let wait = Duration::from_secs(*wait);
            up_all(session, device.as_deref(), Wish { claim, wait })
        }
        Verb::Down { device, .. } => down_all(session, device.as_deref()),
        Verb::Enable { device } => {
            let target = session.target(device)?;
            verbs::enable(session, &target)
        }
        Verb::Disable { device } => {
            let target = session.target(device)?;
            down(session, &target, Then::Keep)
        }
        Verb::Create(args) => create(session, &args.wanted()),
        Verb::Set { device, settings } => {
            let target = session.target(device)?;
            verbs::set(session, &target, settings)
        }
        Verb::Reset { device } => {
            let target = session.target(device)?;
            verbs::reset(session, &target)
        }
        verb => change_group(verb, session),
    }
}

/// Those of one group.
fn change_group(verb: &Verb, session: &mut Session<'_>) -> Result<Exit, Problem> {
    match verb {
        Verb::Connect {
            device,
            group,
            uri,
            channels,
        } => {
            let target = session.target(device)?;
            verbs::connect(session, &target, *group, uri, *channels)
        }
        Verb::Disconnect { device, group, uri } => {
            let target = session.target(device)?;
            verbs::disconnect(session, &target, *group, uri.as_ref())
        }
        Verb::Fail { device, group } => {
            let target = session.target(device)?;
            verbs::fail(session, &target, *group)
        }
        Verb::Resync {
            device,
            group,
            full,
        } => {
            let target = session.target(device)?;
            verbs::resync(session, &target, *group, *full)
        }
        Verb::Add {
            device,
            uri,
            channels,
        } => {
            let target = session.target(device)?;
            verbs::add(session, &target, uri, *channels)
        }
        Verb::Remove { device, group } => {
            let target = session.target(device)?;
            verbs::remove(session, &target, *group)
        }
        Verb::Attach {
            device,
            group,
            uri,
            channels,
        } => {
            let target = session.target(device)?;
            attach(session, &target, *group, uri.as_ref(), *channels)
        }
        Verb::Forget { device, group } => {
            let target = session.target(device)?;
            forget(session, &target, *group)
        }
        // The others were taken by the callers.
        _ => Ok(Exit::Ok),
    }
}

/// One device, or all that have a configuration; goes on after one that fails.
fn up_all(session: &mut Session<'_>, device: Option<&str>, wish: Wish) -> Result<Exit, Problem> {
    if let Some(device) = device {
        let target = session.target(device)?;
        let config = session.configs.named(&target.name)?.clone();
        return up(session, &config, wish);
    }
    let mut exit = tell_problems(session);
    let all: Vec<Config> = session.configs.good().cloned().collect();
    for config in all {
        let alone = session.configs.check_alone(&config);
        exit = exit.max(told(alone.and_then(|()| up(session, &config, wish))));
    }
    Ok(exit)
}

fn down_all(session: &mut Session<'_>, device: Option<&str>) -> Result<Exit, Problem> {
    if let Some(device) = device {
        let target = session.target(device)?;
        return down(session, &target, Then::Forget);
    }
    let mut exit = tell_problems(session);
    let all: Vec<Config> = session.configs.good().cloned().collect();
    for config in all {
        let result = session.configs.check_alone(&config);
        let target = result.and_then(|()| session.target(&config.name));
        exit = exit.max(told(
            target.and_then(|target| down(session, &target, Then::Forget)),
        ));
    }
    Ok(exit)
}

fn tell_problems(session: &Session<'_>) -> Exit {
    let mut exit = Exit::Ok;
    for problem in session.configs.problems() {
        eprintln!("enbdctl: {problem}");
        exit = exit.max(problem.exit);
    }
    exit
}

fn told(result: Result<Exit, Problem>) -> Exit {
    result.unwrap_or_else(|problem| {
        eprintln!("enbdctl: {problem}");
        problem.exit
    })
}

/// Whether the first verb of a command line that is wrong is `check`, whose exit statuses are others.
fn is_plugin() -> bool {
    let command = cli::command();
    let mut words = std::env::args().skip(1);
    let verb = words.find(|word| command.find_subcommand(word).is_some());
    verb.as_deref() == Some("check")
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            let usage = error.use_stderr();
            if usage && is_plugin() {
                return check::misused().into();
            }
            return if usage { Exit::Usage } else { Exit::Ok }.into();
        }
    };
    match run(&cli) {
        Ok(exit) => exit.into(),
        Err(problem) => {
            eprintln!("enbdctl: {problem}");
            problem.exit.into()
        }
    }
}
