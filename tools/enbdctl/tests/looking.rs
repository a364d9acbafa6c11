// SPDX-License-Identifier: GPL-2.0

//! The verbs that only look, run as programs over recorded texts. What they print is in
//! `tests/golden`; `GOLDEN=write` writes it anew, to be looked at.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

/// Runs the program over a recorded text, with the configurations beside it.
fn run(nbdinfo: &str, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_enbdctl"));
    command.arg("--etc").arg(golden("etc"));
    command.arg("--nbdinfo").arg(golden(nbdinfo));
    command
        .args(words)
        .env_remove("NO_COLOR")
        .env("TERM", "xterm");
    command.output().expect("the program starts")
}

fn texts(output: &Output) -> (String, String, Option<i32>) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (
        text(&output.stdout),
        text(&output.stderr),
        output.status.code(),
    )
}

/// Checks what it says of `devices.nbdinfo` against a file, and the exit status.
fn check(file: &str, words: &[&str], status: i32) {
    check_output(file, &run("devices.nbdinfo", words), status);
}

fn check_output(file: &str, output: &Output, status: i32) {
    let (out, err, code) = texts(output);
    assert_eq!((err.as_str(), code), ("", Some(status)), "{file}");
    if std::env::var_os("GOLDEN").is_some_and(|value| value == "write") {
        fs::write(golden(file), &out).expect("the file can be written");
    }
    let wanted = fs::read_to_string(golden(file)).expect("there is such a file");
    assert_eq!(out, wanted, "{file}");
}

#[test]
fn screens() {
    check("status.txt", &["status"], 2);
    check("status-data.txt", &["status", "data"], 1);
    check("status-c.txt", &["status", "/dev/ndc"], 2);
    check("status-scratch.txt", &["status", "/dev/enbd/scratch"], 0);
    check("status-d.txt", &["status", "d"], 3);
    check("list.txt", &["list"], 0);
    check("names.txt", &["list", "--names"], 0);
}

#[test]
fn members() {
    for (letter, file, status) in [
        ("a", "status-members.txt", 3),
        ("b", "status-resynced.txt", 1),
    ] {
        let output = run("members.nbdinfo", &["status", letter]);
        check_output(file, &output, status);
    }
}

#[test]
fn plugin() {
    check("check.txt", &["check"], 2);
    check("check-data.txt", &["check", "data"], 1);
    check("check-scratch.txt", &["check", "/dev/enbd/scratch"], 0);
    check("check-d.txt", &["check", "d"], 3);
    check_output(
        "check-members.txt",
        &run("members.nbdinfo", &["check", "b"]),
        1,
    );
    // Whatever is wrong is UNKNOWN and on standard output, where alone it is looked for.
    for (nbdinfo, words, start) in [
        (
            "missing",
            &["check"][..],
            "ENBD UNKNOWN - the module enbd is not loaded\n",
        ),
        ("none.nbdinfo", &["check"], "ENBD UNKNOWN - "),
        (
            "none.nbdinfo",
            &["check", "data"],
            "ENBD UNKNOWN - data is not up: there is no device a\n",
        ),
        ("none.nbdinfo", &["check", "../x"], "ENBD UNKNOWN - "),
        (
            "none.nbdinfo",
            &["check", "--jsn"],
            "ENBD UNKNOWN - the command line is wrong",
        ),
    ] {
        let (out, err, code) = texts(&run(nbdinfo, words));
        assert_eq!(
            (code, out.lines().count()),
            (Some(3), 1),
            "{words:?}: {out}{err}"
        );
        assert!(out.starts_with(start), "{out}");
    }
    let (_, _, code) = texts(&run("none.nbdinfo", &["config", "check", "--jsn"]));
    assert_eq!(code, Some(4));
}

#[test]
fn metrics() {
    check("metrics.txt", &["metrics"], 0);
    check_output(
        "metrics-members.txt",
        &run("members.nbdinfo", &["metrics"]),
        0,
    );
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("enbd.prom");
    let path = file.to_str().expect("UTF-8");
    // That there is no module is told: what stood there before must not stay.
    for (nbdinfo, wanted) in [("devices.nbdinfo", 1), ("missing", 0)] {
        let (out, err, code) = texts(&run(nbdinfo, &["metrics", "--output", path]));
        assert_eq!((out.as_str(), err.as_str(), code), ("", "", Some(0)));
        let text = fs::read_to_string(&file).expect("it was written");
        assert!(
            text.contains(&format!("\nenbd_module_loaded {wanted}\n")),
            "{text}"
        );
    }
    let (_, err, code) = texts(&run(
        "devices.nbdinfo",
        &["metrics", "--output", "/nowhere/x"],
    ));
    assert_eq!(code, Some(3));
    assert!(err.contains("cannot write /nowhere/x"), "{err}");
}

