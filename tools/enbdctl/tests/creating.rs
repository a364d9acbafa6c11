// SPDX-License-Identifier: GPL-2.0

//! `create` and `probe`, as far as they come without the module: what they find on servers, and what
//! they refuse. The rest is in tools/vmtest/scenarios/enbdctl_memory.py.

mod server;

use server::{Server, FLAGS};
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

const SIZE: usize = 9 << 20;

struct Site {
    dir: TempDir,
}

impl Site {
    /// A machine on which no device is up.
    fn new() -> Self {
        let site = Self {
            dir: tempfile::tempdir().expect("a directory"),
        };
        fs::create_dir(site.dir.path().join("etc")).expect("a directory");
        fs::write(site.dir.path().join("nbdinfo"), "Device a-z:\tClosed\n").expect("a file");
        site
    }

    fn server(&self, name: &str, data: Vec<u8>, flags: u16) -> Server {
        Server::new(&self.dir.path().join(name), data, flags)
    }

    /// Runs it without a terminal; gives its output, its complaints and its exit status, without where
    /// the directory is.
    fn run(&self, line: &str) -> (String, String, i32) {
        let place = self.dir.path().to_str().expect("UTF-8");
        let mut command = Command::new(env!("CARGO_BIN_EXE_enbdctl"));
        for (option, name) in [("etc", "etc"), ("run", "run"), ("nbdinfo", "nbdinfo")] {
            command
                .arg(format!("--{option}"))
                .arg(format!("{place}/{name}"));
        }
        let output = command
            .args(line.split_whitespace())
            .stdin(std::process::Stdio::null())
            .output()
            .expect("it starts");
        let text = |bytes: Vec<u8>| {
            String::from_utf8(bytes)
                .expect("UTF-8")
                .replace(place, "DIR")
        };
        let status = output.status.code().expect("no signal");
        (text(output.stdout), text(output.stderr), status)
    }

    fn refused(&self, line: &str, status: i32, phrase: &str) {
        let (_, err, got) = self.run(line);
        assert_eq!(got, status, "{line}: {err}");
        assert!(err.contains(phrase), "{line}: {err}");
        let left = fs::read_dir(self.dir.path().join("etc")).expect("a directory");
        let left: Vec<_> = left.flatten().map(|entry| entry.file_name()).collect();
        assert!(left.is_empty(), "{line} leaves {left:?}");
    }
}

fn holding(at: usize) -> Vec<u8> {
    let mut data = vec![0; SIZE];
    data[at..at + 4].copy_from_slice(b"data");
    data
}

#[test]
fn lines_of_a_dry_run() {
    let site = Site::new();
    let (out, err, status) = site
        .run("-n create data nbd://192.0.2.1/disk nbd://192.0.2.2/disk --source 1 --channels 2");
    assert_eq!((err.as_str(), status), ("", 0));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines,
        [
            "name[a]=data",
            "connect[a]=0 192.0.2.1:10809 name=disk channels=2",
            "connect[a]=1 192.0.2.2:10809 name=disk channels=2",
            "create[a]=1",
            "enable[a]=1",
        ]
    );
    let (out, _, _) = site.run("-n create x1 nbd://192.0.2.1/d --device c --blocksize 512 --force");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines,
        [
            "name[c]=x1",
            "blocksize[c]=512",
            "connect[c]=0 192.0.2.1:10809 name=d channels=1",
            "create[c]=0 force",
            "enable[c]=1",
        ]
    );
    site.refused("-n create data nbd://h/a nbd://h/b", 5, "--source GROUP");
}

#[test]
fn what_is_wrong_with_the_line() {
    let site = Site::new();
    for (line, phrase) in [
        ("create a nbd://h/x", "is the letter of a device"),
        ("create da/ta nbd://h/x", "is no name of a device"),
        (
            "create data nbd://h/x nbd://h:10809/x",
            "is the server of another group",
        ),
        (
            "create data nbd://h/x --blocksize 1000",
            "not a power of two",
        ),
        ("create data nbd://h/x --device A", "one letter from a to z"),
        ("create data nbd://h/x --channels 17", "1 to 16"),
        (
            "create data nbd://h/x --equal --empty",
            "cannot be used with",
        ),
        ("create data h", "is no NBD URI"),
        ("create data", "required"),
    ] {
        site.refused(line, 4, phrase);
    }
    let many: String = (0..9).map(|number| format!(" nbd://h/{number}")).collect();
    site.refused(&format!("create data{many}"), 4, "8 groups at most");
}

