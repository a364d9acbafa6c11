# SPDX-License-Identifier: GPL-2.0
"""One connection of a group is aborted while nothing is going on, and with writes that were not flushed. A crash of the server's
host looks the same, so the channel that connects again asks over the one that is left; it answers, and the group stays in sync."""

from lib import check
from lib.afresh import reset_all
from lib.cases import case
from lib.kmsg import Kmsg
from lib.mirror import Mirror
from lib.program import attempt
from lib.server import Nbdkit, NbdServer, QemuNbd

BLOCK = 4096
TIMES = 4


def run():
    for kind in (Nbdkit, NbdServer, QemuNbd):
        with case(kind.__name__, reset_all), Mirror(kinds=[kind, Nbdkit], channels=2) as mirror, Kmsg() as kmsg:
            for number in range(TIMES):
                # Past the page cache, and with no flush: what a crash would take.
                mirror.disk.write(number * BLOCK, bytes([number + 1]) * BLOCK)
                before = mirror.status()
                abort_one(mirror, number)
                mirror.wait_until(
                    lambda s, before=before: all(c.is_up for c in s.channels) and reconnects(s) > reconnects(before),
                    30, f"channel is back, time {number}",
                )
                check.equal(mirror.status().marks(), {0: "", 1: ""}, f"marks after connection {number} was aborted")
                # The questions are no I/O of the device.
                check.equal(mirror.status().requested, before.requested, "blocks that were requested")
            check.equal(kmsg.lines(r"is faulty"), [], f"groups that were faulted over {kind.__name__}")
            check.equal(mirror.disk.read(0, TIMES * BLOCK), b"".join(bytes([n + 1]) * BLOCK for n in range(TIMES)), "content")
            mirror.check_same()


def reconnects(status):
    """How often channels of group 0 came up again."""
    return sum(channel.reconnects for channel in status.of_group(0))


def abort_one(mirror, number):
    """Aborts the one or the other connection of group 0."""
    port = mirror.servers[0].endpoint.port
    connections = attempt("ss", "-tnH", "state", "established", f"dport = :{port}").stdout.splitlines()
    check.equal(len(connections), 2, "connections before")
    source = sorted(connections)[number % 2].split()[2].rsplit(":", 1)[1]
    result = attempt("ss", "-K", "-tn", f"sport = :{source} and dport = :{port}")
    check.that(result.returncode == 0 and source in result.stdout, f"ss -K: {result.stdout} {result.stderr}")
