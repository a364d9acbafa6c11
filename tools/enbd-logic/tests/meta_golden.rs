// SPDX-License-Identifier: GPL-2.0

//! Superblocks that `tools/meta/superblock.py` has written from descriptions: what is read is what
//! the description says, and is written to the same bytes again.

mod hex;

use enbd_logic::logic::ids::GroupId;
use enbd_logic::logic::meta::layout::slot_of;
use enbd_logic::logic::meta::{
    bytes::Block, Bad, Cause, Generation, MemberState, Name, Superblock, Uuid,
};
use hex::from_hex;
use serde_json::{json, Map, Value};
use std::fs;
use std::path::{Path, PathBuf};

/// The descriptions, and their blocks.
fn fixtures() -> Vec<(PathBuf, Value, Block)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/meta");
    let files = fs::read_dir(dir).expect("the fixtures are there");
    let paths = files.map(|file| file.expect("a file").path());
    let described = paths.filter(|path| path.extension().is_some_and(|end| end == "json"));
    described
        .map(|path| {
            let told = fs::read_to_string(&path).expect("a text");
            let block = fs::read_to_string(path.with_extension("hex")).expect("its block");
            let told = serde_json::from_str(&told).expect("JSON");
            (path, told, from_hex(&block))
        })
        .collect()
}

fn uuid(uuid: Uuid) -> String {
    let mut text = String::new();
    uuid.write(&mut text).expect("a text");
    text
}

fn generation(generation: Generation) -> String {
    format!("{:016x}", generation.bits())
}

fn name(name: Name) -> String {
    let text = String::from_utf8(name.bytes().to_vec()).expect("UTF-8");
    text.trim_end_matches('\0').to_owned()
}

fn cause(cause: Cause) -> Value {
    match cause {
        Cause::Created => json!("created"),
        Cause::Faulted => json!("faulted"),
        Cause::Degraded => json!("degraded"),
        Cause::Crashed => json!("crashed"),
        Cause::Forced => json!("forced"),
        Cause::Other(bits) => json!(bits),
    }
}

/// The description of a superblock.
fn description(one: &Superblock) -> Value {
    let record = &one.record;
    let mut members = Map::new();
    for group in GroupId::all() {
        let Some(member) = record.member(group) else {
            continue;
        };
        let mut told = json!({ "uuid": uuid(member.uuid), "seen": member.seen });
        match member.state {
            MemberState::InSync => told["state"] = json!("in sync"),
            MemberState::Stale { since, left, full } => {
                told["state"] = json!("stale");
                told["since"] = json!(since);
                told["left"] = json!(left.map(generation));
                told["full"] = json!(full);
            }
        }
        if member.page != 0 {
            told["page"] = json!(member.page);
        }
        members.insert(group.index().to_string(), told);
    }
    let past = |past: &Option<(Generation, u64)>| {
        past.map(|(drawn, event)| json!({ "generation": generation(drawn), "event": event }))
    };
    let mut history: Vec<Value> = record.history.iter().map(|one| json!(past(one))).collect();
    while history.last().is_some_and(Value::is_null) {
        history.pop();
    }
    let mut told = json!({
        "member": one.member.index(),
        "seq": one.seq,
        "mirror": uuid(record.mirror),
        "name": name(record.name),
        "event": record.event,
        "generation": generation(record.generation),
        "born": record.born,
        "cause": cause(record.cause),
        "export_bytes": one.export_bytes,
        "device_bytes": record.layout.device_bytes,
        "block_bytes": record.block,
        "area_bytes": record.layout.area_bytes,
        "stale_shift": record.layout.stale_shift,
        "stale_pages": record.layout.stale_pages,
        "owner": record.owner.map(|owner| json!({
            "nonce": owner.nonce.map(|half| format!("{half:016x}")),
            "name": name(owner.name),
            "since": owner.since,
        })),
        "history": history,
        "members": members,
    });
    if record.compat != 0 {
        told["compat"] = json!(record.compat);
    }
    if record.intent {
        told["intent"] = json!(true);
    }
    told
}

#[test]
fn descriptions_and_blocks_are_the_same() {
    let mut sound = 0;
    for (path, told, block) in fixtures() {
        let path = path.display();
        let wanted = &told["superblock"];
        let number = |key: &str| wanted[key].as_u64().expect("a number");
        let read = Superblock::decode(&block, slot_of(number("seq")), number("export_bytes"));
        match told["expect"].as_str() {
            Some("sound") => {
                let one = read.expect("a sound superblock");
                assert_eq!(&description(&one), wanted, "{path}");
                assert!(one.encode() == block, "{path} is written otherwise");
                sound += 1;
            }
            Some("version") => assert_eq!(read, Err(Bad::Version), "{path}"),
            other => panic!("{path} expects {other:?}"),
        }
    }
    assert!(sound >= 5, "only {sound} fixtures are sound");
}
