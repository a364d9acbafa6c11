// SPDX-License-Identifier: GPL-2.0

//! The values of `connect` and `attach`: a server, and options in any order.

use super::{
    words::{bounded, Words},
    Address, Name, Reason, Verb, MAX_CONNECT_CHANNELS,
};

/// The options that stand behind an address.
#[derive(Default)]
struct Options<'a> {
    name: Option<Name<'a>>,
    channels: Option<u8>,
    force: Option<bool>,
    metadata: Option<bool>,
}

impl<'a> Options<'a> {
    /// All that is left of the value.
    fn parse(words: &mut Words<'a>) -> Result<Self, Reason> {
        let mut options = Self::default();
        while let Some(word) = words.next() {
            if word == "force" {
                once(&mut options.force, true)?;
                continue;
            }
            let (key, value) = word.split_once('=').ok_or(Reason::UnexpectedWord)?;
            match key {
                "name" => once(&mut options.name, Name::parse(value)?)?,
                "channels" => once(&mut options.channels, channels(value)?)?,
                "meta" => once(&mut options.metadata, metadata(value)?)?,
                _ => return Err(Reason::UnknownOption),
            }
        }
        Ok(options)
    }
}

/// Sets an option that may stand once.
fn once<T>(option: &mut Option<T>, value: T) -> Result<(), Reason> {
    match option.replace(value) {
        None => Ok(()),
        Some(_) => Err(Reason::DuplicateOption),
    }
}

fn channels(value: &str) -> Result<u8, Reason> {
    let count = bounded(value, 1, MAX_CONNECT_CHANNELS, Reason::ChannelsOutOfRange)?;
    u8::try_from(count).map_err(|_| Reason::ChannelsOutOfRange)
}

fn metadata(value: &str) -> Result<bool, Reason> {
    match value {
        "auto" => Ok(true),
        "none" => Ok(false),
        _ => Err(Reason::BadMeta),
    }
}

pub(super) fn parse_connect<'a>(words: &mut Words<'a>) -> Result<Verb<'a>, Reason> {
    let group = words.group()?;
    let addr = Address::parse(words.next().ok_or(Reason::AddressMissing)?)?;
    let options = Options::parse(words)?;
    Ok(Verb::Connect {
        group,
        addr,
        name: options.name.unwrap_or(Name::plain(b"")),
        channels: options.channels.unwrap_or(1),
        force: options.force.unwrap_or(false),
        metadata: options.metadata.unwrap_or(true),
    })
}

pub(super) fn parse_attach<'a>(words: &mut Words<'a>) -> Result<Verb<'a>, Reason> {
    let addr = Address::parse(words.next().ok_or(Reason::AddressMissing)?)?;
    let options = Options::parse(words)?;
    if options.force.is_some() || options.metadata.is_some() {
        return Err(Reason::UnknownOption);
    }
    Ok(Verb::Attach {
        addr,
        name: options.name.unwrap_or(Name::plain(b"")),
        channels: options.channels.unwrap_or(1),
    })
}
