// SPDX-License-Identifier: GPL-2.0

//! What is on an export, as a server shows it: its size and what the server can do, what is at its
//! beginning, and what is at its end, where a mirror keeps its metadata.

use crate::client::Client;
use crate::resolve::Resolver;
use crate::size::bytes;
use crate::sys::memory_file;
use crate::uri::Uri;
use enbd_logic::logic::meta::layout::{end_of, ring_at, RING_BYTES};
use enbd_logic::logic::meta::{newest, Bad, Cause, Layout, Superblock};
use enbd_logic::logic::wire::handshake::Export;
use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};

/// How much of the beginning is looked at.
const HEAD_BYTES: u64 = 1 << 20;
/// How much of the end is read at once.
const PIECE: u64 = 1 << 20;

/// What is at the end of an export.
#[derive(Clone, Debug)]
pub enum End {
    /// Nothing.
    Blank,
    /// Something that is no metadata.
    Used,
    /// It is a member of a mirror.
    Member(Box<Superblock>),
    /// There is metadata that cannot be used.
    Damaged(Bad),
    /// It has no room for metadata.
    TooSmall,
}

impl End {
    /// The superblock of a member.
    pub fn superblock(&self) -> Option<&Superblock> {
        match self {
            Self::Member(superblock) => Some(superblock),
            _ => None,
        }
    }
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The address at which the server was found; none of a Unix socket.
    pub address: Option<IpAddr>,
    /// What the server says.
    pub export: Export,
    /// Its beginning.
    pub head: Vec<u8>,
    /// What that looks like, in words; none if it is all zeroes.
    pub content: Option<String>,
    /// The kind of the file system there, if it is one.
    pub kind: Option<String>,
    /// Bytes that this takes, if that is known.
    pub filled: Option<u64>,
    /// What is at its end.
    pub end: End,
}

/// Looks at all of it. `block` is that of the device which it is to be a part of.
///
/// # Errors
///
/// Why it cannot be seen, in words.
pub fn look(uri: &Uri, resolver: &dyn Resolver, block: u64) -> Result<Found, String> {
    let mut client = Client::open(uri, resolver)?;
    let export = *client.export();
    let head = client.read(0, HEAD_BYTES)?;
    let told = match is_blank(&head) {
        true => None,
        false => Some(blkid(&head, export.size).unwrap_or_default()),
    };
    let end = match ring_of(&mut client)? {
        End::Blank if !has_blank_end(&mut client, block)? => End::Used,
        end => end,
    };
    Ok(Found {
        address: client.address(),
        export,
        head,
        content: told.as_deref().map(content),
        kind: told.as_deref().and_then(|told| value(told, "TYPE")),
        filled: told.as_deref().and_then(filled),
        end,
    })
}

/// The superblock of an export, if it has one.
///
/// # Errors
///
/// Why that is not known, in words.
pub fn member(uri: &Uri, resolver: &dyn Resolver) -> Result<End, String> {
    ring_of(&mut Client::open(uri, resolver)?)
}

/// What the places of superblocks hold; not whether the rest of the end is blank.
fn ring_of(client: &mut Client) -> Result<End, String> {
    let size = client.export().size;
    let Some(at) = ring_at(size) else {
        return Ok(End::TooSmall);
    };
    let read = client.read(at, RING_BYTES as u64)?;
    let ring: [u8; RING_BYTES] = read
        .try_into()
        .map_err(|_| "it ends before its end".to_owned())?;
    Ok(match newest(&ring, size) {
        Ok(superblock) => End::Member(Box::new(superblock)),
        Err(Bad::Blank) => End::Blank,
        Err(bad) => End::Damaged(bad),
    })
}

/// Whether the place of the metadata is all zeroes.
fn has_blank_end(client: &mut Client, block: u64) -> Result<bool, String> {
    let size = client.export().size;
    let Some(layout) = Layout::of_export(size, block) else {
        return Ok(true);
    };
    let end = end_of(size);
    let mut at = layout.area_at(size);
    while at < end {
        if !is_blank(&client.read(at, PIECE.min(end.saturating_sub(at)))?) {
            return Ok(false);
        }
        at = at.saturating_add(PIECE);
    }
    Ok(true)
}

fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

