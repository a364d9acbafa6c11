// SPDX-License-Identifier: GPL-2.0

//! enbdctl: starts, stops, changes and shows enbd's mirrors.
//!
//! | file | what |
//! |---|---|
//! | [`cli`] | the command line, from which the manual and the completions are made, too |
//! | [`config`], [`places`] | configuration files, and where files are |
//! | [`uri`], [`size`], [`time`], [`toml_text`] | NBD URIs, sizes, times, and TOML with its places |
//! | [`spelling`] | names as /proc/nbdinfo spells them |
//! | [`command`], [`module`] | the lines of /proc/nbdinfo, and the file |
//! | [`view`], [`screen`], [`json`], [`watch`], [`events`], [`usage`] | what is shown |
//! | [`check`], [`metrics`], [`exposition`] | what Nagios and Prometheus are told |
//! | [`monitor`], [`monitor_config`] | the service that tells of what happens |
//! | [`change`], [`course`], [`alarm`], [`handler`], [`notify`] | what it tells, when, and whom |
//! | [`examine`] | what is at the end of an export |
//! | [`session`], [`resolve`] | what the verbs below share; host names |
//! | [`client`], [`found`], [`probe`] | what a server shows of an export |
//! | [`up`], [`down`], [`verbs`] | what changes something |
//! | [`assembly`] | `up` of a mirror that remembers |
//! | [`create`], [`choice`] | a new mirror, and whose data counts |
//! | [`membership`] | one member comes, or is none any more |
//! | [`record`], [`sources`] | who is in sync while a mirror is down |
//! | [`problem`] | errors and exit statuses |
//!
//! Unsafe code is in [`sys`] alone.

pub mod alarm;
pub mod assembly;
pub mod change;
pub mod check;
pub mod choice;
pub mod cli;
pub mod client;
pub mod command;
pub mod config;
pub mod course;
pub mod create;
pub mod down;
pub mod events;
pub mod examine;
pub mod exposition;
pub mod found;
pub mod handler;
pub mod identity;
pub mod json;
pub mod membership;
pub mod metrics;
pub mod module;
pub mod monitor;
pub mod monitor_config;
pub mod notify;
pub mod offer;
pub mod places;
pub mod probe;
pub mod problem;
pub mod record;
pub mod resolve;
pub mod screen;
pub mod session;
pub mod show;
pub mod size;
pub mod sources;
pub mod spelling;
pub mod sys;
pub mod time;
pub mod toml_text;
pub mod up;
pub mod uri;
pub mod usage;
pub mod verbs;
pub mod view;
pub mod watch;

/// Writes to standard output, and ends the program quietly where nobody reads it any more.
pub fn print(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    if out
        .write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .is_err()
    {
        std::process::exit(0);
    }
}
