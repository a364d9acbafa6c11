# SPDX-License-Identifier: GPL-2.0
"""/proc/nbdinfo: the lines, their order and their figures, read at once, byte by byte, from the middle, and by several readers
while devices come and go; with 26 devices, one of them with 32 channels."""

import os
import re
import threading

from lib import check, nbdinfo
from lib.disk import Disk
from lib.mirror import Mirror
from lib.server import Nbdkit

LABELS = [
    "State", "Queued", "Blocksize", "Size", "Blocks", "Groups", "Sockets", "Requested", "Despatched", "Errored", "Pending",
    "Dirty",
]


def run():
    with Mirror("k", settings=["blocksize=1024"]) as mirror:
        added = ["Channel"] * 4 + ["Bytes"] * 4 + ["Group"] * 2 + ["Events", "Settings"]
        check.equal(mirror.status().labels, LABELS + added, "labels and their order")
        figures(mirror)
        in_pieces()
        check.equal(os.stat(nbdinfo.PATH).st_mode & 0o777, 0o644, "mode of /proc/nbdinfo")
        readers(mirror)
    all_devices()


def figures(mirror):
    """Reads and writes are counted in blocks, a write once for each group."""
    before = mirror.status()
    with mirror.disk.open() as disk:
        disk.write(0, bytes(300 * 1024))
        disk.read(0, 100 * 1024)
    now = mirror.status()
    check.equal(now.requested - before.requested, 700, "blocks requested")
    check.equal(now.despatched - before.despatched, 700, "blocks despatched")
    check.equal(now.requested_read - before.requested_read, 100, "blocks of reads")
    written = sum(now.bytes[at]["despatched_written"] - before.bytes[at]["despatched_written"] for at in range(4))
    read = sum(now.bytes[at]["requested_read"] - before.bytes[at]["requested_read"] for at in range(4))
    check.equal((written, read), (600 << 10, 100 << 10), "bytes of writes and of reads")
    check.equal((now.errored, now.pending, now.queued_current), (0, 0, 0), "blocks errored and pending, requests queued")
    check.that(now.queued_max >= 1, "the highest number of requests at once")
    line = re.search(r"\[k\] Requested:\t(.*)", nbdinfo.text())[1]
    form = r"\d+(\.\d{4}K)?(\t\(\d+(\.\d\dK)?\)){4} \d+(\.\d{3}K)?R/\d+(\.\d{3}K)?W max \d+"
    check.that(re.fullmatch(form, line), f"form of the line: {line!r}")


def in_pieces():
    """However it is read, it is the same."""
    stable = re.compile(r"(up|down) \d+s")
    whole = stable.sub("", nbdinfo.text())
    fd = os.open(nbdinfo.PATH, os.O_RDONLY)
    single = b"".join(iter(lambda: os.read(fd, 1), b""))
    check.equal(stable.sub("", single.decode()), whole, "the status, byte by byte")
    check.equal(os.lseek(fd, 7, os.SEEK_SET), 7, "seeking")
    check.equal(stable.sub("", os.read(fd, 100000).decode()), whole[7:], "the status from its seventh byte")
    os.close(fd)


def readers(mirror):
    """Every text that is read while commands go on can be taken apart."""
    failures, stop = [], threading.Event()

    def read():
        try:
            while not stop.is_set():
                nbdinfo.status("k")
                nbdinfo.status("l")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    server = mirror.servers[0]
    for _ in range(15):
        mirror.command("setfaulty=1", "hotadd=1")
        nbdinfo.command(f"connect[l]=0 {server.endpoint} name={server.export} channels=4")
        nbdinfo.command("enable[l]=1")
        nbdinfo.command("reset[l]=1")
        mirror.wait_in_sync()
    stop.set()
    for thread in threads:
        thread.join(20)
    if failures:
        raise failures[0]


def all_devices():
    """More text than fits in a page."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    with Mirror("z", kinds=[Nbdkit, Nbdkit], channels=16, enable=False) as mirror:
        nbdinfo.command(*(f"timeout[{letter}]=9" for letter in letters))
        check.equal("".join(nbdinfo.devices()), letters, "devices")
        for letter in letters:
            nbdinfo.status(letter)
        check.equal(len(mirror.status().channels), 32, "channels of z")
        check.that(len(nbdinfo.text()) > 8192, "the status is long")
        check.that("Closed" not in nbdinfo.text(), "no device is closed")
        mirror.command("enable=1")
        Disk("z").write(0, bytes(65536))
        nbdinfo.command(*(f"reset[{letter}]=1" for letter in letters[:-1]))
