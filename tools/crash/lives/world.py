# SPDX-License-Identifier: GPL-2.0
"""What outlives the client: the servers with their stores, and the books of what was acknowledged."""

import random

from lib import check
from lives import block
from lives.book import Book, Journal
from lives.compared import compared
from lives.farm import Farm, in_sync
from lives.life import BLOCKS, DEVICE, EXPORT
from lives.start import newest
from lives.tally import Tally


class World:
    """For all lives of a run."""

    def __init__(self, directory, seed):
        self.directory, self.seed, self.tally = directory, seed, Tally()
        self._dice = random.Random(f"{seed} mirrors")
        self._mirrors = 0
        self.farm = None
        self.renew()

    def renew(self):
        """Another mirror, of empty stores, of two or three groups."""
        if self.farm:
            self.farm.take_down(keep=False)
        self._mirrors += 1
        self.farm = Farm(f"{self._mirrors}-", self._dice.choice((2, 3)), EXPORT, DEVICE)
        for group in self.farm.groups:
            self.farm.start(group)
        self.blocks, self.files = Book("block"), Book("file")
        self._journal, self._entered = Journal(self.blocks, self.files), 0
        self.has_files, self.alone, self._was_enabled = False, None, False
        self.tally.count("mirrors")

    def is_new(self):
        """Whether the mirror was not made, or its making was cut short."""
        if self._was_enabled:
            return False
        told = self.farm.superblocks().values()
        return None in told or len({it["mirror"] for it in told}) > 1

    def enter(self, text):
        """Enters what is new in the journal of this life."""
        # What was cut off by the death was not begun.
        whole = text[:text.rfind("\n") + 1]
        writes, flushes = self._journal.enter(whole[self._entered:])
        self._entered = len(whole)
        self.tally.count("writes acknowledged", writes)
        self.tally.count("flushes acknowledged", flushes)

    def have_read(self, values, when):
        """Users have read all blocks."""
        self._was_enabled = True
        new, old = self.blocks.read(values, when)
        self.tally.count("blocks on their way at a death: new", new)
        self.tally.count("blocks on their way at a death: old", old)

    def bury(self, life):
        """A client has died. What the servers hold is looked at before another one comes."""
        self.enter(life.vm.journal())
        self._entered = 0
        self.tally.died(life.stage)
        self._count_compared(life)
        self._servers_fare(life)
        self.farm.wait_quiet()
        told = self.farm.superblocks()
        if self.alone is None and all(told.values()):
            for group in in_sync(newest(told)):
                where = f"the store of group {group}, which is recorded as in sync"
                self.blocks.look(self.farm.values(group, self.seed, BLOCKS), where)
                self.tally.count("stores in sync looked at")
        differing = self.farm.differing()
        self.tally.count("deaths that left the stores different", differing > 0)
        return f"{self.blocks.on_their_way()} blocks on their way, {differing} differ, servers there {self.farm.there()}"

    def _count_compared(self, life):
        """How much of the device its start has compared, where that was not all."""
        for blocks in compared(life.vm.kernel_log()):
            self.tally.count("members compared where they were marked")
            self.tally.count("members compared so: blocks compared", blocks)
            self.tally.count("members compared so: blocks there are", DEVICE // block.SIZE)

    def _servers_fare(self, life):
        """A server may go with its client, and come back or not."""
        if life.fate.servers in ("after", "bounce"):
            self.farm.kill(life.victim())
        for group in self.farm.groups:
            if life.fate.servers not in ("before", "after") or group != life.victim():
                self.farm.start(group)
        self.tally.count("deaths with a server away", len(self.farm.there()) < len(self.farm.groups))

    def conclude(self):
        """After the last life: what the stores hold is what was acknowledged, to the bit."""
        for group in self.farm.groups:
            self.blocks.look(self.farm.values(group, self.seed, BLOCKS), f"the store of group {group} in the end")
        check.that(self.blocks.written(), "blocks were written")
