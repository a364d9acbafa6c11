// SPDX-License-Identifier: GPL-2.0

//! `enbdctl probe`: what a server shows of an export. Nothing is written, and the module is not asked.

use crate::examine::write_superblock;
use crate::found::{export_words, look, Found};
use crate::offer::content_words;
use crate::problem::{Exit, Problem};
use crate::resolve::Resolver;
use crate::size::bytes;
use crate::uri::Uri;
use std::fmt::Write;

/// Any block does: what there is is shown, not what might be made of it.
const BLOCK: u64 = 4096;

/// `enbdctl probe`.
///
/// # Errors
///
/// The server cannot be reached, or does not have the export.
pub fn probe(uri: &Uri, resolver: &dyn Resolver) -> Result<Exit, Problem> {
    let found = look(uri, resolver, BLOCK)
        .map_err(|why| Problem::new(Exit::Refused, format!("{uri}: {why}")))?;
    crate::print(&text(uri, &found));
    Ok(Exit::Ok)
}

fn text(uri: &Uri, found: &Found) -> String {
    let mut out = format!("{uri}: {}\n", export_words(&found.export));
    let limits = found.export.block;
    let _ = writeln!(
        out,
        "  requests    multiples of {}, {} preferred, {} at most",
        bytes(u64::from(limits.min)),
        bytes(u64::from(limits.preferred)),
        bytes(u64::from(limits.max_payload))
    );
    let _ = writeln!(out, "  content     {}", content_words(found));
    if let Some(superblock) = found.end.superblock() {
        write_superblock(&mut out, superblock);
    }
    out
}
