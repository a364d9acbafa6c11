# SPDX-License-Identifier: GPL-2.0
"""What the kernel tells of a disk: uevents, as udevd hears them."""

import select
import socket
import time

from lib import check

_PROTOCOL = 15
_KERNEL = 1


def listen():
    """A socket that hears all that the kernel tells udevd."""
    heard = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _PROTOCOL)
    heard.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    heard.bind((0, _KERNEL))
    return heard


class Uevents:
    """The `change` events of a disk that enbd makes, open in a `with`: each is its words."""

    def __init__(self, disk="nda"):
        self._disk = disk
        self._socket = listen()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def next(self, seconds):
        """The next one, or None if there is none within so many seconds."""
        end = time.monotonic() + seconds
        while select.select([self._socket], [], [], max(0, end - time.monotonic()))[0]:
            data = self._socket.recv(65536).decode("ascii")
            words = dict(word.split("=", 1) for word in data.split("\0")[1:] if "=" in word)
            if words.get("DEVNAME") == self._disk and "ENBD_EVENT" in words:
                check.equal(words["ACTION"], "change", "action of an event")
                return words
        return None

    def expect(self, *wanted, seconds=30):
        """Waits for events of these kinds, in any order, and no other one; gives them by kind."""
        got = {}
        while set(got) != set(wanted):
            event = self.next(seconds)
            check.that(event, f"no event {set(wanted) - set(got)} within {seconds} s, but {got}")
            kind = event["ENBD_EVENT"]
            check.that(kind in wanted and kind not in got, f"an event that was not expected after {list(got)}: {event}")
            got[kind] = event
        return got

    def drain(self, seconds=1.5):
        """All that come until there is none for so long."""
        return list(iter(lambda: self.next(seconds), None))
