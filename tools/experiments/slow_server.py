# SPDX-License-Identifier: GPL-2.0
"""Servers whose store is slow, or holds a write up: any kind of server, with slow_store.c preloaded."""

import contextlib
import os

from lib import check
from lib.program import run

SOURCE = os.path.join(os.path.dirname(os.path.realpath(__file__)), "slow_store.c")


def slow(kind, **settings):
    """A kind of server like `kind`, each start of which has the settings in its environment."""
    return type(kind.__name__, (_Slow, kind), {"settings_of_store": settings})


class _Slow:
    """Mixed into a kind of server."""

    settings_of_store = {}

    def launch(self):
        """As the kind does."""
        with _environment(**{name: str(value) for name, value in self.settings_of_store.items()}):
            super().launch()


@contextlib.contextmanager
def _environment(**settings):
    library = os.path.abspath("slow_store.so")
    if not os.path.exists(library):
        run("gcc", "-O2", "-shared", "-fPIC", "-o", library, SOURCE)
    before = dict(os.environ)
    os.environ.update(LD_PRELOAD=library, **settings)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class Gate:
    """Holds up one write of a server that was started with it as STORE_GATE."""

    def __init__(self):
        self.path = os.path.abspath("gate")

    def arm(self):
        """The next write is held."""
        with open(self.path, "wb"):
            pass

    def wait_held(self, seconds):
        """Waits until a write is held."""
        check.until(lambda: os.path.exists(f"{self.path}.held"), seconds, "a write is held")

    def let_go(self, seconds):
        """Lets it be carried out, and waits for that."""
        os.unlink(f"{self.path}.held")
        check.until(lambda: os.path.exists(f"{self.path}.done"), seconds, "the held write is carried out")
        os.unlink(f"{self.path}.done")
