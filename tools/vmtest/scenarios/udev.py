# SPDX-License-Identifier: GPL-2.0
"""What packaging/ has for udev and systemd. With a real udevd: links by name, UUID, label and partition, which follow what is
written; a device that holds its requests is not read, and comes back. The rules, the unit and what the generator makes pass the
verifiers of systemd, which is not run here."""

import contextlib
import os
import shutil
import struct
import subprocess

from lib import check
from lib.mirror import Mirror
from lib.program import attempt
from lib.program import run as run_program

LIMIT_S = 240

PACKAGING = "/src/packaging"
ETC = "/etc/enbd"
UNIT = "enbd@.service"
# Where each file is in a system that has the package.
PLACES = {
    "59-enbd.rules": "/usr/lib/udev/rules.d/59-enbd.rules",
    UNIT: f"/usr/lib/systemd/system/{UNIT}",
    "enbd-generator": "/usr/lib/systemd/system-generators/enbd-generator",
    "udev-device": "/usr/lib/enbd/udev-device",
}
PROGRAM = "/usr/sbin/enbdctl"
UUID = "5f3ce7a1-0f3a-4a63-9b6e-9b1d5f1c2a77"
BY_UUID = f"/dev/disk/by-uuid/{UUID}"
SIGNATURE = 0x1D2C3B4A


def run():
    check.that(shutil.which("enbdctl"), "enbdctl is in the VM: `scripts/vm tools/vmtest/run` builds it")
    with installed():
        verifiers()
        generator()
        with udevd(), Mirror(enable=False, size=16 << 20) as mirror:
            configure("data")
            mirror.command("enable=1")
            named()
            renamed(mirror)
            file_system(mirror)
            held(mirror)
            partition(mirror)
            mirror.disable()
            gone("/dev/enbd/data", "/dev/enbd/data-part1")


@contextlib.contextmanager
def installed():
    """The files are where the package has them; all of it is gone in the end."""
    try:
        for name, place in PLACES.items():
            os.makedirs(os.path.dirname(place), exist_ok=True)
            shutil.copy(f"{PACKAGING}/{name}", place)
        os.symlink(shutil.which("enbdctl"), PROGRAM)
        yield
    finally:
        for place in (*PLACES.values(), PROGRAM):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(place)
        shutil.rmtree(ETC, ignore_errors=True)


def configure(name, more="auto = true"):
    """A configuration of that name. Nobody brings it up here."""
    os.makedirs(ETC, exist_ok=True)
    with open(f"{ETC}/{name}.toml", "w", encoding="utf-8") as file:
        file.write(f'device = "a"\n{more}\n[[group]]\nuri = "nbd://127.0.0.1/x"\n')


def verifiers():
    """udev and systemd have nothing to say against the files."""
    run_program("udevadm", "verify", "--resolve-names=late", PLACES["59-enbd.rules"])
    told = attempt("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", f"{PLACES[UNIT]}")
    check.equal((told.returncode, told.stdout + told.stderr), (0, ""), "systemd-analyze verify")


def generator():
    """A unit is wanted for each file that says so, and for no other."""
    configure("data", "auto=true   # at boot")
    configure("other-one", "  auto = true")
    configure("later", "auto = false")
    configure("table", "[settings]\nauto = true")
    os.mkdir("units")
    run_program(PLACES["enbd-generator"], "units")
    wanted = sorted(os.listdir("units/remote-fs.target.wants"))
    check.equal(wanted, ["enbd@data.service", "enbd@other-one.service"], "units that are wanted at boot")
    for unit in wanted:
        check.equal(os.readlink(f"units/remote-fs.target.wants/{unit}"), PLACES[UNIT], unit)
    drop_in = r"units/dev-enbd-other\x2done.device.d/enbd.conf"
    with open(drop_in, encoding="ascii") as file:
        check.that("Wants=enbd@other-one.service\n" in file.read(), f"{drop_in} wants the unit")
    shutil.rmtree(ETC)
    run_program(PLACES["enbd-generator"], "none")
    check.that(not os.path.exists("none"), "without configurations nothing is made")


@contextlib.contextmanager
def udevd():
    """udev's daemon, for what happens from now on."""
    os.makedirs("/run/udev", exist_ok=True)
    with open("udevd.log", "w", encoding="utf-8") as log:
        daemon = subprocess.Popen(["/usr/lib/systemd/systemd-udevd"], stdout=log, stderr=log)
    try:
        check.until(lambda: attempt("udevadm", "control", "--ping").returncode == 0, 60, "udevd answers")
        yield
    finally:
        daemon.terminate()
        daemon.wait(60)


