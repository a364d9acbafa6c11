// SPDX-License-Identifier: GPL-2.0

//! The verbs that change something, with `--dry-run` over recorded texts: the lines that they would
//! write, and what they refuse. The rest needs the module: tools/vmtest/scenarios/enbdctl.py.

use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

const TWO: &str = "device = \"a\"\nblocksize = 1024\n[settings]\ntimeout = 60\n\
    [[group]]\nuri = \"nbd://192.0.2.1/disk\"\nchannels = 2\n\
    [[group]]\nuri = \"nbd+unix:///?socket=/run/nbd.sock\"\n";

struct Site {
    dir: TempDir,
    nbdinfo: String,
}

impl Site {
    fn new(nbdinfo: &str) -> Self {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let site = Self {
            dir: tempfile::tempdir().expect("a directory"),
            nbdinfo: golden.join(nbdinfo).to_str().expect("UTF-8").to_owned(),
        };
        for dir in ["etc", "var"] {
            fs::create_dir(site.dir.path().join(dir)).expect("a directory");
        }
        site.write("etc/data.toml", TWO);
        site
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).expect("a file");
    }

    /// Runs it; gives its output, its complaints and its exit status.
    fn run(&self, line: &str) -> (String, String, i32) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_enbdctl"));
        for dir in ["etc", "var", "run"] {
            command
                .arg(format!("--{dir}"))
                .arg(self.dir.path().join(dir));
        }
        command.args(["--nbdinfo", &self.nbdinfo, "--dry-run"]);
        let output = command
            .args(line.split_whitespace())
            .output()
            .expect("it starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        let status = output.status.code().expect("no signal");
        (text(output.stdout), text(output.stderr), status)
    }

    /// The lines that it would write.
    fn lines(&self, line: &str) -> Vec<String> {
        let (out, err, status) = self.run(line);
        assert_eq!((err.as_str(), status), ("", 0), "{line}");
        out.lines().map(str::to_owned).collect()
    }

    fn refused(&self, line: &str, status: i32, phrase: &str) {
        let (out, err, got) = self.run(line);
        assert_eq!((out.as_str(), got), ("", status), "{line}: {err}");
        assert!(err.contains(phrase), "{line}: {err}");
    }
}

#[test]
fn up_from_nothing() {
    let site = Site::new("none.nbdinfo");
    site.refused(
        "up data",
        5,
        "nothing is recorded of which groups are in sync\n  hint: --source",
    );
    assert_eq!(
        site.lines("up data --assume-equal"),
        [
            "blocksize[a]=1024",
            "timeout[a]=60",
            "connect[a]=0 192.0.2.1:10809 name=disk channels=2",
            "connect[a]=1 unix:/run/nbd.sock channels=1",
            "enable[a]=1",
        ]
    );
    // The others are connected when the disk is there, so that they are copied.
    assert_eq!(
        site.lines("up data --source 1")[2..],
        [
            "connect[a]=1 unix:/run/nbd.sock channels=1",
            "enable[a]=1",
            "connect[a]=0 192.0.2.1:10809 name=disk channels=2",
            "hotadd[a]=0",
        ]
    );
    assert!(
        !site.dir.path().join("run").exists(),
        "a dry run makes nothing"
    );
    assert_eq!(
        fs::read_dir(site.dir.path().join("var"))
            .expect("a directory")
            .count(),
        0
    );
}

#[test]
fn up_by_a_record() {
    let site = Site::new("none.nbdinfo");
    let record = |clean: bool, in_sync: bool| {
        format!(
            "{{\"version\":1,\"device\":\"a\",\"boot\":\"\",\"clean\":{clean},\"note\":null,\"groups\":[\
             {{\"group\":0,\"uri\":\"nbd://192.0.2.1/disk\",\"in_sync\":{in_sync}}},\
             {{\"group\":1,\"uri\":\"nbd+unix:///?socket=/run/nbd.sock\",\"in_sync\":true}}]}}"
        )
    };
    site.write("var/data.state", &record(true, true));
    assert_eq!(site.lines("up data"), site.lines("up data --assume-equal"));
    site.write("var/data.state", &record(true, false));
    assert_eq!(site.lines("up data"), site.lines("up data --source 1"));
    site.refused(
        "up data --assume-equal",
        5,
        "group 0 is known not to be equal",
    );
    site.write("var/data.state", &record(false, true));
    site.refused("up data", 5, "nobody knows which groups are in sync");
    site.write("var/data.state", "x");
    site.refused("up data", 5, "is no record of a mirror");
    site.refused("up --all", 5, "is no record of a mirror");
}