#[test]
fn machine_readable() {
    check("status.json", &["status", "--json"], 2);
    let (out, _, _) = texts(&run("devices.nbdinfo", &["status", "--json", "a"]));
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let device = &json["devices"][0];
    assert_eq!(
        (&json["version"], &device["name"]),
        (&1.into(), &"data".into())
    );
    let group = &device["groups"][1];
    assert_eq!(group["resync"]["eta"], 124);
    // Four decimals of the total and one group that misses anything: the number is exact.
    assert_eq!(group["dirty_bytes"], group["dirty_bytes_max"]);
    assert_eq!(device["other_lines"][0]["label"], "Comet");
}

#[test]
fn nothing_is_up() {
    let (out, err, code) = texts(&run("none.nbdinfo", &["status"]));
    assert_eq!(
        (out.as_str(), err.as_str(), code),
        ("no device is up\n", "", Some(0))
    );
    let (out, _, code) = texts(&run("none.nbdinfo", &["status", "--json"]));
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&json["devices"], code), (&serde_json::json!([]), Some(0)));
    let (out, err, code) = texts(&run("none.nbdinfo", &["status", "data"]));
    assert_eq!((out.as_str(), code), ("", Some(3)));
    assert_eq!(
        err,
        "enbdctl: data is not up: there is no device a\n  hint: enbdctl up data\n"
    );
}

#[test]
fn no_module() {
    for words in [
        &["status"][..],
        &["status", "data", "--json"],
        &["list"],
        &["watch"],
    ] {
        let (out, err, code) = texts(&run("missing", words));
        assert_eq!((out.as_str(), code), ("", Some(3)), "{words:?}");
        assert!(
            err.starts_with("enbdctl: the module enbd is not loaded\n  hint: "),
            "{err}"
        );
    }
    let (out, err, code) = texts(&run("missing", &["list", "--names"]));
    assert_eq!(
        (out.as_str(), err.as_str(), code),
        ("data\nscratch\nspare\n", "", Some(0))
    );
}

#[test]
fn a_text_that_is_not_the_modules() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("nbdinfo");
    fs::write(&file, "Device a:\tOpen\n[a] State:\tupside down\n").expect("a file");
    let (_, err, code) = texts(&run(file.to_str().expect("UTF-8"), &["status"]));
    assert_eq!(code, Some(5));
    assert!(
        err.contains("device a has a line State of no known form: \"upside down\""),
        "{err}"
    );
}

#[test]
fn words_that_are_wrong() {
    for (words, status, phrase) in [
        (&["statuss"][..], 4, "statuss"),
        (&["status", "--jsn"], 4, "--json"),
        (&[], 4, "Usage"),
        (&["status", "dato"], 3, "perhaps data"),
        (
            &["status", "nothing-like-it"],
            3,
            "there are: data, scratch, spare",
        ),
        (&["status", "../data"], 4, "is no name of a device"),
        (&["status", "z"], 3, "z is not up: there is no device z"),
        (&["watch", "z"], 3, "z is not up"),
        (&["config", "check", "x\n"], 3, "there is no configuration"),
    ] {
        let (out, err, code) = texts(&run("devices.nbdinfo", words));
        assert_eq!((out.as_str(), code), ("", Some(status)), "{words:?}: {err}");
        assert!(err.contains(phrase), "{words:?}: {err}");
    }
    for words in [["--help"], ["--version"], ["help"]] {
        let (out, err, code) = texts(&run("devices.nbdinfo", &words));
        assert_eq!((err.as_str(), code), ("", Some(0)), "{words:?}");
        assert!(out.contains("enbdctl"), "{out}");
    }
}

/// Runs `config check` over files of this text.
fn config_check(files: &[(&str, &[u8])], words: &[&str]) -> (String, String, Option<i32>) {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, text) in files {
        fs::write(dir.path().join(name), text).expect("a file");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_enbdctl"));
    command
        .arg("--etc")
        .arg(dir.path())
        .args(["config", "check"])
        .args(words);
    texts(&command.output().expect("the program starts"))
}

#[test]
fn configurations() {
    let good = b"device = \"a\"\n[[group]]\nuri = \"nbd://h/d\"\n";
    let with_mark = [&b"\xef\xbb\xbf"[..], good].concat();
    let wide: Vec<u8> = good.iter().flat_map(|byte| [*byte, 0]).collect();
    let wide = [&b"\xff\xfe"[..], &wide].concat();
    let (out, err, code) = config_check(&[("data.toml", good), ("notes.txt", b"?")], &[]);
    assert_eq!((err.as_str(), code), ("", Some(0)));
    assert!(out.ends_with("/data.toml: /dev/nda, 1 group\n"), "{out}");
    let (_, err, code) = config_check(&[("data.toml", &with_mark)], &["data"]);
    assert_eq!((err.as_str(), code), ("", Some(0)));
    for (files, words, status, phrases) in [
        (
            &[("data.toml", &wide[..])][..],
            &["data"][..],
            4,
            &["is no UTF-8 text: byte 0"][..],
        ),
        (
            &[("data.toml", b"device = ")],
            &[],
            4,
            &["data.toml:1:10: "],
        ),
        (
            &[("data.toml", b"dvice = \"a\"")],
            &[],
            4,
            &["data.toml:1:1: there is no key \"dvice\"", "perhaps device"],
        ),
        (&[("data.toml", b"")], &[], 4, &["missing field `device`"]),
        (
            &[("a.toml", good)],
            &[],
            4,
            &["\"a\" is the letter of a device"],
        ),
        (
            &[("one.toml", good), ("two.toml", good)],
            &[],
            4,
            &["one.toml and ", "two.toml both have device = \"a\""],
        ),
        (
            &[("one.toml", good), ("two.toml", good)],
            &["two"],
            4,
            &["both have device = \"a\""],
        ),
    ] {
        let (out, err, code) = config_check(files, words);
        assert_eq!((out.as_str(), code), ("", Some(status)), "{err}");
        for phrase in phrases {
            assert!(err.contains(phrase), "{phrase}: {err}");
        }
    }
}

