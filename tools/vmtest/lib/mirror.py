# SPDX-License-Identifier: GPL-2.0
"""A device over servers: what most scenarios begin with."""

import contextlib
import errno

from lib import check, module, nbdinfo
from lib.disk import Disk
from lib.server import Nbdkit
from lib.store import Store, check_same

MIB = 1 << 20


class Mirror:
    """A device with one server, on a store of its own, for each group. In a `with` it is connected, and taken apart in the end."""

    def __init__(self, letter="a", *, kinds=(Nbdkit, Nbdkit), size=4 * MIB, channels=2, settings=(), enable=True):
        self.letter, self.channels, self.settings, self._enable = letter, channels, settings, enable
        self.disk = Disk(letter)
        self.servers = []
        for group, make in enumerate(kinds):
            self.servers.append(make(Store(f"{letter}{group}", size)))

    @property
    def stores(self):
        """The stores, by group."""
        return [server.store for server in self.servers]

    def command(self, *lines):
        """Writes commands, `verb=value`, for this device."""
        nbdinfo.command(*(self.line(line) for line in lines))

    def line(self, line):
        """`verb=value` as it is written for this device."""
        verb, value = line.split("=", 1)
        return f"{verb}[{self.letter}]={value}"

    def connect(self, group, channels=None, server=None):
        """Connects a group to its server."""
        server = server or self.servers[group]
        count = channels or self.channels
        self.command(f"connect={group} {server.endpoint} name={nbdinfo.spell(server.export)} channels={count}")

    def add(self, server):
        """Takes a server, started here, for the next group; connects it."""
        server.start()
        self.servers.append(server)
        self.connect(len(self.servers) - 1)
        return len(self.servers) - 1

    def status(self):
        """What /proc/nbdinfo says."""
        return nbdinfo.status(self.letter)

    def wait_until(self, predicate, seconds, what):
        """Waits until the predicate holds for the status."""
        return nbdinfo.wait_until(predicate, seconds, what, self.letter)

    def wait_in_sync(self, seconds=30):
        """Waits until all groups are in sync."""
        return nbdinfo.wait_in_sync(seconds, self.letter)

    def wait_looked_at(self):
        """Waits until enbd has looked at a device of one group that was enabled: nobody but users asks its server then."""
        module.wait_looked_at(self.letter)

    def resync(self, group, seconds=30):
        """Brings a group back, and waits for it."""
        self.command(f"hotadd={group}")
        self.wait_in_sync(seconds)

    def hotadd(self, group, full=""):
        """Begins to bring a group back, with " full" all of it; waits while its last resync is still ending."""

        def done():
            try:
                self.command(f"hotadd={group}{full}")
            except OSError as error:
                check.equal(error.errno, errno.EBUSY, f"errno of hotadd of group {group} of {self.letter}")
                return False
            return True

        check.until(done, 20, f"group {group} of {self.letter} can be brought back")

    def disable(self):
        """Takes the disk away."""
        self.command("enable=0")

    def check_same(self):
        """Disables the device, and fails unless all stores hold the same."""
        self.disable()
        check_same(self.stores)

    def __enter__(self):
        for server in self.servers:
            server.launch()
        for server in self.servers:
            server.wait()
        if self.settings:
            self.command(*self.settings)
        for group in range(len(self.servers)):
            self.connect(group)
        if self._enable:
            self.command("enable=1")
        return self

    def __exit__(self, kind, *_):
        # After a failure the state is left for the report; the suite cleans up.
        if kind is not None:
            return
        with contextlib.ExitStack() as stack:
            for server in self.servers:
                stack.callback(server.stop)
                stack.callback(server.resume_if_running)
            if nbdinfo.status(self.letter):
                self.command("reset=1")
