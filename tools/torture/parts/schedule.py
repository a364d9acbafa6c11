# SPDX-License-Identifier: GPL-2.0
"""Which fault comes when. The seed decides the order of the kinds and what each does; what is on at a time decides which of them
may come next, so that there is always a group left that has everything, or none that takes anything."""

import random
import threading
import time

from lib import nbdinfo
from parts.kind import Reach
from parts.kinds import KINDS

# Faults that are on at the same time: at a device, and in all.
MOST_AT_A_DEVICE = 2
MOST = 3
TRIES_S = 0.5
# What is on must have ended so long after a round.
END_S = 420


class Instance:
    """A fault that was or is on."""

    def __init__(self, number, victim, group, kind):
        self.number, self.victim, self.group, self.kind = number, victim, group, kind
        self.start = time.monotonic()
        self.healed = self.end = None
        self.news = []

    def __str__(self):
        place = "all groups" if self.kind.reach is Reach.CUT else f"group {self.group}"
        return f"#{self.number} {self.kind.name} of {place} of {self.victim.letter}"

    def overlaps(self, other):
        """Whether both were on at a moment, at the same device."""
        return self.victim is other.victim and self.start < other.end and other.start < self.end


class Schedule:
    """Draws faults and lets them happen, each in a thread."""

    def __init__(self, watch, victims, seed, only=()):
        self.watch, self.victims, self.seed = watch, victims, seed
        self.kinds = [kind for kind in KINDS if not only or kind.name in only]
        self.dice = random.Random(seed)
        self.deck, self.past, self.count = [], [], 0
        self._times = {}
        self._free = threading.Condition()

    def run_round(self, seconds):
        """Injects faults for so long, and waits until the last one is over."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not self._start_one():
                with self._free:
                    self._free.wait(TRIES_S)
                continue
            # Between close together and one at a time.
            pause = min(self.dice.uniform(0, 5), max(0, end - time.monotonic()))
            time.sleep(pause)
        with self._free:
            if not self._free.wait_for(lambda: not any(v.active for v in self.victims), END_S):
                on = [str(one) for victim in self.victims for one in list(victim.active.values())]
                self.watch.fail(f"faults that do not end: {on}")

    def _start_one(self):
        if not self.deck:
            self.deck = [(victim, kind) for victim in self.victims for kind in self.kinds if kind.groups(victim)]
            self.dice.shuffle(self.deck)
        if sum(len(victim.active) for victim in self.victims) >= MOST:
            return False
        for victim, kind in self.deck:
            key = (victim.letter, kind.name)
            # The n-th time of a kind at a device does the same whenever it comes.
            dice = random.Random(f"{self.seed} {key} {self._times.get(key, 0)}")
            group = dice.choice(kind.groups(victim))
            if self._may(victim, group, kind.reach):
                self.deck.remove((victim, kind))
                self._times[key] = self._times.get(key, 0) + 1
                self._launch(victim, group, kind, dice)
                return True
        return False

    def _may(self, victim, group, reach):
        """Whether it can be survived, and tells something."""
        # A copy: faults that end take themselves out at any moment.
        on = dict(victim.active)
        if len(on) >= MOST_AT_A_DEVICE or any(one.kind.reach in (Reach.CUT, Reach.ALONE) for one in on.values()):
            return False
        if reach in (Reach.CUT, Reach.ALONE) and on or group in on:
            return False
        status = nbdinfo.status(victim.letter)
        whole = [g for g in range(len(victim.servers)) if victim.is_whole(status, g)]
        if group not in whole or reach is Reach.CUT and len(whole) < len(victim.servers):
            return False
        lost = {one.group for one in on.values() if one.kind.reach is Reach.OUT}
        # The others must be enough for this one and for those that are out.
        return reach is Reach.GENTLE or any(g not in lost and g != group for g in whole)

    def _launch(self, victim, group, kind, dice):
        self.count += 1
        one = Instance(self.count, victim, group, kind)
        victim.active[group] = one
        threading.Thread(target=self._run, args=(one, dice), daemon=True).start()

    def _run(self, one, dice):
        with self.watch.guarded():
            self.watch.log(f"inject  {one}")
            for seconds in one.kind.run(one.victim, one.group, dice):
                self.watch.log(f"  leave {one} for {seconds:.1f} s")
                time.sleep(seconds)
            one.healed = time.monotonic()
            self.watch.log(f"healed  {one}")
            everything = one.kind.reach is Reach.CUT
            one.victim.wait_whole(range(len(one.victim.servers)) if everything else [one.group])
            one.end = time.monotonic()
            self.watch.log(f"whole   {one}, {one.end - one.healed:.1f} s after")
        with self._free:
            self.past.append(one)
            del one.victim.active[one.group]
            self._free.notify_all()
