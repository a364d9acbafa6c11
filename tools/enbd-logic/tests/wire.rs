// SPDX-License-Identifier: GPL-2.0

//! Properties of the wire against naive models: a server that encodes field by field, a decoder of
//! requests that reads field by field, and servers that send whatever they like.

use enbd_logic::logic::wire::handshake::{
    BlockSizes, Export, Handshake, HandshakeReason, Step, TransmissionFlags, MAX_NAME, MAX_REPLIES,
    MAX_REPLY, SCRATCH,
};
use enbd_logic::logic::wire::reply::{self, NbdError, Reply, ReplyReason};
use enbd_logic::logic::wire::request::{self, Command, CommandFlags};
use proptest::prelude::*;

/// Most steps of any handshake: two greetings, three sends, and for each reply its header, its type
/// and its payload in pieces.
const MAX_STEPS: usize = 2 + 3 + MAX_REPLIES as usize * (2 + MAX_REPLY as usize / SCRATCH) + 1;

/// How a handshake with a stream ended.
#[derive(Debug, Eq, PartialEq)]
enum Outcome {
    Done(Export),
    Failed(HandshakeReason),
    /// The stream was over before the handshake.
    Starved,
}

/// A handshake for `name` with a server whose bytes come from `receive`, which fills the buffer or
/// says no. Panics when a promise of the state machine is broken.
fn drive(name: &[u8], mut receive: impl FnMut(&mut [u8]) -> bool) -> (Outcome, Vec<u8>) {
    let mut handshake = Handshake::new(name).expect("a valid name");
    let mut sent = Vec::new();
    for _ in 0..=MAX_STEPS {
        match handshake.next() {
            Step::Send(bytes) => {
                assert!(!bytes.is_empty());
                sent.extend_from_slice(bytes);
                handshake.sent();
            }
            Step::Recv(count) => {
                assert!((1..=SCRATCH).contains(&count));
                let mut scratch = [0; SCRATCH];
                if !receive(&mut scratch[..count]) {
                    return (Outcome::Starved, sent);
                }
                let received = handshake.received(&scratch[..count]);
                assert_eq!(received.err(), failure(&handshake));
            }
            Step::Done(export) => {
                check_export(&export);
                return (Outcome::Done(export), sent);
            }
            Step::Failed(reason) => return (Outcome::Failed(reason), sent),
        }
    }
    panic!("no end after {MAX_STEPS} steps");
}

