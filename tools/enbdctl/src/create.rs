// SPDX-License-Identifier: GPL-2.0

//! `enbdctl create`: makes a mirror that remembers, writes its configuration, and brings it up.
//!
//! What the exports get comes first, the configuration next, the disk last. Each step may be the last
//! one: what is left then is a mirror that was never started, which another `create` makes anew, or a
//! configuration, with which it goes on by `up`.

use crate::assembly;
use crate::choice::{self, Consent, Data};
use crate::command::Line;
use crate::config::{check_name, Config, Member, DEFAULT_CHANNELS};
use crate::found;
use crate::offer::{table, Offer};
use crate::places::Configs;
use crate::problem::{Exit, Problem};
use crate::record::sync_dir;
use crate::session::Session;
use crate::sources::Claim;
use crate::up::{up, Wish};
use crate::uri::Uri;
use crate::view;
use enbd_logic::logic::MAX_GROUPS;
use enbd_status::{Device, GroupState, Status};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The block of a device that is not told another one.
const DEFAULT_BLOCK: u64 = 4096;
/// As long as a UUID is.
const NO_MIRROR: &str = "00000000-0000-0000-0000-000000000000";
/// How it is brought up: nothing is claimed, and the servers were there a moment ago.
const WISH: Wish = Wish {
    claim: Claim::None,
    wait: Duration::from_secs(30),
};

/// What is to be made.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The name.
    pub name: String,
    /// The letter; the first one that is free if left out.
    pub letter: Option<char>,
    /// The servers, by group.
    pub uris: Vec<Uri>,
    /// Channels of each group.
    pub channels: Option<u8>,
    /// Bytes of a block.
    pub block: Option<u32>,
    /// Whose data counts, if it was said.
    pub data: Option<Data>,
    /// What may be overwritten.
    pub consent: Consent,
}

impl Wanted {
    /// Bytes of a block, whoever has said it.
    fn block(&self) -> u64 {
        self.block.map_or(DEFAULT_BLOCK, u64::from)
    }
}

/// Makes a mirror.
///
/// # Errors
///
/// There is one of that name, an export cannot be had or is in use, nobody says whose data counts, or
/// the module refuses.
pub fn create(session: &mut Session<'_>, wanted: &Wanted) -> Result<Exit, Problem> {
    check(wanted)?;
    let (letter, _lock) = loop {
        if let Some(config) = made_already(session, wanted)? {
            return finish(session, &config);
        }
        let letter = free_letter(session, wanted)?;
        let lock = session.lock(letter)?;
        // Somebody may have had the lock until now, and have made something.
        session.configs = Configs::load(session.places)?;
        if made_already(session, wanted)?.is_none() && free_letter(session, wanted)? == letter {
            break (letter, lock);
        }
    };
    if session.module.is_dry() {
        return dry(session, wanted, letter);
    }
    let draft = Draft::new(session, wanted, letter)?;
    let offers = look(session, wanted, &wanted.uris)?;
    crate::print(&table(&offers));
    let block = wanted.block();
    let anew = choice::check(&offers, block, wanted.consent)?;
    let ask = &mut choice::on_terminal;
    let data = choice::decide(&offers, wanted.data, wanted.consent, ask)?;
    choice::check_room(&offers, block, data, wanted.consent.force)?;
    let servers: Vec<Uri> = offers.iter().map(Offer::server).collect();
    if !wanted.consent.yes {
        // Where metadata is made anew the module does not look at what is there, and an answer takes time.
        let now = look(session, wanted, &servers)?;
        choice::check_same(&offers, &now)?;
        choice::check(&now, block, wanted.consent)?;
    }
    let result = make(session, wanted, letter, &servers, (data, anew));
    let result = result.and_then(|mirror| draft.publish(wanted, letter, &mirror));
    if result.is_err() {
        // What the exports have got by now another `create` knows for what it is; and it ends what stays
        // of the device.
        let _ = forget(session, wanted, letter);
    }
    let config = result?;
    let device = session.status()?.device(letter).cloned();
    assembly::up(session, &config, device.as_ref(), WISH)?;
    let kind = offers.get(usize::from(data.source()));
    let kind = kind.and_then(|offer| offer.found.kind.clone());
    await_udev(&config.name);
    crate::print(&summary(session, &config, kind.as_deref())?);
    Ok(Exit::Ok)
}

