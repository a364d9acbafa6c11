# SPDX-License-Identifier: GPL-2.0
"""What the kernel has given out: to be the same after as before."""

import collections
import os
import re

from lib.program import run


def _words(path):
    with open(path, encoding="ascii") as file:
        return [line.split() for line in file]


def sockets():
    """The TCP and Unix sockets of this network namespace, without those that only wait for stray packets."""
    count = collections.Counter()
    for name in ("tcp", "tcp6"):
        count.update(f"{name} {row[1]}-{row[2]} {row[3]}" for row in _words(f"/proc/net/{name}")[1:] if row[3] != "06")
    # The path is the last word where there is one; a number of its own tells the others apart.
    count.update(f"unix {row[7] if len(row) > 7 else row[6]}" for row in _words("/proc/net/unix")[1:])
    return count


def orphans():
    """TCP connections that nobody owns."""
    with open("/proc/net/sockstat", encoding="ascii") as file:
        return int(re.search(r"orphan (\d+)", file.read())[1])


def end_namespaces():
    """The kernel keeps the network namespace that ended last until the next one ends, so one is made to."""
    run("unshare", "--net", "true")


def namespaces():
    """Network namespaces that the kernel has, the one that ended last included."""
    cache = "/sys/kernel/slab/net_namespace"
    # What the cache holds in reserve would be counted too.
    with open(f"{cache}/shrink", "w", encoding="ascii") as file:
        file.write("1")
    with open(f"{cache}/objects", encoding="ascii") as file:
        return int(file.read().split()[0])


def slab_kib():
    """Memory that the kernel's small objects take, after all caches gave back what they can."""
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("3")
    for name in os.listdir("/sys/kernel/slab"):
        try:
            with open(f"/sys/kernel/slab/{name}/shrink", "w", encoding="ascii") as file:
                file.write("1")
        except OSError:
            continue
    return meminfo("Slab")


def slab_objects():
    """Active objects of each cache; call `slab_kib` first to make the numbers exact."""
    return {row[0]: int(row[1]) for row in _words("/proc/slabinfo")[2:]}


def meminfo(name):
    """A line of /proc/meminfo, in KiB."""
    with open("/proc/meminfo", encoding="ascii") as file:
        return int(re.search(rf"^{name}:\s+(\d+)", file.read(), re.MULTILINE)[1])


def vmalloc_kib():
    """Memory in vmalloc areas, kernel stacks among them."""
    return meminfo("VmallocUsed")