fn failure(handshake: &Handshake<'_>) -> Option<HandshakeReason> {
    match handshake.next() {
        Step::Failed(reason) => Some(reason),
        Step::Send(_) | Step::Recv(_) | Step::Done(_) => None,
    }
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

/// The same over bytes that are all there.
fn play(name: &[u8], stream: &[u8]) -> (Outcome, Vec<u8>) {
    let mut left = stream;
    drive(name, |buffer| match left.split_at_checked(buffer.len()) {
        Some((bytes, rest)) => {
            buffer.copy_from_slice(bytes);
            left = rest;
            true
        }
        None => false,
    })
}

/// A server as the protocol has it.
#[derive(Clone, Debug)]
struct Model {
    handshake_flags: u16,
    size: u64,
    flags: u16,
    block: Option<(u32, u32, u32)>,
    /// Information that no client knows: a type of 4 and more, or a name or description.
    extras: Vec<(u16, Vec<u8>)>,
    /// Where EXPORT and BLOCK_SIZE stand among the extras.
    places: (usize, usize),
}

impl Model {
    fn option_reply(kind: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = 0x3_e889_0455_65a9_u64.to_be_bytes().to_vec();
        bytes.extend(7u32.to_be_bytes());
        bytes.extend(kind.to_be_bytes());
        bytes.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    fn info(kind: u16, payload: &[u8]) -> Vec<u8> {
        Self::option_reply(3, &[&kind.to_be_bytes(), payload].concat())
    }

    fn stream(&self) -> Vec<u8> {
        let mut infos: Vec<_> = self
            .extras
            .iter()
            .map(|(kind, payload)| Self::info(*kind, payload))
            .collect();
        let export = [&self.size.to_be_bytes()[..], &self.flags.to_be_bytes()].concat();
        infos.insert(self.places.0 % (infos.len() + 1), Self::info(0, &export));
        if let Some((min, preferred, max)) = self.block {
            let block = [min, preferred, max].map(u32::to_be_bytes).concat();
            infos.insert(self.places.1 % (infos.len() + 1), Self::info(3, &block));
        }
        let mut stream = b"NBDMAGICIHAVEOPT".to_vec();
        stream.extend(self.handshake_flags.to_be_bytes());
        stream.extend(infos.concat());
        stream.extend(Self::option_reply(1, &[]));
        stream
    }

    /// What the client makes of it, told as the design has it.
    fn export(&self) -> Export {
        let (min, preferred, max) = self.block.unwrap_or((512, 4096, 32 << 20));
        let min = min.max(512);
        let max_payload = max.min(32 << 20) / min * min;
        let mut preferred = preferred;
        while preferred > max_payload {
            preferred /= 2;
        }
        Export {
            size: self.size,
            flags: TransmissionFlags::from_bits(self.flags),
            block: BlockSizes {
                min,
                preferred,
                max_payload,
            },
        }
    }
}

/// Block sizes that the protocol allows for an export of at least 64 KiB.
fn block_sizes() -> impl Strategy<Value = (u32, u32, u32)> {
    (0..=16u32, 0..=16u32, 0..=16u32, any::<u32>()).prop_map(|(log2, above, factor, max)| {
        let min = 1 << log2;
        let preferred = (min << above.min(31 - log2)).clamp(512, 65536);
        let max = match factor {
            0 => u32::MAX,
            _ => (max / min * min).max(preferred),
        };
        (min, preferred, max)
    })
}

fn model() -> impl Strategy<Value = Model> {
    let unknown = prop_oneof![1..3u16, 4..=u16::MAX];
    let extras =
        prop::collection::vec((unknown, prop::collection::vec(any::<u8>(), 0..1500)), 0..8);
    let size = prop_oneof![65536..1u64 << 24, 65536..1u64 << 63];
    let block = prop::option::of(block_sizes());
    (
        any::<u16>(),
        size,
        any::<u16>(),
        block,
        extras,
        any::<(usize, usize)>(),
    )
        .prop_map(
            |(handshake_flags, size, flags, block, extras, places)| Model {
                handshake_flags: handshake_flags | 1,
                size,
                flags: flags | 1,
                block,
                extras,
                places,
            },
        )
}

/// Reads what a client sent: its flags, and the name in its only option.
fn decode_client(sent: &[u8]) -> (u32, &[u8]) {
    let u32_at = |at: usize| u32::from_be_bytes(sent[at..at + 4].try_into().unwrap());
    assert_eq!(&sent[4..12], b"IHAVEOPT");
    assert_eq!(u32_at(12), 7);
    assert_eq!(u32_at(16) as usize, sent.len() - 20);
    let name_end = 24 + u32_at(20) as usize;
    assert_eq!(&sent[name_end..], [0, 1, 0, 3]);
    (u32_at(0), &sent[24..name_end])
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(1..=u8::MAX, 0..40),
        prop::collection::vec(1..=u8::MAX, MAX_NAME - 2..=MAX_NAME),
    ]
}

proptest! {
    #[test]
    fn a_conforming_server_is_understood(model in model(), name in name()) {
        let (outcome, sent) = play(&name, &model.stream());
        prop_assert_eq!(outcome, Outcome::Done(model.export()));
        let (client_flags, asked) = decode_client(&sent);
        prop_assert_eq!(client_flags, u32::from(model.handshake_flags & 3));
        prop_assert_eq!(asked, name);
    }

    #[test]
    fn damage_never_panics_and_always_ends(
        model in model(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut stream = model.stream();
        for (place, byte) in damage {
            let place = place.index(stream.len());
            stream[place] = byte;
        }
        play(b"x", &stream);
        play(b"x", &stream[..cut.index(stream.len())]);
    }

    #[test]
    fn garbage_after_any_greeting_never_panics(
        flags in any::<u16>(),
        garbage in prop::collection::vec(any::<u8>(), 0..4000),
    ) {
        play(b"x", &garbage);
        let greeting = [&b"NBDMAGICIHAVEOPT"[..], &flags.to_be_bytes()].concat();
        play(b"x", &[greeting, garbage].concat());
    }

    #[test]
    fn well_framed_nonsense_never_panics_and_always_ends(
        replies in prop::collection::vec(
            (
                prop_oneof![Just(1u32), Just(3), 0..8u32, (0..16u32).prop_map(|n| n | 1 << 31)],
                prop_oneof![Just(vec![]), prop::collection::vec(0..4u8, 0..20)],
            ),
            0..80,
        ),
    ) {
        let mut stream = b"NBDMAGICIHAVEOPT\0\x03".to_vec();
        for (kind, payload) in replies {
            stream.extend(Model::option_reply(kind, &payload));
        }
        play(b"x", &stream);
    }

    /// `None` is a call of `sent`, a number one of `received` with as many bytes.
    #[test]
    fn calls_in_any_order_never_panic(
        calls in prop::collection::vec(prop::option::of(0..600usize), 0..40),
        obedient in any::<bool>(),
    ) {
        let stream = b"NBDMAGICIHAVEOPT\0\x03".repeat(64);
        let mut handshake = Handshake::new(b"x").unwrap();
        for call in calls {
            match (call, handshake.next()) {
                (_, Step::Recv(wanted)) if obedient => {
                    let _ = handshake.received(&stream[..wanted]);
                }
                (None, _) => handshake.sent(),
                (Some(count), _) => {
                    let _ = handshake.received(&stream[..count]);
                }
            }
        }
    }

    #[test]
    fn block_sizes_of_any_server_never_break_the_promise(
        size in any::<u64>(),
        (min, preferred, max) in any::<(u32, u32, u32)>(),
        shifts in prop::option::of((0..32u32, 0..32u32)),
    ) {
        let (min, preferred) = match shifts {
            Some((min, preferred)) => (1 << min, 1 << preferred),
            None => (min, preferred),
        };
        let model = Model {
            handshake_flags: 3,
            size,
            flags: 1,
            block: Some((min, preferred, max)),
            extras: vec![],
            places: (0, 0),
        };
        play(b"x", &model.stream());
    }

    #[test]
    fn requests_read_back_field_by_field(
        command in prop::sample::select(vec![
            (Command::Read, 0), (Command::Write, 1), (Command::Trim, 4), (Command::WriteZeroes, 6),
        ]),
        flags in prop::sample::subsequence(
            vec![CommandFlags::FUA, CommandFlags::NO_HOLE, CommandFlags::FAST_ZERO], 0..=3,
        ),
        (cookie, offset, len) in any::<(u64, u64, u32)>(),
    ) {
        let (command, code) = command;
        let flags = flags.into_iter().fold(CommandFlags::NONE, CommandFlags::with);
        let bytes = request::encode(command, flags, cookie, offset, len);
        prop_assert_eq!(u32::from_be_bytes(bytes[0..4].try_into().unwrap()), 0x25609513);
        prop_assert_eq!(u16::from_be_bytes(bytes[4..6].try_into().unwrap()), flags.bits());
        prop_assert_eq!(u16::from_be_bytes(bytes[6..8].try_into().unwrap()), code);
        prop_assert_eq!(u64::from_be_bytes(bytes[8..16].try_into().unwrap()), cookie);
        prop_assert_eq!(u64::from_be_bytes(bytes[16..24].try_into().unwrap()), offset);
        prop_assert_eq!(u32::from_be_bytes(bytes[24..28].try_into().unwrap()), len);
    }

    #[test]
    fn replies_are_simple_or_refused(
        magic in prop_oneof![Just(0x67446698u32), Just(0x668e33ef), any::<u32>()],
        error in prop_oneof![Just(0u32), 0..128u32, any::<u32>()],
        cookie in any::<u64>(),
    ) {
        let mut bytes = [0; reply::REPLY_LEN];
        bytes[..4].copy_from_slice(&magic.to_be_bytes());
        bytes[4..8].copy_from_slice(&error.to_be_bytes());
        bytes[8..].copy_from_slice(&cookie.to_be_bytes());
        let parsed = reply::parse(&bytes);
        match magic {
            0x67446698 => {
                let Ok(Reply { cookie: returned, error: returned_error }) = parsed else {
                    panic!("{parsed:?}");
                };
                prop_assert_eq!(returned, cookie);
                prop_assert_eq!(returned_error.is_none(), error == 0);
                if let Some(NbdError::Other(number)) = returned_error {
                    prop_assert_eq!(number, error);
                }
                // The numbers that the protocol defines are Linux's own.
                if let Some(known) = returned_error.filter(|e| !matches!(e, NbdError::Other(_))) {
                    prop_assert_eq!(known.errno(), i32::try_from(error).unwrap());
                }
            }
            0x668e33ef => prop_assert_eq!(parsed, Err(ReplyReason::Structured)),
            _ => prop_assert_eq!(parsed, Err(ReplyReason::BadMagic)),
        }
    }
}

/// A server that never stops: `payload` in information of a type nobody knows, for ever.
fn endless_server(payload: usize) -> (Outcome, usize) {
    let greeting = b"NBDMAGICIHAVEOPT\0\x03".to_vec();
    let reply = Model::info(0x7777, &vec![0; payload]);
    let mut bytes = greeting.into_iter().chain(reply.into_iter().cycle());
    let mut taken = 0;
    let (outcome, _) = drive(b"x", |buffer| {
        taken += buffer.len();
        buffer.fill_with(|| bytes.next().expect("an endless stream"));
        true
    });
    (outcome, taken)
}

#[test]
fn an_endless_server_is_left_within_the_bound() {
    for payload in [
        0,
        1,
        SCRATCH - 1,
        SCRATCH,
        SCRATCH + 1,
        MAX_REPLY as usize - 2,
    ] {
        let (outcome, taken) = endless_server(payload);
        assert_eq!(outcome, Outcome::Failed(HandshakeReason::TooManyReplies));
        assert!(taken <= 18 + MAX_REPLIES as usize * (20 + MAX_REPLY as usize));
    }
    let (outcome, _) = endless_server(MAX_REPLY as usize - 1);
    assert_eq!(outcome, Outcome::Failed(HandshakeReason::ReplyTooLong));
}
