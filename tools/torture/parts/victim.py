# SPDX-License-Identifier: GPL-2.0
"""A device that is tortured: a mirror over servers, each at a site of its own, and the load on it."""

import errno
import itertools
import threading
import time

from lib import check
from lib.mirror import Mirror
from lib.store import BLOCK, check_same, differing_blocks
from parts.site import Site

TIMEOUT_S = 6
CONNECT_TIMEOUT_S = 5
# The documented bounds (Documentation/procfs.rst); those who wait for nothing get a second.
BOUNDS_S = {"connect": CONNECT_TIMEOUT_S + 2, "disconnect": 5, "hotremove": 5, "reset": 5, "enable": 3 * TIMEOUT_S}
# A channel that was down for long tries again after 30 s at most, then it connects; what was sent before is retransmitted by
# TCP after about as long as the cable was cut, or fenced after less than three times the timeout.
HANG_S = 30 + CONNECT_TIMEOUT_S + 5 * TIMEOUT_S
RECOVER_S = 300
# Enough that a resync does not take most of the time.
RESYNC_KIB = 16384
# Between two looks at the status, which cost the VM a lot.
NAP_S = 0.5
# What metadata takes of an export, and the commands that read or write it.
METADATA = 1 << 20
METADATA_VERBS = ("connect", "create", "enable", "hotadd")
# Blocks that differ whose story is told.
TOLD = 3


