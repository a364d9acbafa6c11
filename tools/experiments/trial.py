# SPDX-License-Identifier: GPL-2.0
"""One trial: old writes, an event, newer writes, and looks at the store in between."""

import os
import re
import signal
import subprocess
import time

import regions
from client import Client
from lib import check

# How long the other kernel is given to take what was sent: a stopped server's takes only so much.
SENT_S = 0.3
HEAR_S = 20
# There is no event for a write that will not come: a store that did not change for so many delays is taken to be at rest.
IDLE_DELAYS = 4


class Impossible(Exception):
    """The server has nothing that the event could happen to."""


class Trial:
    """What happened to one connection."""

    def __init__(self, server, network, delay_ms):
        self.server, self.network, self.delay_s = server, network, delay_ms / 1000
        self.client = self.connect()
        self.replies, self.end = [], "-"
        self.at_end = None
        self.before_newer = self.after_newer = lambda: None

    def connect(self):
        """Another connection."""
        return Client(self.server.endpoint, self.server.export)

    def send(self, numbers):
        """Sends old writes, and gives the server's kernel time to take them."""
        regions.send_old(self.client, numbers)
        self.client.wait_sent(SENT_S)

    def hear(self):
        """Listens until the connection ends; looks at the store at that moment."""
        self.replies, self.end = self.client.replies(HEAR_S)
        self.at_end = regions.Look(self.server.store)
        self.client.close()

    def let_pass(self, delays):
        """Lets time pass, for which there is no event: nothing comes through the cut."""
        time.sleep(delays * self.delay_s)

    def pause_connection(self):
        """Stops the process that serves the connection; gives what lets it go on."""
        pids = {pid for pid, inodes in self._holders().items() if self._inode() in inodes}
        if len(pids) != 1 or pids == {self.server.process.pid}:
            raise Impossible
        pid = pids.pop()
        os.kill(pid, signal.SIGSTOP)
        return lambda: os.kill(pid, signal.SIGCONT)

    def run(self, event):
        """Lets it happen, and gives the result."""
        other = event(self)
        self.before_newer()
        regions.write_newer(other)
        at_newer = regions.Look(self.server.store)
        self.after_newer()
        self._wait_idle()
        in_the_end = regions.Look(self.server.store)
        other.close()
        self.client.sock.close()
        return Result(self, at_newer, in_the_end)

    def _inode(self):
        """Of the server's end of the connection; None when its kernel has forgotten it."""
        near = f":{self.client.port:04X}"
        for pid in self._pids():
            for name in ("tcp", "tcp6"):
                for row in _rows(f"/proc/{pid}/net/{name}"):
                    if row[2].endswith(near):
                        return row[9]
        return None

    def _pids(self):
        group = self.server.process.pid
        found = subprocess.run(["pgrep", "-g", str(group)], capture_output=True, text=True, check=False).stdout
        return [int(pid) for pid in found.split()]

    def _holders(self):
        return {pid: _sockets(pid) for pid in self._pids()}

    def _wait_idle(self):
        """Waits until nothing more is to come: the store has not changed for a while, and no packets of the client's are left."""
        same, last = 0, None
        while same < IDLE_DELAYS or self._is_sending():
            time.sleep(self.delay_s)
            now = self.server.store.read(0, regions.SIZE)
            same = same + 1 if now == last else 0
            last = now

    def _is_sending(self):
        """Whether the client's kernel still has something to send on the connection that was closed."""
        far = self.server.endpoint.port
        return any(
            row[1].endswith(f":{self.client.port:04X}") and row[2].endswith(f":{far:04X}") and row[4][:8] != "00000000"
            for row in _rows("/proc/self/net/tcp")
        )


class Result:
    """Numbers of one trial."""

    def __init__(self, trial, at_newer, in_the_end):
        check.that(not in_the_end.torn, f"no write is torn: {in_the_end.torn}")
        self.carried_out = len(in_the_end.carried_out)
        self.late = len(in_the_end.carried_out - at_newer.carried_out)
        self.ghosts = len(in_the_end.on_top)
        self.replies, self.refused, self.end = len(trial.replies), trial.client.errors, trial.end
        self.after_end = None
        if trial.at_end is not None:
            self.after_end = len(in_the_end.carried_out - trial.at_end.carried_out)
        self.cut_short = in_the_end.cut_short


def _rows(path):
    try:
        with open(path, encoding="ascii") as file:
            return [line.split() for line in file.readlines()[1:]]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _sockets(pid):
    found = set()
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            match = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(f"/proc/{pid}/fd/{fd}"))
            if match:
                found.add(match[1])
    except OSError:
        pass
    return found
