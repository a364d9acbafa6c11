// SPDX-License-Identifier: GPL-2.0

//! The lines that are written to /proc/nbdinfo.
//!
//! Shape: a [`Line`] is made by one function a verb, and has passed the module's own parser
//! (`rust/logic/command`), so that what the module would call malformed is never sent.

use crate::problem::{Exit, Problem};
use crate::spelling::spell;
use enbd_logic::logic::command::{parse_line, Verb};
use enbd_logic::logic::meta::Ask;
use std::fmt::Display;

/// One command.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    letter: char,
    text: String,
}

impl Line {
    fn new(letter: char, verb: &str, value: impl Display) -> Result<Self, &'static str> {
        let text = format!("{verb}[{letter}]={value}");
        match parse_line(text.as_bytes()) {
            Ok(_) => Ok(Self { letter, text }),
            Err(reason) => Err(reason.as_str()),
        }
    }

    /// A setting by its name, its value as the module takes it.
    ///
    /// # Errors
    ///
    /// Why the module would refuse it.
    pub fn setting(letter: char, key: &str, value: &str) -> Result<Self, &'static str> {
        Self::new(letter, key, value)
    }

    /// Adds channels to a group. `address` is a word as the module takes it.
    ///
    /// # Errors
    ///
    /// Why the module would refuse it.
    pub fn connect(
        letter: char,
        group: u8,
        address: &str,
        export: &str,
        channels: u8,
    ) -> Result<Self, &'static str> {
        let server = server(address, export, channels);
        Self::new(letter, "connect", format!("{group} {server}"))
    }

    /// Adds channels to a new group, whatever metadata it has.
    ///
    /// # Errors
    ///
    /// Why the module would refuse it.
    pub fn connect_unread(
        letter: char,
        group: u8,
        address: &str,
        export: &str,
        channels: u8,
    ) -> Result<Self, &'static str> {
        let server = server(address, export, channels);
        Self::new(letter, "connect", format!("{group} {server} meta=none"))
    }

    /// Adds channels to the group that the metadata of the export says.
    ///
    /// # Errors
    ///
    /// Why the module would refuse it.
    pub fn attach(
        letter: char,
        address: &str,
        export: &str,
        channels: u8,
    ) -> Result<Self, &'static str> {
        Self::new(letter, "attach", server(address, export, channels))
    }

    /// Makes a mirror that remembers of the groups that are connected.
    ///
    /// # Errors
    ///
    /// Why the module would refuse it.
    pub fn create(
        letter: char,
        source: u8,
        equal: bool,
        force: bool,
    ) -> Result<Self, &'static str> {
        let equal = if equal { " equal" } else { "" };
        let force = if force { " force" } else { "" };
        Self::new(letter, "create", format!("{source}{equal}{force}"))
    }

    /// Publishes the disk, as far as what is asked for allows it.
    ///
    /// # Errors
    ///
    /// Why the module would refuse it.
    pub fn enable(letter: char, ask: Ask) -> Result<Self, &'static str> {
        let words = match ask {
            Ask::Certain => String::new(),
            Ask::Degraded => " degraded".to_owned(),
            Ask::Source(group) => format!(" source={}", group.index()),
        };
        Self::new(letter, "enable", format!("1{words}"))
    }

    /// Removes the channels of a group, or those to one address.
    ///
    /// # Errors
    ///
    /// Why the module would refuse it.
    pub fn disconnect(
        letter: char,
        group: u8,
        address: Option<&str>,
    ) -> Result<Self, &'static str> {
        match address {
            None => Self::new(letter, "disconnect", group),
            Some(address) => Self::new(letter, "disconnect", format!("{group} {address}")),
        }
    }

    /// A verb whose value is a number: `enable`, `setfaulty`, `hotremove`, `forget`, `reset`.
    ///
    /// # Errors
    ///
    /// Why the module would refuse it.
    pub fn number(letter: char, verb: &str, number: u8) -> Result<Self, &'static str> {
        Self::new(letter, verb, number)
    }

    /// Brings a group back.
    ///
    /// # Errors
    ///
    /// Why the module would refuse it.
    pub fn hotadd(letter: char, group: u8, full: bool) -> Result<Self, &'static str> {
        let full = if full { " full" } else { "" };
        Self::new(letter, "hotadd", format!("{group}{full}"))
    }

    /// The device that it is for.
    pub fn letter(&self) -> char {
        self.letter
    }

    /// As it is written, without its newline.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// A server as the module is told: its address, the export, and how many channels it is to have.