#[test]
fn servers_are_looked_at_first() {
    let site = Site::new();
    let one = site.server("one", holding(0), FLAGS);
    let two = site.server("two", vec![0; SIZE], FLAGS);
    let line = format!("create data {} {}", one.uri(), two.uri());
    let (out, err, status) = site.run(&line);
    assert_eq!(status, 5, "{err}");
    assert_eq!(
        out,
        "group 0  nbd+unix:///disk?socket=DIR/one  9.0 MiB, FLUSH FUA TRIM ZEROES MULTI_CONN   holds something\n\
         group 1  nbd+unix:///disk?socket=DIR/two  9.0 MiB, FLUSH FUA TRIM ZEROES MULTI_CONN   empty (first 1 MiB zero)\n"
    );
    assert_eq!(
        err,
        "enbdctl: this is no terminal, and which group has the data has to be said\n  \
         hint: --source GROUP, --equal if they hold the same, --empty if nothing is to be kept; with --yes\n"
    );
    site.refused(&format!("{line} --source 0"), 5, "hint: --yes");
    site.refused(&format!("{line} --equal"), 5, "they begin differently");
    site.refused(
        &format!("{line} --source 2 --yes"),
        4,
        "there is no group 2",
    );
    let end = site.server("end", holding(SIZE - 100_000), FLAGS);
    site.refused(
        &format!("create data {} -y", end.uri()),
        5,
        "its end is in use",
    );
    let small = site.server("small", vec![0; 8 << 10], FLAGS);
    site.refused(
        &format!("create data {} -y", small.uri()),
        5,
        "too small for metadata",
    );
    let read_only = site.server("read-only", vec![0; SIZE], FLAGS | 2);
    site.refused(
        &format!("create data {} -y", read_only.uri()),
        5,
        "takes no writes",
    );
    let gone = one.uri().replace("one", "gone");
    site.refused(&format!("{line} {gone}"), 5, "No such file or directory");
}

#[test]
fn a_configuration_is_never_written_over() {
    let site = Site::new();
    let path = site.dir.path().join("etc/data.toml");
    let other = "device = \"a\"\n[[group]]\nuri = \"nbd://192.0.2.9/x\"\n";
    for (text, phrase) in [
        (
            other.to_owned(),
            "data.toml exists, of a mirror without metadata",
        ),
        (
            other.replace(
                "[[",
                "mirror = \"3a0e6b1c-25c0-4f36-9a0e-1f7d2b1f4c55\"\n[[",
            ),
            "data.toml exists, of another mirror",
        ),
        ("x".to_owned(), "data.toml:1:"),
    ] {
        fs::write(&path, &text).expect("a file");
        let (_, err, _) = site.run("create data nbd://192.0.2.1/disk");
        assert!(err.contains(phrase), "{err}");
        assert_eq!(fs::read_to_string(&path).expect("a file"), text);
    }
    // One that was killed left its draft, which is this very file: it is not written through.
    fs::hard_link(&path, site.dir.path().join("etc/more.toml.new")).expect("a link");
    let (_, err, _) = site.run("create more nbd+unix:///x?socket=/nowhere --yes");
    assert!(err.contains("all servers are needed"), "{err}");
    assert_eq!(fs::read_to_string(&path).expect("a file"), "x");
    // Its letter is taken; the next one is free.
    fs::write(&path, other).expect("a file");
    let (out, _, _) = site.run("-n create more nbd://192.0.2.1/disk");
    assert!(out.starts_with("name[b]=more\n"), "{out}");
    let (_, err, _) = site.run("create more nbd://192.0.2.1/disk --device a");
    assert!(err.contains("/dev/nda is taken"), "{err}");
    // An earlier one came so far: this one goes on.
    let same = other.replace("192.0.2.9/x", "192.0.2.1/disk");
    let mirror = "mirror = \"3a0e6b1c-25c0-4f36-9a0e-1f7d2b1f4c55\"\n[[";
    fs::write(&path, same.replace("[[", mirror)).expect("a file");
    let (out, _, _) = site.run("-n create data nbd://192.0.2.1/disk");
    assert!(
        out.ends_with("enable[a]=1\n") && !out.contains("create["),
        "{out}"
    );
}

/// An export with a superblock that is described beside the tests of the format.
fn member(name: &str, size: usize, place: usize) -> Vec<u8> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../enbd-logic/tests/fixtures/meta");
    let text = fs::read_to_string(fixtures.join(name).with_extension("hex")).expect(name);
    let mut data = vec![0; size];
    let at = size - 4096 * (place + 1);
    for line in text.lines() {
        let (offset, digits) = line.split_once(": ").expect("a place");
        let offset = usize::from_str_radix(offset, 16).expect("a place");
        for index in 0..digits.len() / 2 {
            let byte = &digits[2 * index..2 * index + 2];
            data[at + offset + index] = u8::from_str_radix(byte, 16).expect("a byte");
        }
    }
    data
}

#[test]
fn members_are_known() {
    let site = Site::new();
    let made = site.server("made", member("created", 68_157_440, 1), FLAGS);
    let (out, err, status) = site.run(&format!("probe {}", made.uri()));
    assert_eq!((err.as_str(), status), ("", 0));
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/probe.txt");
    if std::env::var_os("GOLDEN").is_some_and(|value| value == "write") {
        fs::write(&golden, &out).expect("the file can be written");
    }
    assert_eq!(
        out,
        fs::read_to_string(golden).expect("there is such a file")
    );
    // It was never started, so it is made anew: that comes after the question.
    let line = format!("create data {} --source 0", made.uri());
    let blank = site.server("blank", vec![0; SIZE], FLAGS);
    site.refused(&format!("{line} {}", blank.uri()), 5, "hint: --yes");
    let later = site.server("later", member("forced", 68_157_440, 0), FLAGS);
    let (_, err, _) = site.run(&format!("create data {}", later.uri()));
    assert!(err.contains("--force"), "{err}");
}
