// SPDX-License-Identifier: GPL-2.0

//! Where files are: the configurations, the records, the module's file.

use crate::config::{check_name, Config};
use crate::monitor_config;
use crate::problem::{Exit, Problem};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where files are. They are elsewhere only in tests.
#[derive(Clone, Debug)]
pub struct Places {
    /// Configurations: `/etc/enbd`.
    pub etc: PathBuf,
    /// Records: `/var/lib/enbd`.
    pub var: PathBuf,
    /// Locks: `/run/enbd`.
    pub run: PathBuf,
    /// The module's file: `/proc/nbdinfo`.
    pub nbdinfo: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            etc: "/etc/enbd".into(),
            var: "/var/lib/enbd".into(),
            run: "/run/enbd".into(),
            nbdinfo: "/proc/nbdinfo".into(),
        }
    }
}

/// All configurations, those that cannot be read included.
pub struct Configs {
    dir: PathBuf,
    all: Vec<(String, Result<Config, Problem>)>,
}

impl Configs {
    /// Reads all files `NAME.toml` of the directory, by name.
    ///
    /// # Errors
    ///
    /// The directory cannot be read; that it is not there, or not for this user, means that there is
    /// none.
    pub fn load(places: &Places) -> Result<Self, Problem> {
        let dir = places.etc.clone();
        let mut all = Vec::new();
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            // Who may not read them may still look at devices, without their names.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
                ) =>
            {
                return Ok(Self { dir, all });
            }
            Err(error) => return Err(Problem::file("read", &dir, &error)),
        };
        for entry in entries {
            let path = entry
                .map_err(|error| Problem::file("read", &dir, &error))?
                .path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            if stem == Some(monitor_config::STEM) {
                continue;
            }
            if let (Some("toml"), Some(stem)) = (path.extension().and_then(|e| e.to_str()), stem) {
                all.push((stem.to_owned(), read(&path)));
            }
        }
        all.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(Self { dir, all })
    }

    /// The configurations that can be read.
    pub fn good(&self) -> impl Iterator<Item = &Config> {
        self.all
            .iter()
            .filter_map(|(_, config)| config.as_ref().ok())
    }

    /// What is wrong with the others.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.all
            .iter()
            .filter_map(|(_, config)| config.as_ref().err())
    }

    /// The configuration of this name.
    ///
    /// # Errors
    ///
    /// There is none, it is wrong, or another one has the same letter.
    pub fn named(&self, name: &str) -> Result<&Config, Problem> {
        let found = self.all.iter().find(|(known, _)| known == name);
        let Some((_, config)) = found else {
            let path = self.dir.join(format!("{name}.toml"));
            let what = format!("there is no configuration {}", path.display());
            let known: Vec<&str> = self.all.iter().map(|(name, _)| name.as_str()).collect();
            let hint = match (crate::toml_text::near(name, &known), known.is_empty()) {
                (Some(near), _) => format!("perhaps {near}"),
                (None, true) => "man enbdctl has an example of one".to_owned(),
                (None, false) => format!("there are: {}", known.join(", ")),
            };
            return Err(Problem::new(Exit::NotThere, what).hint(hint));
        };
        let config = config.as_ref().map_err(Clone::clone)?;
        self.check_alone(config)?;
        Ok(config)
    }

    /// Fails if another file has the same letter.
    ///
    /// # Errors
    ///
    /// Both files and the letter.
    pub fn check_alone(&self, config: &Config) -> Result<(), Problem> {
        let same = |other: &&Config| other.letter == config.letter && other.name != config.name;
        let Some(other) = self.good().find(same) else {
            return Ok(());
        };
        let (one, two) = (config.path.display(), other.path.display());
        let what = format!("{one} and {two} both have device = \"{}\"", config.letter);
        Err(Problem::new(Exit::Usage, what).hint("give one of them another letter, or remove it"))
    }

    /// The only configuration of this letter.
    pub fn of_letter(&self, letter: char) -> Option<&Config> {
        let mut found = self.good().filter(|config| config.letter == letter);
        match (found.next(), found.next()) {
            (Some(config), None) => Some(config),
            _ => None,
        }
    }
}

fn read(path: &Path) -> Result<Config, Problem> {
    Config::parse(path, &read_text(path)?)
}

/// The text of a file of configuration.
///
/// # Errors
///
/// It cannot be read, or is no text.
pub fn read_text(path: &Path) -> Result<String, Problem> {
    let bytes = fs::read(path).map_err(|error| Problem::file("read", path, &error))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let what = format!("{} is no UTF-8 text: byte {at} is none", path.display());
        Problem::new(Exit::Usage, what).hint("save it as UTF-8")
    })
}

/// A device as a user names it, and its letter.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// For messages: the name where there is one, else the letter.
    pub name: String,
    /// `a` to `z`.
    pub letter: char,
}

/// Finds the device that is meant: by name, by letter, or by path.
///
/// # Errors
///
/// No configuration has this name.
pub fn target(word: &str, configs: &Configs) -> Result<Target, Problem> {
    let bare = word.strip_prefix("/dev/enbd/").unwrap_or(word);
    let letter = bare.strip_prefix("/dev/nd").unwrap_or(bare);
    let mut letters = letter.chars();
    if let (Some(letter @ 'a'..='z'), None) = (letters.next(), letters.next()) {
        let name = configs.of_letter(letter).map(|config| config.name.clone());
        let name = name.unwrap_or_else(|| letter.to_string());
        return Ok(Target { name, letter });
    }
    check_name(bare).map_err(|why| Problem::new(Exit::Usage, why))?;
    let config = configs.named(bare)?;
    Ok(Target {
        name: config.name.clone(),
        letter: config.letter,
    })
}