/// What is wrong with it before anybody is asked.
fn check(wanted: &Wanted) -> Result<(), Problem> {
    let wrong = |why: String| Err(Problem::new(Exit::Usage, why));
    check_name(&wanted.name).map_err(|why| Problem::new(Exit::Usage, why))?;
    if wanted.uris.len() > MAX_GROUPS {
        return wrong(format!("a mirror has {MAX_GROUPS} groups at most"));
    }
    // All else that a file may not say.
    parsed(Path::new("it.toml"), wanted, 'a', NO_MIRROR).map(|_| ())
}

/// The configuration that is there already, of the same groups: an earlier `create` came so far.
fn made_already(session: &Session<'_>, wanted: &Wanted) -> Result<Option<Config>, Problem> {
    let path = session.places.etc.join(format!("{}.toml", wanted.name));
    if !path.exists() {
        return Ok(None);
    }
    let config = session.configs.named(&wanted.name)?.clone();
    let texts = |uri: &Uri| uri.to_string();
    let theirs = config.groups.iter().map(|one| texts(&one.uri));
    let is_same = config.mirror.is_some() && theirs.eq(wanted.uris.iter().map(texts));
    if is_same {
        return Ok(Some(config));
    }
    let (name, path) = (&wanted.name, config.path.display());
    let why = match config.mirror {
        None => "a mirror without metadata",
        Some(_) => "another mirror",
    };
    let what = format!("{path} exists, of {why}");
    let hint = format!("enbdctl up {name} starts that; another NAME makes another one");
    Err(Problem::new(Exit::Refused, what).hint(hint))
}

/// Goes on where an earlier `create` has written the configuration.
fn finish(session: &mut Session<'_>, config: &Config) -> Result<Exit, Problem> {
    let exit = up(session, config, WISH)?;
    if !session.module.is_dry() {
        await_udev(&config.name);
        crate::print(&summary(session, config, None)?);
    }
    Ok(exit)
}

/// A letter that nobody has: neither a configuration nor the module, unless what the module has was left
/// by a `create` of the same name.
fn free_letter(session: &Session<'_>, wanted: &Wanted) -> Result<char, Problem> {
    let status = session.status()?;
    let named = |device: &&Device| device.name.as_ref() == Some(&wanted.name);
    let left = status.devices.iter().find(named);
    if let Some(device) = left.filter(|device| !is_left(device)) {
        let what = format!("the device {} is called {}", device.letter, wanted.name);
        return Err(Problem::new(Exit::Refused, what).hint("another NAME makes another mirror"));
    }
    let is_free = |letter: &char| {
        let known = session
            .configs
            .good()
            .any(|config| config.letter == *letter);
        let device = status.device(*letter);
        !known && device.is_none_or(|device| named(&device))
    };
    let own = left.map(|device| device.letter);
    match wanted.letter.or(own) {
        Some(letter) if is_free(&letter) => Ok(letter),
        Some(letter) => {
            let what = format!("/dev/nd{letter} is taken");
            Err(Problem::new(Exit::Refused, what).hint("enbdctl list shows by whom"))
        }
        None => ('a'..='z').find(is_free).ok_or_else(|| {
            let what = "all letters from a to z are taken";
            Problem::new(Exit::Refused, what).hint("enbdctl list shows by whom")
        }),
    }
}

/// A device that was never enabled: forgetting it loses nothing.
fn is_left(device: &Device) -> bool {
    !device.enabled && device.queued_max == 0
}