def linked(link, device):
    """Waits until a link leads to a device."""
    check.until(lambda: os.path.realpath(link) == device and os.path.exists(link), 30, f"{link} leads to {device}")


def gone(*links):
    """Waits until they are not there."""
    check.until(lambda: not any(map(os.path.lexists, links)), 30, f"none of {links} is there")


def settle():
    """Waits until udev has done all that it was told of. Its own limit for an event is 180 s."""
    run_program("udevadm", "settle", "--timeout=40")


def properties(device):
    """What udev knows of a device."""
    lines = run_program("udevadm", "info", "--query=property", f"--name={device}").splitlines()
    return dict(line.split("=", 1) for line in lines)


def named():
    """The name in /etc/enbd is a link as soon as the disk is there."""
    linked("/dev/enbd/data", "/dev/nda")
    linked("/dev/disk/by-id/enbd-data", "/dev/nda")
    settle()
    known = properties("/dev/nda")
    check.equal(known.get("ENBD_NAME"), "data", "ENBD_NAME")
    check.that("ID_FS_TYPE" not in known, f"an empty disk has no file system: {known}")


def renamed(mirror):
    """The module's own name goes before that of the configuration, at once."""
    mirror.command("name=other.one")
    linked("/dev/enbd/other.one", "/dev/nda")
    gone("/dev/enbd/data")
    mirror.command("name=data")
    linked("/dev/enbd/data", "/dev/nda")
    gone("/dev/enbd/other.one")


def file_system(mirror):
    """Who closes the disk after a write makes udev look again."""
    run_program("mkfs.ext4", "-q", "-U", UUID, "-L", "mirrored", mirror.disk.path)
    linked(BY_UUID, "/dev/nda")
    linked("/dev/disk/by-label/mirrored", "/dev/nda")
    run_program("blkid", "-o", "value", "-s", "TYPE", mirror.disk.path)
    settle()
    os.mkdir("mnt")
    run_program("mount", f"UUID={UUID}", "mnt")
    run_program("umount", "mnt")
    settle()


def held(mirror):
    """All servers are gone: requests wait, and udev does not make one. What was ready stays so, lest systemd unmounts it; a disk
    that has not been looked at yet is not ready before it is released."""
    for server in mirror.servers:
        server.kill()
    known = known_as("held")
    check.equal(mirror.status().pending, 0, "requests that wait")
    check.equal((known.get("SYSTEMD_READY"), known.get("ID_FS_UUID")), (None, UUID), "what is known of a disk that was ready")
    for link in (BY_UUID, "/dev/enbd/data"):
        linked(link, "/dev/nda")
    # Nobody is there to flush.
    with contextlib.suppress(OSError):
        mirror.disable()
    gone(BY_UUID)
    mirror.command("enable=1")
    linked("/dev/enbd/data", "/dev/nda")
    known = known_as("held")
    check.equal(known.get("SYSTEMD_READY"), "0", "a disk that was never read is not ready")
    check.that(not os.path.lexists(BY_UUID), "nor has it links by what is in it")
    for server in mirror.servers:
        server.start()
    # Nobody but the module tells udev.
    linked(BY_UUID, "/dev/nda")
    check.that("SYSTEMD_READY" not in properties("/dev/nda"), "the device is ready again")
    mirror.wait_until(lambda status: all(channel.is_up for channel in status.channels), 60, "all channels are up")
    mirror.wait_in_sync()
    known_as("ok")
    # While udev is at an event it does not notice who closes the disk.
    settle()


def known_as(state):
    """Waits until udev knows that the device fares so, and gives all that it knows."""

    def look():
        known = properties("/dev/nda")
        return known if known.get("ENBD_STATE") == state else None

    return check.until(look, 60, f"udev knows of a device that is {state}")


def partition(mirror):
    """A partition table is read again when it was written."""
    entry = struct.pack("<B3sB3sII", 0, b"\0\0\0", 0x83, b"\0\0\0", 2048, 8192)
    table = bytes(440) + struct.pack("<IH", SIGNATURE, 0) + entry + bytes(48) + b"\x55\xaa"
    mirror.disk.write(0, table + bytes(8192 - len(table)))
    linked("/dev/enbd/data-part1", "/dev/nda1")
    linked(f"/dev/disk/by-partuuid/{SIGNATURE:08x}-01", "/dev/nda1")
    gone(BY_UUID)
    settle()