/// A mirror that remembers: its configuration says so.
fn remembering(nbdinfo: &str) -> Site {
    let site = Site::new(nbdinfo);
    let mirror = "mirror = \"3a0e6b1c-25c0-4f36-9a0e-1f7d2b1f4c55\"\n[settings]\nowner_check = 0\n";
    site.write("etc/data.toml", &TWO.replace("[settings]\n", mirror));
    site
}

#[test]
fn up_by_metadata() {
    let site = remembering("none.nbdinfo");
    let begin = [
        "blocksize[a]=1024",
        "timeout[a]=60",
        "owner_check[a]=0",
        "name[a]=data",
        "attach[a]=192.0.2.1:10809 name=disk channels=2",
        "attach[a]=unix:/run/nbd.sock channels=1",
    ];
    for (line, end) in [
        ("up data", "enable[a]=1"),
        ("up data --degraded", "enable[a]=1 degraded"),
        ("up data --source 1", "enable[a]=1 source=1"),
        ("up --all", "enable[a]=1"),
    ] {
        let wanted: Vec<&str> = begin.iter().copied().chain([end]).collect();
        assert_eq!(site.lines(line), wanted);
    }
    site.refused("up data --assume-equal", 5, "leave --assume-equal out");
    site.refused("up data --degraded --source 1", 4, "cannot be used with");
    // What was recorded before it was a mirror that remembers has nothing to say.
    site.write("var/data.state", "x");
    assert_eq!(
        site.lines("up data").last().map(String::as_str),
        Some("enable[a]=1")
    );
    let site = Site::new("none.nbdinfo");
    site.refused(
        "up data --degraded",
        5,
        "no group that was reached has metadata",
    );
}

#[test]
fn up_of_what_is_half_connected() {
    let site = remembering("members.nbdinfo");
    site.refused(
        "up data",
        5,
        "has channels to others than the configuration",
    );
    let member = "uri = \"nbd://192.0.2.2/disk\"\n[[group]]\nuri = \"nbd://192.0.2.1/disk\"\n";
    let config = format!("device = \"a\"\n[[group]]\nchannels = 3\n{member}");
    site.write("etc/data.toml", &config);
    assert_eq!(
        site.lines("up data"),
        [
            "connect[a]=1 192.0.2.2:10809 name=disk channels=1",
            "attach[a]=192.0.2.1:10809 name=disk channels=1",
            "enable[a]=1",
        ]
    );
    site.write("etc/data.toml", &config.replace("\"a\"", "\"b\""));
    site.refused(
        "up data",
        5,
        "has channels to others than the configuration",
    );
    site.write("etc/other.toml", &config);
    site.refused("up other", 5, "is called data");
}

#[test]
fn members_come_and_go() {
    let site = remembering("members.nbdinfo");
    assert_eq!(
        site.lines("attach data 0"),
        ["attach[a]=192.0.2.1:10809 name=disk channels=2"]
    );
    assert_eq!(
        site.lines("attach a 0 nbd://192.0.2.9/x --channels 4"),
        ["attach[a]=192.0.2.9:10809 name=x channels=4"]
    );
    site.refused("attach data 5", 3, "no configuration says which server");
    assert_eq!(site.lines("forget data 2"), ["forget[a]=2"]);
    site.refused(
        "forget data 5",
        3,
        "no member of data\n  hint: there are: 0, 1, 2",
    );
    site.refused("forget b 1", 5, "enbdctl disable b && enbdctl forget b 1");
    // Its exports have it written, so no record is needed.
    assert_eq!(site.lines("enable a"), ["enable[a]=1"]);
    assert_eq!(site.lines("down b"), ["enable[b]=0", "reset[b]=1"]);
    assert_eq!(
        site.lines("set b owner_check=2 intent=off intent_max=64 intent_idle=9"),
        [
            "owner_check[b]=2",
            "intent[b]=0",
            "intent_max[b]=64",
            "intent_idle[b]=9"
        ]
    );
    let site = remembering("none.nbdinfo");
    assert_eq!(
        site.lines("attach data 1")[3..],
        ["name[a]=data", "attach[a]=unix:/run/nbd.sock channels=1"]
    );
}

