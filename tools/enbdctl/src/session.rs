// SPDX-License-Identifier: GPL-2.0

//! What all verbs that change something share.

use crate::command::{usable, Line};
use crate::config::{Config, Member};
use crate::module::{Module, Refusal};
use crate::places::{target, Configs, Places, Target};
use crate::problem::Problem;
use crate::record::{Lock, Store};
use crate::resolve::{addresses, leads_to, Resolver};
use crate::show::not_up;
use crate::uri::Uri;
use crate::usage;
use enbd_status::{Channel, Device, Status};

/// What the module says of an export without metadata.
const NO_MEMBER: &str = "no member of a mirror";

/// Why a group could not be connected.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unreached {
    /// In words, with the addresses that were tried.
    pub why: String,
    /// It may go better a moment later.
    pub passes: bool,
    /// The errno of the last refusal, if the module was asked.
    pub errno: Option<i32>,
}

impl Unreached {
    /// The export has no metadata.
    pub fn is_no_member(&self) -> bool {
        self.errno == Some(libc::ENOENT) && self.why.contains(NO_MEMBER)
    }

    /// Without the module.
    fn unasked(why: String, passes: bool) -> Self {
        Self {
            why,
            passes,
            errno: None,
        }
    }
}

/// The module, the files, and how names are resolved.
pub struct Session<'a> {
    /// Where files are.
    pub places: &'a Places,
    /// The configurations.
    pub configs: Configs,
    /// The module.
    pub module: &'a mut dyn Module,
    /// How names are resolved.
    pub resolver: &'a dyn Resolver,
    /// The records.
    pub store: Store,
}

impl<'a> Session<'a> {
    /// A session over these places.
    ///
    /// # Errors
    ///
    /// The configurations cannot be read.
    pub fn new(
        places: &'a Places,
        module: &'a mut dyn Module,
        resolver: &'a dyn Resolver,
    ) -> Result<Self, Problem> {
        Ok(Self {
            places,
            configs: Configs::load(places)?,
            module,
            resolver,
            store: Store::new(places),
        })
    }

    /// The device that is meant.
    ///
    /// # Errors
    ///
    /// No configuration has this name.
    pub fn target(&self, word: &str) -> Result<Target, Problem> {
        target(word, &self.configs)
    }

    /// Keeps other enbdctls from the device; nothing where nothing is changed.
    ///
    /// # Errors
    ///
    /// The lock cannot be had.
    pub fn lock(&self, letter: char) -> Result<Option<Lock>, Problem> {
        if self.module.is_dry() {
            return Ok(None);
        }
        Lock::take(self.places, letter).map(Some)
    }

    /// What the module says.
    ///
    /// # Errors
    ///
    /// The module is not loaded.
    pub fn status(&self) -> Result<Status, Problem> {
        self.module.status()
    }

    /// What the module says of a device.
    ///
    /// # Errors
    ///
    /// The module is not loaded, or the device does not exist.
    pub fn device(&self, target: &Target) -> Result<Device, Problem> {
        let status = self.module.status()?;
        let device = status.device(target.letter).cloned();
        device.ok_or_else(|| not_up(&target.name, target.letter))
    }

    /// Has a command carried out.
    ///
    /// # Errors
    ///
    /// It was refused; with who has the disk open if that is why.
    pub fn command(&mut self, name: &str, line: &Line) -> Result<(), Problem> {
        self.module
            .command(line)
            .map_err(|refusal| explained(name, &refusal))
    }

    /// The same for a line that is yet to be made.
    ///
    /// # Errors
    ///
    /// As [`command`](Self::command), or it is none.
    pub fn make(&mut self, name: &str, line: Result<Line, &'static str>) -> Result<(), Problem> {
        let line = usable(line)?;
        self.command(name, &line)
    }

    /// How many channels of a group lead to its server; and whether there are others.
    ///
    /// # Errors
    ///
    /// The server's name cannot be resolved.
    pub fn present(
        &self,
        device: &Device,
        group: u8,
        uri: &Uri,
    ) -> Result<(usize, bool), Unreached> {
        let words = self.addresses(uri)?;
        let mut counts = (0usize, false);
        for channel in device.channels_of(group) {
            match leads_to(channel, &words, &uri.export) {
                Some(true) => counts.0 = counts.0.saturating_add(1),
                Some(false) => counts.1 = true,
                None => {}
            }
        }
        Ok(counts)
    }

    fn addresses(&self, uri: &Uri) -> Result<Vec<String>, Unreached> {
        addresses(uri, self.resolver).map_err(|why| Unreached::unasked(why, true))
    }

    /// Connects a group over the first address that works. A group that has channels gets more to
    /// the same address: another one of the name may be another server.
    ///
    /// # Errors
    ///
    /// None did.
    pub fn connect(
        &mut self,
        letter: char,
        group: u8,
        member: &Member,
        device: Option<&Device>,
    ) -> Result<(), Unreached> {
        let mut words = self.addresses(&member.uri)?;
        let is_used = |word: &String| {
            let one = std::slice::from_ref(word);
            let mut channels = device
                .into_iter()
                .flat_map(|device| device.channels_of(group));
            channels.any(|channel| leads_to(channel, one, &member.uri.export) == Some(true))
        };
        if words.iter().any(is_used) {
            words.retain(is_used);
        }
        let (export, channels) = (&member.uri.export, member.channels);
        self.first_of(&words, |word| {
            Line::connect(letter, group, word, export, channels)
        })
    }

