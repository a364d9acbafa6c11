# SPDX-License-Identifier: GPL-2.0
"""What was acknowledged, kept outside of the client that dies.

The client notes in a journal each write before it asks for it and once it was acknowledged. A line is in the journal before the
client goes on, whatever becomes of it then. So what a block may hold after a death is known: the last value that was
acknowledged, or one that was on its way. What is read is what it holds from then on, also after the next death.
"""

import collections

from lib import check
from lives.block import NOTHING, spell


class Book:
    """What each of several things, like blocks, may hold."""

    def __init__(self, what):
        self.what = what
        self._held = collections.defaultdict(lambda: NOTHING)
        self._asked = {}

    def ask(self, key, value):
        """A write is on its way from now on."""
        self._asked.setdefault(key, []).append(value)

    def acknowledge(self, key, value):
        """It was acknowledged, and those before it: a thing has one writer, which waits."""
        check.that(value in self._asked.get(key, ()), f"the journal acknowledges {self.what} {key} {spell(value)} unasked")
        self._held[key] = value
        del self._asked[key]

    def on_their_way(self):
        """How many things have a write that was not acknowledged."""
        return len(self._asked)

    def written(self):
        """The things that hold something."""
        return [key for key, value in self._held.items() if value != NOTHING]

    def may_hold(self, key, value):
        """Whether it may hold this value."""
        return value == self._held[key] or value in self._asked.get(key, ())

    def fault(self, key, value):
        """Why it may not hold a value, for people."""
        asked = ", ".join(map(spell, self._asked.get(key, ()))) or "nothing"
        found = "no value as a whole" if value is None else spell(value)
        return f"{self.what} {key} holds {found}; acknowledged or read before was {spell(self._held[key])}, on its way {asked}"

    def look(self, values, where):
        """Fails unless all of these, keys and their values, may be held."""
        wrong = [self.fault(key, value) for key, value in values.items() if not self.may_hold(key, value)]
        check.that(not wrong, f"{where}: {len(wrong)} wrong: {'; '.join(wrong[:5])}")

    def read(self, values, where):
        """Users have read these: from now on nothing else may be read. Gives how many of those on their way were new, and old."""
        self.look(values, where)
        new = old = 0
        for key, value in values.items():
            if self._asked.pop(key, None) is not None:
                new, old = (new, old + 1) if value == self._held[key] else (new + 1, old)
            self._held[key] = value
        return new, old


class Journal:
    """Lines of a client: `i` and `a` for blocks that were asked for and acknowledged, `I` and `A` for files, `f` for a flush,
    `x` for a failure."""

    def __init__(self, blocks, files):
        self.blocks, self.files = blocks, files

    def enter(self, text):
        """Enters whole lines. Gives the writes and the flushes that were acknowledged."""
        writes = flushes = 0
        for line in text.splitlines():
            kind, *words = line.split()
            if kind == "x":
                raise check.Failure(f"a request failed: {line}")
            if kind == "f":
                flushes += 1
                continue
            first, count, value = map(int, words)
            book = self.files if kind in "IA" else self.blocks
            act = book.ask if kind in "iI" else book.acknowledge
            for key in range(first, first + count):
                act(key, value)
            writes += kind in "aA"
        return writes, flushes
