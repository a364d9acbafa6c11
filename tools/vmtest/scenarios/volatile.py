# SPDX-License-Identifier: GPL-2.0
"""A server without FLUSH is named as volatile, in the log and in the status, and works; one with FLUSH is not."""

from lib import check
from lib.kmsg import Kmsg
from lib.mirror import Mirror
from lib.server import NbdServer


def run():
    kinds = [NbdServer, lambda store: NbdServer(store, settings=())]
    with Kmsg() as kmsg, Mirror(kinds=kinds) as mirror:
        lines = kmsg.lines(r"\[a\] group 1 .*volatile")
        check.equal(len(lines), 1, "lines of the log that name group 1 as volatile")
        check.equal(kmsg.lines(r"\[a\] group 0 .*volatile"), [], "lines of the log that name group 0 as volatile")
        check.equal(mirror.status().group_lines, {1: ("in sync", True, None)}, "Group lines of the status")
        with mirror.disk.open() as disk:
            disk.write(0, b"v" * 65536)
            disk.flush()
        check.that(mirror.stores[1].read(0, 65536) == b"v" * 65536, "the volatile group has what was written")
        check.equal(mirror.status().marks(), {0: "", 1: ""}, "marks after a flush")
        mirror.check_same()
