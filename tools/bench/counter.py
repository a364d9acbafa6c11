# SPDX-License-Identifier: GPL-2.0
"""What the processor was busy with, in nanoseconds. Under -icount a nanosecond is an instruction.

The scheduler's own account is used: /proc/schedstat has the time in which a processor was not idle, and each thread's
schedstat has its own. Interrupts count for the thread that they interrupted, those of an idle processor for nobody.
"""

import os
import re
import subprocess

# Of a processor's line in /proc/schedstat: the time that threads ran on it.
RAN = 7


class Threads:
    """The threads that are told apart: servers' and the kernel's. What is left is the load generator."""

    def __init__(self, server_pids, is_server_thread):
        self.names = {}
        self.servers = set()
        listing = subprocess.run(["ps", "-eLo", "pid=,tid=,ppid=,comm="], capture_output=True, text=True, check=True)
        for line in listing.stdout.splitlines():
            pid, tid, parent, name = line.split(None, 3)
            path = f"/proc/{pid}/task/{tid}/schedstat"
            if int(pid) in server_pids or is_server_thread(name):
                self.servers.add(path)
                self.names[path] = "server"
            elif parent == "2":
                self.names[path] = plain(name)

    def script(self):
        """A script that prints a snapshot. Running it is counted too, but the same for long and short jobs."""
        path = os.path.abspath("snapshot")
        with open(path, "w", encoding="ascii") as file:
            file.write(f"#!/bin/sh\ngrep -s . /proc/schedstat {' '.join(self.names)} || :\n")
        os.chmod(path, 0o755)
        return path

    def between(self, first, second):
        """What was spent between two snapshots, in files: in all, by servers, and by each thread of the kernel."""
        (before, started), (after, ended) = _parse(first), _parse(second)
        spent = {"busy": after - before, "server": 0, "threads": {}}
        for path, name in self.names.items():
            # One that has ended had too little to do.
            own = ended.get(path, 0) - started.get(path, 0) if path in ended else 0
            if path in self.servers:
                spent["server"] += own
            elif own:
                spent["threads"][name] = spent["threads"].get(name, 0) + own
        return spent

    @staticmethod
    def each(short, long, count):
        """What one of so many requests cost, which is what a long job spent more than a short one."""
        names = set(short["threads"]) | set(long["threads"])
        by_thread = {name: (long["threads"].get(name, 0) - short["threads"].get(name, 0)) / count for name in names}
        return {
            "all": (long["busy"] - short["busy"]) / count,
            "server": (long["server"] - short["server"]) / count,
            "threads": {name: round(cost) for name, cost in sorted(by_thread.items()) if abs(cost) >= 50},
        }


def plain(name):
    """The name of a kernel thread without what tells it from its like: a number, what a worker is doing."""
    if name.startswith("kworker"):
        return "kworker"
    return re.sub(r"([-/_:.]?\d+)+H?$", "", name) or name


def _parse(path):
    busy, own = 0, {}
    with open(path, encoding="ascii") as file:
        for line in file:
            name, text = line.split(":", 1)
            row = text.split()
            if name != "/proc/schedstat":
                own[name] = int(row[0])
            elif re.fullmatch(r"cpu\d+", row[0]):
                busy += int(row[RAN])
    return busy, own
