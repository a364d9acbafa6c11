# SPDX-License-Identifier: GPL-2.0
"""Somebody who waits in a command, and is killed there."""

import subprocess

from lib import check

# How soon whoever was killed has to be gone: much less than the bounds of what is waited for.
AT_ONCE_S = 10


class Waiting:
    """A process of its own that writes a command, and sleeps in that once `is_there` holds."""

    def __init__(self, line, is_there=lambda: True):
        self.line = line
        self._process = subprocess.Popen(["sh", "-c", f"echo '{line}' >/proc/nbdinfo"], stderr=subprocess.DEVNULL)
        check.until(is_there, 30, f"{line} has come to where it waits")
        check.until(lambda: self._state() == "S", 10, f"{line} waits as who can be interrupted, and not as it does now")

    def _state(self):
        with open(f"/proc/{self._process.pid}/stat", encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0]

    def kill(self):
        """Kills it."""
        check.that(self._process.poll() is None, f"{self.line} waits still")
        self._process.kill()
        try:
            self._process.wait(AT_ONCE_S)
        except subprocess.TimeoutExpired:
            raise check.Failure(f"{self.line} is not gone {AT_ONCE_S} s after it was killed") from None
