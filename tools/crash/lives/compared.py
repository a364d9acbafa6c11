# SPDX-License-Identifier: GPL-2.0
"""How much was compared after a start, as the kernel's log tells: only what was marked, or all."""

import re

PLAN = re.compile(r"\[a\] group (\d) is compared where it is marked")
COPIED = re.compile(r"nbd_resync of group (\d) by pid \d+ copied (\d+) blocks")
EQUAL = re.compile(r"nbd_resync of group (\d) compared before it wrote: (\d+) blocks were equal")
# The first one of them that comes ends it.
IN_SYNC = re.compile(r"\[a\] group (\d) is in sync")
BROKEN = re.compile(r"nbd_resync of group (\d) (?:ended early|failed)|\[a\] group (\d) is faulty")


def compared(log):
    """How many blocks were compared with the source, for each member that was to be compared where it is marked, and was to the
    end."""
    counts, done = {}, []
    for line in log.splitlines():
        if found := PLAN.search(line):
            counts[found[1]] = 0
        elif found := COPIED.search(line) or EQUAL.search(line):
            if found[1] in counts:
                counts[found[1]] += int(found[2])
        elif found := IN_SYNC.search(line):
            if found[1] in counts:
                done.append(counts.pop(found[1]))
        elif found := BROKEN.search(line):
            counts.pop(found[1] or found[2], None)
    return done