class Victim(Mirror):
    """Made before the module knows of it; `with` connects and enables it."""

    def __init__(self, letter, watch, kinds, size, remembers=False):
        self.watch = watch
        # With metadata behind the device.
        self.size, self.remembers = size, remembers
        self.sites = [Site() for _ in kinds]
        make = [self._maker(kind, site) for kind, site in zip(kinds, self.sites, strict=True)]
        settings = [f"timeout={TIMEOUT_S}", f"connect_timeout={CONNECT_TIMEOUT_S}", f"resync_min={RESYNC_KIB}"]
        super().__init__(letter, kinds=make, size=size + METADATA * remembers, settings=settings, enable=not remembers)
        self.load = None
        self.is_cut, self.served_since, self.hang_s = False, 0.0, HANG_S
        self.lock = threading.Lock()
        self.active = {}

    @staticmethod
    def _maker(kind, site):
        return lambda store: kind(store, site.endpoint, namespace=site.name)

    def __enter__(self):
        super().__enter__()
        if self.remembers:
            self.command("create=0 equal", "enable=1")
        return self

    @property
    def writer(self):
        """The writer, once there is one."""
        return self.load and self.load.writer

    def command(self, *lines):
        verb = lines[0].split("=", 1)[0]
        with self.watch.bounded(verb, f"{self.letter}: {' '.join(lines)}", sum(self._bound(line) for line in lines)):
            super().command(*lines)

    def _bound(self, line):
        verb = line.split("=", 1)[0]
        # What a command reads and writes of metadata has a time limit, and the record of it another one.
        more = CONNECT_TIMEOUT_S + TIMEOUT_S if self.remembers and verb in METADATA_VERBS else 0
        return BOUNDS_S.get(verb, 1) + more

    def try_command(self, *lines, refusals=(errno.EBUSY, errno.ENOTCONN, errno.ETIMEDOUT)):
        """A command that may be refused as the state of the group forbids it just now; says whether it was carried out."""
        try:
            self.command(*lines)
        except OSError as error:
            check.that(error.errno in refusals, f"{lines}: {error}")
            return False
        return True

    def connect_second(self, group, channels=1):
        """Adds channels by the server's second address. They come up one after the other, and each has to show what it leads to:
        where the machine is so busy that not all of them do in time, there is none, and it is tried again."""
        address = self.sites[group].address(1)
        line = f"connect={group} {address} name={self.servers[group].export} channels={channels}"

        def done():
            if self.try_command(line, refusals=(errno.ETIMEDOUT,)):
                return True
            left = [channel.index for channel in self.status().channels if channel.addr == address]
            check.equal(left, [], f"channels of {self.letter} that are left of a refused connect to {address}")
            return False

        check.until(done, RECOVER_S, f"{self.letter}: {line}", NAP_S)

    def hotadd(self, group, full=""):
        """Brings a group back that the administrator set faulty; waits while a lost channel may still write."""

        def done():
            return self.status().mark(group) != "F" or self.try_command(f"hotadd={group}{full}")

        check.until(done, RECOVER_S, f"group {group} of {self.letter} can be added", NAP_S)

    def dirty(self, group):
        """Blocks that are marked for a group; all groups are there."""
        return self.status().dirty_columns[group]

    def wait_dirty(self, group, blocks):
        """Waits until so many blocks are marked."""
        check.until(lambda: self.dirty(group) >= blocks, HANG_S, f"writes mark blocks of group {group} of {self.letter}", NAP_S)

    def is_whole(self, status, group):
        """Whether the group is in sync with all channels up."""
        channels = status.of_group(group)
        return bool(channels) and not status.mark(group) and all(channel.is_up for channel in channels)

    def wait_whole(self, groups):
        """Waits until these groups are in sync with all channels up."""
        what = f"groups {groups} of {self.letter} are whole"
        self.wait_until(lambda s: all(self.is_whole(s, g) for g in groups), RECOVER_S, what)

    def connections(self):
        """The marks of the groups, and how often each channel came up again."""
        now = self.status()
        return now.marks(), [(channel.group, channel.addr, channel.reconnects) for channel in now.channels]

    def wait_answered(self):
        """Waits until each channel was answered, or has nothing that could be: TCP finds out late that a line is healed, and until
        then a channel that is up may be lost for the fault before."""
        before = self.status().bytes

        def is_answered(now):
            sums = ([one["despatched_read"] + one["despatched_written"] for one in lines] for lines in (before, now.bytes))
            return all(old != new or one["pending"] == 0 for old, new, one in zip(*sums, now.bytes, strict=True))

        self.wait_until(is_answered, RECOVER_S, f"all channels of {self.letter} are answered")

    def wait_until(self, predicate, seconds, what):

        def look():
            now = self.status()
            return now if predicate(now) else None

        return check.until(look, seconds, what, NAP_S)

    def wait_calm(self):
        """Waits until everything is as if nothing had ever happened."""
        self.wait_whole(range(len(self.servers)))
        self.wait_until(lambda s: s.is_clean() and s.pending == 0, RECOVER_S, f"device {self.letter} is clean")

    def compare(self):
        """Fails unless all stores hold the same. Only while nothing writes."""
        try:
            check_same(self.stores, self.size)
        except check.Failure:
            self._tell_differences()
            raise

    def _tell_differences(self):
        """What was written to the first blocks that differ, and what they hold."""
        pids = {server.store.name: server.process and server.process.pid for server in self.servers}
        print(f"servers: {pids}")
        for block in itertools.islice(differing_blocks(self.stores, self.size), TOLD):
            for store in self.stores:
                print(f"--- block {block} of {store.name}: {store.read(block * BLOCK, BLOCK)[::16].hex()}")
            print("\n".join(self.watch.history.of_bytes(block * BLOCK, BLOCK)), flush=True)

    def cut(self):
        """From now on no group can serve."""
        self.is_cut = True

    def restored(self):
        """From now on a group can."""
        self.served_since = time.monotonic()
        self.is_cut = False

    def evidence(self):
        """If the writer saw a difference on the raw disk: what each store has there."""
        words = (self.writer.trouble or "none").split()
        if words[0] != "DIFF" or not self.load.RAW:
            return f"device {self.letter}: the writer saw no difference on the raw disk"
        block = int(words[2])
        lines = [f"group {g}: {self.writer.decode(block, s.path, block * 4096)}" for g, s in enumerate(self.stores)]
        return "what the stores have there now:\n" + "\n".join(lines)

    def kill_load(self):
        """Ends the load at once."""
        if self.load:
            self.load.kill()

    def take_down(self):
        """Takes it apart; nothing uses the disk any more."""
        self.disable()
        self.compare()
        self.command("reset=1")
        for server, site in zip(self.servers, self.sites, strict=True):
            server.stop()
            site.remove()
