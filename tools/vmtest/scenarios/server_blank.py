# SPDX-License-Identifier: GPL-2.0
"""A server of a mirror that was never written comes back. Nothing can show that it is the same one: its group is faulty, comes back
by itself, and all of it is compared. What is equal is not written; what somebody else has written there is gone afterwards."""

from lib import check, nbd
from lib.cases import case
from lib.impostor import Impostor
from lib.kmsg import Kmsg
from lib.mirror import MIB, Mirror
from lib.server import Nbdkit

SIZE = 32 * MIB
DIFFERS = "clean blocks differ from the mirror's: not the server that was lost"
NOTHING_SHOWS = "its connections were lost, and nothing shows that it is the same server"
# In the middle of a large hole, where nobody who looks for partitions reads.
ODD_PLACE = SIZE // 2 + 160 * 1024


def run():
    impostor = Impostor(size=SIZE)
    with Mirror(kinds=[Nbdkit, lambda store: impostor], size=SIZE) as mirror, Kmsg() as kmsg:
        for odd in (b"", b"odd" * 1024):
            with case(f"{len(odd)} odd bytes"):
                come_back(mirror, kmsg, impostor, odd)
        mirror.disable()
        check.that(mirror.servers[0].store.snapshot() == bytes(impostor.data), "both groups hold the same")


def is_settled(mirror):
    """Whether the mirror takes itself for whole."""
    now = mirror.status()
    return now.is_clean() and all(c.is_up for c in now.channels)


def come_back(mirror, kmsg, impostor, odd):
    """The second server is lost and comes back, with some odd bytes."""
    what = f"a blank mirror, {len(odd)} odd bytes"
    kmsg.forget()
    impostor.stop()
    mirror.wait_until(lambda s: not any(c.is_up for c in s.of_group(1)), 20, "the channels are down")
    impostor.talks.clear()
    impostor.requests.clear()
    impostor.data[ODD_PLACE:ODD_PLACE + len(odd)] = odd
    impostor.start()
    pattern = rf"\[a\] group 1 is faulty: ({NOTHING_SHOWS}|{DIFFERS})"
    check.until(lambda: kmsg.lines(pattern) or is_settled(mirror), 60, f"{what}: the group is in sync or faulted")
    check.that(kmsg.lines(pattern), f"{what}: the group is in sync, though nothing shows that it is the same server")
    if odd and kmsg.lines(DIFFERS):
        # The odd place is one of those that were looked at, which is unlikely.
        mirror.hotadd(1, " full")
    mirror.wait_in_sync(90)
    written = sum(one.length for one in impostor.requests if one.command in (nbd.WRITE, nbd.WRITE_ZEROES))
    compared = sum(one.length for one in impostor.requests if one.command == nbd.READ)
    check.that(bytes(impostor.data) == bytes(SIZE), f"{what}: the group holds what the mirror does")
    check.between(written, len(odd), SIZE // 4 if odd else 0, f"{what}: bytes that were written to the group")
    check.that(compared >= SIZE, f"{what}: all of the group was read; {compared} bytes were")
