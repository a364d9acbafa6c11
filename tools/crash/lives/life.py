# SPDX-License-Identifier: GPL-2.0
"""One life of the client: from the start of its VM to its death."""

import dataclasses
import threading

from lib import check
from lives.fate import pick
from lives.start import NAP_S, Start
from lives.vm import Died, Vm

MIB = 1 << 20
# Blocks that are written one by one, and what is behind them: a file system.
BLOCKS, THREADS = 2048, 4
FILES_AT, FILES_SIZE, FILES = 8 * MIB, 24 * MIB, 24
DEVICE = FILES_AT + FILES_SIZE
# With the metadata.
EXPORT = DEVICE + MIB
TIMEOUT_S = 6
# A beat each second: a start waits for two of them that do not come.
SETTINGS = (f"timeout[a]={TIMEOUT_S}", "connect_timeout[a]=5", "owner_check[a]=1", "blocksize[a]=4096")
WAIT_S = 120


class Life:
    """Runs until the VM is killed. `world` has what outlives it: servers and books."""

    def __init__(self, world, number, fate):
        self.world, self.number, self.fate = world, number, fate
        self.farm, self.tally = world.farm, world.tally
        self.vm, self.start, self._timer = None, None, None
        self.stage = "boot"

    def reach(self, stage):
        """The life has come to a stage, and may end a while after that."""
        self.stage = stage
        if stage == self.fate.stage:
            self._timer = threading.Timer(self.fate.delay_s, self._die)
            self._timer.start()

    def _die(self):
        if self.fate.servers == "before":
            self.vm.doom()
            self.farm.kill(self.victim())
        self.vm.kill()

    def victim(self):
        """The group whose server goes with the client, if one does."""
        return pick(self.farm.groups, self.fate.victim)

    def run(self):
        """All of it. The last stage is its own end."""
        self.vm = Vm(self.world.directory, self.world.seed, self.number)
        try:
            self._live()
            # Nothing is left to do, and the time is not up.
            check.until(self.vm.is_killed, WAIT_S, "the death of this life")
        except Died:
            pass
        finally:
            if not self.vm.is_killed():
                self.vm.kill()
            if self._timer:
                self._timer.join()
        self.vm.bury()

    def _live(self):
        self.begin()
        self.reach("read")
        self.read("once the device was enabled")
        self._use_files()
        self.reach("write")
        self.write()
        self.reach("resync")
        if self.fate.comes_back:
            self.start.join()
        self._incidents()
        self.settle()
        self.reach("disable")
        self.start.must("enable[a]=0")

    def begin(self):
        """From nothing to a device."""
        self.start = Start(self.vm, self.farm, self.tally, self.world.alone)
        self.start.must(*SETTINGS, f"resync_max[a]={self.fate.speed}")
        if self.world.is_new():
            for group in self.farm.groups:
                self.farm.start(group)
            self.start.connect(self.farm.groups)
            self.reach("create")
            self.start.create()
            self.reach("enable")
            self.start.must("enable[a]=1")
        else:
            self.reach("enable")
            try:
                self.start.enable(self.fate)
            finally:
                self.world.alone = self.start.alone
        self.tally.count("starts")

    def read(self, when):
        """All blocks, by the device."""
        values, broken = self.vm.ask("read", blocks=BLOCKS)
        check.that(not broken, f"{when}: blocks that are no write's as a whole: {broken}")
        self.world.have_read(dict(enumerate(values)), f"read {when}")

    def _use_files(self):
        if not self.fate.has_files:
            return
        where = {"offset": FILES_AT, "size": FILES_SIZE}
        if not self.world.has_files:
            self.vm.ask("format", **where)
            self.world.has_files = True
        self.vm.ask("mount", **where)
        self.world.files.read(dict(enumerate(self.vm.ask("files", count=FILES))), "files")
        self.tally.count("file systems mounted after a death")

    def write(self):
        """Begins to."""
        self.vm.ask("write", blocks=BLOCKS, threads=THREADS)
        if self.fate.has_files:
            self.vm.ask("write_files", count=FILES)

    def _incidents(self):
        """A server is killed and comes back, a group is set faulty and added, all while users write."""
        self.reach("outage")
        group = pick(self.farm.groups, self.fate.outage)
        self.farm.kill(group)
        self._wait(lambda status: all(not c.is_up for c in status.of_group(group)), f"group {group} has no channel")
        if self.fate.is_long:
            self._wait(lambda status: self._is_given_up(status, group), f"group {group} is given up")
        self.farm.start(group)
        self._wait(lambda status: all(c.is_up for c in status.of_group(group)), f"the channels of group {group} are up")
        self.start.join()
        self.start.wait_in_sync()
        self.world.alone = self.start.alone
        self.reach("setfaulty")
        group = pick(self.farm.groups, self.fate.faulty)
        self.start.must(f"setfaulty[a]={group}")
        self._wait_written(group)
        self.reach("hotadd")
        self.start.by_hand.add(group)
        self.start.wait_in_sync()

    @staticmethod
    def _is_given_up(status, group):
        """Whether a group is faulty, or never will be, as no other is in sync."""
        others = [mark for other, mark in status.marks().items() if other != group]
        return status.mark(group) in (None, "F") or all(others)

    def _wait(self, holds, what):
        check.until(lambda: holds(self.vm.status()), WAIT_S, what, NAP_S)

    def _wait_written(self, group):
        """Waits until a group has missed something."""
        self._wait(lambda status: status.dirty_columns[group] > 0, f"group {group} misses blocks")

    def settle(self):
        """Users stop, and all is equal."""
        self.reach("settle")
        self.vm.ask("calm")
        self.start.wait_in_sync()
        self.world.enter(self.vm.journal())
        self.read("when all was in sync")
        self.vm.ask("leave")

    def end(self):
        """The last life is not killed: all is brought in order, and compared."""
        self.fate = dataclasses.replace(self.fate, stage="")
        self.vm = Vm(self.world.directory, self.world.seed, self.number)
        try:
            self.begin()
            self.read("in the last life")
            self._use_files()
            self.write()
            self.start.join()
            self.start.wait_in_sync()
            self.settle()
            self.start.must("enable[a]=0")
            self.farm.compare()
            self.start.must("reset[a]=1")
            self.vm.ask("unload")
            self.vm.end()
        finally:
            self.vm.kill()
