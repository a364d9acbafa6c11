# SPDX-License-Identifier: GPL-2.0
"""Throughput and latency in the VM whose clock counts instructions: one processor, an instruction a nanosecond.

No real machine is like that, but here neither a busy host nor chance decides who is ahead.
"""

from bench import calm, speed


def run(options):
    """Each workload, all peers."""
    speed.compare(options, calm.settle(time_leaps=True), *((1, 0.1) if options.quick else (3, 0.3)), counted=True)
