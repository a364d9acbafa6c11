# SPDX-License-Identifier: GPL-2.0
"""Whoever enables or disables a device and waits for a server is killed at once. A device that was to be enabled is as before, and
nothing was recorded; one that was to be disabled stays enabled, serves its users, and takes the same command once more. One that
was to be reset takes nothing but another reset."""

import errno
import os

from lib import check, nbd, nbdinfo
from lib.afresh import reset_all
from lib.cases import case
from lib.errand import Errand
from lib.hoarder import Hoarder
from lib.impostor import Impostor
from lib.memory import DEVICE, EXPORT, Remembering
from lib.mirror import MIB, Mirror
from lib.waiting import AT_ONCE_S, Waiting

LIMIT_S = 240
# How long a server may be silent: what waits for one is killed long before.
LONG_S = 60
SETTINGS = (f"timeout={LONG_S}", f"connect_timeout={LONG_S}", "owner_check=0")
SIZE = 4 * MIB


class Two:
    """Two groups whose servers keep answers. In a `with` the mirror is there; `mirror`, `servers`, `hoarders`."""

    def __init__(self, make, size, **more):
        self.hoarders = [Hoarder(), Hoarder()]
        self.servers = [Impostor(hoarder, size=size) for hoarder in self.hoarders]
        kinds = [lambda store, server=server: server for server in self.servers]
        self.mirror = make(kinds=kinds, size=size, channels=1, settings=SETTINGS, **more)

    def __enter__(self):
        self.mirror.__enter__()
        return self

    def __exit__(self, *error):
        for hoarder in self.hoarders:
            hoarder.release()
        self.mirror.__exit__(*error)

    def kill(self, line, group):
        """Kills who writes a command, when the server of this group has kept an answer for itself."""
        Waiting(self.mirror.line(line), self.hoarders[group].has_some).kill()

    def check_enabled(self):
        """Fails unless the device is enabled, and serves users."""
        check.that(self.mirror.status().enabled, "the device is enabled")
        data = os.urandom(MIB)
        self.mirror.disk.write(MIB, data)
        check.that(self.mirror.disk.read(MIB, MIB) == data, "what was written is read")

    def begin_copy(self):
        """Group 1 comes back, and leaves a copy lying."""
        self.mirror.command("setfaulty=1")
        self.mirror.disk.write(0, os.urandom(MIB))
        self.hoarders[1].keep(lambda request: request.command == nbd.WRITE)
        self.mirror.command("hotadd=1")
        check.until(self.hoarders[1].has_some, 30, "a copy is on its way")

    def check_interrupted(self):
        """Fails unless the status says why the last command failed."""
        error = self.mirror.status().error
        check.that("interrupted" in error, f"the status says {error!r}")

    def disable(self):
        """Disables it, in order."""
        self.mirror.disable()
        check.that(not self.mirror.status().enabled, "the device is disabled")
        check.equal(self.servers[0].data[:SIZE], self.servers[1].data[:SIZE], "what the servers have")


def run():
    with case("enable=1 that reads metadata", reset_all):
        reading()
    with case("enable=0 that waits for a flush", reset_all):
        flushing()
    with case("reset=1 while a flush is still on its way", reset_all):
        reset_while_flushing()
    with case("enable=0 that waits for a record", reset_all):
        recording()
    with case("enable=0 that waits for the end of a resync", reset_all):
        resyncing()
    with case("reset=1 that waits for the channels", reset_all):
        resetting()


def reading():
    """The superblock of a group is not given out."""
    with Two(Remembering, EXPORT, enable=False) as two:
        before = [bytes(server.data) for server in two.servers]
        two.hoarders[1].keep(lambda request: request.command == nbd.READ)
        two.kill("enable=1", 1)
        check.that(not two.mirror.status().enabled, "the device is not enabled")
        two.check_interrupted()
        check.that([bytes(server.data) for server in two.servers] == before, "nothing was written")
        two.hoarders[1].release()
        # A group that is not in service yet has but two seconds to answer: its channel may have been lost.
        two.mirror.wait_until(lambda s: all(c.is_up for c in s.channels), 30, "all channels are up")
        two.mirror.command("enable=1")
        two.check_enabled()
        two.disable()


def flushing():
    """One of the servers does not answer the flush. Who disables the device once more has a flush of its own."""
    with Two(Mirror, SIZE) as two:
        two.mirror.disk.write(0, os.urandom(MIB))
        two.hoarders[1].keep(lambda request: request.command == nbd.FLUSH)
        for _ in range(2):
            two.kill("enable=0", 1)
            two.check_interrupted()
            two.check_enabled()
        again = Errand("enable=0 once more", two.mirror.disable)
        two.hoarders[1].release()
        again.join(LONG_S // 2)
        flushes = [request for request in two.servers[1].requests if request.command == nbd.FLUSH]
        check.that(len(flushes) > 1, "what was written since has a flush of its own")
        check.that(not two.mirror.status().enabled, "the device is disabled")


def reset_while_flushing():
    """It is not waited for."""
    with Two(Mirror, SIZE) as two:
        two.mirror.disk.write(0, os.urandom(MIB))
        two.hoarders[1].keep(lambda request: request.command == nbd.FLUSH)
        two.kill("enable=0", 1)
        with check.within(AT_ONCE_S, "a reset"):
            two.mirror.command("reset=1")
        check.equal(nbdinfo.devices(), [], "devices")


def recording():
    """The last group in sync does not write that the other one is out of service."""
    with Two(Remembering, EXPORT) as two:
        two.hoarders[0].keep(lambda request: request.command == nbd.WRITE and request.offset >= DEVICE)
        two.mirror.command("setfaulty=1")
        two.kill("enable=0", 0)
        check.that(two.mirror.status().enabled, "the device is enabled")
        two.check_interrupted()
        two.hoarders[0].release()
        two.check_enabled()
        two.mirror.resync(1, 60)
        two.disable()


def resyncing():
    """The group that comes back leaves a copy lying. It is given up with the resync, and comes back by itself later."""
    with Two(Mirror, SIZE) as two:
        two.begin_copy()
        two.kill("enable=0", 1)
        two.check_interrupted()
        check.that(two.mirror.status().enabled, "the device is enabled")
        two.hoarders[1].release()
        two.mirror.wait_in_sync(60)
        two.check_enabled()
        two.disable()


def resetting():
    """A channel that waits for an answer has five seconds to end: time enough to kill who waits for that."""
    with Two(Mirror, SIZE) as two:
        two.begin_copy()
        two.kill("reset=1", 1)
        two.check_interrupted()
        for line in ("enable=0", "hotadd=1", "timeout=5", "name=other"):
            with check.refused(errno.EBUSY, line):
                two.mirror.command(line)
        two.mirror.command("reset=1")
        check.equal(nbdinfo.devices(), [], "devices")