    /// Connects a new group over the first address that works, whatever metadata it has.
    ///
    /// # Errors
    ///
    /// None did.
    pub fn connect_unread(
        &mut self,
        letter: char,
        group: u8,
        member: &Member,
    ) -> Result<(), Unreached> {
        let words = self.addresses(&member.uri)?;
        let (export, channels) = (&member.uri.export, member.channels);
        self.first_of(&words, |word| {
            Line::connect_unread(letter, group, word, export, channels)
        })
    }

    /// Connects to a server, to the group that the metadata of its export says, over the first address
    /// that works.
    ///
    /// # Errors
    ///
    /// None did, or there is no metadata.
    pub fn attach(&mut self, letter: char, member: &Member) -> Result<(), Unreached> {
        let words = self.addresses(&member.uri)?;
        let (export, channels) = (&member.uri.export, member.channels);
        self.first_of(&words, |word| Line::attach(letter, word, export, channels))
    }

    /// Has the line of one address after the other carried out, until one is.
    fn first_of(
        &mut self,
        words: &[String],
        line: impl Fn(&str) -> Result<Line, &'static str>,
    ) -> Result<(), Unreached> {
        let mut tried = Vec::new();
        let mut passes = false;
        let mut errno = None;
        for word in words {
            let line = line(word).map_err(|why| Unreached::unasked(why.to_owned(), false))?;
            match self.module.command(&line) {
                Ok(()) => return Ok(()),
                Err(refusal) => {
                    let name = crate::module::errno_name(refusal.errno);
                    tried.push(format!("{word}: {} ({name})", refusal.why));
                    passes |= is_passing(&refusal);
                    errno = Some(refusal.errno);
                }
            }
        }
        Err(Unreached {
            why: tried.join("; "),
            passes,
            errno,
        })
    }

    /// How many channels of a device lead to a server.
    ///
    /// # Errors
    ///
    /// The server's name cannot be resolved.
    pub fn count(&self, device: &Device, uri: &Uri) -> Result<usize, Unreached> {
        let words = self.addresses(uri)?;
        let leads = |channel: &&Channel| leads_to(channel, &words, &uri.export) == Some(true);
        Ok(device.channels.iter().filter(leads).count())
    }

    /// The group whose channels lead to a server, and how many do.
    ///
    /// # Errors
    ///
    /// The server's name cannot be resolved.
    pub fn group_at(&self, device: &Device, uri: &Uri) -> Result<Option<(u8, usize)>, Unreached> {
        let words = self.addresses(uri)?;
        let leads = |channel: &&Channel| leads_to(channel, &words, &uri.export) == Some(true);
        let found = device.channels.iter().find(leads);
        Ok(found.map(|first| {
            let all = device.channels_of(first.group).filter(leads);
            (first.group, all.count())
        }))
    }

    /// The configuration of a device, if it has one.
    pub fn config_of(&self, target: &Target) -> Option<Config> {
        let config = self.configs.of_letter(target.letter);
        config.filter(|config| config.name == target.name).cloned()
    }
}

/// What a server that is not there yet answers. The errno alone does not tell where an export has no
/// metadata: a path that is not there has the same, and an export that the server does not know.
fn is_passing(refusal: &Refusal) -> bool {
    if refusal.line.text().starts_with("attach") && refusal.errno == libc::ENOENT {
        return !refusal.why.contains(NO_MEMBER);
    }
    matches!(
        refusal.errno,
        libc::ECONNREFUSED
            | libc::ECONNRESET
            | libc::EHOSTUNREACH
            | libc::EHOSTDOWN
            | libc::ENETUNREACH
            | libc::ENETDOWN
            | libc::ETIMEDOUT
            | libc::EADDRNOTAVAIL
            | libc::EPIPE
            | libc::ESHUTDOWN
            | libc::ENOENT
    )
}

/// A refusal with what to do about it.
pub fn explained(name: &str, refusal: &Refusal) -> Problem {
    let problem = refusal.problem(name);
    let letter = refusal.line.letter();
    let copied = refusal.line.text().strip_prefix("hotadd[");
    if let Some(group) = copied.and_then(|rest| rest.get(3..)) {
        // What it has is not to be overwritten unseen.
        return match refusal.why.contains("'full'") {
            true => problem.hint(format!(
                "enbdctl resync {name} {group} --full overwrites it"
            )),
            false => problem,
        };
    }
    if refusal.errno != libc::EBUSY || !refusal.why.contains("open") {
        return problem;
    }
    let mut uses = usage::of(letter);
    if uses.is_empty() {
        uses = usage::processes(letter);
    }
    let words: Vec<String> = uses.iter().map(ToString::to_string).collect();
    let device = format!("/dev/nd{letter}");
    let mut busy = Problem::new(
        problem.exit,
        format!("{name} is in use: {}", words.join("; ")),
    );
    busy.errno = problem.errno;
    match uses.first() {
        Some(one) => busy.hint(format!("{}, then again", one.remedy(&device))),
        None => problem.hint(format!("fuser -v {device} tells who has it open")),
    }
}

#[cfg(test)]
mod tests {
    use super::is_passing;
    use crate::command::Line;
    use crate::module::Refusal;

    #[test]
    fn what_may_go_better_later() {
        let passes = |errno, why: &str| {
            is_passing(&Refusal {
                line: Line::attach('a', "192.0.2.1", "disk", 1).expect("a line"),
                errno,
                why: why.to_owned(),
            })
        };
        assert!(passes(libc::ENOENT, "no such socket"));
        assert!(passes(libc::ENOENT, "unknown export"));
        assert!(!passes(libc::ENOENT, "the export is no member of a mirror"));
        assert!(passes(libc::ECONNREFUSED, "connection refused"));
        assert!(!passes(libc::EUCLEAN, "the metadata is damaged"));
    }
}
