# SPDX-License-Identifier: GPL-2.0
"""A server leaves a write lying until its channel was given up and a newer write to the same block was acknowledged, and carries
it out then: at once, or while its group is away. When the group is in sync again it must hold the newer data."""

import os

from lib import check
from lib.cases import case
from lib.impostor import Impostor
from lib.kmsg import Kmsg
from lib.mirror import Mirror
from lib.server import Nbdkit
from lib.sloth import Sloth

LIMIT_S = 120
SIZE = 1 << 20
BLOCK = 4096
OFFSET = 64 * BLOCK


def run():
    sloth = Sloth(OFFSET)
    impostor = Impostor(sloth, size=SIZE)
    with Mirror(kinds=[Nbdkit, lambda store: impostor], size=SIZE, settings=["timeout=3"]) as mirror, Kmsg() as kmsg:
        for when in ("at once", "when the group is faulty", "after more writes"):
            with case(f"a ghost {when}"):
                haunt(mirror, kmsg, sloth, when)
        mirror.disable()
        check.that(mirror.servers[0].store.read(0, SIZE) == bytes(impostor.data), "both groups hold the same in the end")


def is_late(channel):
    """Whether it is down since a request was not answered. The log tells that once a minute."""
    return not channel.is_up and "not answered in time" in (channel.last_error or "")


def haunt(mirror, kmsg, sloth, when):
    """One write that is left lying, and a newer one."""
    what = f"a ghost {when}"
    old, new = os.urandom(BLOCK), os.urandom(BLOCK)
    kmsg.forget()
    sloth.arm()
    with check.within(20, f"a write that one server leaves lying, {what}"):
        mirror.disk.write(OFFSET, old)
    check.that(sloth.lying.is_set(), f"the write is left lying, {what}")
    mirror.wait_until(lambda s: any(is_late(c) for c in s.of_group(1)), 10, f"the channel is given up, {what}")
    with check.within(20, f"a newer write, {what}"):
        mirror.disk.write(OFFSET, new)
    if when != "at once":
        kmsg.wait_for(r"\[a\] group 1 is faulty", 10)
    if when == "after more writes":
        for number in range(64):
            mirror.disk.write(number * BLOCK, os.urandom(BLOCK))
    sloth.go_on.set()
    check.that(sloth.done.wait(10), f"the old write is carried out, {what}")
    mirror.wait_until(lambda s: s.is_clean() and all(c.is_up for c in s.channels), 60, f"all is well again after {what}")
    impostor = mirror.servers[1]
    check.that(bytes(impostor.data[OFFSET:OFFSET + BLOCK]) == new, f"the newer data is what stays, {what}")
    check.that(mirror.disk.read(OFFSET, BLOCK) == new, f"the newer data is read, {what}")
