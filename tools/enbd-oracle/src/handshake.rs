// SPDX-License-Identifier: GPL-2.0

//! Any bytes from a server, cut in any way, against a second reading of the protocol.

use enbd_logic::logic::wire::handshake::{
    BlockSizes, Export, Handshake, HandshakeReason, Step, TransmissionFlags, MAX_NAME, MAX_REPLIES,
    MAX_REPLY, SCRATCH,
};

/// Most bytes that a server can make the machine take.
pub const MAX_TAKEN: usize = 18 + MAX_REPLIES as usize * (20 + MAX_REPLY as usize);

/// Most steps of any handshake: two greetings, three sends, and for each reply its header, its type
/// and its payload in pieces.
const MAX_STEPS: usize = 2 + 3 + MAX_REPLIES as usize * (2 + MAX_REPLY as usize / SCRATCH) + 1;

/// How a handshake ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// The export is open.
    Done(Export),
    /// It is refused.
    Failed(HandshakeReason),
    /// The server said no more.
    Waiting,
}

/// What a server led the machine to.
#[derive(Debug, Eq, PartialEq)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// All that it sent.
    pub sent: Vec<u8>,
    /// How many of the server's bytes it took.
    pub taken: usize,
}

/// Has a handshake for `name` with a server that sends `server`, whole and in pieces of `cut` bytes,
/// and looks at all that must hold; nothing if no server is asked for such a name.
///
/// # Panics
///
/// Where the machine is wrong, and at a `cut` of 0.
pub fn check(name: &[u8], server: &[u8], cut: usize) -> Option<Outcome> {
    misuse(name, server, cut);
    let whole = play(name, server, usize::MAX)?;
    assert_eq!(Some(&whole), play(name, server, cut).as_ref());
    check_sent(name, server, &whole.sent);
    let accepted = match whole.end {
        End::Done(export) => {
            check_export(&export);
            Some((export, whole.taken))
        }
        End::Failed(_) | End::Waiting => None,
    };
    assert_eq!(accepted, read_again(server), "{:?}", whole.end);
    Some(whole)
}

/// Feeds the machine as the driver does, which receives as often as it takes to have the bytes that
/// were asked for. `cut` is how many bytes come at once.
fn play(name: &[u8], mut server: &[u8], cut: usize) -> Option<Outcome> {
    let mut handshake = match Handshake::new(name) {
        Ok(handshake) => handshake,
        Err(reason) => {
            assert!(name.contains(&0) || name.len() > MAX_NAME, "{reason:?}");
            return None;
        }
    };
    let whole = server.len();
    let mut sent = Vec::new();
    for _ in 0..=MAX_STEPS {
        assert_eq!(handshake.next(), handshake.next());
        let end = match handshake.next() {
            Step::Send(bytes) => {
                assert!(!bytes.is_empty());
                sent.extend_from_slice(bytes);
                handshake.sent();
                continue;
            }
            Step::Recv(count) => match receive(&mut server, count, cut) {
                Some(bytes) => {
                    let result = handshake.received(&bytes);
                    assert_eq!(result.err(), failure(&handshake));
                    continue;
                }
                None => End::Waiting,
            },
            Step::Done(export) => End::Done(export),
            Step::Failed(reason) => {
                check_failed(&mut handshake, reason);
                End::Failed(reason)
            }
        };
        let taken = whole - server.len();
        assert!(taken <= MAX_TAKEN);
        return Some(Outcome { end, sent, taken });
    }
    panic!("no end after {MAX_STEPS} steps");
}

/// So many bytes, of which `cut` come at once; nothing if the server says no more before.
fn receive(server: &mut &[u8], count: usize, cut: usize) -> Option<Vec<u8>> {
    assert!((1..=SCRATCH).contains(&count));
    let mut bytes = Vec::with_capacity(count);
    while bytes.len() < count {
        let more = (count - bytes.len()).min(cut).min(server.len());
        if more == 0 {
            return None;
        }
        let (piece, rest) = server.split_at(more);
        bytes.extend_from_slice(piece);
        *server = rest;
    }
    Some(bytes)
}

fn failure(handshake: &Handshake<'_>) -> Option<HandshakeReason> {
    match handshake.next() {
        Step::Failed(reason) => Some(reason),
        Step::Send(_) | Step::Recv(_) | Step::Done(_) => None,
    }
}

/// What failed stays so, whatever is done to it, and says why.
fn check_failed(handshake: &mut Handshake<'_>, reason: HandshakeReason) {
    handshake.sent();
    assert_eq!(handshake.received(&[0; 8]), Err(reason));
    assert_eq!(handshake.next(), Step::Failed(reason));
    assert!(!reason.as_str().is_empty() && reason.errno() > 0);
}

