# SPDX-License-Identifier: GPL-2.0
"""Slow networks and slow servers, in a VM whose clock counts instructions.

Its one processor does an instruction a nanosecond, and while all wait the clock leaps. So what the host does otherwise
changes nothing, and a delay is exactly as long as it is said to be.
"""

from bench import calm, scale
from bench.stages import emit
from bench.workloads import COUNTED

# Of the network in ms, and of each measurement in s: where the processor is the limit a second takes ten.
DELAYS = ((0.5, 0.5), (5, 1), (50, 4))


def run(options):
    """All cases."""
    emit("delay", calm=calm.settle(time_leaps=True))
    scale.slow(options, COUNTED, 1 if options.quick else 3, DELAYS)