fn server(address: &str, export: &str, channels: u8) -> String {
    let name = match export {
        "" => String::new(),
        export => format!(" name={}", spell(export)),
    };
    format!("{address}{name} channels={channels}")
}

/// What the status shows of an address that is written so: its transport and its text. None for
/// what is no address.
pub fn shown_address(word: &str) -> Option<(&'static str, String)> {
    let line = format!("connect[a]=0 {word}");
    match parse_line(line.as_bytes()).ok()?.verb {
        Verb::Connect { addr, .. } => Some((addr.transport(), addr.text().as_str().to_owned())),
        _ => None,
    }
}

/// A line that cannot be wrong unless what the user gave is.
pub fn usable(line: Result<Line, &'static str>) -> Result<Line, Problem> {
    line.map_err(|why| Problem::new(Exit::Usage, why))
}

#[cfg(test)]
mod tests {
    use super::{shown_address, Line};
    use enbd_logic::logic::ids::GroupId;
    use enbd_logic::logic::meta::Ask;

    #[test]
    fn lines_as_the_module_takes_them() {
        let text = |line: Result<Line, &'static str>| line.map(|line| line.text().to_owned());
        assert_eq!(
            text(Line::connect('a', 0, "192.0.2.1:10809", "disk", 2)),
            Ok("connect[a]=0 192.0.2.1:10809 name=disk channels=2".to_owned())
        );
        assert_eq!(
            text(Line::connect('b', 1, "unix:/run/x", "", 1)),
            Ok("connect[b]=1 unix:/run/x channels=1".to_owned())
        );
        assert_eq!(
            text(Line::hotadd('a', 1, true)),
            Ok("hotadd[a]=1 full".to_owned())
        );
        assert_eq!(
            text(Line::hotadd('a', 1, false)),
            Ok("hotadd[a]=1".to_owned())
        );
        assert_eq!(
            text(Line::number('z', "enable", 1)),
            Ok("enable[z]=1".to_owned())
        );
        assert_eq!(
            text(Line::attach('a', "192.0.2.1:10809", "disk", 2)),
            Ok("attach[a]=192.0.2.1:10809 name=disk channels=2".to_owned())
        );
        for (equal, force, line) in [
            (false, false, "create[a]=1"),
            (true, false, "create[a]=1 equal"),
            (true, true, "create[a]=1 equal force"),
        ] {
            assert_eq!(
                text(Line::create('a', 1, equal, force)),
                Ok(line.to_owned())
            );
        }
        let one = GroupId::new(1).map_or(Ask::Certain, Ask::Source);
        for (ask, line) in [
            (Ask::Certain, "enable[a]=1"),
            (Ask::Degraded, "enable[a]=1 degraded"),
            (one, "enable[a]=1 source=1"),
        ] {
            assert_eq!(text(Line::enable('a', ask)), Ok(line.to_owned()));
        }
        assert!(Line::number('a', "enable", 2).is_err());
        assert!(Line::number('a', "setfaulty", 8).is_err());
        assert!(Line::connect('a', 0, "localhost", "", 1).is_err());
        assert_eq!(
            text(Line::connect('a', 0, "192.0.2.1", "a b", 1)),
            Ok(r"connect[a]=0 192.0.2.1 name=a\040b channels=1".to_owned())
        );
        let long = "x".repeat(1024);
        assert!(Line::connect('a', 0, "192.0.2.1", &long, 1).is_err());
        assert!(Line::setting('a', "timeout", "30\nreset[a]=1").is_err());
        assert!(Line::setting('A', "timeout", "30").is_err());
    }

    #[test]
    fn addresses_as_the_status_shows_them() {
        assert_eq!(
            shown_address("[2001:DB8:0::1]"),
            Some(("tcp", "[2001:db8::1]:10809".to_owned()))
        );
        assert_eq!(
            shown_address("unix:/run/x"),
            Some(("unix", "/run/x".to_owned()))
        );
        assert_eq!(shown_address("alpha"), None);
    }
}
