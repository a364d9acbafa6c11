# SPDX-License-Identifier: GPL-2.0
"""Something that is done in a thread, since it may have to wait."""

import threading

from lib import check


class Errand:
    """Begins at once."""

    def __init__(self, what, function, *arguments):
        self.what, self._function, self._arguments = what, function, arguments
        self.error = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            self._function(*self._arguments)
        except BaseException as error:
            self.error = error

    def has_ended(self):
        """Whether it is done, or has failed."""
        return not self._thread.is_alive()

    def join(self, seconds):
        """Waits for its end, which has to be a good one."""
        self._thread.join(seconds)
        check.that(self.has_ended(), f"not within {seconds} s: {self.what}")
        if self.error is not None:
            raise check.Failure(f"{self.what}: {self.error}") from self.error
