# SPDX-License-Identifier: GPL-2.0
"""How the device of a new life is started: what has to be refused is, and what has to work does.

What the newest superblocks of the servers say is read from the stores by tools/meta, which has no code of the module. That a
record may be believed shows later, when all that was acknowledged has to be there.
"""

import errno

from lib import check
from lives.farm import in_sync

# Why a start is refused without a member that may be newer, or with none that is in sync.
REFUSED = (errno.EUCLEAN, errno.ESTALE)
ADD_S = 120
NAP_S = 0.3


class Start:
    """Of one life. `alone` is who a degraded start left alone, until all are in sync again: if the crash before it came while a
    record was written, a member that it did without may be refused though it lacks nothing (metadata.rst)."""

    def __init__(self, vm, farm, tally, alone):
        self.vm, self.farm, self.tally, self.alone = vm, farm, tally, alone
        # Groups that do not come back by themselves.
        self.by_hand = set()

    def must(self, *lines):
        """A command that has to work."""
        number = self.vm.command(*lines)
        check.equal(check.name_of(number), "0", f"{lines}; the status says {self.vm.error() if number else ''!r}")

    def connect(self, groups):
        """Connects to servers that are there."""
        for group in groups:
            self.must(self.farm.connect(group))

    def create(self):
        """Makes the mirror. What a death has left of one that was being made is overwritten: nobody has used it."""
        force = " force" if any(self.farm.superblocks().values()) else ""
        self.must(f"create[a]=0 equal{force}")

    def enable(self, fate):
        """Starts with those that are there, or brings those back that are needed."""
        there = self.farm.there()
        self.connect(there)
        told = newest(self.farm.superblocks(there))
        missing = in_sync(told) - set(there)
        # Of those that are there all that is in sync, and somebody has to be.
        is_certain = not missing and in_sync(told)
        number = self.vm.command("enable[a]=1")
        if number == 0:
            check.that(is_certain, f"a start without {missing}, which may be newer, is refused")
            return
        error = self.vm.error()
        check.that(number in REFUSED, f"enable=1: {check.name_of(number)}, {error!r}")
        if is_certain and self.alone is not None and "gone on without each other" in error:
            return self._by_force()
        check.that(not is_certain, f"enable=1 with all that are in sync, {in_sync(told)} of {there}, is refused: {error!r}")
        self.tally.count("refused starts")
        if fate.degraded and self._may_go_on(there):
            return self._degraded(there)
        self.tally.count("starts after servers came back")
        for group in set(self.farm.groups) - set(there):
            self.farm.start(group)
            self.must(self.farm.connect(group))
        number = self.vm.command("enable[a]=1")
        if number and self.alone is not None:
            return self._by_force()
        check.equal(check.name_of(number), "0", f"enable=1 with all servers; the status says {self.vm.error() if number else ''!r}")

    def _may_go_on(self, there):
        """Whether those that are there have all that was acknowledged: somebody of them is in sync, also for those who are away.
        The others may lose something by it, and only the administrator knows."""
        told = self.farm.superblocks()
        return any(all(group in in_sync(it) for it in told.values()) for group in there)

    def _degraded(self, there):
        """Goes on without the others."""
        self.tally.count("degraded starts")
        self.alone = there
        self.must("enable[a]=1 degraded")

    def _by_force(self):
        """Two have gone on without each other, as one of them was left out: the one that went on counts."""
        self.tally.count("starts by force after a degraded one")
        told = newest(self.farm.superblocks(self.alone))
        source = min(in_sync(told) & set(self.alone))
        self.must(f"enable[a]=1 source={source}")
        self.by_hand |= set(self.farm.groups) - {source}

    def join(self):
        """Those that are away come back, and are connected."""
        status = self.vm.status()
        for group in self.farm.groups:
            if status.mark(group) is None:
                self.farm.start(group)
                self.must(self.farm.connect(group))
                self.by_hand.add(group)

    def wait_in_sync(self):
        """Waits until all groups are, and adds those by hand that need it."""

        def done():
            status = self.vm.status()
            for group in [group for group in self.by_hand if status.mark(group) == "F"]:
                self._add(group)
            return len(status.marks()) == len(self.farm.groups) and status.is_clean()

        check.until(done, ADD_S, f"all groups are in sync; the status:\n{self.vm.ask('status')}", NAP_S)
        self.by_hand.clear()
        self.alone = None

    def _add(self, group):
        number = self.vm.command(f"hotadd[a]={group}")
        if number in (errno.EUCLEAN, errno.EEXIST) and self.alone is not None:
            self.tally.count("members added in full after a degraded start")
            number = self.vm.command(f"hotadd[a]={group} full")
        check.that(number in (0, errno.EBUSY, errno.ENOTCONN), f"hotadd={group}: {check.name_of(number)}, {self.vm.error()!r}")


def newest(told):
    """The superblock with the latest event of those that there are."""
    return max(filter(None, told.values()), key=lambda it: it["event"])