/// Feeds whatever comes, in pieces that nobody asked for.
fn misuse(name: &[u8], server: &[u8], cut: usize) {
    let Ok(mut handshake) = Handshake::new(name) else {
        return;
    };
    for piece in server.chunks(cut) {
        let asked = match handshake.next() {
            Step::Recv(count) => Some(count),
            Step::Send(_) | Step::Done(_) | Step::Failed(_) => None,
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

/// The client's flags, which are those of the server that it knows, and the one option: the name with
/// its length, and the block sizes asked for.
fn check_sent(name: &[u8], server: &[u8], sent: &[u8]) {
    if sent.is_empty() {
        return;
    }
    let len = u32::try_from(name.len()).expect("a name that was taken");
    let expected = [
        &[0, 0, 0, server[17] & 3][..],
        b"IHAVEOPT\0\0\0\x07",
        &(len + 8).to_be_bytes(),
        &len.to_be_bytes(),
        name,
        &[0, 1, 0, 3],
    ];
    assert_eq!(sent, expected.concat());
}

/// What every export promises, whoever served it.
fn check_export(export: &Export) {
    let BlockSizes {
        min,
        preferred,
        max_payload,
    } = export.block;
    assert!(export.flags.has_flags());
    assert!(export.size >= u64::from(min) && i64::try_from(export.size).is_ok());
    assert!(min.is_power_of_two() && preferred.is_power_of_two());
    assert!((512..=65536).contains(&min));
    assert!(min <= preferred && preferred <= max_payload && max_payload <= 32 << 20);
    assert_eq!(max_payload % min, 0);
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

/// Three sizes of four bytes.
fn sizes(bytes: &[u8]) -> (u32, u32, u32) {
    let size = |at: usize| number(&bytes[at..at + 4]) as u32;
    (size(0), size(4), size(8))
}

/// The export of a server whose whole answer is `bytes`, and how many of them it took; nothing if
/// the answer is not one that is taken.
fn read_again(bytes: &[u8]) -> Option<(Export, usize)> {
    let mut rest = bytes.strip_prefix(b"NBDMAGICIHAVEOPT")?;
    if number(rest.get(..2)?) & 1 == 0 {
        return None;
    }
    rest = &rest[2..];
    let (mut stated, mut block) = (None, None);
    for replies in 1.. {
        let header = rest.get(..20)?;
        let (kind, len) = (number(&header[12..16]), number(&header[16..20]));
        if number(&header[8..12]) != 7 || number(&header[..8]) != 0x0003_e889_0455_65a9 {
            return None;
        }
        if len > u64::from(MAX_REPLY) {
            return None;
        }
        let body = rest.get(20..20 + len as usize)?;
        rest = &rest[20 + len as usize..];
        if kind == 1 {
            let (size, flags) = stated.filter(|_| len == 0)?;
            return Some((export(size, flags, block)?, bytes.len() - rest.len()));
        }
        if kind != 3 || replies >= MAX_REPLIES || len < 2 {
            return None;
        }
        match (number(&body[..2]), len) {
            (0, 12) => stated = Some((number(&body[2..10]), number(&body[10..12]) as u16)),
            (3, 14) => block = Some(sizes(&body[2..])),
            (0 | 3, _) => return None,
            _ => {}
        }
    }
    None
}

/// What the client makes of an export and of the least, preferred and largest block that a server
/// states; nothing if it refuses that. Told as the protocol and the design have it.
pub fn export(size: u64, flags: u16, block: Option<(u32, u32, u32)>) -> Option<Export> {
    const NO_LIMIT: u32 = u32::MAX;
    let (least, mut preferred, most) = block.unwrap_or((512, 4096, NO_LIMIT));
    let (ours, needed) = (least.max(512), u64::from(preferred).min(size));
    let fits = flags & 1 == 1
        && (u64::from(ours)..1 << 63).contains(&size)
        && least.is_power_of_two()
        && least <= 65536
        && preferred.is_power_of_two()
        && preferred >= ours
        && (most == NO_LIMIT || most % least == 0)
        && u64::from(most) >= needed;
    if !fits {
        return None;
    }
    let max_payload = most.min(32 << 20) / ours * ours;
    while preferred > max_payload {
        preferred /= 2;
    }
    Some(Export {
        size,
        flags: TransmissionFlags::from_bits(flags),
        block: BlockSizes {
            min: ours,
            preferred,
            max_payload,
        },
    })
}
