# SPDX-License-Identifier: GPL-2.0
"""/proc/nbdinfo as a program watches it: read once, then polled for what has changed."""

import os
import select

from lib import check, nbdinfo

CHANGED = select.POLLPRI | select.POLLERR


class Pollee:
    """The file, open in a `with`."""

    def __init__(self):
        self._fd = os.open(nbdinfo.PATH, os.O_RDONLY | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLPRI)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self._fd)

    def fileno(self):
        """For select and epoll."""
        return self._fd

    def read(self):
        """The text, from its beginning to its end: what is in it is no news any more."""
        os.lseek(self._fd, 0, os.SEEK_SET)
        return b"".join(iter(lambda: os.read(self._fd, 65536), b"")).decode("ascii")

    def look(self, ms=0):
        """What poll() says within so many milliseconds."""
        return sum(events for _, events in self._poll.poll(ms))

    def is_news(self, ms=0):
        """Whether there is something new to read within so many milliseconds."""
        seen = self.look(ms)
        check.that(seen in (0, CHANGED), f"poll() of /proc/nbdinfo says {seen:#x}")
        return seen == CHANGED

    def quiet(self, ms=500):
        """Reads until nothing more comes. So much is said of one change at most."""
        for _ in range(100):
            self.read()
            if not self.is_news(ms):
                return
        raise check.Failure("poll() of /proc/nbdinfo says again and again that something has changed")

    def wait_for(self, shown, seconds, what):
        """Waits until the text holds, by nothing but poll()."""

        def look():
            text = self.read()
            return shown(text) or (self.is_news(seconds * 1000) and False)

        return check.until(look, seconds, what)
