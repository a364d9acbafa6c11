// SPDX-License-Identifier: GPL-2.0

//! Replays handshakes that real servers had with this state machine, byte for byte.
//!
//! A fixture is text: `#` comments, `export:` the name, `C:` and `S:` what the client and the
//! server sent, in hex, and `expect:` how it ended. Written by the example `handshake_transcript`.

use std::fs;
use std::path::Path;

use enbd_oracle::handshake::{self, End};

#[derive(Debug, Default)]
struct Fixture {
    export: Vec<u8>,
    client: Vec<u8>,
    server: Vec<u8>,
    expect: String,
}

fn unhex(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (digits, after) = rest.split_at(2);
        bytes.push(u8::from_str_radix(digits, 16).expect("two hex digits"));
        rest = after;
    }
    bytes
}

fn parse(text: &str) -> Fixture {
    let mut fixture = Fixture::default();
    for line in text.lines() {
        let (label, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.trim();
        match label {
            "export" => fixture.export = value.as_bytes().to_vec(),
            "C" => fixture.client.extend(unhex(value)),
            "S" => fixture.server.extend(unhex(value)),
            "expect" => fixture.expect = value.to_owned(),
            comment => assert!(comment.starts_with('#'), "unknown line {line}"),
        }
    }
    fixture
}

/// How the handshake ends, in the fixture's words, after it sent and took every recorded byte.
fn replay(fixture: &Fixture) -> String {
    let outcome = handshake::check(&fixture.export, &fixture.server, 1).expect("a valid name");
    assert_eq!(outcome.sent, fixture.client);
    assert_eq!(outcome.taken, fixture.server.len());
    match outcome.end {
        End::Done(export) => {
            let block = export.block;
            format!(
                "done size={} flags={:#06x} min={} preferred={} max={}",
                export.size,
                export.flags.bits(),
                block.min,
                block.preferred,
                block.max_payload
            )
        }
        End::Failed(reason) => format!("failed {}", reason.as_str()),
        End::Waiting => "waiting".to_owned(),
    }
}

#[test]
fn recorded_handshakes_end_as_they_did() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut servers = [("nbdkit", 0), ("nbd-server", 0), ("qemu-nbd", 0)];
    for entry in fs::read_dir(folder).expect("the fixtures' folder") {
        let path = entry.expect("a fixture").path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.ends_with(".hex") {
            continue;
        }
        let fixture = parse(&fs::read_to_string(&path).expect("a text"));
        assert_eq!(replay(&fixture), fixture.expect, "{name}");
        for (server, count) in &mut servers {
            *count += usize::from(name.starts_with(*server));
        }
    }
    // Each server at its best and at least one refusal: a lost folder must not pass.
    for (server, count) in servers {
        assert!(count >= 2, "{count} fixtures of {server}");
    }
}
