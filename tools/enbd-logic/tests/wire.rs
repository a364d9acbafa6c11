// SPDX-License-Identifier: GPL-2.0

//! Properties of the wire against naive models: a server that encodes field by field, a decoder of
//! requests that reads field by field, and servers that send whatever they like.

use enbd_logic::logic::wire::handshake::{
    Export, Handshake, HandshakeReason, Step, MAX_NAME, MAX_REPLY, SCRATCH,
};
use enbd_logic::logic::wire::reply::REPLY_LEN;
use enbd_logic::logic::wire::request::{self, Command, CommandFlags};
use enbd_oracle::{handshake, replies};
use proptest::prelude::*;

/// A handshake for `name` with a server that sends these bytes, which come so many at once.
fn play(name: &[u8], stream: &[u8], cut: usize) -> handshake::End {
    let outcome = handshake::check(name, stream, cut);
    outcome.expect("a valid name").end
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

    /// What the client makes of it.
    fn export(&self) -> Export {
        handshake::export(self.size, self.flags, self.block).expect("a server that is taken")
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

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(1..=u8::MAX, 0..40),
        prop::collection::vec(1..=u8::MAX, MAX_NAME - 2..=MAX_NAME),
    ]
}

/// How many bytes come at once.
fn cut() -> impl Strategy<Value = usize> {
    prop_oneof![1..40usize, 1..5000usize]
}

proptest! {
    #[test]
    fn a_conforming_server_is_understood(model in model(), name in name(), cut in cut()) {
        let end = play(&name, &model.stream(), cut);
        prop_assert_eq!(end, handshake::End::Done(model.export()));
    }

    #[test]
    fn damage_never_panics_and_always_ends(
        model in model(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        (end, cut) in (any::<prop::sample::Index>(), cut()),
    ) {
        let mut stream = model.stream();
        for (place, byte) in damage {
            let place = place.index(stream.len());
            stream[place] = byte;
        }
        play(b"x", &stream, cut);
        play(b"x", &stream[..end.index(stream.len())], cut);
    }

    #[test]
    fn garbage_after_any_greeting_never_panics(
        flags in any::<u16>(),
        garbage in prop::collection::vec(any::<u8>(), 0..4000),
        cut in cut(),
    ) {
        play(b"x", &garbage, cut);
        let greeting = [&b"NBDMAGICIHAVEOPT"[..], &flags.to_be_bytes()].concat();
        play(b"x", &[greeting, garbage].concat(), cut);
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
        cut in cut(),
    ) {
        let mut stream = b"NBDMAGICIHAVEOPT\0\x03".to_vec();
        for (kind, payload) in replies {
            stream.extend(Model::option_reply(kind, &payload));
        }
        play(b"x", &stream, cut);
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
        play(b"x", &model.stream(), usize::MAX);
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
    fn replies_are_simple_or_refused(bytes in reply_header(any::<u64>())) {
        let _ = replies::header(&bytes);
    }

    #[test]
    fn a_stream_of_replies_is_read_as_it_was_cut(
        replies in prop::collection::vec((reply_header((1..20u64).prop_map(replies::cookie)), 0..80usize), 0..20),
        cut in 1..80usize,
    ) {
        let mut stream = Vec::new();
        for (header, data) in replies {
            stream.extend(header);
            stream.extend(std::iter::repeat_n(7, data));
        }
        replies::check(&stream, cut);
    }

    #[test]
    fn honest_replies_are_all_taken(
        errors in prop::collection::vec(prop_oneof![3 => Just(0u32), 1 => honest_error()], 16),
        cut in 1..80usize,
    ) {
        let mut stream = Vec::new();
        for (cookie, error) in (1u64..).map(replies::cookie).zip(&errors) {
            stream.extend([0x6744_6698u32, *error].map(u32::to_be_bytes).concat());
            stream.extend(cookie.to_be_bytes());
            let is_read = cookie % 2 == 1 && *error == 0;
            stream.extend(vec![7; if is_read { replies::READ } else { 0 }]);
        }
        let (answers, end) = replies::check(&stream, cut);
        prop_assert_eq!(end, replies::End::Closed);
        let failed = |answer: &replies::Answer| answer.errno != 0;
        let expected: Vec<_> = errors.iter().map(|error| *error != 0).collect();
        prop_assert_eq!(answers.iter().map(failed).collect::<Vec<_>>(), expected);
    }
}

/// An error that does not end the connection.
fn honest_error() -> impl Strategy<Value = u32> {
    const SHUTDOWN: u32 = 108;
    any::<u32>().prop_filter("the end of all", |&error| error != SHUTDOWN)
}

/// The header of a reply, or what is none.
fn reply_header(cookie: impl Strategy<Value = u64>) -> impl Strategy<Value = [u8; REPLY_LEN]> {
    let magic = prop_oneof![8 => Just(0x6744_6698u32), 1 => Just(0x668e_33ef), 1 => any::<u32>()];
    let known = prop::sample::select(vec![1u32, 5, 12, 22, 28, 75, 95, 108]);
    let error = prop_oneof![4 => Just(0u32), 4 => known, 1 => 0..128u32, 1 => any::<u32>()];
    (magic, error, cookie).prop_map(|(magic, error, cookie)| {
        let mut bytes = [0; REPLY_LEN];
        bytes[..4].copy_from_slice(&magic.to_be_bytes());
        bytes[4..8].copy_from_slice(&error.to_be_bytes());
        bytes[8..].copy_from_slice(&cookie.to_be_bytes());
        bytes
    })
}

/// A server that says more than is ever read: `payload` in information of a type nobody knows.
fn endless_server(payload: usize) -> handshake::End {
    let reply = Model::info(0x7777, &vec![0; payload]);
    let replies = reply.repeat(handshake::MAX_TAKEN / reply.len() + 1);
    let stream = [&b"NBDMAGICIHAVEOPT\0\x03"[..], &replies].concat();
    play(b"x", &stream, usize::MAX)
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
        let reason = HandshakeReason::TooManyReplies;
        assert_eq!(endless_server(payload), handshake::End::Failed(reason));
    }
    let reason = HandshakeReason::ReplyTooLong;
    let end = endless_server(MAX_REPLY as usize - 1);
    assert_eq!(end, handshake::End::Failed(reason));
}
