// SPDX-License-Identifier: GPL-2.0

//! One configuration file: `/etc/enbd/NAME.toml`.
//!
//! Shape: [`Config::parse`] is strict. A key that is not known is an error with its line, its column
//! and the nearest key that there is; a value out of range is one in the words of the module, whose
//! own grammar is asked.

use crate::command::Line;
use crate::monitor_config;
use crate::problem::{Exit, Problem};
use crate::size::parse_speed;
use crate::toml_text::Source;
use crate::uri::Uri;
use enbd_logic::logic::{command::MAX_CONNECT_CHANNELS, MAX_GROUPS};
use serde::Deserialize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;

/// Channels of a group that does not say.
pub const DEFAULT_CHANNELS: u8 = 1;

/// All keys that there are, for the nearest one.
const KEYS: [&str; 19] = [
    "device",
    "blocksize",
    "auto",
    "mirror",
    "settings",
    "group",
    "uri",
    "channels",
    "timeout",
    "connect_timeout",
    "show_errs",
    "autoadd",
    "resync_min",
    "resync_max",
    "compare",
    "owner_check",
    "intent",
    "intent_max",
    "intent_idle",
];

/// One group of the file. Its number is its place.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    /// The server and the export.
    pub uri: Uri,
    /// How many channels.
    pub channels: u8,
}

/// What a file says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// The device's name: that of the file.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// The device's letter.
    pub letter: char,
    /// To be brought up at boot.
    pub auto: bool,
    /// The identity of the mirror, where it is one that remembers.
    pub mirror: Option<String>,
    /// The commands of its settings, the block size first.
    pub settings: Vec<Line>,
    /// Its groups, by number.
    pub groups: Vec<Member>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    device: Spanned<String>,
    blocksize: Option<Spanned<i64>>,
    #[serde(default)]
    auto: bool,
    mirror: Option<Spanned<String>>,
    #[serde(default)]
    settings: Settings,
    #[serde(default)]
    group: Vec<Spanned<Group>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    timeout: Option<Spanned<i64>>,
    connect_timeout: Option<Spanned<i64>>,
    show_errs: Option<Spanned<bool>>,
    autoadd: Option<Spanned<bool>>,
    resync_min: Option<Spanned<Speed>>,
    resync_max: Option<Spanned<Speed>>,
    compare: Option<Spanned<Compare>>,
    owner_check: Option<Spanned<i64>>,
    intent: Option<Spanned<bool>>,
    intent_max: Option<Spanned<i64>>,
    intent_idle: Option<Spanned<i64>>,
}

/// KiB/s, or a text with a unit.
#[derive(Deserialize)]
#[serde(untagged)]
enum Speed {
    Number(i64),
    Text(String),
}

/// A switch, or a word.
#[derive(Deserialize)]
#[serde(untagged)]
enum Compare {
    Switch(bool),
    Text(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    uri: Spanned<String>,
    channels: Option<Spanned<i64>>,
}

impl Config {
    /// Takes the file's text apart. `path` is for messages; the name is its stem.
    ///
    /// # Errors
    ///
    /// What is wrong, where, and the near word; exit status 4.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Problem> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let source = Source { path, text };
        let name = name_of(path)?;
        let file: File = toml::from_str(text).map_err(|error| source.syntax(&error, &KEYS))?;
        let letter = source.letter(&file.device)?;
        let mut settings = Vec::new();
        let mut set = |key: &str, value: String, span: Range<usize>| {
            let line = Line::setting(letter, key, &value);
            let line = line.map_err(|why| source.wrong(span, &format!("{key}: {why}"), None))?;
            settings.push(line);
            Ok::<(), Problem>(())
        };
        for (key, value) in [
            ("blocksize", file.blocksize),
            ("timeout", file.settings.timeout),
            ("connect_timeout", file.settings.connect_timeout),
            ("owner_check", file.settings.owner_check),
            ("intent_max", file.settings.intent_max),
            ("intent_idle", file.settings.intent_idle),
        ] {
            if let Some(value) = value {
                set(key, value.get_ref().to_string(), value.span())?;
            }
        }
        for (key, value) in [
            ("show_errs", file.settings.show_errs),
            ("autoadd", file.settings.autoadd),
            ("intent", file.settings.intent),
        ] {
            if let Some(value) = value {
                set(key, u8::from(*value.get_ref()).to_string(), value.span())?;
            }
        }
        if let Some(value) = file.settings.compare {
            let word = match value.get_ref() {
                Compare::Switch(on) => u8::from(*on).to_string(),
                Compare::Text(text) => text.clone(),
            };
            set("compare", word, value.span())?;
        }
        for (key, value) in [
            ("resync_min", file.settings.resync_min),
            ("resync_max", file.settings.resync_max),
        ] {
            if let Some(value) = value {
                let speed = match value.get_ref() {
                    Speed::Number(number) => number.to_string(),
                    Speed::Text(text) => parse_speed(text)
                        .map_err(|why| source.wrong(value.span(), &format!("{key}: {why}"), None))?
                        .to_string(),
                };
                set(key, speed, value.span())?;
            }
        }
        Ok(Self {
            name,
            path: path.to_owned(),
            letter,
            auto: file.auto,
            mirror: source.mirror(file.mirror.as_ref())?,
            settings,
            groups: source.groups(&file.group)?,
        })
    }
}

