// SPDX-License-Identifier: GPL-2.0

//! One table a question: what is sent, what each reply leads to, which reason each fault has.

use super::*;

const FIXED: &[u8] = &[0, 1];
const FIXED_NO_ZEROES: &[u8] = &[0, 3];

fn greeting(flags: &[u8]) -> Vec<u8> {
    [b"NBDMAGICIHAVEOPT".as_slice(), flags].concat()
}

fn reply(kind: u32, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u32;
    [
        &0x3_e889_0455_65a9_u64.to_be_bytes()[..],
        &7u32.to_be_bytes(),
        &kind.to_be_bytes(),
        &length.to_be_bytes(),
        payload,
    ]
    .concat()
}

fn info(kind: u16, payload: &[u8]) -> Vec<u8> {
    reply(3, &[&kind.to_be_bytes(), payload].concat())
}

fn export(size: u64, flags: u16) -> Vec<u8> {
    info(0, &[&size.to_be_bytes()[..], &flags.to_be_bytes()].concat())
}

fn block_size(min: u32, preferred: u32, max: u32) -> Vec<u8> {
    info(3, &[min, preferred, max].map(u32::to_be_bytes).concat())
}

fn ack() -> Vec<u8> {
    reply(1, &[])
}

fn error(number: u32, message: &[u8]) -> Vec<u8> {
    reply(1 << 31 | number, message)
}

/// What a handshake for `name` sends, how it ends, and how many of the server's bytes it took.
struct Outcome {
    sent: Vec<u8>,
    taken: usize,
    result: Result<Export, HandshakeReason>,
}

/// Plays `stream` to a handshake; `None` if it wants more bytes than the stream has.
fn play(name: &[u8], stream: &[u8]) -> Option<Outcome> {
    let mut handshake = Handshake::new(name).unwrap();
    let mut sent = Vec::new();
    let mut left = stream;
    let result = loop {
        match handshake.next() {
            Step::Send(bytes) => {
                assert!(!bytes.is_empty());
                sent.extend_from_slice(bytes);
                handshake.sent();
            }
            Step::Recv(count) => {
                assert!((1..=SCRATCH).contains(&count));
                let (bytes, rest) = left.split_at_checked(count)?;
                left = rest;
                if let Err(reason) = handshake.received(bytes) {
                    assert_eq!(handshake.next(), Step::Failed(reason));
                    break Err(reason);
                }
            }
            Step::Done(export) => break Ok(export),
            Step::Failed(reason) => panic!("{reason:?} was not reported by received()"),
        }
    };
    Some(Outcome {
        sent,
        taken: stream.len() - left.len(),
        result,
    })
}

/// How a fixed newstyle server's `replies` end a handshake.
fn negotiate(replies: &[Vec<u8>]) -> Result<Export, HandshakeReason> {
    let stream = [greeting(FIXED), replies.concat()].concat();
    play(b"x", &stream).expect("the replies end it").result
}

#[test]
fn the_option_names_the_export_and_asks_for_block_sizes() {
    let stream = [greeting(FIXED_NO_ZEROES), export(4096, 1), ack()].concat();
    let sent = play(b"disk", &stream).unwrap().sent;
    let expected = [
        &[0, 0, 0, 3][..],
        b"IHAVEOPT",
        &[0, 0, 0, 7, 0, 0, 0, 12],
        &[0, 0, 0, 4],
        b"disk",
        &[0, 1, 0, 3],
    ];
    assert_eq!(sent, expected.concat());
}

#[test]
fn the_empty_name_is_the_default_export() {
    let stream = [greeting(FIXED), export(4096, 1), ack()].concat();
    let sent = play(b"", &stream).unwrap().sent;
    let expected = [
        &[0, 0, 0, 1][..],
        b"IHAVEOPT",
        &[0, 0, 0, 7, 0, 0, 0, 8],
        &[0, 0, 0, 0],
        &[0, 1, 0, 3],
    ];
    assert_eq!(sent, expected.concat());
}

#[test]
fn client_flags_are_only_those_that_were_offered_and_known() {
    for (offered, answered) in [
        ([0, 1], 1),
        ([0, 3], 3),
        ([0xff, 0xff], 3),
        ([0xff, 0xfd], 1),
    ] {
        let stream = [greeting(&offered), export(4096, 1), ack()].concat();
        let sent = play(b"x", &stream).unwrap().sent;
        assert_eq!(sent[..4], [0, 0, 0, answered]);
    }
}

#[test]
fn names_have_the_limits_of_a_string() {
    let longest = [b'x'; MAX_NAME];
    assert!(Handshake::new(&longest).is_ok());
    let too_long = [b'x'; MAX_NAME + 1];
    let reason = Handshake::new(&too_long).err();
    assert_eq!(reason, Some(HandshakeReason::NameTooLong));
    let reason = Handshake::new(b"a\0b").err();
    assert_eq!(reason, Some(HandshakeReason::NameHasNul));
}

