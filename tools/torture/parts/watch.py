# SPDX-License-Identifier: GPL-2.0
"""What looks on: the log of the run, the kernel's log, and a watchdog over commands and requests. Whatever is wrong ends the run
here, at once and with all that is known, since whoever noticed may be unable to."""

import contextlib
import os
import re
import signal
import threading
import time
import traceback

from lib import module, nbdinfo
from lib.kmsg import FORBIDDEN, Kmsg
from parts.history import History

TAIL = 80
# Lines of a resync that are too many to be kept.
CHATTER = r"nbd_resync (saw|skipped)|bitmap_"
# A writer that says nothing for so long cannot: the VM is stuck.
SILENCE_S = 60
# On top of each limit, since the machine may be slow.
SLACK_S = 10


class Watch:
    """There is one."""

    def __init__(self):
        self.began = time.monotonic()
        self.victims = []
        self.kmsg = Kmsg()
        self.history = History()
        self.news = []
        self.slowest = {}
        self.on_failure = lambda: None
        self._deadlines = {}
        self._lock, self._looking = threading.Lock(), threading.Lock()
        self._failing = threading.Lock()

    def start(self):
        """Begins to look."""
        threading.Thread(target=self._run, daemon=True).start()

    def log(self, text):
        """A line of the run's own log, with the seconds since its start."""
        print(f"[{time.monotonic() - self.began:7.1f}] {text}", flush=True)
        self.history.note(text)

    @contextlib.contextmanager
    def bounded(self, verb, what, seconds):
        """Something that must end in time, whatever happens elsewhere."""
        key, began = object(), time.monotonic()
        with self._lock:
            self._deadlines[key] = (began + seconds + SLACK_S, what)
        try:
            yield
        finally:
            with self._lock:
                del self._deadlines[key]
                self.slowest[verb] = max(self.slowest.get(verb, 0.0), time.monotonic() - began)

    @contextlib.contextmanager
    def guarded(self):
        """Ends the run if the block fails: for threads."""
        try:
            yield
        except BaseException as error:
            traceback.print_exc()
            self.fail(f"{type(error).__name__}: {error}")

    def news_of(self, letter, start, end):
        """What the kernel's log said of a device in that time."""
        return [line for at, line in self.news if start <= at <= end and f"[{letter}]" in line]

    def _run(self):
        with self.guarded():
            while True:
                time.sleep(0.5)
                self.look()

    def _read_kmsg(self):
        at, lines = time.monotonic(), self.kmsg.take()
        self.news += [(at, line) for line in lines if not re.search(CHATTER, line)]
        complaints = [line for line in lines if FORBIDDEN.search(line)]
        if complaints:
            self.fail(f"the kernel complained: {complaints[0]}")

    def look(self):
        """Ends the run if anything is wrong."""
        with self._looking:
            self._read_kmsg()
        now = time.monotonic()
        with self._lock:
            late = [what for deadline, what in self._deadlines.values() if now > deadline]
        if late:
            self.fail(f"not ended in time: {late[0]}")
        for victim in self.victims:
            self._look_at(victim, now)

    def _look_at(self, victim, now):
        writer = victim.writer
        if writer is None or writer.is_ended:
            return
        if writer.trouble:
            self.fail(f"device {victim.letter}: {writer.trouble}")
        if now - writer.heard > SILENCE_S:
            self.fail(f"device {victim.letter}: the writer is silent for {now - writer.heard:.0f} s")
        if writer.oldest and not victim.is_cut:
            age = now - max(writer.oldest, victim.served_since)
            if age > victim.hang_s:
                self.fail(f"device {victim.letter}: a request is under way for {age:.0f} s though a group can serve it")

    def fail(self, reason):
        """Says all that is known, and ends the process. Only the first one gets that far."""
        if not self._failing.acquire(blocking=False):
            threading.Event().wait()
        self.log(f"FAIL {reason}")
        for victim in self.victims:
            with contextlib.suppress(Exception):
                print(victim.evidence())
        self._dump()
        with contextlib.suppress(Exception):
            self.on_failure()
        self.log(f"FAIL {reason}")
        for victim in self.victims:
            victim.kill_load()
        self._release()
        os._exit(1)

    def _dump(self):
        with contextlib.suppress(Exception):
            print("--- /proc/nbdinfo\n" + (nbdinfo.text() if module.is_loaded() else "(no module)"))
        with contextlib.suppress(Exception):
            # Tasks that are blocked, and where.
            with open("/proc/sysrq-trigger", "w", encoding="ascii") as file:
                file.write("w")
        for pid, name in module.threads().items():
            with contextlib.suppress(OSError), open(f"/proc/{pid}/stack", encoding="ascii") as file:
                print(f"--- {pid} {name}: " + " < ".join(line.split()[-1] for line in file.read().splitlines()))
        with contextlib.suppress(Exception):
            lines = [line for _, line in self.news] + self.kmsg.take()
            print("--- the kernel's log\n" + "\n".join(lines[-TAIL:]), flush=True)

    @staticmethod
    def _release():
        """Lets requests that are held fail, so that the VM can end in order."""
        signal.alarm(20)
        with contextlib.suppress(Exception):
            for letter in nbdinfo.devices():
                nbdinfo.command(f"show_errs[{letter}]=1", f"timeout[{letter}]=1", f"connect_timeout[{letter}]=1")
