# SPDX-License-Identifier: GPL-2.0
"""A server that keeps some of its answers for itself, and gives them later."""

import contextlib
import threading


class Hoarder:
    """A script that carries out nothing of what `wants` says yes to, until it is told to."""

    def __init__(self):
        self._lock = threading.Lock()
        self._wants, self._kept = None, []

    def keep(self, wants):
        """From now on what `wants(request)` is true of is kept."""
        with self._lock:
            self._wants = wants

    def has_some(self):
        """Whether something is kept."""
        return bool(self._kept)

    def release(self):
        """Carries out and answers all that was kept, and keeps nothing more."""
        with self._lock:
            self._wants = None
            kept, self._kept = self._kept, []
        for talk, request in kept:
            # The client may have given up this connection.
            with contextlib.suppress(OSError):
                talk.answer(request)

    def __call__(self, talk):
        talk.negotiate()
        talk.serve(self._hook)

    def _hook(self, talk, request):
        with self._lock:
            is_kept = self._wants is not None and self._wants(request)
            if is_kept:
                self._kept.append((talk, request))
        return is_kept
