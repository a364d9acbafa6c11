# SPDX-License-Identifier: GPL-2.0
"""A device connects, and connects again, in the network namespace of whoever wrote the command, and keeps that namespace alive.
Two namespaces have different servers at the same address."""

import contextlib
import os

from lib import check, nbdinfo
from lib.disk import Disk
from lib.endpoint import Endpoint
from lib.program import run as run_program
from lib.server import Nbdkit
from lib.store import Store

ECONNREFUSED = 111


def run():
    endpoint = Endpoint()
    with contextlib.ExitStack() as stack:
        servers = {}
        for letter, name in (("a", "left"), ("b", "right")):
            run_program("ip", "netns", "add", name)
            run_program("ip", "-n", name, "link", "set", "lo", "up")
            servers[letter] = stack.enter_context(Nbdkit(Store(name, 1 << 20), endpoint, namespace=name))
            command_in(name, f"connect[{letter}]=0 {endpoint} name={name} channels=2")
            nbdinfo.command(f"enable[{letter}]=1")
        with check.refused(ECONNREFUSED, "connect in the namespace without a server"):
            nbdinfo.command(f"connect[c]=0 {endpoint} name=left")
        write_and_look(servers)
        reconnect(servers)
        outlive(servers)
        nbdinfo.command("enable[a]=0", "reset[a]=1", "enable[b]=0", "reset[b]=1")


def command_in(namespace, line):
    """Writes a command from within a namespace."""
    run_program("ip", "netns", "exec", namespace, "sh", "-c", f"echo '{line}' > {nbdinfo.PATH}")


def write_and_look(servers):
    """What is written to each device is on its own server."""
    for letter, server in servers.items():
        data = os.urandom(65536)
        Disk(letter).write(0, data)
        check.that(server.store.read(0, 65536) == data, f"device {letter} writes to the server of its namespace")


def reconnect(servers):
    """After their servers died, the channels come back in their own namespaces."""
    for server in servers.values():
        server.restart()
    for letter in servers:
        nbdinfo.wait_until(lambda s: all(c.is_up and c.reconnects for c in s.channels), 30, "the channels are back", letter)
    write_and_look(servers)


def outlive(servers):
    """The names of the namespaces may go; who is inside, stays."""
    for name in ("left", "right"):
        run_program("ip", "netns", "delete", name)
    write_and_look(servers)
