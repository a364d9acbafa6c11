# SPDX-License-Identifier: GPL-2.0
"""Where a server listens, and whether it does."""

import contextlib
import itertools
import os
import socket
import struct

from lib.nbdinfo import spell

# Far from NBD's own port, so that a server that ignores its port is found out.
_ports = itertools.count(11000)

TRANSPORTS = ("tcp4", "tcp6", "unix")


class Endpoint:
    """An address of this machine that nobody uses."""

    def __init__(self, transport="tcp4", host=None):
        self.transport = transport
        number = next(_ports)
        self.port = None if transport == "unix" else number
        self.path = os.path.abspath(f"{number}.sock") if transport == "unix" else None
        self.host = host or {"tcp4": "127.0.0.1", "tcp6": "::1"}.get(transport)

    def __str__(self):
        """As the connect command wants it."""
        return {"tcp4": f"{self.host}:{self.port}", "tcp6": f"[{self.host}]:{self.port}", "unix": f"unix:{self.shown_path}"}[
            self.transport
        ]

    @property
    def shown_path(self):
        """The path in the spelling of commands."""
        return self.path and spell(self.path)

    @property
    def shown(self):
        """As the status and the log show it."""
        return self.shown_path or str(self)

    @property
    def family(self):
        """The family of its sockets."""
        return {"tcp4": socket.AF_INET, "tcp6": socket.AF_INET6, "unix": socket.AF_UNIX}[self.transport]

    @property
    def address(self):
        """As the socket module wants it."""
        return self.path or (self.host, self.port)

    @contextlib.contextmanager
    def swallowing(self):
        """Nobody answers who connects here, as if the network lost it: somebody listens, and his queue stays full."""
        with socket.socket(self.family) as listener, socket.socket(self.family) as first:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(self.address)
            listener.listen(0)
            # Does not wait: somebody else may have been faster, who is then not greeted.
            first.setblocking(False)
            first.connect_ex(self.address)
            yield

    def is_listening(self, pid="self"):
        """Whether somebody listens, in the network namespace of `pid`. Asks the kernel, so that the server is not bothered."""
        if self.path:
            rows = _table(pid, "unix")
            # Flags: 0x10000 is a socket that listens.
            return any(row[7:] == self.path.split() and int(row[3], 16) & 0x10000 for row in rows)
        # A server on all addresses shows among the v6 ones only.
        rows = _table(pid, "tcp") + _table(pid, "tcp6")
        return any(row[3] == "0A" and int(row[1].rsplit(":", 1)[1], 16) == self.port for row in rows)

    def sockets(self, pid="self"):
        """The states of the TCP connections to it, as in the kernel's table; those that only wait for stray packets left out."""
        rows = _table(pid, "tcp") + _table(pid, "tcp6")
        return [row[3] for row in rows if row[3] != "06" and f":{self.port:04X}" in (row[1][-5:], row[2][-5:])]


def _table(pid, name):
    try:
        with open(f"/proc/{pid}/net/{name}", encoding="utf-8") as file:
            return [line.split() for line in file.readlines()[1:]]
    except (FileNotFoundError, ProcessLookupError):
        return []


def reset_on_close(sock):
    """Lets the next close of the socket abort the connection instead of ending it in order."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
