# SPDX-License-Identifier: GPL-2.0
"""The VM of one life: started, told what to do, and killed."""

import json
import os
import signal
import socket
import subprocess
import threading

from lib import check
from lib.nbdinfo import Status

REPO = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
# A VM boots, and a machine may be busy; an order may wait for the metadata of servers that are away.
BOOT_S, ORDER_S, END_S = 300, 180, 60
LIMIT_S = 1800
# Of scripts/vm, when it was asked to end.
ENDED = 128 + signal.SIGTERM


class Died(Exception):
    """The VM was killed, as it was to be."""


class Vm:
    """One VM, with its agent. Its log and journal stay in `directory`."""

    def __init__(self, directory, seed, life):
        self.log, self.said, self._journal = (os.path.join(directory, f"{life}.{name}") for name in ("log", "out", "journal"))
        self._lock, self._is_killed, self._is_doomed = threading.Lock(), False, False
        self._stream = None
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self._start(listener.getsockname()[1], seed, life)
            try:
                self._accept(listener)
            except BaseException:
                self.kill()
                raise

    def _start(self, port, seed, life):
        options = (
            f"-netdev user,id=line,ipv6=off -device virtio-net-pci,netdev=line"
            f" -chardev file,id=journal,path={self._journal} -device virtserialport,chardev=journal,name=journal"
        )
        more = {"VM_QEMU_ARGS": options, "VM_LOG": self.log, "VM_TIMEOUT": str(LIMIT_S), "VM_MEM": "1G"}
        argv = ["scripts/vm", "tools/crash/agent", str(port), str(seed), str(life)]
        with open(self.said, "wb") as said:
            self.process = subprocess.Popen(
                argv, cwd=REPO, env=os.environ | more, stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )

    def _accept(self, listener):
        listener.settimeout(0.2)

        def arrived():
            check.that(self.process.poll() is None, f"the VM ended before it was up, see {self.said}")
            try:
                return listener.accept()[0]
            except TimeoutError:
                return None

        connection = check.until(arrived, BOOT_S, "the VM is up", nap=0)
        connection.settimeout(ORDER_S)
        self._stream = connection.makefile("rw")
        connection.close()
        check.equal(self._answer(), "here", "the first word of the agent")

    def _answer(self):
        answer = self._stream.readline()
        if not answer.endswith("\n"):
            raise EOFError
        return json.loads(answer)

    def ask(self, name, **words):
        """Gives an order, and waits for the answer."""
        try:
            print(json.dumps([name, words]), file=self._stream, flush=True)
            return self._answer()
        except TimeoutError:
            raise check.Failure(f"{name} {words} was not answered within {ORDER_S} s") from None
        except (EOFError, OSError):
            with self._lock:
                if self._is_killed:
                    raise Died from None
            raise check.Failure(f"the VM ended by itself at {name} {words}, see {self.said}") from None

    def command(self, *lines):
        """Writes commands; gives the errno, or 0."""
        number = self.ask("command", lines=lines)
        with self._lock:
            # A server that goes a moment before the VM may be why.
            if number and self._is_doomed:
                raise Died
        return number

    def status(self):
        """The status of device a."""
        lines = self.ask("status").splitlines()
        return Status([line[4:] for line in lines if line.startswith("[a] ")])

    def error(self):
        """Why the last command was refused."""
        return self.status().error

    def doom(self):
        """From now on commands may be refused: it is going to be killed, and a server before it."""
        with self._lock:
            self._is_doomed = True

    def kill(self):
        """Ends QEMU by SIGKILL: scripts/vm does that when it is asked to end."""
        with self._lock:
            self._is_killed = True
            self.process.terminate()

    def is_killed(self):
        """Whether it was."""
        with self._lock:
            return self._is_killed

    def bury(self):
        """Waits until it is gone; fails if its kernel has complained."""
        check.equal(self.process.wait(END_S), ENDED, f"status of scripts/vm that was killed, see {self.said} and {self.log}")

    def end(self):
        """The agent has no more to do: the VM ends in order, and looks for what the module has left."""
        self._stream.close()
        check.equal(self.process.wait(END_S), 0, f"status of scripts/vm, see {self.said} and {self.log}")

    def journal(self):
        """What was noted in it."""
        with open(self._journal, encoding="ascii") as file:
            return file.read()

    def kernel_log(self):
        """What its kernel said."""
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()
