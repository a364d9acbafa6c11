// SPDX-License-Identifier: GPL-2.0

//! `monitor`, run as a program: its configuration, its handlers, what systemd is told. That it follows
//! a module is shown in the VM.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A directory with a file `monitor.toml` of this text, or without one.
fn etc(text: Option<&str>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    if let Some(text) = text {
        fs::write(dir.path().join("monitor.toml"), text).expect("a file");
    }
    dir
}

fn enbdctl(etc: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_enbdctl"));
    command.arg("--etc").arg(etc).args(words);
    command
}

fn texts(etc: &Path, words: &[&str]) -> (String, String, Option<i32>) {
    let output = enbdctl(etc, words).output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (
        text(&output.stdout),
        text(&output.stderr),
        output.status.code(),
    )
}

#[test]
fn a_trial() {
    let dir = etc(None);
    let (out, err, code) = texts(dir.path(), &["monitor", "--test"]);
    assert_eq!((err.as_str(), code), ("", Some(0)));
    assert!(
        out.starts_with("<5>alarm, a trial: test: a trial alarm\nnobody else is told: "),
        "{out}"
    );
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("told");
    let exec = format!(
        "exec = [\"/bin/sh\", \"-c\", \"cat >{}\"]\n",
        file.display()
    );
    let etc = etc(Some(&exec));
    let (out, err, code) = texts(etc.path(), &["monitor", "--test"]);
    assert_eq!((err.as_str(), code), ("", Some(0)), "{out}");
    assert!(out.ends_with(": done\n"), "{out}");
    let told = fs::read_to_string(&file).expect("the program has run");
    assert!(
        told.starts_with("test: a trial alarm\n\nThis is a trial"),
        "{told}"
    );
}

#[test]
fn a_trial_that_fails() {
    let dir = etc(Some(
        "exec = [\"/bin/false\"]\nmail = \"root\"\nsendmail = [\"/bin/true\"]\n",
    ));
    let (out, err, code) = texts(dir.path(), &["monitor", "--test"]);
    assert_eq!(code, Some(5));
    assert_eq!(err, "enbdctl: /bin/false failed: exit status: 1\n");
    assert!(out.ends_with("\nmail to root: done\n"), "{out}");
}

#[test]
fn what_is_wrong_is_said_at_once() {
    let dir = etc(Some("# Alarms.\nmial = \"root\"\n"));
    for words in [
        &["monitor"][..],
        &["monitor", "--test"],
        &["config", "check"],
        &["config", "check", "monitor"],
    ] {
        let (_, err, code) = texts(dir.path(), words);
        assert_eq!(code, Some(4), "{words:?}: {err}");
        assert!(
            err.contains("monitor.toml:2:1: there is no key \"mial\" here\n  hint: perhaps mail"),
            "{err}"
        );
    }
    // It is no device's.
    let dir = etc(Some("mail = \"root\"\n"));
    let (out, err, code) = texts(dir.path(), &["config", "check"]);
    assert_eq!((err.as_str(), code), ("", Some(0)));
    assert!(out.ends_with("monitor.toml: mail to root\n"), "{out}");
    let (_, err, code) = texts(dir.path(), &["wait", "monitor", "--timeout", "0"]);
    assert_eq!(code, Some(4), "{err}");
}

/// Runs until systemd is told; the first line, what systemd is told, and the metrics.
fn started(nbdinfo: &Path) -> (String, String, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let (socket, prom) = (dir.path().join("notify"), dir.path().join("enbd.prom"));
    let etc = etc(Some(&format!("metrics = \"{}\"\n", prom.display())));
    let systemd = UnixDatagram::bind(&socket).expect("bound");
    let mut command = enbdctl(etc.path(), &["--nbdinfo"]);
    command
        .arg(nbdinfo)
        .arg("monitor")
        .env("NOTIFY_SOCKET", &socket);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    out.read_line(&mut line).expect("a line");
    let mut buffer = [0; 256];
    let length = systemd.recv(&mut buffer).expect("it is ready");
    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
    // Who is ready has written them.
    let metrics = fs::read_to_string(&prom).expect("metrics");
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    (line, text, metrics)
}

#[test]
fn ready() {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let (line, told, metrics) = started(&golden.join("missing"));
    assert_eq!(line, "<6>the module enbd is not loaded\n");
    assert_eq!(told, "READY=1\nSTATUS=the module enbd is not loaded");
    assert!(metrics.contains("\nenbd_module_loaded 0\n"), "{metrics}");
    let (line, told, metrics) = started(&golden.join("devices.nbdinfo"));
    assert_eq!(line, "<6>the module enbd is loaded\n");
    assert_eq!(told, "READY=1\nSTATUS=1 OK, 1 degraded, 1 held");
    assert!(metrics.contains("state=\"held\"} 1\n"), "{metrics}");
}
