# SPDX-License-Identifier: GPL-2.0
"""enbdctl, the program: mirrors from configuration files, what it remembers and what it refuses to guess, and bad input. What it
says is compared with /proc/nbdinfo as read by the tests' own parser."""

import json
import os
import shutil
import subprocess

from lib import check, module, nbdinfo
from lib.cases import case
from lib.ctl import DEGRADED, ETC, NOT_THERE, OK, REFUSED, USAGE, ctl, forget, two_ups, up_that_waits
from lib.mirror import Mirror
from lib.program import attempt
from lib.program import run as run_program
from lib.refusal import snapshot

LIMIT_S = 400

# Every verb that changes something, on a device that is not there.
ABSENT = (
    "disable {}", "enable {}", "fail {} 0", "resync {} 0", "add {} nbd://127.0.0.1:9/x", "remove {} 0", "set {} timeout=60",
    "reset {}", "disconnect {} 0", "wait {} --timeout 0", "status {}",
)


def run():
    check.that(shutil.which("enbdctl"), "enbdctl is in the VM: `scripts/vm tools/vmtest/run` builds it")
    forget()
    try:
        without_module()
        absent_devices()
        bad_files()
        with Mirror(enable=False, settings=["blocksize=1024"]) as mirror:
            mirror.command("reset=1")
            write_config(mirror)
            first_time(mirror)
            looking(mirror)
            verbs(mirror)
            without_root(mirror)
            in_use(mirror)
            orderly(mirror)
            stale(mirror)
            crashed(mirror)
            one_server(mirror)
            interrupted(mirror)
            at_once(mirror)
            mirror.check_same()
            ctl("down", "data")
    finally:
        forget()