#[test]
fn information_may_come_in_any_order_and_the_last_word_counts() {
    let expected = Export {
        size: 1 << 20,
        flags: TransmissionFlags::from_bits(0x0d),
        block: BlockSizes {
            min: 4096,
            preferred: 8192,
            max_payload: 1 << 20,
        },
    };
    let size = || export(1 << 20, 0x0d);
    let block = || block_size(4096, 8192, 1 << 20);
    let other = || info(1, b"canonical name");
    let empty = || info(2, b"");
    let long = || info(0xffff, &[0xaa; MAX_REPLY as usize - 2]);
    let table = [
        vec![size(), block()],
        vec![block(), size()],
        vec![other(), empty(), block(), long(), size(), long()],
        vec![export(5, 0), block_size(0, 0, 0), size(), block()],
    ];
    for mut replies in table {
        replies.push(ack());
        assert_eq!(negotiate(&replies), Ok(expected));
    }
}

#[test]
fn without_block_sizes_there_are_defaults() {
    let block = negotiate(&[export(1 << 40, 1), ack()]).unwrap().block;
    assert_eq!(block, BlockSizes::DEFAULT);
    assert_eq!(
        (block.min, block.preferred, block.max_payload),
        (512, 4096, 32 << 20)
    );
}

#[test]
fn greetings_of_others_have_reasons() {
    let oldstyle = [
        b"NBDMAGIC".as_slice(),
        &[0, 0, 0x42, 0x02, 0x81, 0x86, 0x12, 0x53],
        &[0; 136],
    ];
    let table = [
        (
            b"SSH-2.0-OpenSSH_10.0\r\n".to_vec(),
            HandshakeReason::NotNbd,
        ),
        (oldstyle.concat(), HandshakeReason::Oldstyle),
        (
            b"NBDMAGICNBDMAGIC\0\x01".to_vec(),
            HandshakeReason::UnknownStyle,
        ),
        (greeting(&[0, 0]), HandshakeReason::NotFixedNewstyle),
        (greeting(&[0, 2]), HandshakeReason::NotFixedNewstyle),
    ];
    for (stream, reason) in table {
        let outcome = play(b"x", &stream).unwrap();
        assert_eq!(outcome.result, Err(reason));
        assert!(outcome.sent.is_empty());
    }
}

#[test]
fn error_replies_have_reasons_and_their_messages_are_skipped() {
    let table = [
        (1, HandshakeReason::Unsupported),
        (2, HandshakeReason::Policy),
        (3, HandshakeReason::Invalid),
        (4, HandshakeReason::Platform),
        (5, HandshakeReason::TlsRequired),
        (6, HandshakeReason::UnknownExport),
        (7, HandshakeReason::ServerShutdown),
        (8, HandshakeReason::BlockSizeRequired),
        (9, HandshakeReason::TooBig),
        (10, HandshakeReason::ExtendedHeadersRequired),
        (11, HandshakeReason::UnknownError(11)),
        (0, HandshakeReason::UnknownError(0)),
        (!(1 << 31), HandshakeReason::UnknownError(!(1 << 31))),
    ];
    for (number, reason) in table {
        for message in [0, 1, SCRATCH, SCRATCH + 1, MAX_REPLY as usize] {
            let replies = [export(4096, 1), error(number, &vec![b'm'; message])];
            let stream = [greeting(FIXED), replies.concat()].concat();
            let outcome = play(b"x", &stream).unwrap();
            assert_eq!(outcome.result, Err(reason));
            assert_eq!(outcome.taken, stream.len());
        }
        // A message beyond the bound is not read, but the reason stands.
        let endless = error(number, &vec![b'm'; MAX_REPLY as usize + 1]);
        assert_eq!(negotiate(&[endless]), Err(reason));
    }
}

#[test]
fn replies_that_break_the_protocol_have_reasons() {
    let mut wrong_magic = ack();
    wrong_magic[0] = 1;
    let mut wrong_option = ack();
    wrong_option[11] = 6;
    let table = [
        (wrong_magic, HandshakeReason::ReplyMagic),
        (wrong_option, HandshakeReason::WrongOption),
        (reply(0, &[]), HandshakeReason::UnexpectedReply),
        (reply(2, &[0; 4]), HandshakeReason::UnexpectedReply),
        (reply(4, &[0; 8]), HandshakeReason::UnexpectedReply),
        (reply(1, &[0]), HandshakeReason::ReplyLength),
        (reply(3, &[]), HandshakeReason::ReplyLength),
        (reply(3, &[0]), HandshakeReason::ReplyLength),
        (info(0, &[0; 9]), HandshakeReason::ReplyLength),
        (info(0, &[0; 11]), HandshakeReason::ReplyLength),
        (info(3, &[0; 11]), HandshakeReason::ReplyLength),
        (info(3, &[0; 13]), HandshakeReason::ReplyLength),
        (
            info(1, &[0; MAX_REPLY as usize]),
            HandshakeReason::ReplyTooLong,
        ),
    ];
    for (bytes, reason) in table {
        assert_eq!(negotiate(&[export(4096, 1), bytes]), Err(reason));
    }
}