/// The name of a device: the stem of its file.
fn name_of(path: &Path) -> Result<String, Problem> {
    let stem = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or("");
    check_name(stem)
        .map(|()| stem.to_owned())
        .map_err(|why| Problem::new(Exit::Usage, format!("{}: {why}", path.display())))
}

/// Whether a device may be called so.
///
/// # Errors
///
/// Why not, in words.
pub fn check_name(name: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let starts = name.starts_with(|letter: char| letter.is_ascii_alphanumeric());
    if !starts || name.len() > 64 || !name.bytes().all(plain) {
        return Err(format!(
            "{name:?} is no name of a device: up to 64 letters, digits, dots, - and _"
        ));
    }
    if name == monitor_config::STEM {
        return Err(format!(
            "{name:?} is what the monitor's own file is called and cannot be a name"
        ));
    }
    if name.len() == 1 && name.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return Err(format!(
            "{name:?} is the letter of a device and cannot be a name"
        ));
    }
    Ok(())
}

impl Source<'_> {
    fn letter(&self, device: &Spanned<String>) -> Result<char, Problem> {
        let text = device.get_ref();
        let mut letters = text.chars();
        match (letters.next(), letters.next()) {
            (Some(letter @ 'a'..='z'), None) => Ok(letter),
            _ => Err(self.wrong(
                device.span(),
                &format!("{text:?} is no device: one letter from a to z"),
                None,
            )),
        }
    }

    fn mirror(&self, mirror: Option<&Spanned<String>>) -> Result<Option<String>, Problem> {
        let Some(mirror) = mirror else {
            return Ok(None);
        };
        let text = mirror.get_ref().to_ascii_lowercase();
        let lengths = text.split('-').map(str::len);
        let digits = |byte: u8| byte == b'-' || byte.is_ascii_hexdigit();
        if lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(digits) {
            return Ok(Some(text));
        }
        let why = format!("{text:?} is no identity of a mirror");
        let hint = "enbdctl status shows it, and enbdctl examine on the server".to_owned();
        Err(self.wrong(mirror.span(), &why, Some(hint)))
    }

    fn groups(&self, groups: &[Spanned<Group>]) -> Result<Vec<Member>, Problem> {
        let mut members: Vec<Member> = Vec::new();
        if groups.is_empty() {
            let what = format!("{}: there is no group", self.path.display());
            let hint = "[[group]] and below it uri = \"nbd://HOST/EXPORT\", for each server";
            return Err(Problem::new(Exit::Usage, what).hint(hint));
        }
        for group in groups {
            if members.len() == MAX_GROUPS {
                let why = format!("a device has at most {MAX_GROUPS} groups");
                return Err(self.wrong(group.span(), &why, None));
            }
            let group = group.get_ref();
            let (text, span) = (group.uri.get_ref(), group.uri.span());
            let uri = Uri::parse(text).map_err(|why| self.wrong(span.clone(), &why, None))?;
            if members
                .iter()
                .any(|one| one.uri.to_string() == uri.to_string())
            {
                let why = format!("{uri} is the server of another group already");
                return Err(self.wrong(span, &why, None));
            }
            let channels = match (&group.channels, uri.channels) {
                (Some(own), Some(_)) => {
                    let why = "channels stand in the URI, too";
                    return Err(self.wrong(own.span(), why, None));
                }
                (Some(own), None) => self.channels(own)?,
                (None, channels) => channels.unwrap_or(DEFAULT_CHANNELS),
            };
            members.push(Member { uri, channels });
        }
        Ok(members)
    }

    fn channels(&self, number: &Spanned<i64>) -> Result<u8, Problem> {
        let most = u8::try_from(MAX_CONNECT_CHANNELS).unwrap_or(u8::MAX);
        let channels = u8::try_from(*number.get_ref()).ok();
        channels
            .filter(|n| (1..=most).contains(n))
            .ok_or_else(|| self.wrong(number.span(), &format!("channels: 1 to {most}"), None))
    }
}

#[cfg(test)]
mod tests {
    use super::{check_name, Config, KEYS};
    use crate::toml_text::near;
    use std::path::Path;

