# SPDX-License-Identifier: GPL-2.0
"""An NBD client that does what no client should: sends, and goes away before the replies."""

import fcntl
import select
import socket
import struct
import termios
import time

from lib import nbd
from lib.endpoint import reset_on_close

# A send buffer that takes everything at once, whatever the server does.
SEND_BUFFER = 16 << 20
SO_SNDBUFFORCE = 32

FIN, RESET, SILENCE = "FIN", "RST", "nothing"


class Client:
    """One connection, negotiated."""

    def __init__(self, endpoint, export):
        self.sock = socket.socket(endpoint.family, socket.SOCK_STREAM)
        self.sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, SEND_BUFFER)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.connect(endpoint.address)
        self.port = self.sock.getsockname()[1]
        self._received = b""
        self.errors = 0
        self._negotiate(export.encode())

    def _negotiate(self, export):
        self._take(18)
        flags = nbd.FIXED_NEWSTYLE | nbd.NO_ZEROES
        data = struct.pack(">I", len(export)) + export + struct.pack(">H", 0)
        self.sock.sendall(struct.pack(">I", flags) + struct.pack(">8sII", nbd.OPTION_MAGIC, nbd.OPT_GO, len(data)) + data)
        while True:
            _, _, kind, length = struct.unpack(">QIII", self._take(20))
            self._take(length)
            if kind == nbd.REP_ACK:
                return
            if kind & nbd.ERR:
                raise OSError(f"the server refuses the export: {kind:#x}")

    def _take(self, length):
        data = b""
        while len(data) < length:
            part = self.sock.recv(length - len(data))
            if not part:
                raise ConnectionError("the server closed in the negotiation")
            data += part
        return data

    def write(self, cookie, offset, data, send=None):
        """Sends a request to write; of its data only the first `send` bytes, if that is given."""
        header = nbd.REQUEST.pack(nbd.REQUEST_MAGIC, 0, nbd.WRITE, cookie, offset, len(data))
        self.sock.sendall(header + data[:send])

    def wait_sent(self, seconds):
        """Waits until the other kernel has all that was sent, no longer than that: a stopped server's takes only so much."""
        end = time.monotonic() + seconds
        while self.unsent() and time.monotonic() < end:
            time.sleep(0.002)

    def unsent(self):
        """Bytes that the other kernel has not acknowledged."""
        return struct.unpack("i", fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4)))[0]

    def replies(self, seconds, most=None):
        """The cookies that are answered until the connection ends, `most` have come or the time is up; and which it was."""
        poll, cookies, end = select.poll(), [], time.monotonic() + seconds
        poll.register(self.sock, select.POLLIN)
        while most is None or len(cookies) < most:
            left = end - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                return cookies, SILENCE
            try:
                part = self.sock.recv(1 << 16)
            except ConnectionError:
                return cookies, RESET
            if not part:
                return cookies, FIN
            cookies += self._parse(part)
        return cookies, None

    def _parse(self, part):
        self._received += part
        whole = len(self._received) // nbd.SIMPLE_REPLY.size * nbd.SIMPLE_REPLY.size
        found = list(nbd.SIMPLE_REPLY.iter_unpack(self._received[:whole]))
        self._received = self._received[whole:]
        self.errors += sum(1 for _, error, _ in found if error)
        return [cookie for _, _, cookie in found]

    def half_close(self):
        """Says that nothing more will be sent."""
        self.sock.shutdown(socket.SHUT_WR)

    def say_goodbye(self):
        """Asks the server to end the connection."""
        self.sock.sendall(nbd.REQUEST.pack(nbd.REQUEST_MAGIC, 0, nbd.DISC, 0, 0, 0))

    def reset(self):
        """Aborts the connection: what is not sent yet never is."""
        reset_on_close(self.sock)
        self.sock.close()

    def close(self):
        """Ends the connection as any program that closes or dies: the kernel goes on sending what is not sent yet."""
        self.sock.close()
