# SPDX-License-Identifier: GPL-2.0
"""Servers behind slow lines, and what they were asked."""

import itertools
import re

from lib.server import Nbdkit

_lists = itertools.count()


class Slow(Nbdkit):
    """nbdkit behind a line of `RATE` bytes a second, which keeps a list of what it was asked."""

    RATE = 2 << 20

    def __init__(self, store, endpoint=None, **common):
        self.list = f"{store.path}.asked{next(_lists)}"
        more = [f"rate={8 * self.RATE}", f"logfile={self.list}"]
        super().__init__(store, endpoint, filters=["log", "rate"], more=more, **common)

    def asked(self, what):
        """How many bytes it was asked to read, or to write."""
        with open(self.list, encoding="utf-8") as file:
            counts = re.findall(rf" {what} id=\d+ offset=0x[0-9a-f]+ count=(0x[0-9a-f]+)", file.read())
        return sum(int(count, 16) for count in counts)


def issued(fio, each):
    """How many bytes fio has asked to read and to write, `each` at a time."""
    with open(f"{fio.name}.log", encoding="utf-8") as file:
        return [int(count) * each for count in re.search(r"issued rwts: total=(\d+),(\d+)", file.read()).groups()]
