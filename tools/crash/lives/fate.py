# SPDX-License-Identifier: GPL-2.0
"""What is to happen in a life, and when it ends: drawn from the seed."""

import dataclasses
import random

# Where a life may end, how often, and for how many seconds from there on. A life comes by them in this order. Few lives make a
# mirror, so many of those end there.
STAGES = {
    "create": (12, 0.3),
    "enable": (4, 5.0),
    "read": (1, 1.5),
    "write": (4, 1.0),
    "resync": (4, 4.0),
    "outage": (6, 8.0),
    "setfaulty": (3, 1.0),
    "hotadd": (3, 2.0),
    "settle": (1, 2.0),
    "disable": (3, 0.7),
}
# KiB/s at most of a resync, so that some take long enough to die in.
SPEEDS = (0, 4096, 8192)
# In a hundred lives: those with a file system, those after which a mirror is made anew if all was in order.
FILES, ANEW = 50, 50
# What servers do at a death: in a hundred, one goes away a moment before, or after it, and is away at the next start, or is
# killed and comes back before.
AWAY_BEFORE, AWAY_AFTER, BOUNCE = 12, 18, 10


@dataclasses.dataclass
class Fate:
    """Of one life."""

    stage: str
    delay_s: float
    speed: int
    has_files: bool
    # The group that has an outage, and one that is set faulty, as shares of those that there are. A long outage is one after
    # which the group was given up, and what it has missed has to be copied.
    outage: float
    is_long: bool
    faulty: float
    # At the death: `before`, `after`, `bounce` or nothing, and of which group; does it come back once the device is enabled?
    servers: str
    victim: float
    comes_back: bool
    # May a start do without a group?
    degraded: bool
    anew: bool


def draw(seed, life, is_new):
    """The fate of a life."""
    dice = random.Random(f"{seed} {life}")
    stages = {name: weight for name, (weight, _) in STAGES.items() if is_new or name != "create"}
    stage = dice.choices(list(stages), stages.values())[0]
    die = dice.randrange(100)
    servers = "before" if die < AWAY_BEFORE else "after" if die < AWAY_BEFORE + AWAY_AFTER else ""
    servers = servers or ("bounce" if die < AWAY_BEFORE + AWAY_AFTER + BOUNCE else "")
    return Fate(
        stage=stage, delay_s=dice.uniform(0, STAGES[stage][1]), speed=dice.choice(SPEEDS),
        has_files=dice.randrange(100) < FILES, outage=dice.random(), is_long=dice.random() < 0.5, faulty=dice.random(),
        servers=servers, victim=dice.random(), comes_back=dice.random() < 0.7, degraded=dice.random() < 0.7,
        anew=dice.randrange(100) < ANEW,
    )


def pick(groups, share):
    """One of several, by a share."""
    return groups[int(share * len(groups))]