/// What is on the exports.
fn look(session: &Session<'_>, wanted: &Wanted, uris: &[Uri]) -> Result<Vec<Offer>, Problem> {
    let block = wanted.block();
    let mut offers = Vec::new();
    let mut lost = String::new();
    for (group, uri) in uris.iter().enumerate() {
        match found::look(uri, session.resolver, block) {
            Ok(found) => offers.push(Offer {
                uri: uri.clone(),
                found,
            }),
            Err(why) => lost.push_str(&format!("\n  group {group}, {uri}: {why}")),
        }
    }
    if lost.is_empty() {
        return Ok(offers);
    }
    let what = format!(
        "{}: all servers are needed to make a mirror:{lost}",
        wanted.name
    );
    Err(Problem::new(Exit::Refused, what).hint("enbdctl probe URI looks at one"))
}

/// Has the module connect the groups and make a mirror of them; gives its identity.
fn make(
    session: &mut Session<'_>,
    wanted: &Wanted,
    letter: char,
    servers: &[Uri],
    (data, anew): (Data, bool),
) -> Result<String, Problem> {
    forget(session, wanted, letter)?;
    prepare(session, wanted, letter)?;
    for (group, uri) in (0u8..).zip(servers) {
        let member = member(wanted, uri);
        let result = match anew {
            // Metadata that is to be overwritten says nothing.
            true => session.connect_unread(letter, group, &member),
            false => session.connect(letter, group, &member, None),
        };
        result.map_err(|lost| {
            let what = format!("{}: group {group}, {uri}: {}", wanted.name, lost.why);
            Problem::new(Exit::Refused, what)
        })?;
    }
    let equal = data == Data::Equal;
    let line = Line::create(letter, data.source(), equal, anew);
    session.make(&wanted.name, line)?;
    let status: Status = session.status()?;
    let device = status.device(letter);
    let mirror = device.and_then(|device| device.mirror.as_ref());
    mirror.map(|mirror| mirror.uuid.clone()).ok_or_else(|| {
        let what = format!("{}: the module does not tell its mirror", wanted.name);
        Problem::new(Exit::Refused, what).hint("is it older than enbdctl?")
    })
}

fn prepare(session: &mut Session<'_>, wanted: &Wanted, letter: char) -> Result<(), Problem> {
    let name = &wanted.name;
    // First: by that another `create` knows what this one may leave.
    session.make(name, Line::setting(letter, "name", name))?;
    match wanted.block {
        Some(block) => session.make(name, Line::setting(letter, "blocksize", &block.to_string())),
        None => Ok(()),
    }
}

fn member(wanted: &Wanted, uri: &Uri) -> Member {
    Member {
        uri: uri.clone(),
        channels: channels(wanted, uri),
    }
}

fn channels(wanted: &Wanted, uri: &Uri) -> u8 {
    uri.channels.or(wanted.channels).unwrap_or(DEFAULT_CHANNELS)
}

/// Has the module forget the device, if it is there and was never enabled.
fn forget(session: &mut Session<'_>, wanted: &Wanted, letter: char) -> Result<(), Problem> {
    let status = session.status()?;
    match status.device(letter).filter(|device| is_left(device)) {
        Some(_) => session.make(&wanted.name, Line::number(letter, "reset", 1)),
        None => Ok(()),
    }
}

/// Shows the lines, as far as they are known without asking the servers.
fn dry(session: &mut Session<'_>, wanted: &Wanted, letter: char) -> Result<Exit, Problem> {
    let data = match (wanted.data, wanted.uris.len()) {
        (Some(data), _) => data,
        (None, 1) => Data::Of(0),
        (None, _) => {
            let what = "a dry run asks neither you nor the servers which group has the data";
            return Err(Problem::new(Exit::Refused, what).hint("--source GROUP, --equal, --empty"));
        }
    };
    prepare(session, wanted, letter)?;
    for (group, uri) in (0u8..).zip(&wanted.uris) {
        // A dry run refuses none, and a name that cannot be resolved is told.
        let connected = session.connect(letter, group, &member(wanted, uri), None);
        connected.map_err(|lost| Problem::new(Exit::Refused, lost.why))?;
    }
    let (equal, force) = (data == Data::Equal, wanted.consent.force);
    session.make(
        &wanted.name,
        Line::create(letter, data.source(), equal, force),
    )?;
    session.make(&wanted.name, Line::number(letter, "enable", 1))?;
    Ok(Exit::Ok)
}

