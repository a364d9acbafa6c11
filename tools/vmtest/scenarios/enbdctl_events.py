# SPDX-License-Identifier: GPL-2.0
"""enbdctl events: what the module tells udev comes as lines and as objects, with what is there first if it is asked for."""

import itertools
import json
import os
import select
import shutil
import subprocess

from lib import check
from lib.mirror import Mirror

LIMIT_S = 120


class Listener:
    """enbdctl events, open in a `with`."""

    def __init__(self, *words):
        self._process = subprocess.Popen(["enbdctl", "events", *words], stdout=subprocess.PIPE)
        self._rest = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait(60)
        self._process.stdout.close()

    def line(self, seconds=30):
        """The next line, or None if there is none within so many seconds."""
        pipe = self._process.stdout.fileno()
        while b"\n" not in self._rest:
            if not select.select([pipe], [], [], seconds)[0]:
                return None
            piece = os.read(pipe, 4096)
            check.that(piece, "enbdctl events goes on")
            self._rest += piece
        line, self._rest = self._rest.split(b"\n", 1)
        return line.decode()

    def object(self):
        """The next line as an object."""
        line = self.line()
        check.that(line, "there is another line")
        return json.loads(line)

    def until(self, kind):
        """The objects up to the next one of a kind."""
        events = [self.object()]
        while events[-1]["event"] != kind:
            events.append(self.object())
        return events


def run():
    check.that(shutil.which("enbdctl"), "enbdctl is in the VM: `scripts/vm tools/vmtest/run` builds it")
    with Mirror(enable=False) as mirror, Mirror("b") as other, Listener("a", "--json", "--now") as listener:
        first = [listener.object() for _ in range(3)]
        check.equal([(one["event"], one["device"], one["group"]) for one in first],
            [("exists", "/dev/nda", None), ("exists", "/dev/nda", 0), ("exists", "/dev/nda", 1)], "what is there")
        check.equal({one["version"] for one in first}, {1}, "version")
        mirror.command("name=data", "enable=1")
        listener.until("enabled")
        # Nobody asked for the other device.
        other.command("setfaulty=1")
        mirror.command("setfaulty=1")
        failed = listener.until("group_faulty")[-1]
        check.equal((failed["name"], failed["group"], failed["state"]), ("data", 1, "degraded"), "a group that is faulty")
        check.equal(failed["reason"], "set faulty by the administrator", "reason")
        mirror.resync(1)
        events = listener.until("resync_finished")
        check.equal((events[-1]["group_state"], events[-1]["state"]), ("in_sync", "ok"), "the end of a resync")
        check.that(all(one["device"] == "/dev/nda" for one in events), f"events of one device alone: {events}")
        with Listener() as words:
            # It listens once it has said so; before, what happens is not its own.
            names = itertools.cycle(("other", "data"))
            check.until(lambda: told(mirror, words, next(names)), 60, "a line says that the device was renamed")
        mirror.disable()
        listener.until("disabled")


def told(mirror, words, name):
    """Has something happen; whether it is told."""
    mirror.command(f"name={name}")
    return f" {name} renamed (ok)" in (words.line(1) or "")
