# SPDX-License-Identifier: GPL-2.0
"""Three writers overwrite the same few blocks at once, many requests deep, over servers of two kinds: whatever the blocks hold in
the end, all stores hold the same. Then the same with a server that stops in between, so that all of them wait for it, with a
group that comes back, and with a scheduler (where there is one), which gives a request that is brought again another number."""

import subprocess

from lib import check
from lib.mirror import Mirror
from lib.program import run as run_program
from lib.server import Nbdkit, QemuNbd
from lib.store import check_same

LIMIT_S = 180
SIZE = 4 << 20
AREA = 256 << 10
BYTES = 6 << 20


def fio(disk):
    """The command that has three jobs write so many bytes there, each."""
    return ["fio", "--name=same", f"--filename={disk.path}", "--ioengine=libaio", "--direct=1", "--rw=randwrite",
            "--bsrange=4k-64k", "--iodepth=8", f"--size={AREA}", f"--io_size={BYTES}", "--numjobs=3", "--norandommap",
            "--randrepeat=0", "--refill_buffers"]


def run():
    with Mirror(kinds=[Nbdkit, QemuNbd, Nbdkit], size=SIZE) as mirror:
        run_program(*fio(mirror.disk), limit=150)
        settled(mirror, "at rest")
        schedule(mirror.disk)
        interrupted(mirror)
        settled(mirror, "after a server stopped and a group came back")
        mirror.disable()


def schedule(disk):
    """Gives it a scheduler, if the kernel has one."""
    path = f"/sys/block/{disk.name}/queue/scheduler"
    with open(path, encoding="ascii") as file:
        names = [name for name in file.read().split() if "none" not in name]
    for name in names[:1]:
        with open(path, "w", encoding="ascii") as file:
            file.write(name.strip("[]"))


def interrupted(mirror):
    """Server 1 stops until everybody waits for it; group 2 is away for a while."""
    writers = subprocess.Popen(fio(mirror.disk), stdout=subprocess.DEVNULL)
    for _ in range(3):
        done = mirror.status().requested
        mirror.wait_until(lambda s, done=done: s.requested > done + 100, 60, "the writers work")
        mirror.servers[1].pause()
        mirror.command("setfaulty=2")
        mirror.wait_until(lambda s: s.queued_current >= 3, 20, "requests wait")
        mirror.servers[1].resume()
        mirror.resync(2)
    check.equal(writers.wait(150), 0, "exit status of the writers")


def settled(mirror, when):
    """Nothing is on its way, and the stores are the same."""
    mirror.wait_until(lambda s: s.is_clean() and s.pending == 0, 60, f"all is clean {when}")
    check_same(mirror.stores)