/// The text of a configuration.
fn text(wanted: &Wanted, letter: char, mirror: &str) -> String {
    let mut text =
        format!("# Made by enbdctl create; man enbdctl has all keys.\ndevice = \"{letter}\"\n");
    if let Some(block) = wanted.block {
        text.push_str(&format!("blocksize = {block}\n"));
    }
    text.push_str(&format!("mirror = \"{mirror}\"\n"));
    for uri in &wanted.uris {
        // A URI is percent-encoded, and has neither quotes nor backslashes.
        let channels = channels(wanted, uri);
        text.push_str(&format!(
            "\n[[group]]\nuri = \"{uri}\"\nchannels = {channels}\n"
        ));
    }
    text
}

fn parsed(path: &Path, wanted: &Wanted, letter: char, mirror: &str) -> Result<Config, Problem> {
    Config::parse(path, &text(wanted, letter, mirror))
}

/// A configuration that is written before anything else happens, so that there is room and leave for it,
/// and that has its name only when there is a mirror.
struct Draft {
    new: PathBuf,
    path: PathBuf,
    dir: PathBuf,
}

impl Draft {
    fn new(session: &Session<'_>, wanted: &Wanted, letter: char) -> Result<Self, Problem> {
        let dir = session.places.etc.clone();
        let path = dir.join(format!("{}.toml", wanted.name));
        let draft = Self {
            new: dir.join(format!("{}.toml.new", wanted.name)),
            path,
            dir,
        };
        let made = fs::create_dir_all(&draft.dir);
        made.and_then(|()| draft.write(&text(wanted, letter, NO_MIRROR)))
            .map_err(|error| Problem::file("write", &draft.new, &error))?;
        Ok(draft)
    }

    fn write(&self, text: &str) -> io::Result<()> {
        // One that was left may have got its name before, and be a configuration by now.
        if let Err(error) = fs::remove_file(&self.new) {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
        }
        let mut file = File::create_new(&self.new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    }

    /// Gives it its name, which nobody may have.
    fn publish(&self, wanted: &Wanted, letter: char, mirror: &str) -> Result<Config, Problem> {
        let publish = || -> io::Result<()> {
            self.write(&text(wanted, letter, mirror))?;
            fs::hard_link(&self.new, &self.path)?;
            sync_dir(&self.dir)
        };
        publish().map_err(|error| Problem::file("write", &self.path, &error))?;
        parsed(&self.path, wanted, letter, mirror)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // One that stays is overwritten the next time.
        let _ = fs::remove_file(&self.new);
    }
}

/// Waits until udev has made the links, where there is one.
fn await_udev(name: &str) {
    if !Path::new("/run/udev/control").exists() {
        return;
    }
    let mut command = Command::new("udevadm");
    command.args(["wait", "--timeout=20", "--settle"]);
    command
        .arg(format!("/dev/enbd/{name}"))
        .stdin(Stdio::null());
    // Without the link there is still /dev/nda.
    let _ = command.status();
}

/// What has come of it, and what to write where.
fn summary(session: &Session<'_>, config: &Config, kind: Option<&str>) -> Result<String, Problem> {
    let (name, letter) = (&config.name, config.letter);
    let status = session.status()?;
    let device = status.device(letter);
    let resyncs: Vec<String> = device
        .into_iter()
        .flat_map(|device| &device.groups)
        .filter(|group| group.state != GroupState::InSync)
        .map(|group| format!("group {} {}", group.number, view::state_words(group.state)))
        .collect();
    let fares = match resyncs.is_empty() {
        true => "OK".to_owned(),
        false => format!("DEGRADED: {}", resyncs.join(", ")),
    };
    let (path, kind) = (config.path.display(), kind.unwrap_or("ext4"));
    Ok(format!(
        "/dev/enbd/{name} (/dev/nd{letter}) is up ({fares}). Its configuration: {path}\n\
         For /etc/fstab:  /dev/enbd/{name} /srv/{name} {kind} _netdev,nofail,x-systemd.requires=enbd@{name}.service 0 2\n\
         At boot:         systemctl enable --now enbd@{name}\n"
    ))
}