    const GOOD: &str = "\
# A mirror.
device = \"a\"                # /dev/nda
blocksize = 1024
auto = true
[settings]
timeout = 30
show_errs = false
resync_max = \"50M\"
resync_min = 7
[[group]]
uri = \"nbd://alpha.example.org/disk\"
channels = 2
[[group]]
uri = \"nbd://[2001:db8::2]:10810/disk?x-channels=3\"
";

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("/etc/enbd/data.toml"), text).map_err(|p| p.to_string())
    }

    #[test]
    fn a_whole_file() {
        for text in [
            GOOD.to_owned(),
            format!("\u{feff}{GOOD}"),
            GOOD.replace('\n', "\r\n"),
        ] {
            let config = parse(&text).expect("a good file");
            assert_eq!(
                (config.name.as_str(), config.letter, config.auto),
                ("data", 'a', true)
            );
            let lines: Vec<_> = config.settings.iter().map(|line| line.text()).collect();
            assert_eq!(
                lines,
                [
                    "blocksize[a]=1024",
                    "timeout[a]=30",
                    "show_errs[a]=0",
                    "resync_min[a]=7",
                    "resync_max[a]=51200"
                ]
            );
            let groups: Vec<_> = config
                .groups
                .iter()
                .map(|g| (g.uri.to_string(), g.channels))
                .collect();
            assert_eq!(
                groups,
                [
                    ("nbd://alpha.example.org/disk".to_owned(), 2),
                    ("nbd://[2001:db8::2]:10810/disk".to_owned(), 3),
                ]
            );
        }
    }

    #[test]
    fn what_is_wrong_and_where() {
        for (from, to, error) in [
            (
                "timeout = 30",
                "timout = 30",
                "data.toml:6:1: there is no key \"timout\" here\n  hint: perhaps timeout",
            ),
            (
                "auto = true",
                "qqqqqqq = 1",
                "data.toml:4:1: there is no key \"qqqqqqq\" here",
            ),
            (
                "uri = \"nbd://alpha",
                "url = \"nbd://alpha",
                "data.toml:11:1: there is no key \"url\" here\n  hint: perhaps uri",
            ),
            (
                "timeout = 30",
                "timeout = 0",
                "data.toml:6:11: timeout: timeout out of range",
            ),
            (
                "timeout = 30",
                "timeout = -1",
                "data.toml:6:11: timeout: not a decimal number",
            ),
            (
                "timeout = 30",
                "timeout = \"30\"",
                "data.toml:6:11: invalid type",
            ),
            (
                "1024",
                "1000",
                "data.toml:3:13: blocksize: blocksize not a power of two",
            ),
            (
                "\"50M\"",
                "\"50 apples\"",
                "data.toml:8:14: resync_max: \"50 apples\" is no speed",
            ),
            ("\"a\"", "\"A\"", "data.toml:2:10: \"A\" is no device"),
            ("\"a\"", "\"ab\"", "data.toml:2:10: \"ab\" is no device"),
            ("\"a\"", "a", "data.toml:2:10: "),
            ("device = \"a\" ", "", "missing field `device`"),
            (
                "nbd://alpha.example.org/disk",
                "alpha.example.org",
                "data.toml:11:7: \"alpha.example.org\" is no NBD URI",
            ),
            (
                "channels = 2",
                "channels = 17",
                "data.toml:12:12: channels: 1 to 16",
            ),
            (
                "nbd://[2001:db8::2]:10810/disk?x-channels=3",
                "nbd://alpha.example.org:10809/disk",
                "data.toml:14:7: nbd://alpha.example.org/disk is the server of another",
            ),
            (
                "auto = true",
                "mirror = \"3a0e6b1c\"",
                "data.toml:4:10: \"3a0e6b1c\" is no identity of a mirror",
            ),
            ("[[group]]", "[group]", "data.toml:"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let text = GOOD.replace(from, to);
            let got = parse(&text).expect_err(to);
            assert!(got.contains(error), "{to}: {got}");
        }
        let both = GOOD.replace("?x-channels=3\"", "?x-channels=3\"\nchannels = 1");
        assert!(parse(&both)
            .expect_err("twice")
            .contains("channels stand in the URI, too"));
        let none = GOOD.split("[[group]]").next().unwrap_or("");
        assert!(parse(none)
            .expect_err("no group")
            .contains("there is no group"));
        let many: String = (0..9)
            .map(|n| format!("[[group]]\nuri = \"nbd://h/{n}\"\n"))
            .collect();
        assert!(parse(&format!("device = \"a\"\n{many}"))
            .expect_err("nine")
            .contains("at most 8 groups"));
    }

    #[test]
    fn names() {
        for name in ["data", "a1", "Z", "my-disk_2.old"] {
            assert_eq!(check_name(name), Ok(()));
        }
        for name in [
            "",
            "a",
            ".x",
            "-x",
            "a b",
            "a/b",
            "\u{e9}t\u{e9}",
            &"x".repeat(65),
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn near_words() {
        assert_eq!(near("chanels", &KEYS), Some("channels"));
        assert_eq!(near("show-errs", &KEYS), Some("show_errs"));
        assert_eq!(near("password", &KEYS), None);
        assert_eq!(near("", &KEYS), None);
    }
}