/// Whether a mirror was made of it and never started, so that nothing was acknowledged by it.
pub fn was_never_started(superblock: &Superblock) -> bool {
    let record = &superblock.record;
    record.event == 1 && record.cause == Cause::Created && record.owner.is_none()
}

/// The identity of the mirror, as the status shows it.
pub fn mirror_of(superblock: &Superblock) -> String {
    crate::examine::uuid(superblock.record.mirror)
}

/// Which member of which mirror it is.
pub fn member_words(superblock: &Superblock) -> String {
    let mirror = mirror_of(superblock);
    format!("member {} of mirror {mirror}", superblock.member.index())
}

/// What blkid tells, in words: `ext4 "srv" (b1946ac9-...)`.
fn content(told: &str) -> String {
    let table = || value(told, "PTTYPE").map(|kind| format!("a {kind} table"));
    let Some(kind) = value(told, "TYPE").or_else(table) else {
        return "something".to_owned();
    };
    let label = value(told, "LABEL").map_or(String::new(), |label| format!(" {label:?}"));
    let uuid = value(told, "UUID").or_else(|| value(told, "PTUUID"));
    let uuid = uuid.map_or(String::new(), |uuid| format!(" ({uuid})"));
    format!("{kind}{label}{uuid}")
}

/// Bytes of the file system that blkid tells of.
fn filled(told: &str) -> Option<u64> {
    let number = |key| value(told, key)?.parse::<u64>().ok();
    number("FSLASTBLOCK")?.checked_mul(number("FSBLOCKSIZE")?)
}

/// A value of what blkid tells.
fn value(told: &str, key: &str) -> Option<String> {
    let mut pairs = told.lines().filter_map(|line| line.split_once('='));
    let (_, text) = pairs.find(|(known, _)| *known == key)?;
    Some(text.replace("\\ ", " "))
}

/// What blkid says of a file with this beginning; nothing where there is none, or it knows nothing.
fn blkid(head: &[u8], size: u64) -> Option<String> {
    // In no directory: there nobody can be in the way, and nothing stays.
    let mut file = memory_file(c"enbdctl").ok()?;
    file.write_all(head).ok()?;
    file.set_len(size).ok()?;
    let mut command = Command::new("blkid");
    command.args(["-p", "-o", "export", "/dev/stdin"]);
    command.stdin(file).stderr(Stdio::null());
    let told = command.output();
    let told = told.map_err(|error| {
        eprintln!(
            "enbdctl: no blkid ({error}): a file system that fills its export is not found out"
        )
    });
    let told = told.ok()?;
    told.status.success().then_some(())?;
    String::from_utf8(told.stdout).ok()
}

/// `64.0 GiB, FLUSH FUA TRIM MULTI_CONN`.
pub fn export_words(export: &Export) -> String {
    let flags = export.flags;
    let all = [
        ("READ_ONLY", flags.read_only()),
        ("FLUSH", flags.flush()),
        ("FUA", flags.fua()),
        ("TRIM", flags.trim()),
        ("ZEROES", flags.write_zeroes()),
        ("MULTI_CONN", flags.can_multi_conn()),
    ];
    let has = all.iter().filter(|(_, has)| *has);
    let words: Vec<&str> = has.map(|(word, _)| *word).collect();
    format!("{}, {}", bytes(export.size), words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::{blkid, value};

    #[test]
    fn a_file_system_that_blkid_knows() {
        if std::process::Command::new("blkid")
            .arg("-V")
            .output()
            .is_err()
        {
            return;
        }
        // The least that makes a swap area: its version, its last page, its UUID and its label.
        let mut head = vec![0; 1 << 20];
        head[1024] = 1;
        head[1028] = 63;
        head[1036..1052].fill(7);
        head[1052..1057].copy_from_slice(b"label");
        head[4086..4096].copy_from_slice(b"SWAPSPACE2");
        // More than files may have on most file systems.
        for size in [1 << 20, 1 << 60] {
            let told = blkid(&head, size).expect("it knows it");
            assert_eq!(value(&told, "TYPE").as_deref(), Some("swap"), "{told}");
            assert_eq!(value(&told, "LABEL").as_deref(), Some("label"));
        }
        assert_eq!(blkid(&[1; 4096], 1 << 20), None);
    }
}
