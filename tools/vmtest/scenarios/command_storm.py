# SPDX-License-Identifier: GPL-2.0
"""Several writers throw random commands at two devices at once, while others read the disks and the status: every command ends in
bounded time, with success or an errno that it may have, nothing hangs, and afterwards a fresh device works."""

import os
import random
import threading
import time

from lib import check, nbdinfo
from lib.disk import Disk
from lib.mirror import Mirror
from lib.server import Nbdkit
from lib.store import Store

LIMIT_S = 180
SECONDS = 15
COMMAND_S = 30
# ENOENT EINTR EIO ENXIO EBUSY ENODEV EINVAL ENOSPC ECONNABORTED ECONNRESET ENOTCONN ETIMEDOUT ECONNREFUSED
ERRNOS = {2, 4, 5, 6, 16, 19, 22, 28, 103, 104, 107, 110, 111}


class Storm:
    """Threads that run until the time is over."""

    def __init__(self, servers):
        self.servers = servers
        self.end = time.monotonic() + SECONDS
        self.failures, self.done, self.refused = [], 0, 0

    def _loop(self, step, seed):
        dice = random.Random(seed)
        try:
            while time.monotonic() < self.end and not self.failures:
                step(dice)
        except BaseException as error:
            self.failures.append(error)

    def command(self, dice):
        """One random command."""
        letter, group = dice.choice("ab"), dice.randrange(3)
        server = self.servers[group]
        connect = f"connect[{letter}]={group} {server.endpoint} name={server.export} channels={dice.randrange(1, 4)}"
        line = dice.choice((
            connect, connect, f"enable[{letter}]=1", f"enable[{letter}]=1", f"enable[{letter}]=0", f"setfaulty[{letter}]={group}",
            f"hotadd[{letter}]={group}", f"hotadd[{letter}]={group}", f"hotadd[{letter}]={group} full",
            f"hotremove[{letter}]={group}", f"disconnect[{letter}]={group}", f"reset[{letter}]=1", f"blocksize[{letter}]=1024",
        ))
        with check.within(COMMAND_S, line):
            try:
                nbdinfo.command(line)
                self.done += 1
            except OSError as error:
                check.that(error.errno in ERRNOS, f"errno {error.errno} of {line}")
                self.refused += 1

    def use(self, dice):
        """Opens a disk and uses it, if it is there."""
        disk = Disk(dice.choice("ab"))
        try:
            with disk.open() as opened:
                for _ in range(dice.randrange(1, 12)):
                    opened.write(dice.randrange(200) * 4096, os.urandom(8192))
                    opened.read(dice.randrange(200) * 4096, 8192)
                opened.flush()
        except OSError as error:
            # No device, just taken away, or no group left.
            check.that(error.errno in (2, 5, 6, None), f"errno {error.errno} of I/O")

    def look(self, dice):
        """Reads the status."""
        nbdinfo.status(dice.choice("abc"))

    def run(self):
        """All of it."""
        steps = [self.command] * 4 + [self.use] * 2 + [self.look]
        threads = [threading.Thread(target=self._loop, args=(step, seed), daemon=True) for seed, step in enumerate(steps)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS + 2 * COMMAND_S)
            check.that(not thread.is_alive() or self.failures, "every thread ends")
        if self.failures:
            raise self.failures[0]


def run():
    servers = [Nbdkit(Store(f"s{number}", 1 << 20)).start() for number in range(3)]
    storm = Storm(servers)
    storm.run()
    check.that(storm.done > 20 and storm.refused > 20, f"enough commands: {storm.done} done, {storm.refused} refused")
    for letter in nbdinfo.devices():
        nbdinfo.command(f"reset[{letter}]=1")
    with Mirror() as mirror:
        mirror.disk.write(0, os.urandom(65536))
        mirror.check_same()
    for server in servers:
        server.stop()
