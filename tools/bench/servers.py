# SPDX-License-Identifier: GPL-2.0
"""The NBD servers that all peers share: nbdkit, with the store in its memory."""

import contextlib
import random

import nbd

from lib.endpoint import Endpoint
from lib.server import Nbdkit

MIB = 1 << 20


def memory_server(size, threads=16, host=None):
    """A server whose store is plain memory, with so many threads for each connection; 16 is nbdkit's default."""
    plugin = ["memory", str(size), "allocator=malloc"]
    return Nbdkit(None, Endpoint(host=host), plugin=plugin, more=["-t", str(threads)])


def limited(size, bits):
    """The same, but it gives out no more than so many bits a second."""
    plugin = ["memory", str(size), "allocator=malloc", f"rate={bits}", "burstiness=0.1"]
    return Nbdkit(None, Endpoint(), plugin=plugin, filters=["rate"])


def fill(server, size):
    """Writes all of a store, so that no request is the first to touch a page, and none finds zeroes. The same for all: a mirror
    of two that differ is none, and enbd refuses a copy whose clean blocks are not its own."""
    handle = nbd.NBD()
    handle.connect_uri(uri(server))
    chunk = random.Random(1).randbytes(MIB)
    for offset in range(0, size, MIB):
        handle.pwrite(chunk[:min(MIB, size - offset)], offset)
    handle.shutdown()


def uri(server):
    """How libnbd's tools name it."""
    return f"nbd://{server.endpoint}"


@contextlib.contextmanager
def bank(count, size, filled=True, threads=16, host=None):
    """So many servers, with equal stores."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(memory_server(size, threads, host)) for _ in range(count)]
        for server in servers if filled else ():
            fill(server, size)
        yield servers
