# SPDX-License-Identifier: GPL-2.0
"""NBD servers: nbdkit, nbd-server and qemu-nbd, each on a store."""

import contextlib
import os
import signal
import subprocess

from lib import check
from lib.endpoint import Endpoint

# nbd-server makes itself parameters for TLS before it serves: seconds, on a slow machine many.
START_S = 180


class Server:
    """A server process. `argv()` of each kind says how it is started."""

    def __init__(self, store, endpoint=None, namespace=None, read_only=False):
        self.store = store
        self.endpoint = endpoint or Endpoint()
        self.namespace = namespace
        self.read_only = read_only
        self.export = store.name if store else ""
        self.process = None
        self._log = os.path.abspath(f"server-{self.endpoint.port or os.path.basename(self.endpoint.path)}.log")

    def argv(self):
        """The command line."""
        raise NotImplementedError

    def start(self):
        """Starts it, and waits until it serves."""
        self.launch()
        return self.wait()

    def launch(self):
        """Starts it, to be waited for."""
        inside = ["ip", "netns", "exec", self.namespace] if self.namespace else []
        if self.endpoint.path and os.path.exists(self.endpoint.path):
            os.unlink(self.endpoint.path)
        with open(self._log, "ab") as log:
            # A group of its own: nbd-server has a process for each connection.
            self.process = subprocess.Popen(
                inside + self.argv(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
            )

    def wait(self):
        """Waits until it serves."""
        check.until(self._is_there, START_S, f"{type(self).__name__} serves at {self.endpoint}")
        return self

    def _is_there(self):
        if self.process.poll() is not None:
            raise check.Failure(f"{type(self).__name__} ended ({self.process.returncode}): {self.log().strip()}")
        return self.is_serving()

    def is_serving(self):
        """Whether it will take connections at once."""
        return self.endpoint.is_listening(self.process.pid)

    def log(self):
        """What it said."""
        with open(self._log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def _signal(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def kill(self):
        """Kills it, connections and all."""
        if self.process is None:
            return
        self._signal(signal.SIGKILL)
        self.process.wait(START_S)
        self.process = None

    def stop(self):
        """Asks it to end, and makes it end if it does not."""
        if self.process is None:
            return
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(3)
        self.kill()

    def restart(self):
        """Kills it and starts it again at the same address."""
        self.kill()
        return self.start()

    def pause(self):
        """Lets it do nothing, its sockets open."""
        self._signal(signal.SIGSTOP)

    def resume(self):
        """Lets it go on."""
        self._signal(signal.SIGCONT)

    def __enter__(self):
        return self if self.process else self.start()

    def __exit__(self, *_):
        self.resume_if_running()
        self.stop()

    def resume_if_running(self):
        """A process that is paused does not heed SIGTERM."""
        if self.process is not None:
            self.resume()


class Nbdkit(Server):
    """nbdkit with its file plugin, and filters in front of it."""

    def __init__(self, store, endpoint=None, *, filters=(), more=(), plugin=None, **common):
        super().__init__(store, endpoint, **common)
        self.filters, self.more = filters, more
        self.plugin = plugin or ["file", f"dir={store.directory}"]

    def argv(self):
        if self.endpoint.path:
            where = ["-U", self.endpoint.path]
        else:
            where = ["-i", self.endpoint.host, "-p", str(self.endpoint.port)]
        filters = [f"--filter={name}" for name in self.filters]
        read_only = ["-r"] if self.read_only else []
        return ["nbdkit", "-f", *where, *read_only, *filters, *self.plugin, *self.more]


class NbdServer(Server):
    """nbd-server, the reference."""

    def __init__(self, store, endpoint=None, *, settings=("flush", "fua", "trim"), **common):
        super().__init__(store, endpoint, **common)
        self.settings = settings

    def is_serving(self):
        # It listens long before it looks for connections.
        with open(f"/proc/{self.process.pid}/wchan", encoding="ascii") as file:
            where = file.read()
        return super().is_serving() and ("select" in where or "poll" in where)

    def argv(self):
        config = os.path.abspath(f"{os.path.basename(self._log)}.conf")
        lines = ["[generic]", "allowlist = true"]
        if self.endpoint.path:
            lines += ["listenaddr = 127.0.0.1", f"port = {Endpoint().port}", f"unixsock = {self.endpoint.path}"]
        else:
            lines += [f"listenaddr = {self.endpoint.host}", f"port = {self.endpoint.port}"]
        lines += [f"[{self.export}]", f"exportname = {self.store.path}"]
        lines += [f"{name} = true" for name in self.settings]
        if self.read_only:
            lines.append("readonly = true")
        with open(config, "w", encoding="ascii") as file:
            file.write("\n".join(lines) + "\n")
        return ["nbd-server", "-n", "-C", config, "-p", f"{config}.pid"]


class QemuNbd(Server):
    """qemu-nbd, for as many connections at once as `shared` says."""

    def __init__(self, store, endpoint=None, *, shared=8, more=(), **common):
        super().__init__(store, endpoint, **common)
        self.shared, self.more = shared, more

    def argv(self):
        if self.endpoint.path:
            where = ["-k", self.endpoint.path]
        else:
            where = ["-b", self.endpoint.host, "-p", str(self.endpoint.port)]
        read_only = ["-r"] if self.read_only else []
        options = ["-t", "-e", str(self.shared), "-x", self.export, "-f", "raw", "--discard=unmap"]
        return ["qemu-nbd", *options, *where, *read_only, *self.more, self.store.path]


KINDS = (Nbdkit, NbdServer, QemuNbd)