def write_config(mirror, name="data", more="", letter="a"):
    """The configuration of the mirror. The first server is called by its host's name."""
    os.makedirs(ETC, exist_ok=True)
    lines = [f'device = "{letter}"', "blocksize = 1024", "[settings]", "connect_timeout = 20", more]
    for host, server in zip(("localhost", "127.0.0.1"), mirror.servers, strict=True):
        lines += ["[[group]]", f'uri = "nbd://{host}:{server.endpoint.port}/{server.export}"', "channels = 2"]
    with open(f"{ETC}/{name}.toml", "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def without_module():
    """Says that the module is not loaded."""
    module.unload()
    for line in ("status", "list", "watch", "connect a 0 nbd://127.0.0.1:9/x", *ABSENT):
        ctl(line.format("a"), status=NOT_THERE, says="the module enbd is not loaded")
    module.load()


def absent_devices():
    """Devices and names that are not there; and nothing is made by asking."""
    for line in ABSENT:
        ctl(line.format("a"), status=NOT_THERE, says="there is no device a")
        ctl(line.format("data"), status=NOT_THERE, says="there is no configuration")
    for line in ("up data", "down data", "connect data 0 nbd://127.0.0.1:9/x"):
        ctl(line, status=NOT_THERE, says="there is no configuration")
    ctl("down a")
    ctl("connect a 0 nbd://127.0.0.1:9/x", status=REFUSED, says="ECONNREFUSED")
    check.equal(nbdinfo.devices(), [], "devices")


def bad_files():
    """Files that are wrong, and command lines."""
    os.makedirs(ETC, exist_ok=True)
    good = b'device = "a"\n[[group]]\nuri = "nbd://127.0.0.1:9/x"\n'
    for text, says in (
        (good + b"chanels = 2\n", "data.toml:4:1: there is no key \"chanels\" here"),
        ("\ufeff".encode("utf-16"), "is no UTF-8 text"),
        (good.replace(b'"a"', b'"ab"'), "data.toml:1:10: \"ab\" is no device"),
        (b'device = "a"\n', "there is no group"),
        (good.replace(b"nbd:", b"nbds:"), "no TLS"),
    ):
        with case(f"a file: {says}"):
            with open(f"{ETC}/data.toml", "wb") as file:
                file.write(text)
            ctl("up data", status=USAGE, says=says)
    # A byte order mark is none of the text.
    with open(f"{ETC}/data.toml", "wb") as file:
        file.write("\ufeff".encode() + good)
    ctl("up data --wait 0", status=REFUSED, says="ECONNREFUSED")
    shutil.copy(f"{ETC}/data.toml", f"{ETC}/other.toml")
    ctl("up data", status=USAGE, says='both have device = "a"')
    ctl("up --all", status=USAGE, says='both have device = "a"')
    wrong = ("fail a 8", "fail a", "up", "set a", "connect a 0 127.0.0.1", "up data --all", "up data --source 0 --assume-equal")
    for line in wrong:
        with case(line):
            ctl(line, status=USAGE)
    check.equal(nbdinfo.devices(), [], "devices")
    forget()


def first_time(mirror):
    """Nobody knows that the groups are equal, until it is said."""
    ctl("up data", status=REFUSED, says="nothing is recorded")
    check.equal(nbdinfo.devices(), [], "devices")
    lines = ctl("-n up data --assume-equal").splitlines()
    check.equal(lines[0], "blocksize[a]=1024", "first line of a dry run")
    check.equal(lines[-1], "enable[a]=1", "last line of a dry run")
    check.equal(nbdinfo.devices(), [], "devices after a dry run")
    ctl("up data --assume-equal")
    status = mirror.status()
    check.equal((status.enabled, status.blocksize, len(status.channels)), (True, 1024, 4), "device")
    before = snapshot()
    ctl("up data")
    ctl("up /dev/enbd/data")
    check.equal(snapshot(), before, "status after another up")


def looking(mirror):
    """What it shows is what the module says."""
    mirror.disk.write(0, os.urandom(1 << 20))
    ctl("status data", says="OK")
    status = mirror.status()
    told = json.loads(ctl("status --json a"))["devices"][0]
    check.equal((told["name"], told["state"], told["held"]), ("data", "ok", False), "device")
    check.equal(told["size"], status.size_kb * 1024, "size")
    for group in told["groups"]:
        server = mirror.servers[group["group"]]
        uri = f"nbd://{server.endpoint}/{server.export}"
        check.equal([channel["uri"] for channel in group["channels"]], [uri] * 2, "servers")
        check.that(all(channel["up"] for channel in group["channels"]), "channels are up")
    ctl("list", says="data")
    check.equal(ctl("list --names"), "data\n", "names")


def verbs(mirror):
    """A group is failed and brought back; each verb twice, since what is so already is no error."""
    ctl("set data timeout=60 resync_max=64M show_errs=off")
    ctl("set data timeout=60 timout=1", status=USAGE, says="perhaps timeout")
    ctl("set data timeout=0", status=USAGE, says="timeout out of range")
    ctl("-n resync data 1 --full", status=REFUSED, says="enbdctl fail data 1")
    for _ in range(2):
        ctl("fail data 1")
    check.equal(mirror.status().mark(1), "F", "mark of the failed group")
    ctl("fail data 0", status=REFUSED, says="last group in sync")
    ctl("remove data 0", status=REFUSED, says="last group in sync")
    ctl("fail data 5", status=NOT_THERE, says="it has: 0, 1")
    check.equal(ctl("-n resync data 1 --full"), "hotadd[a]=1 full\n", "a dry run")
    mirror.disk.write(0, os.urandom(1 << 20))
    told = json.loads(ctl("status --json data", status=DEGRADED))["devices"][0]
    dirty = mirror.status().dirty_columns[1] * 1024
    check.equal(told["groups"][1]["dirty_bytes"], dirty, "dirty bytes")
    ctl("wait data --timeout 0", status=DEGRADED, says="DEGRADED")
    ctl("wait data --for degraded")
    for _ in range(2):
        ctl("resync data 1")
    ctl("wait data --timeout 60")
    server = mirror.servers[1]
    uri = f"nbd://{server.endpoint}/{server.export}"
    ctl("remove data 1", says="still in the configuration")
    check.equal(len(mirror.status().channels), 2, "channels after remove")
    ctl("add", "data", uri, "--channels", "2", says="as group 1")
    ctl("add", "data", uri, says="already")
    ctl("wait data --timeout 60")
    ctl("connect", "data", "1", uri, "--channels", "3")
    ctl("connect", "data", "1", uri, "--channels", "3")
    check.equal(len(mirror.status().of_group(1)), 3, "channels of group 1")
    ctl("disconnect", "data", "1", uri.replace(server.export, "x"), status=NOT_THERE, says="has no channel to")
    ctl("disconnect", "data", "1", uri)
    ctl("up data")
    ctl("wait data --timeout 60")
    check.equal(len(mirror.status().of_group(1)), 2, "channels of group 1 after up")


def without_root(mirror):
    """Everybody may look; only root may change."""
    before, last_error = snapshot(), mirror.status().last_error
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "enbdctl")
    check.equal(attempt(*nobody, "status", "data").returncode, OK, "exit status of status")
    os.chmod(ETC, 0o700)
    check.equal(attempt(*nobody, "status", "a").returncode, OK, "exit status of status without the names")
    os.chmod(ETC, 0o755)
    for words in (("fail", "data", "1"), ("up", "data"), ("down", "data"), ("set", "a", "timeout=9")):
        result = attempt(*nobody, *words)
        check.equal(result.returncode, REFUSED, f"exit status of {words}: {result.stderr}")
        check.that("sudo" in result.stderr, f"a hint: {result.stderr!r}")
    # Root without the capability gets as far as the module.
    result = attempt("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", "enbdctl", "fail", "data", "1")
    check.equal(result.returncode, REFUSED, "exit status without the capability")
    check.that("(EPERM)" in result.stderr and "CAP_SYS_ADMIN" in result.stderr, f"the errno: {result.stderr!r}")
    check.equal(snapshot(), before, "status")
    check.equal(mirror.status().last_error, last_error, "last error")