#[test]
fn manual_and_completions() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path().join("man");
    let (_, err, code) = texts(&run(
        "none.nbdinfo",
        &["man", place.to_str().expect("UTF-8")],
    ));
    assert_eq!((err.as_str(), code), ("", Some(0)));
    let page = fs::read_to_string(place.join("enbdctl-status.8")).expect("a page");
    assert!(page.contains("Exit status: 0 OK"), "{page}");
    for shell in ["bash", "zsh", "fish"] {
        let (out, _, code) = texts(&run("none.nbdinfo", &["completion", shell]));
        assert_eq!(code, Some(0));
        assert!(out.contains("status") && out.contains("json"), "{shell}");
    }
}

/// The file of an export with these blocks, each described beside the tests of the format, in the
/// places that they say.
fn export(dir: &Path, size: u64, blocks: &[(&str, u64)]) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../enbd-logic/tests/fixtures/meta");
    let path = dir.join("export.img");
    let file = fs::File::create(&path).expect("a file");
    file.set_len(size).expect("its size");
    for (name, place) in blocks {
        let text = fs::read_to_string(fixtures.join(name).with_extension("hex")).expect(name);
        let at = size / 4096 * 4096 - 4096 * (place + 1);
        for line in text.lines() {
            let (offset, digits) = line.split_once(": ").expect("a place");
            let offset = u64::from_str_radix(offset, 16).expect("a place");
            let byte = |index| u8::from_str_radix(&digits[index..index + 2], 16).expect("a byte");
            let bytes: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect();
            file.write_all_at(&bytes, at + offset).expect("written");
        }
    }
    path
}

/// Runs `examine` over such a file; what it prints, without where the file is.
fn examine(size: u64, blocks: &[(&str, u64)]) -> (String, String, Option<i32>) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = export(dir.path(), size, blocks);
    let path = path.to_str().expect("UTF-8");
    let (out, err, code) = texts(&run("missing", &["examine", path]));
    (out.replace(path, "FILE"), err.replace(path, "FILE"), code)
}

fn check_examined(file: &str, size: u64, blocks: &[(&str, u64)]) {
    let (out, err, code) = examine(size, blocks);
    assert_eq!((err.as_str(), code), ("", Some(0)), "{file}");
    if std::env::var_os("GOLDEN").is_some_and(|value| value == "write") {
        fs::write(golden(file), &out).expect("the file can be written");
    }
    let wanted = fs::read_to_string(golden(file)).expect("there is such a file");
    assert_eq!(out, wanted, "{file}");
}

#[test]
fn exports() {
    // As the descriptions say; the second block of the first one is in a place that is not its own.
    check_examined(
        "examine-in-use.txt",
        1_076_889_088,
        &[("in-use", 7), ("in-use", 2)],
    );
    check_examined(
        "examine-parted.txt",
        107_376_279_552,
        &[("parted", 0), ("created", 1)],
    );
}

#[test]
fn exports_that_are_none() {
    let size = 65 << 20;
    for (size, blocks, status, phrase) in [
        (
            4096,
            &[][..],
            3,
            "FILE: it is too small for metadata: below 8.0 MiB",
        ),
        (size, &[], 3, "FILE: no metadata"),
        (size, &[("later-version", 1)], 5, "FILE: a later version"),
        (
            size + 4096,
            &[("created", 1)],
            5,
            "FILE: the export has another size",
        ),
        (
            size,
            &[("created", 2)],
            5,
            "FILE: the metadata makes no sense",
        ),
    ] {
        let (out, err, code) = examine(size, blocks);
        assert_eq!(code, Some(status), "{out}{err}");
        assert!(err.contains(phrase), "{phrase}: {err}");
        assert_eq!(out.contains("place 7"), !blocks.is_empty(), "{out}");
    }
    let (out, err, code) = texts(&run("missing", &["examine", "/nowhere"]));
    assert_eq!((out.as_str(), code), ("", Some(3)));
    assert!(err.contains("cannot read /nowhere"), "{err}");
}

/// The pipe is closed before anything is written.
#[test]
fn nobody_reads() {
    let mut command = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_enbdctl");
    let line = format!(
        "'{program}' --nbdinfo '{}' status --json | true",
        golden("devices.nbdinfo").display()
    );
    let (_, err, _) = texts(&command.args(["-c", &line]).output().expect("sh"));
    assert_eq!(err, "");
}
