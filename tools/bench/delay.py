# SPDX-License-Identifier: GPL-2.0
"""Slow networks and slow servers, in a VM whose clock counts instructions.

Its one processor does an instruction a nanosecond, and while all wait the clock leaps. So what the host does otherwise
changes nothing, and a delay is exactly as long as it is said to be.
"""

from bench import calm, scale
from bench.stages import emit
from bench.workloads import COUNTED

# Of the network in ms, for how many seconds, and what. Where the processor is the limit a second takes ten.
DELAYS = ((0.5, 0.5, scale.ALL), (5, 1, scale.ALL), (50, 4, scale.ALL))
QUICK = ((5, 0.3, ("4k-randwrite-d32",)), (50, 0.6, ("256k-write-d64",)))


def run(options):
    """All cases."""
    emit("delay", calm=calm.settle(time_leaps=True))
    if options.quick:
        scale.slow(COUNTED, 1, 0.5, QUICK)
    else:
        scale.slow(COUNTED, 3, 1, DELAYS)
