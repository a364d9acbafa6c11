// SPDX-License-Identifier: GPL-2.0

//! enbdctl: see the library beside this file.

use clap::Parser;
use enbdctl::cli::{Cli, ConfigVerb, Verb};
use enbdctl::problem::{Exit, Problem};
use enbdctl::{show, watch};
use std::process::ExitCode;

fn run(cli: &Cli) -> Result<Exit, Problem> {
    let places = cli.dirs.places();
    match &cli.verb {
        Verb::Status { device, json } => show::status(&places, device.as_deref(), *json),
        Verb::List { names } => show::list(&places, *names),
        Verb::Watch { device } => watch::watch(&places, device.as_deref()),
        Verb::Config {
            what: ConfigVerb::Check { device },
        } => show::check(&places, device.as_deref()),
        Verb::Man { dir } => show::man(dir),
        Verb::Completion { shell } => Ok(show::completion(*shell)),
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            let usage = error.use_stderr();
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
