# SPDX-License-Identifier: GPL-2.0
"""An NBD server that behaves as a script tells it, byte by byte where that is wanted.

The script is a function that is called with a `Talk` for each connection, in a thread of its own. `honest` is the script of a
server that does everything right; `negotiate` and `serve` are its two halves, for scripts that go wrong in one of them.
"""

import contextlib
import select
import socket
import struct
import threading

from lib import nbd
from lib.check import Failure
from lib.endpoint import Endpoint, reset_on_close

HOLD_S = 60


class Gone(Exception):
    """The client has closed the connection."""


def honest(talk):
    """Does everything right."""
    talk.negotiate()
    talk.serve()


class Impostor:
    """A server in this process, on memory."""

    def __init__(self, script=honest, *, size=4 << 20, flags=nbd.ALL_FLAGS, blocks=(1, 4096, 32 << 20), endpoint=None):
        self.script, self.size, self.flags, self.blocks = script, size, flags, blocks
        self.endpoint = endpoint or Endpoint()
        self.export = "impostor"
        self.data = bytearray(size)
        self.requests = []
        self.talks = []
        self.errors = []
        self.changed = threading.Condition()
        self._closing = False
        self._listener = None

    def written_blocks(self, size):
        """The blocks, of so many bytes, of all writes that it got."""
        blocks = set()
        for request in self.requests:
            if request.command in (nbd.WRITE, nbd.WRITE_ZEROES):
                blocks.update(range(request.offset // size, (request.offset + request.length) // size))
        return blocks

    def start(self):
        """Listens from now on."""
        if self._listener:
            return self
        self._closing = False
        self._listener = socket.socket(self.endpoint.family, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(self.endpoint.address)
        self._listener.listen(64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return self

    def _accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with self.changed:
                if self._closing:
                    sock.close()
                    return
                talk = Talk(self, sock, len(self.talks))
                self.talks.append(talk)
                self.changed.notify_all()
            threading.Thread(target=self._run, args=(talk,), daemon=True).start()

    def _run(self, talk):
        try:
            self.script(talk)
        except (Gone, ConnectionError, BrokenPipeError):
            pass
        except Exception as error:  # A script's own mistake must not pass for the misbehaviour that was wanted.
            if not self._closing:
                self.errors.append(error)
        finally:
            talk.close()

    def stop(self):
        """Closes everything; fails if a script was at fault."""
        with self.changed:
            self._closing = True
            talks = list(self.talks)
            listener, self._listener = self._listener, None
        if listener:
            # Wakes up the thread that accepts.
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for talk in talks:
            talk.shutdown()
        if self.errors:
            raise Failure(f"a script of an impostor failed: {self.errors[0]!r}")

    def note(self, request):
        """Keeps a request for later looks."""
        with self.changed:
            self.requests.append(request)
            self.changed.notify_all()

    def wait_for(self, predicate, seconds, what):
        """Waits until the predicate holds for the requests so far."""
        with self.changed:
            if not self.changed.wait_for(lambda: predicate(self.requests), seconds):
                seen = ", ".join(nbd.NAMES.get(one.command, "?") for one in self.requests[-20:])
                raise Failure(f"not within {seconds} s: {what}; the last requests: {seen}")

    def __enter__(self):
        return self if self._listener else self.start()

    def __exit__(self, *_):
        self.stop()

    # What a Mirror wants of its servers besides.
    launch = start

    def wait(self):
        """It serves at once."""

    def resume_if_running(self):
        """It cannot be paused."""


class Talk:
    """One connection, from the server's side."""

    def __init__(self, server, sock, number):
        self.server, self.sock, self.number = server, sock, number
        self._lock = threading.Lock()

    def send(self, data):
        """Sends all of it."""
        with self._lock:
            self.sock.sendall(data)

    def recv(self, length):
        """Receives exactly so many bytes."""
        data = bytearray()
        while len(data) < length:
            part = self.sock.recv(min(length - len(data), 1 << 20))
            if not part:
                raise Gone
            data += part
        return bytes(data)

    def close(self):
        """Ends the connection in order."""
        self.sock.close()

    def shutdown(self):
        """Ends it from another thread."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def abort(self):
        """Ends the connection with a reset."""
        reset_on_close(self.sock)
        self.sock.close()
        raise Gone

    def hold(self):
        """Says nothing until the client closes."""
        poll = select.poll()
        poll.register(self.sock, select.POLLRDHUP)
        poll.poll(HOLD_S * 1000)
        raise Gone

    def swallow(self):
        """Takes whatever comes, until the client closes."""
        while self.sock.recv(1 << 16):
            pass
        raise Gone

    # Negotiation.

    def greet(self, flags=nbd.FIXED_NEWSTYLE | nbd.NO_ZEROES):
        """The first message."""
        self.send(nbd.INIT_MAGIC + nbd.OPTION_MAGIC + struct.pack(">H", flags))

    def option(self):
        """Takes the client's flags and its option: number and data."""
        self.recv(4)
        magic, number, length = struct.unpack(">8sII", self.recv(16))
        if magic != nbd.OPTION_MAGIC:
            raise Failure(f"option magic {magic!r}")
        return number, self.recv(length)

    def reply(self, kind, data=b"", *, option=nbd.OPT_GO, magic=nbd.REPLY_MAGIC, length=None):
        """An option reply."""
        self.send(struct.pack(">QIII", magic, option, kind, len(data) if length is None else length) + data)

    def info(self, size=None, flags=None):
        """Describes the export."""
        size = self.server.size if size is None else size
        flags = self.server.flags if flags is None else flags
        self.reply(nbd.REP_INFO, struct.pack(">HQH", nbd.INFO_EXPORT, size, flags))

    def block_sizes(self, blocks=None):
        """States the block sizes: least, preferred, most."""
        self.reply(nbd.REP_INFO, struct.pack(">HIII", nbd.INFO_BLOCK_SIZE, *(blocks or self.server.blocks)))

    def to_option(self):
        """Greets, and takes the option, which has to be GO."""
        self.greet()
        number, data = self.option()
        if number == nbd.OPT_ABORT:
            raise Gone
        if number != nbd.OPT_GO:
            raise Failure(f"option {number}")
        return data

    def negotiate(self):
        """All of the negotiation."""
        self.to_option()
        self.info()
        if self.server.blocks:
            self.block_sizes()
        self.reply(nbd.REP_ACK)

    # Transmission.

    def request(self):
        """Takes a request."""
        magic, flags, command, cookie, offset, length = nbd.REQUEST.unpack(self.recv(nbd.REQUEST.size))
        if magic != nbd.REQUEST_MAGIC:
            raise Failure(f"request magic {magic:#x}")
        if command == nbd.DISC:
            raise Gone
        data = self.recv(length) if command == nbd.WRITE else b""
        request = nbd.Request(command, flags, cookie, offset, length, data, self.number)
        self.server.note(request)
        return request

    def answer(self, request, error=0, data=None, *, magic=nbd.SIMPLE_REPLY_MAGIC, cookie=None):
        """Answers a request; a read that succeeds with what is stored, or with `data`."""
        header = nbd.SIMPLE_REPLY.pack(magic, error, request.cookie if cookie is None else cookie)
        if data is None:
            data = self.carry_out(request) if not error else b""
        self.send(header + data)

    def carry_out(self, request):
        """Does what a request asks for; gives the data of a read."""
        store, end = self.server.data, request.offset + request.length
        if request.command == nbd.READ:
            return bytes(store[request.offset:end])
        if request.command == nbd.WRITE:
            store[request.offset:end] = request.data
        elif request.command == nbd.WRITE_ZEROES:
            store[request.offset:end] = bytes(request.length)
        return b""

    def serve(self, hook=None):
        """Answers requests; those first for which `hook(talk, request)` gives true are left to the hook."""
        while True:
            request = self.request()
            if not (hook and hook(self, request)):
                self.answer(request)
