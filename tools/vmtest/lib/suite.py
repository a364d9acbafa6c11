# SPDX-License-Identifier: GPL-2.0
"""Runs scenarios, each in a process of its own and with a module that was just loaded, and looks at what they leave."""

import contextlib
import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

from lib import account, afresh, cases, check, module, nbdinfo
from lib.kmsg import Kmsg
from lib.program import attempt

# Seconds that a scenario may take if it does not say.
DEFAULT_LIMIT_S = 120
# How much longer it may take on a kernel that checks itself, which is that much slower.
SLOWER = 3
# How the names of those begin that take minutes, and run only when they are named.
LONG = "long_"
CGROUP = "/sys/fs/cgroup/vmtest"
TAIL = 60
# A server's socket that is being closed at the very moment when the client's last packet comes does not see it, and the client,
# which does not linger, does not send it again: the server's kernel then waits for so many seconds.
FIN_TIMEOUT = ("/proc/sys/net/ipv4/tcp_fin_timeout", "5")


def names(directory):
    """All scenarios, in order."""
    files = os.listdir(os.path.join(directory, "scenarios"))
    return sorted(name[:-3] for name in files if name.endswith(".py") and not name.startswith("_"))


def run_one(name):
    """What the scenario's own process does."""
    scenario = importlib.import_module(f"scenarios.{name}")
    with Kmsg() as kmsg:
        try:
            scenario.run()
            cases.conclude()
        except BaseException as error:
            traceback.print_exc(file=sys.stdout)
            print("--- /proc/nbdinfo\n" + nbdinfo.text() if module.is_loaded() else "--- enbd is not loaded")
            print("--- the kernel log\n" + "\n".join(kmsg.lines()[-TAIL:]))
            print("=== " + cases.reason_of(error), flush=True)
            # A thread of this process may wait for I/O that is held, and could not be killed.
            afresh.release_held()
            os._exit(1)
    sys.stdout.flush()
    # Threads of servers in this process may still wait for something.
    os._exit(0)


class Scenario:
    """One scenario on its way. `cases` has what it told of its cases, if it has any."""

    def __init__(self, runner, name):
        self.runner, self.name = runner, name
        self.reasons, self.details, self.cases = [], [], []
        self.directory = None
        self.process = None

    def fail(self, reason, details=""):
        """Notes something that makes it fail."""
        self.reasons.append(reason)
        self.details.append(details)

    def run(self):
        """Runs it; gives the seconds that it took."""
        began = time.monotonic()
        with Kmsg() as kmsg:
            before = self._before()
            if before is not None:
                self._run_process()
                self._clean_up()
                self._compare(before)
            complaints = kmsg.complaints()
            if complaints:
                self.fail(f"the kernel complained: {complaints[0]}", "\n".join(kmsg.lines()[-TAIL:]))
            if module.taint():
                self.fail(f"the kernel is tainted ({module.taint()})")
        return time.monotonic() - began

    def _before(self):
        try:
            _write(*FIN_TIMEOUT)
            if module.is_loaded():
                module.unload()
            before = (account.sockets(), _settled_namespaces())
            module.load()
            return before
        except (check.Failure, OSError) as error:
            self.fail(f"not run: {error}")
            return None

    def _run_process(self):
        self.directory = tempfile.mkdtemp(prefix=f"{self.name}-")
        os.makedirs(CGROUP, exist_ok=True)
        limit = self._limit()
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
            self.process = subprocess.Popen(
                [sys.executable, self.runner, "--one", self.name],
                cwd=self.directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                preexec_fn=_enter_cgroup, start_new_session=True,
            )
            try:
                status = self.process.wait(limit)
            except subprocess.TimeoutExpired:
                status = None
                self.fail(f"not ended after {limit} s", self._stacks())
            output.seek(0)
            self.cases, text = cases.told(output.read())
        if status is None:
            self.details.append(text)
        elif status:
            lines = [line for line in text.splitlines() if line.startswith("=== ")]
            self.fail(lines[-1][4:] if lines else f"exit status {status}", text)

    def _limit(self):
        try:
            limit = getattr(importlib.import_module(f"scenarios.{self.name}"), "LIMIT_S", DEFAULT_LIMIT_S)
        except Exception:
            # The scenario's own process tells what is wrong with it.
            limit = DEFAULT_LIMIT_S
        return limit * (SLOWER if os.path.exists("/proc/lockdep") else 1)

    def _stacks(self):
        """Where the scenario's processes and enbd's threads are, in Python and in the kernel."""
        os.kill(self.process.pid, signal.SIGUSR1)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1)
        texts = []
        for pid in [*_members(), *module.threads()]:
            for task in _listing(f"/proc/{pid}/task"):
                name, stack = _text(f"/proc/{pid}/task/{task}/comm"), _text(f"/proc/{pid}/task/{task}/stack")
                texts.append(f"--- {task} {name}{stack}")
        if module.is_loaded():
            texts.append(nbdinfo.text())
        return "\n".join(texts)

    def _clean_up(self):
        """Ends what was left, whatever state it is in."""
        _write(f"{CGROUP}/cgroup.kill", "1")
        afresh.release_held()
        try:
            check.until(lambda: not _members(), 60, f"the processes of {self.name} end")
        except check.Failure as failure:
            self.fail(str(failure), self._stacks())
        self._unmount()
        try:
            afresh.reset_all()
            module.unload()
        except (check.Failure, OSError) as error:
            self.fail(f"clean-up: {error}", self._stacks())
        shutil.rmtree(self.directory, ignore_errors=True)

    def _unmount(self):
        with open("/proc/mounts", encoding="utf-8") as file:
            places = [line.split()[1] for line in file if self.directory in line]
        for place in reversed(places):
            attempt("umount", place, limit=60)

    def _compare(self, before):
        sockets, namespaces = before

        def left():
            return account.sockets() - sockets

        try:
            check.until(lambda: not left(), 20, "all sockets are closed")
            account.end_namespaces()
            check.until(lambda: account.namespaces() <= namespaces, 20, "all network namespaces are gone", 0.2)
        except check.Failure as failure:
            self.fail(str(failure), "\n".join(left()))


def _enter_cgroup():
    _write(f"{CGROUP}/cgroup.procs", "0")


def _settled_namespaces():
    """Those that end do so in the background, but in the end one is left."""
    account.end_namespaces()
    with contextlib.suppress(check.Failure):
        check.until(lambda: account.namespaces() <= 1, 3, "network namespaces end", 0.05)
    return max(1, account.namespaces())


def _members():
    return [pid for pid in _text(f"{CGROUP}/cgroup.procs").split() if _text(f"/proc/{pid}/cmdline")]


def _listing(path):
    try:
        return os.listdir(path)
    except OSError:
        return []


def _text(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _write(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
