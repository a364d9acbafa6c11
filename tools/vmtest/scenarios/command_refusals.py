# SPDX-License-Identifier: GPL-2.0
"""Commands that are well written and cannot be obeyed in the state that the device is in: the errno, one line in the log, the
last error in the status, nothing changed, the device as good as before."""

import os

from lib import check, nbdinfo
from lib.afresh import reset_all
from lib.cases import case
from lib.kmsg import Kmsg
from lib.mirror import Mirror
from lib.program import run as run_program
from lib.refusal import Refusals, snapshot
from lib.server import Nbdkit
from lib.store import Store

ENOENT, EBUSY, ENODEV, EINVAL, EFBIG, ENOSPC, ENOTCONN = 2, 16, 19, 22, 27, 28, 107


def run():
    with Kmsg() as kmsg:
        without_device(Refusals(kmsg))
        disabled(Refusals(kmsg))
        with Mirror(settings=["blocksize=1024"]) as mirror:
            refusals = Refusals(kmsg)
            in_sync(refusals, mirror)
            faulty(refusals, mirror)
            resyncing(refusals, mirror)
            while_open(refusals, mirror)
            other_servers(refusals, mirror)
            mirror.disk.write(0, os.urandom(1 << 20))
            mirror.check_same()


def without_device(refusals):
    """Commands that make no device, for one that there is not."""
    for line in ("enable[a]=1", "enable[a]=0", "setfaulty[a]=0", "hotadd[a]=0", "hotremove[a]=0", "disconnect[a]=0", "reset[a]=1"):
        with case(f"{line}, no device", reset_all):
            refusals.expect(line, ENODEV, told=False)
    check.equal(nbdinfo.devices(), [], "devices")


def disabled(refusals):
    """A device without a disk."""
    nbdinfo.command("timeout[a]=30")
    refusals.expect("enable[a]=1", ENOTCONN)
    refusals.expect("enable[a]=0", ENODEV)
    refusals.expect("disconnect[a]=0", ENOENT)
    for line in ("setfaulty[a]=0", "hotadd[a]=0", "hotremove[a]=0"):
        with case(f"{line}, no disk"):
            refusals.expect(line, ENOENT)
    nbdinfo.command("reset[a]=1")
    with Mirror(enable=False, size=(4 << 20) + 1024, settings=["blocksize=1024"]) as mirror:
        refusals.expect("blocksize[a]=4096", EINVAL)
        mirror.command("enable=1")
        check.equal(mirror.status().blocks, 4097, "blocks of an odd size")


def in_sync(refusals, mirror):
    """Both groups in sync."""
    refusals.expect("enable[a]=1", EBUSY, "a second enable")
    refusals.expect("blocksize[a]=4096", EBUSY, "another block size while enabled")
    refusals.expect("blocksize[a]=1024", EBUSY, "the same block size while enabled")
    for group in (2, 7):
        for verb in ("setfaulty", "hotadd", "hotremove", "disconnect"):
            with case(f"{verb}[a]={group}, no group"):
                refusals.expect(f"{verb}[a]={group}", ENOENT)
    refusals.expect("hotadd[a]=0", EBUSY)
    refusals.expect("hotadd[a]=1 full", EBUSY)
    refusals.expect("hotremove[a]=1", EBUSY)
    refusals.expect("disconnect[a]=1 127.0.0.1:9", ENOENT)
    mirror.command("setfaulty=1", "hotadd=1")
    mirror.wait_in_sync()


def faulty(refusals, mirror):
    """One group faulty, the other the last good one."""
    mirror.command("setfaulty=1")
    mirror.disk.write(0, os.urandom(1 << 20))
    before = snapshot()
    mirror.command("setfaulty=1")
    check.equal(snapshot(), before, "status after a second setfaulty")
    refusals.expect("setfaulty[a]=0", EBUSY, "setfaulty of the last good group")
    refusals.expect("hotremove[a]=0", EBUSY)
    refusals.expect("disconnect[a]=0", EBUSY, "disconnect of the last good group")
    refusals.expect(f"disconnect[a]=0 {mirror.servers[0].endpoint}", EBUSY)
    mirror.disk.read(0, 1 << 20)


def resyncing(refusals, mirror):
    """One group on its way back, slowly."""
    mirror.command("resync_max=64", "hotadd=1")
    mirror.wait_until(lambda s: s.resyncs, 10, "the resync runs")
    # Long enough that the figures of the resync stand still in between.
    with check.refused(EBUSY, "hotadd of a group that is resyncing"):
        mirror.command("hotadd=1")
    with check.refused(EBUSY, "hotremove of a group that is resyncing"):
        mirror.command("hotremove=1")
    with check.refused(EBUSY, "setfaulty of the source of a resync"):
        mirror.command("setfaulty=0")
    with check.refused(EBUSY, "disconnect of the source of a resync"):
        mirror.command("disconnect=0")
    mirror.command("resync_max=0")
    mirror.wait_in_sync()


def while_open(refusals, mirror):
    """The disk open, and mounted."""
    with mirror.disk.open(os.O_RDONLY):
        refusals.expect("enable[a]=0", EBUSY, "enable=0 while open")
        refusals.expect("reset[a]=1", EBUSY, "reset while open")
    run_program("mkfs.ext4", "-q", mirror.disk.path)
    os.mkdir("mnt")
    run_program("mount", mirror.disk.path, "mnt")
    # Nothing may change in the status, so the file system must not write by itself, as ext4 does after a mkfs.
    run_program("fsfreeze", "--freeze", "mnt")
    refusals.expect("enable[a]=0", EBUSY, "enable=0 while mounted")
    refusals.expect("reset[a]=1", EBUSY, "reset while mounted")
    run_program("fsfreeze", "--unfreeze", "mnt")
    with open("mnt/file", "wb") as file:
        file.write(b"x" * 100000)
    run_program("umount", "mnt")


def other_servers(refusals, mirror):
    """Servers that do not fit: another size for the group, too small for the device, odd; and too many channels."""
    for size, group, number in (((8 << 20), 1, EINVAL), (2 << 20, 2, EFBIG), ((4 << 20) + 512, 2, EINVAL)):
        with case(f"connect of {size} bytes"), Nbdkit(Store(f"of{size}", size)) as server:
            refusals.expect(
                f"connect[a]={group} {server.endpoint} name={server.export}", number, phrase=r".*connect refused"
            )
    server = mirror.servers[1]
    mirror.connect(1, channels=14)
    mirror.connect(1, channels=14)
    check.equal(len(mirror.status().channels), 32, "channels")
    line = f"connect[a]=1 {server.endpoint} name={server.export}"
    refusals.expect(line, ENOSPC, "a channel too many")
