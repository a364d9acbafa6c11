# SPDX-License-Identifier: GPL-2.0
"""What is asked of a device, as data."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Workload:
    """One pattern of I/O, in fio's words."""

    name: str
    rw: str
    bs: int
    depth: int
    fsync: int = 0

    @property
    def side(self):
        """Where fio reports it."""
        return "write" if "write" in self.rw else "read"

    @property
    def is_bulk(self):
        """Whether bytes, not requests, are what it costs."""
        return self.bs > 64 << 10

    def lines(self):
        """As lines of a job file."""
        lines = [f"rw={self.rw}", f"bs={self.bs}", f"iodepth={self.depth}"]
        return lines + [f"fsync={self.fsync}"] if self.fsync else lines


# Added to the name of a case that was measured where time counts instructions.
COUNTED = ", counted"

WORKLOADS = (
    Workload("4k-randread-d1", "randread", 4 << 10, 1),
    Workload("4k-randread-d32", "randread", 4 << 10, 32),
    Workload("4k-randwrite-d1", "randwrite", 4 << 10, 1),
    Workload("4k-randwrite-d32", "randwrite", 4 << 10, 32),
    Workload("256k-read-d8", "read", 256 << 10, 8),
    Workload("256k-write-d8", "write", 256 << 10, 8),
    Workload("4k-write-fsync-d1", "randwrite", 4 << 10, 1, fsync=1),
)

# More is on its way than one connection's window holds.
WIDE = (
    Workload("256k-read-d64", "read", 256 << 10, 64),
    Workload("256k-write-d64", "write", 256 << 10, 64),
)


def named(*names):
    """The workloads of these names."""
    table = {workload.name: workload for workload in WORKLOADS + WIDE}
    return [table[name] for name in names]