#[test]
fn one_group_needs_no_record() {
    let site = Site::new("none.nbdinfo");
    site.write(
        "etc/data.toml",
        "device = \"b\"\n[[group]]\nuri = \"nbd://[2001:db8::1]:99/d?x-channels=3\"\n",
    );
    assert_eq!(
        site.lines("up --all"),
        [
            "connect[b]=0 [2001:db8::1]:99 name=d channels=3",
            "enable[b]=1"
        ]
    );
    assert_eq!(site.lines("down --all"), [""; 0]);
}

#[test]
fn single_commands() {
    let site = Site::new("devices.nbdinfo");
    // Group 1 of device a is being resynced and is volatile, group 1 of c is faulty.
    assert_eq!(site.lines("fail a 1"), ["setfaulty[a]=1"]);
    assert_eq!(site.lines("fail c 1"), [""; 0]);
    assert_eq!(site.lines("resync c 1"), ["hotadd[c]=1"]);
    assert_eq!(site.lines("resync c 1 --full"), ["hotadd[c]=1 full"]);
    assert_eq!(site.lines("resync a 1"), [""; 0]);
    assert_eq!(site.lines("resync a 0"), [""; 0]);
    assert_eq!(site.lines("remove c 1"), ["hotremove[c]=1"]);
    assert_eq!(
        site.lines("set c timeout=9 resync_max=50M show_errs=on autoadd=0"),
        [
            "timeout[c]=9",
            "resync_max[c]=51200",
            "show_errs[c]=1",
            "autoadd[c]=0",
        ]
    );
    assert_eq!(site.lines("reset /dev/ndc"), ["reset[c]=1"]);
    assert_eq!(site.lines("enable c"), [""; 0]);
    assert_eq!(site.lines("enable d"), ["enable[d]=1"]);
    assert_eq!(site.lines("disable d"), [""; 0]);
    assert_eq!(site.lines("disable c"), ["enable[c]=0"]);
    assert_eq!(site.lines("down c"), ["enable[c]=0", "reset[c]=1"]);
    assert_eq!(site.lines("down z"), [""; 0]);
    assert_eq!(site.lines("disconnect c 1"), ["disconnect[c]=1"]);
    assert_eq!(
        site.lines("disconnect c 1 nbd://192.0.2.2/disk"),
        ["disconnect[c]=1 192.0.2.2:10809"]
    );
    assert_eq!(site.lines("connect c 1 nbd://192.0.2.2/disk"), [""; 0]);
    assert_eq!(
        site.lines("connect c 1 nbd://192.0.2.2/disk --channels 3"),
        ["connect[c]=1 192.0.2.2:10809 name=disk channels=2"]
    );
    assert_eq!(
        site.lines("add c nbd://192.0.2.3/"),
        ["connect[c]=2 192.0.2.3:10809 channels=1", "hotadd[c]=2"]
    );
}

#[test]
fn what_is_refused_before_anything_is_sent() {
    let site = Site::new("devices.nbdinfo");
    for (line, status, phrase) in [
        (
            "fail data 0",
            5,
            "group 0 is the last group in sync of data",
        ),
        ("fail data 0", 5, "enbdctl wait data && enbdctl fail data 0"),
        ("remove c 0", 5, "enbdctl resync c 1"),
        ("fail c 4", 3, "c has no group 4\n  hint: it has: 0, 1"),
        ("resync scratch 0 --full", 3, "no configuration"),
        (
            "resync b 0 --full",
            5,
            "group 0 is in sync: nothing is copied",
        ),
        ("add d nbd://192.0.2.3/x", 5, "d is disabled"),
        ("set c timout=1", 4, "perhaps timeout"),
        ("set c password=1", 4, "there are: blocksize, timeout"),
        ("set c timeout=1 timeout=0", 4, "timeout out of range"),
        ("set c timeout", 4, "KEY=VALUE"),
        ("set c resync_max=1.5M", 4, "is no speed"),
        ("connect c 1 192.0.2.2", 4, "is no NBD URI"),
        ("connect c 1 nbd://192.0.2.2/x --channels 17", 4, "1 to 16"),
        (
            "disconnect c 1 nbd://192.0.2.2/other",
            3,
            "has no channel to nbd://192.0.2.2/other",
        ),
        ("up data", 5, "its group 1 has channels to others"),
    ] {
        site.refused(line, status, phrase);
    }
}
