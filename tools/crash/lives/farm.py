# SPDX-License-Identifier: GPL-2.0
"""The servers, on this machine, which live longer than their client."""

import os
import socket
import threading

import superblock
from lib import check
from lib.endpoint import Endpoint
from lib.server import Nbdkit, NbdServer, QemuNbd
from lib.store import Store, check_same, differing_blocks
from lives import block
from lives.line import HOST
from lives.vm import REPO

QUIET_S = 60


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def _housed(kind, **options):
    """A server from the tree that has them, which dies with this program."""

    class Housed(kind):
        def argv(self):
            return ["setpriv", "--pdeathsig", "KILL", f"{REPO}/scripts/lab-run", "--servers", *super().argv()]

    def make(store):
        endpoint = Endpoint()
        endpoint.port = _free_port()
        return Housed(store, endpoint, **options)

    return make


KINDS = (_housed(Nbdkit), _housed(QemuNbd, shared=100), _housed(NbdServer))


class Farm:
    """One server for each group, with a store of its own."""

    def __init__(self, name, count, export, device):
        self.device = device
        self.servers = [KINDS[group](Store(f"{name}{group}", export)) for group in range(count)]
        self.groups = list(range(count))
        # A server may be killed by one thread while another one starts it.
        self._lock = threading.Lock()

    @property
    def stores(self):
        """By group."""
        return [server.store for server in self.servers]

    def start(self, group):
        """Starts one that is away."""
        with self._lock:
            if not self.is_there(group):
                self.servers[group].start()

    def kill(self, group):
        """Kills one, if it is there."""
        with self._lock:
            self.servers[group].kill()

    def is_there(self, group):
        """Whether one runs."""
        return self.servers[group].process is not None

    def there(self):
        """Those that run."""
        return [group for group in self.groups if self.is_there(group)]

    def connect(self, group):
        """The command that connects to it."""
        server = self.servers[group]
        return f"connect[a]={group} {HOST}:{server.endpoint.port} name={server.export} channels=2"

    def wait_quiet(self):
        """Waits until no server has a connection: then nothing of a client that died is on its way any more."""
        for group in self.there():
            server = self.servers[group]
            # Of the rows one is that of the socket that listens.
            check.until(
                lambda server=server: server.endpoint.sockets(server.process.pid) == ["0A"], QUIET_S,
                f"nobody is connected to {server.store.name}",
            )

    def superblocks(self, groups=None):
        """What the newest superblock of each says, by group; of those that have none, None."""
        groups = self.groups if groups is None else groups
        return {group: superblock.newest(self.stores[group].path) for group in groups}

    def values(self, group, seed, blocks):
        """What the blocks of a store hold."""
        data = self.stores[group].read(0, blocks * block.SIZE)
        return {n: block.decode(seed, n, data[n * block.SIZE:(n + 1) * block.SIZE]) for n in range(blocks)}

    def differing(self):
        """How many blocks of the device differ."""
        return sum(1 for _ in differing_blocks(self.stores, self.device))

    def compare(self):
        """Fails unless all stores hold the same device."""
        check_same(self.stores, self.device)

    def take_down(self, keep):
        """Ends them; the stores go, unless they are to be kept."""
        for group, server in enumerate(self.servers):
            self.kill(group)
            if not keep:
                os.unlink(server.store.path)


def in_sync(told):
    """The members that a superblock calls in sync."""
    return {int(member) for member, it in told["members"].items() if it["state"] == "in sync"}