def in_use(mirror):
    """Who has the disk is told."""
    with mirror.disk.open(os.O_RDONLY):
        ctl("down data", status=REFUSED, says=f"open by python3 ({os.getpid()})")
    run_program("mkfs.ext4", "-q", mirror.disk.path)
    os.mkdir("mnt")
    run_program("mount", mirror.disk.path, "mnt")
    place = os.path.abspath("mnt")
    ctl("status data", says=f"mounted on {place} (ext4)")
    ctl("down data", status=REFUSED, says=f"umount {place}")
    ctl("reset data", status=REFUSED, says=f"umount {place}")
    run_program("umount", "mnt")


def orderly(mirror):
    """Down and up again: nothing needs to be copied."""
    for _ in range(2):
        ctl("down data")
    check.equal(nbdinfo.devices(), [], "devices")
    ctl("status data", status=NOT_THERE, says="enbdctl up data")
    ctl("up data")
    check.that(mirror.status().is_clean(), f"all groups are in sync:\n{nbdinfo.text()}")
    ctl("disable data")
    ctl("disable data")
    ctl("status data", status=NOT_THERE, says="DISABLED")
    ctl("enable data")
    ctl("enable data")
    ctl("disable data")
    ctl("up data")
    check.that(mirror.status().is_clean(), f"all groups are in sync:\n{nbdinfo.text()}")
    # A device that somebody else has disabled is known to the module all the same.
    mirror.command("enable=0")
    ctl("up data")
    mirror.command("enable=0")
    ctl("down data")
    ctl("up data")
    check.that(mirror.status().is_clean(), f"all groups are in sync:\n{nbdinfo.text()}")


def stale(mirror):
    """A group that was faulty at the end is not taken to be equal: it is copied."""
    ctl("fail data 1")
    mirror.disk.write(1 << 20, os.urandom(1 << 20))
    ctl("down data")
    ctl("up data --assume-equal", status=REFUSED, says="group 1 is known not to be equal")
    ctl("up data")
    ctl("wait data --timeout 60")
    mirror.check_same()
    ctl("up data")


def crashed(mirror):
    """A device that was not stopped in order: nobody knows who is current."""
    mirror.disk.write(0, os.urandom(1 << 20))
    ctl("fail data 0")
    mirror.disk.write(1 << 20, os.urandom(1 << 20))
    ctl("reset data", says="must be told which group is current")
    for _ in range(2):
        ctl("up data", status=REFUSED, says="nobody knows which groups are in sync")
    ctl("up data --source 7", status=NOT_THERE, says="has no group 7")
    check.equal(nbdinfo.devices(), [], "devices")
    # That holds for a device that is made anew by hand, too: neither up nor down takes it for the one that ran.
    for group, server in enumerate(mirror.servers):
        ctl("connect", "data", str(group), f"nbd://{server.endpoint}/{server.export}", "--channels", "2")
        ctl("up data", status=REFUSED, says="nobody knows which groups are in sync")
    ctl("down data")
    ctl("up data", status=REFUSED, says="nobody knows which groups are in sync")
    wanted = mirror.servers[1].store.read(1 << 20, 1 << 20)
    ctl("up data --source 1")
    ctl("wait data --timeout 60")
    check.that(mirror.disk.read(1 << 20, 1 << 20) == wanted, "the mirror has what the source had")
    mirror.check_same()
    ctl("up data")


def one_server(mirror):
    """A server that is not there is waited for, and then done without; it joins by another up."""
    ctl("down data")
    mirror.servers[1].kill()
    ctl("up data --wait 1", says="when the server is back: enbdctl up data")
    ctl("status data", status=DEGRADED, says="1 of 2 groups in sync")
    mirror.disk.write(0, os.urandom(1 << 20))
    mirror.servers[1].start()
    ctl("up data")
    ctl("wait data --timeout 60")
    check.equal(len(mirror.status().channels), 4, "channels")
    ctl("down data")
    for server in mirror.servers:
        server.kill()
    ctl("up data --wait 0", status=REFUSED, says="no group that is current can be connected")
    check.equal(nbdinfo.devices(), [], "devices")
    up_that_waits(mirror.servers, 120)
    check.that(mirror.status().is_clean(), f"all groups are in sync:\n{nbdinfo.text()}")


def interrupted(mirror):
    """An up that is killed half way: another one goes on."""
    ctl("down data")
    mirror.servers[1].pause()
    half = subprocess.Popen(["enbdctl", "up", "data"], stderr=subprocess.DEVNULL)
    nbdinfo.wait_until(lambda status: len(status.of_group(1)) > 0, 30, "group 1 is being connected")
    half.kill()
    half.wait(60)
    mirror.servers[1].resume()
    check.equal(mirror.status().enabled, False, "enabled")
    ctl("up data")
    status = mirror.status()
    check.that(status.enabled and status.is_clean(), f"all groups are in sync:\n{nbdinfo.text()}")
    check.equal(len(status.channels), 4, "channels")


def at_once(mirror):
    """Two at once do what one does."""
    ctl("down data")
    two_ups(60)
    status = mirror.status()
    check.that(status.enabled and status.is_clean(), f"all groups are in sync:\n{nbdinfo.text()}")
    check.equal(len(status.channels), 4, "channels")
