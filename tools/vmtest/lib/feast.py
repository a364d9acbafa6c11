# SPDX-License-Identifier: GPL-2.0
"""A glutton on its way, in a cgroup or without one."""

import os
import select
import subprocess
import sys
import time

from lib import check

PROGRAM = os.path.join(os.path.dirname(os.path.realpath(__file__)), "glutton.py")


class Feast:
    """Runs in a `with`, and has to end well, within `end_s` seconds: it goes on until its round is over."""

    def __init__(self, cgroup, *words, end_s=60):
        self._end_s = end_s
        self._process = cgroup.popen(
            [sys.executable, PROGRAM, *map(str, words)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        self._text = b""
        self.rounds = 0

    def wait_for(self, more, seconds, what):
        """Waits until it has done so many more rounds."""
        goal, end = self.rounds + more, time.monotonic() + seconds
        while self.rounds < goal:
            left = end - time.monotonic()
            ready = left > 0 and select.select([self._process.stdout], [], [], left)[0]
            check.that(ready, f"the program in the cgroup goes on within {seconds} s: {what}; {self.where()}")
            self._take(what)

    def where(self):
        """What it waits for, in the kernel."""
        lines = []
        for name in ("stat", "stack"):
            with open(f"/proc/{self._process.pid}/{name}", encoding="ascii") as file:
                lines += file.read().splitlines()
        return " | ".join(lines)

    def _take(self, what):
        part = os.read(self._process.stdout.fileno(), 4096)
        if not part:
            raise check.Failure(f"the program in the cgroup ended ({self._process.wait(10)}), {what}: {self._text.decode()[-300:]}")
        self._text += part
        self.rounds = self._text.count(b"round ")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            self._process.kill()
            return
        self._process.stdin.close()
        check.equal(self._process.wait(self._end_s), 0, f"exit status of the program in the cgroup: {self._rest()}")

    def _rest(self):
        return (self._text + self._process.stdout.read()).decode()[-300:]
