# SPDX-License-Identifier: GPL-2.0
"""What was seen of all lives."""

import collections


class Tally:
    """Counts."""

    def __init__(self):
        self.deaths = collections.Counter()
        self.counts = collections.Counter()

    def died(self, stage):
        """A client died in that stage."""
        self.deaths[stage] += 1

    def count(self, what, number=1):
        """Something was seen."""
        self.counts[what] += number

    def table(self):
        """For people."""
        lines = [f"  {'died in':34} {stage:10} {number:6}" for stage, number in self.deaths.items()]
        return "\n".join(lines + [f"  {what:45} {number:6}" for what, number in sorted(self.counts.items())])