#[test]
fn exports_that_cannot_be_used_have_reasons() {
    let table = [
        (vec![], HandshakeReason::NoExportInfo),
        (
            vec![block_size(1, 4096, u32::MAX)],
            HandshakeReason::NoExportInfo,
        ),
        (vec![export(4096, 0)], HandshakeReason::FlagsMissing),
        (vec![export(0, 1)], HandshakeReason::ExportEmpty),
        (vec![export(100, 1)], HandshakeReason::ExportTooSmall),
        (vec![export(u64::MAX, 1)], HandshakeReason::ExportTooLarge),
        (
            vec![export(4096, 1), block_size(3, 4096, u32::MAX)],
            HandshakeReason::BlockSizesInvalid,
        ),
    ];
    for (mut replies, reason) in table {
        replies.push(ack());
        assert_eq!(negotiate(&replies), Err(reason));
    }
}

#[test]
fn the_number_of_replies_is_bounded() {
    let chatter = |count: u32| (0..count).map(|_| info(1, b"n")).collect::<Vec<_>>();
    let ending = [export(4096, 1), ack()];
    let most = MAX_REPLIES - 2;
    let replies = [&chatter(most)[..], &ending].concat();
    assert!(negotiate(&replies).is_ok());
    let too_many = Err(HandshakeReason::TooManyReplies);
    assert_eq!(
        negotiate(&[chatter(most + 1), vec![ending[0].clone()]].concat()),
        too_many
    );
    assert_eq!(negotiate(&chatter(MAX_REPLIES)), too_many);
}

#[test]
fn nothing_is_read_beyond_the_acknowledgement() {
    let handshake = [greeting(FIXED), export(4096, 1), ack()].concat();
    let stream = [&handshake[..], b"transmission phase"].concat();
    assert_eq!(play(b"x", &stream).unwrap().taken, handshake.len());
}

#[test]
fn a_cut_stream_is_never_an_answer() {
    let replies = [
        export(4096, 1),
        block_size(512, 512, 512),
        info(1, b"abc"),
        ack(),
    ];
    let stream = [greeting(FIXED), replies.concat()].concat();
    for cut in 0..stream.len() {
        assert!(play(b"x", &stream[..cut]).is_none());
    }
}

#[test]
fn bytes_that_were_not_asked_for_are_refused() {
    let out_of_turn = Err(HandshakeReason::OutOfTurn);
    let mut too_few = Handshake::new(b"x").unwrap();
    assert_eq!(too_few.received(b"NBDMAGI"), out_of_turn);
    assert_eq!(too_few.next(), Step::Failed(HandshakeReason::OutOfTurn));
    assert_eq!(too_few.received(b"NBDMAGIC"), out_of_turn);

    let mut sending = Handshake::new(b"x").unwrap();
    sending.sent();
    assert_eq!(sending.next(), Step::Recv(8));
    assert_eq!(sending.received(b"NBDMAGIC"), Ok(()));
    assert_eq!(sending.received(b"IHAVEOPT\0\x01"), Ok(()));
    assert_eq!(sending.received(&[]), out_of_turn);

    // While skipping, the count differs from one piece to the next.
    let skipped = info(1, &[0; SCRATCH + 5]);
    for (pieces, ok) in [
        ([SCRATCH, 5], true),
        ([SCRATCH, 4], false),
        ([SCRATCH, 6], false),
    ] {
        let mut skipping = Handshake::new(b"").unwrap();
        let head = [greeting(FIXED), skipped[..22].to_vec()].concat();
        let mut left = head.as_slice();
        while !left.is_empty() {
            match skipping.next() {
                Step::Recv(count) => {
                    let (bytes, rest) = left.split_at(count);
                    left = rest;
                    assert_eq!(skipping.received(bytes), Ok(()));
                }
                _ => skipping.sent(),
            }
        }
        let results = pieces.map(|count| skipping.received(&vec![0; count]));
        let last = if ok { Ok(()) } else { out_of_turn };
        assert_eq!(results, [Ok(()), last]);
    }
}

#[test]
fn the_machine_fits_on_a_kernel_stack() {
    assert!(size_of::<Handshake<'_>>() <= 128);
    assert!(size_of::<Step<'_>>() <= 48);
}
