// SPDX-License-Identifier: GPL-2.0

//! Any bytes from a server, cut in any way, against a second reading of the protocol.
//!
//! The input: how the stream is cut, the length of the export's name, the name, and what the server
//! sends.

#![no_main]

use enbd_logic::logic::wire::handshake::{
    Export, Handshake, HandshakeReason, Step, MAX_REPLIES, MAX_REPLY, SCRATCH,
};
use libfuzzer_sys::fuzz_target;

/// How a handshake ended.
#[derive(Debug, PartialEq)]
enum End {
    Done(Export),
    Failed(HandshakeReason),
    /// The server said no more.
    Waiting,
}

struct Outcome {
    end: End,
    sent: Vec<u8>,
    taken: usize,
}

/// Feeds the machine as the driver does, which receives as often as it takes to have the bytes that
/// were asked for. `cut` is how many bytes come at once.
fn play(name: &[u8], mut server: &[u8], cut: usize) -> Option<Outcome> {
    let mut handshake = match Handshake::new(name) {
        Ok(handshake) => handshake,
        Err(reason) => {
            assert!(name.contains(&0), "{reason:?}");
            return None;
        }
    };
    let whole = server.len();
    let mut sent = Vec::new();
    let mut scratch = Vec::new();
    let end = loop {
        assert_eq!(handshake.next(), handshake.next());
        match handshake.next() {
            Step::Send(bytes) => {
                sent.extend_from_slice(bytes);
                handshake.sent();
            }
            Step::Recv(count) => {
                assert!((1..=SCRATCH).contains(&count));
                let more = (count - scratch.len()).min(cut).min(server.len());
                if more == 0 {
                    break End::Waiting;
                }
                let (bytes, rest) = server.split_at(more);
                scratch.extend_from_slice(bytes);
                server = rest;
                if scratch.len() == count {
                    let result = handshake.received(&scratch);
                    scratch.clear();
                    let failed = match handshake.next() {
                        Step::Failed(reason) => Err(reason),
                        _ => Ok(()),
                    };
                    assert_eq!(result, failed);
                }
            }
            Step::Done(export) => break End::Done(export),
            Step::Failed(reason) => {
                // What failed stays so, whatever is done to it.
                handshake.sent();
                assert_eq!(handshake.received(&[0; 8]), Err(reason));
                assert_eq!(handshake.next(), Step::Failed(reason));
                assert!(!reason.as_str().is_empty() && reason.errno() > 0);
                break End::Failed(reason);
            }
        }
    };
    let taken = whole - server.len();
    assert!(taken <= 18 + MAX_REPLIES as usize * (20 + MAX_REPLY as usize));
    Some(Outcome { end, sent, taken })
}

/// Feeds whatever comes, in pieces that nobody asked for.
fn misuse(name: &[u8], server: &[u8], cut: usize) {
    let Ok(mut handshake) = Handshake::new(name) else {
        return;
    };
    for piece in server.chunks(cut) {
        let asked = match handshake.next() {
            Step::Recv(count) => Some(count),
            _ => None,
        };
        let result = handshake.received(piece);
        if asked != Some(piece.len()) {
            assert!(result.is_err());
            return;
        }
        while let Step::Send(_) = handshake.next() {
            handshake.sent();
        }
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

/// The export of a server whose whole answer is `bytes`, and how many of them it took; nothing if
/// the answer is not one that is taken.
fn read_again(bytes: &[u8]) -> Option<(u64, u16, usize)> {
    let mut rest = bytes.strip_prefix(b"NBDMAGICIHAVEOPT")?;
    if number(rest.get(..2)?) & 1 == 0 {
        return None;
    }
    rest = &rest[2..];
    let mut export: Option<(u64, u16)> = None;
    let mut sizes_fit = true;
    for replies in 1.. {
        let header = rest.get(..20)?;
        let (kind, len) = (number(&header[12..16]), number(&header[16..20]) as usize);
        if number(&header[..12]) as u32 != 7 || number(&header[..8]) != 0x0003_e889_0455_65a9 {
            return None;
        }
        if len > MAX_REPLY as usize {
            return None;
        }
        let body = rest.get(20..20 + len)?;
        rest = &rest[20 + len..];
        if kind == 1 {
            let (size, flags) = export?;
            let fits = size != 0 && size >> 63 == 0 && flags & 1 == 1;
            let taken = bytes.len() - rest.len();
            return (len == 0 && fits && sizes_fit).then_some((size, flags, taken));
        }
        if kind != 3 || replies >= MAX_REPLIES || len < 2 {
            return None;
        }
        match (number(&body[..2]), len) {
            (0, 12) => export = Some((number(&body[2..10]), number(&body[10..12]) as u16)),
            (3, 14) => sizes_fit = number(&body[2..6]).is_power_of_two(),
            (0 | 3, _) => return None,
            _ => {}
        }
    }
    None
}

fn check_export(export: &Export) {
    let block = export.block;
    assert!(block.min.is_power_of_two() && block.preferred.is_power_of_two());
    assert!(512 <= block.min && block.min <= 65536);
    assert!(block.min <= block.preferred && block.preferred <= block.max_payload);
    assert!(block.max_payload <= 32 << 20 && block.max_payload.is_multiple_of(block.min));
    assert!(export.size >= u64::from(block.min) && i64::try_from(export.size).is_ok());
}

fuzz_target!(|data: &[u8]| {
    let [cut, len, rest @ ..] = data else { return };
    let (name, server) = rest.split_at(usize::from(*len).min(rest.len()));
    let cut = usize::from(*cut) + 1;
    misuse(name, server, cut);
    let (Some(whole), Some(pieces)) = (play(name, server, usize::MAX), play(name, server, cut))
    else {
        return;
    };
    assert_eq!(whole.end, pieces.end);
    assert_eq!(whole.taken, pieces.taken);
    assert_eq!(whole.sent, pieces.sent);
    if !whole.sent.is_empty() {
        // Flags, option header, name with its length, and the information asked for.
        assert_eq!(whole.sent.len(), 24 + name.len() + 4);
        assert_eq!(whole.sent[24..24 + name.len()], *name);
    }
    let again = read_again(server);
    if let End::Done(export) = &whole.end {
        check_export(export);
        assert_eq!(again, Some((export.size, export.flags.bits(), whole.taken)));
    } else if let Some((size, ..)) = again {
        // The second reading does not weigh the sizes against each other.
        let refused = matches!(
            whole.end,
            End::Failed(HandshakeReason::BlockSizesInvalid | HandshakeReason::ExportTooSmall)
        );
        assert!(refused, "{:?} for {size} bytes", whole.end);
    }
});
