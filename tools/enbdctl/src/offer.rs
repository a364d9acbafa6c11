// SPDX-License-Identifier: GPL-2.0

//! An export that is to be a group of a new mirror, and how it is shown.

use crate::found::{export_words, member_words, End, Found};
use crate::uri::Uri;
use std::fmt::Write;

/// An export that is to be a group.
pub struct Offer {
    /// Where it is.
    pub uri: Uri,
    /// What is on it.
    pub found: Found,
}

impl Offer {
    /// The very server that was looked at: another address of its name may be that of another one.
    pub fn server(&self) -> Uri {
        match self.found.address {
            Some(ip) => self.uri.at(ip),
            None => self.uri.clone(),
        }
    }
}

/// A line for each export, as `create` shows them.
pub fn table(offers: &[Offer]) -> String {
    let uris: Vec<String> = offers.iter().map(|offer| offer.uri.to_string()).collect();
    let exports: Vec<String> = offers
        .iter()
        .map(|offer| export_words(&offer.found.export))
        .collect();
    let width = |texts: &[String]| texts.iter().map(String::len).max().unwrap_or(0);
    let (first, second) = (width(&uris), width(&exports));
    let mut out = String::new();
    for (group, offer) in offers.iter().enumerate() {
        let (uri, export) = (
            uris.get(group).map_or("", String::as_str),
            exports.get(group).map_or("", String::as_str),
        );
        let content = content_words(&offer.found);
        let _ = writeln!(
            out,
            "group {group}  {uri:<first$}  {export:<second$}   {content}"
        );
    }
    out
}

/// `holds ext4 "srv" (b1946ac9-...)`, and what is at the end.
pub fn content_words(found: &Found) -> String {
    let mut words = match &found.content {
        None => "empty (first 1 MiB zero)".to_owned(),
        Some(content) => format!("holds {content}"),
    };
    let end = match &found.end {
        End::Blank => return words,
        End::Used => "its end is in use".to_owned(),
        End::TooSmall => "too small for metadata".to_owned(),
        End::Damaged(bad) => bad.as_str().to_owned(),
        End::Member(superblock) => member_words(superblock),
    };
    let _ = write!(words, ", {end}");
    words
}
