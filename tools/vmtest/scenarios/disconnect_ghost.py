# SPDX-License-Identifier: GPL-2.0
"""One of two addresses of the only group is disconnected while its server leaves a write lying. The write must not come back
before the server has had its time: whoever repeated it over the other address would find it undone."""

import os
from concurrent.futures import ThreadPoolExecutor

from lib import check
from lib.impostor import Impostor
from lib.mirror import Mirror
from lib.sloth import Sloth

LIMIT_S = 120
SIZE = 1 << 20
BLOCK = 4096
OFFSET = 64 * BLOCK
TIMEOUT_S = 8


def run():
    sloths = [Sloth(OFFSET), Sloth(OFFSET)]
    servers = [Impostor(sloth, size=SIZE) for sloth in sloths]
    servers[1].data = servers[0].data
    mirror = Mirror(kinds=[lambda store: servers[0]], size=SIZE, channels=1, settings=[f"timeout={TIMEOUT_S}"])
    with mirror, servers[1], ThreadPoolExecutor() as pool:
        mirror.connect(0, server=servers[1])
        for sloth in sloths:
            sloth.arm()
        writer = pool.submit(mirror.disk.write, OFFSET, os.urandom(BLOCK))
        check.until(lambda: any(sloth.lying.is_set() for sloth in sloths), 10, "the write is left lying")
        at = 0 if sloths[0].lying.is_set() else 1
        sloths[1 - at].armed = False
        remover = pool.submit(mirror.command, f"disconnect=0 {servers[at].endpoint}")
        check.until(lambda: hung_up(mirror), 30, "the connection is given up")
        check.that(not writer.done(), "the write is held as long as the old one may be carried out")
        sloths[at].go_on.set()
        check.that(sloths[at].done.wait(10), "the old write is carried out")
        for each in (writer, remover):
            # Raises what went wrong, and if it has not ended.
            each.result(60)
        new = os.urandom(BLOCK)
        mirror.disk.write(OFFSET, new)
        check.that(bytes(servers[0].data[OFFSET:OFFSET + BLOCK]) == new, "the newer data is what stays")
        check.equal(mirror.status().marks(), {0: ""}, "marks of the only group")
        mirror.disable()


def hung_up(mirror):
    """Whether a channel is not up any more."""
    return any(not channel.is_up for channel in mirror.status().of_group(0))
