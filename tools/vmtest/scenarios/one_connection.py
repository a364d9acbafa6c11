# SPDX-License-Identifier: GPL-2.0
"""A server without CAN_MULTI_CONN takes one connection at a time: `connect` with more fails, says why, and leaves what was there.
If the flag goes while a group has two channels, one returns and the other one says why it does not; with the flag both return."""

from lib import check, nbd
from lib.impostor import Impostor
from lib.mirror import Mirror
from lib.server import Nbdkit
from lib.traffic import Traffic

LIMIT_S = 180
SIZE = 1 << 20
EOPNOTSUPP = 95
ALONE = nbd.ALL_FLAGS & ~nbd.MULTI_CONN
PHRASE = "one connection at a time"


def run():
    impostor = Impostor(size=SIZE, flags=ALONE)
    with Mirror(kinds=[Nbdkit, lambda store: impostor], size=SIZE, channels=1, settings=["timeout=2"], enable=False) as mirror:
        refuse_more(mirror)
        mirror.command("enable=1")
        with Traffic(blocks=64) as traffic:
            lose_the_flag(mirror, impostor, traffic)
            check.that(mirror.status().mark(0) != "F", "group 0 stayed in sync")
        traffic.verify()
        mirror.disable()
        check.that(mirror.servers[0].store.read(0, SIZE) == bytes(impostor.data[:SIZE]), "both groups hold the same")


def refuse_more(mirror):
    """Neither a second channel nor a new group with two of them; a read-only export may have two."""
    with check.refused(EOPNOTSUPP, "a second channel"):
        mirror.connect(1, channels=1)
    check.that(PHRASE in mirror.status().error, f"the error says why: {mirror.status().error!r}")
    check.equal([c.is_up for c in mirror.status().of_group(1)], [True], "the channels of group 1")
    with Impostor(size=SIZE, flags=ALONE) as other:
        with check.refused(EOPNOTSUPP, "two channels at once"):
            mirror.connect(2, channels=2, server=other)
        check.that(PHRASE in mirror.status().error, f"the error says why: {mirror.status().error!r}")
        check.equal(mirror.status().of_group(2), [], "the channels of group 2")
        other.flags = ALONE | nbd.READ_ONLY
        mirror.connect(2, channels=2, server=other)
        check.equal([c.is_up for c in mirror.status().of_group(2)], [True, True], "the channels of a read-only group 2")
        mirror.command("disconnect=2")


def lose_the_flag(mirror, impostor, traffic):
    """Two channels, of which one returns, twice; and both when the server has the flag again."""
    hang_up(mirror, impostor, nbd.ALL_FLAGS)
    mirror.wait_until(lambda s: s.of_group(1)[0].is_up, 30, "the channel of group 1 is back")
    mirror.connect(1, channels=1)
    mirror.wait_in_sync(60)
    for turn in range(2):
        hang_up(mirror, impostor, ALONE)
        mirror.wait_until(is_alone, 60, f"one channel of group 1 is back, and the other one says why not, {turn}")
        mirror.wait_in_sync(60)
        traffic.wait_for(20, 20, f"over one channel, {turn}")
    hang_up(mirror, impostor, nbd.ALL_FLAGS)
    mirror.wait_until(lambda s: all(c.is_up for c in s.channels), 60, "all channels are up")
    mirror.wait_in_sync(60)


def is_alone(status):
    """Whether one channel is up, and the other one was refused beside it."""
    up = [c for c in status.of_group(1) if c.is_up]
    down = [c for c in status.of_group(1) if not c.is_up]
    return len(up) == 1 and len(down) == 1 and PHRASE in (down[0].last_error or "")


def hang_up(mirror, impostor, flags):
    """Offers these flags from now on, and closes all connections; waits until that was seen."""
    before = {c.index: c.reconnects for c in mirror.status().of_group(1)}
    impostor.flags = flags
    with impostor.changed:
        talks = [talk for talk in impostor.talks if talk.sock.fileno() >= 0]
    for talk in talks:
        talk.shutdown()

    def is_seen(status):
        return any(not c.is_up or c.reconnects > before[c.index] for c in status.of_group(1))

    mirror.wait_until(is_seen, 30, "group 1 has lost its connections")
