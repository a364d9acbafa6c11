# SPDX-License-Identifier: GPL-2.0
"""/sys/block/nda/enbd: one value a file, there when programs hear of the disk, for everybody to read and for nobody to write; and
read again and again while the disk comes and goes."""

import errno
import os
import re
import threading

from lib import check
from lib.memory import Remembering
from lib.mirror import MIB, Mirror
from lib.uevents import listen

LIMIT_S = 240
DIR = "/sys/block/nda/enbd"
OF_DEVICE = ("state", "name", "groups", "in_sync", "uuid", "generation")
FILES = {*OF_DEVICE, *(f"group{n}{what}" for n in range(8) for what in ("", "_missed"))}
ROUNDS = 25


def run():
    with Added() as added, Mirror() as mirror:
        check.equal(added.found(), FILES, "files when the event of the disk came")
        values(mirror)
        nobody_writes()
        comes_and_goes(mirror)
    with Remembering(size=8 * MIB, settings=("owner_check=0",)) as mirror:
        said = mirror.status()
        found = re.match(r"(\S+), generation (\w+),", said.mirror)
        check.equal((read("uuid"), read("generation")), found.groups(), "the mirror that the status tells of")


def read(name):
    """The value of a file, which has one line."""
    with open(f"{DIR}/{name}", encoding="ascii") as file:
        text = file.read()
    check.that(text.endswith("\n") and text.count("\n") == 1, f"{name} is one line: {text!r}")
    return text[:-1]


def told(*names):
    """The values of these files."""
    return tuple(read(name) for name in names)


def values(mirror):
    """They follow what happens."""
    check.equal(told(*OF_DEVICE), ("ok", "", "2", "2", "", ""), "a device that is well")
    check.equal(told("group0", "group1", "group2", "group7"), ("in_sync", "in_sync", "absent", "absent"), "its groups")
    mirror.command("name=data", "setfaulty=1")
    mirror.disk.write(0, os.urandom(64 << 10), os.O_DIRECT)
    check.equal(told("state", "name", "groups", "in_sync"), ("degraded", "data", "2", "1"), "after a group was set faulty")
    check.equal(told("group0", "group1"), ("in_sync", "faulty"), "its groups after that")
    missed = mirror.status().dirty_columns[1] * mirror.status().blocksize
    check.equal(told("group0_missed", "group1_missed", "group7_missed"), ("0", str(missed), "0"), "what they miss, in bytes")
    mirror.resync(1)
    check.equal(told("state", "in_sync", "group1_missed"), ("ok", "2", "0"), "after the resync")


def nobody_writes():
    """Nor root."""
    for name in FILES:
        check.equal(os.stat(f"{DIR}/{name}").st_mode & 0o777, 0o444, f"mode of {name}")
    with check.refused(errno.EACCES, "a write"), open(f"{DIR}/state", "w", encoding="ascii"):
        pass


def comes_and_goes(mirror):
    """Whoever reads meanwhile gets a value, or is told that the file is gone, and keeps nobody waiting."""
    over, reads, wrong = threading.Event(), [], []

    def reader():
        while not over.is_set():
            for name in FILES:
                try:
                    reads.append(read(name))
                except OSError as error:
                    if error.errno not in (errno.ENOENT, errno.ENODEV):
                        wrong.append(error)

    threads = [threading.Thread(target=reader) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(ROUNDS):
            mirror.disable()
            check.that(not os.path.exists(DIR), "no files of a device that is disabled")
            mirror.command("enable=1")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    check.equal(wrong, [], "errors of those who read")
    check.that(len(reads) > len(FILES), f"values that were read meanwhile: {len(reads)}")


class Added:
    """Waits for the event of the disk in a thread, and looks at once what is there."""

    def __enter__(self):
        self._socket = listen()
        self._socket.settimeout(60)
        self._found = None
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._thread.join()
        self._socket.close()

    def _look(self):
        while not self._socket.recv(65536).startswith(b"add@/devices/virtual/block/nda\0"):
            pass
        self._found = set(os.listdir(DIR))

    def found(self):
        """The files."""
        self._thread.join()
        return self._found
