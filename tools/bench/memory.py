# SPDX-License-Identifier: GPL-2.0
"""Memory: of modules, of a device, and of what notes the dirty blocks of a TiB."""

import contextlib
import glob
import os
import random
import re
import statistics
import time

from bench import calm, peers
from bench.resync import opened
from bench.servers import MIB, bank
from bench.stages import emit
from lib import check, nbdinfo
from lib.endpoint import Endpoint
from lib.program import attempt
from lib.server import Nbdkit

GIB, TIB = 1 << 30, 1 << 40
BLOCK = 4096
SHARES = (0.001, 0.01, 1)
# Random marks are made in a part of the TiB, and what they need is multiplied: a map page belongs to 128 MiB.
PART = TIB // 16
# A stretch of clustered blocks.
CLUSTER = GIB
# Large enough that a table by its size stands out of everything else that takes memory.
VAST = 128 * TIB
# Devices at once, and how often: memory comes and goes for other reasons too.
SEVERAL, ROUNDS, LOOKS = 3, 3, 4
STACK = 16384
MODULES = {
    "enbd": ("enbd",), "nbd.ko": ("nbd",), "md over nbd.ko": ("md_mod", "raid1", "nbd"),
    "drbd": ("drbd", "lru_cache", "libcrc32c"),
}


def module_sizes():
    """The memory that the code and data of modules take, as the kernel says."""
    sizes = {}
    for line in peers.read("/proc/modules").splitlines():
        name, size = line.split()[:2]
        sizes[name] = int(size)
    return {who: sum(sizes.get(name, 0) for name in names) for who, names in MODULES.items()}


def kernel_memory():
    """What the kernel has taken: all memory but what is free and that of programs and of the page cache.

    What is freed with a delay is gone after a moment, so the least of some looks is it.
    """
    os.sync()
    peers.write("/proc/sys/vm/drop_caches", 3)
    return min(_look() for _ in range(LOOKS))


def _look():
    time.sleep(0.1)
    shrink("*")
    # Also gives back the free pages that processors keep for themselves.
    peers.write("/proc/sys/vm/compact_memory", 1)
    # Folds what processors have counted for themselves into what is shown.
    peers.write("/proc/sys/vm/stat_refresh", 1)
    values = dict(re.findall(r"^(\w+):\s+(\d+) kB", peers.read("/proc/meminfo"), re.MULTILINE))
    taken = int(values["MemTotal"]) - int(values["MemFree"])
    for name in ("AnonPages", "Cached", "Buffers", "PageTables"):
        taken -= int(values[name])
    return taken << 10


def shrink(caches):
    """Takes back what processors keep of these caches for themselves, which would be counted."""
    for path in glob.glob(f"/sys/kernel/slab/{caches}/shrink"):
        peers.write(path, 1)


def map_pages():
    """Objects of 4 KiB that the kernel has allocated: the pages of a dirty map are such."""
    shrink("kmalloc*-4k")
    lines = peers.read("/proc/slabinfo").splitlines()
    rows = [line.split() for line in lines if re.match(r"kmalloc(-\w+)*-4k ", line)]
    check.that(rows, "the kernel tells of its objects of 4 KiB")
    return sum(int(row[1]) for row in rows)


def nothing(size):
    """A server that forgets what is written, so that it can be as large as one likes."""
    return Nbdkit(None, Endpoint(), plugin=["null", f"size={size}"])


class Map:
    """A mirror of a size whose second group is faulty: its dirty map is empty at first."""

    def __init__(self, size):
        self.servers = [nothing(size), nothing(size)]
        self.device = peers.Enbd(self.servers, channels=1)

    def __enter__(self):
        for server in self.servers:
            server.start()
        before = kernel_memory()
        self.device.set_up()
        self.taken = kernel_memory() - before
        self.device.set_aside()
        self.pages = map_pages()
        return self

    def __exit__(self, *_):
        self.device.take_down()
        for server in self.servers:
            server.stop()

    def grown(self):
        """Bytes of its pages."""
        return (map_pages() - self.pages) * BLOCK

    def marked(self):
        """Bytes that are marked, as the status says."""
        return nbdinfo.status("a").dirty * BLOCK


def table(rounds):
    """Bytes that the table of a TiB's map takes: of a device of 128 TiB, less what one of a TiB takes otherwise."""
    found = []
    for _ in range(rounds):
        with Map(TIB) as small:
            pass
        with Map(VAST) as vast:
            pass
        # Each of the two groups has one.
        found.append((vast.taken - small.taken) / (VAST // TIB - 1) / 2)
    return statistics.median(found)


def mark_random(device, share):
    """Writes blocks at random in the first part of the device."""
    blocks = PART // BLOCK
    with opened(device) as disk:
        for block in random.Random(3).sample(range(blocks), int(blocks * share)):
            disk.zero(block * BLOCK, BLOCK)


def mark_clusters(device, share):
    """Writes stretches of a GiB, at random; all of the device if the share is 1."""
    count = TIB // CLUSTER
    with opened(device) as disk:
        for number in random.Random(4).sample(range(count), max(1, int(count * share))):
            disk.zero(number * CLUSTER, CLUSTER)


def dirty_maps(rounds, options):
    """The map of a TiB, by how much of it is dirty."""
    slots = table(rounds)
    emit("memory", what="table", tib=slots)
    print(f"dirty map: table of {slots / 1024:.0f} KiB a TiB", flush=True)
    for share in SHARES:
        with Map(TIB) as one:
            mark_clusters(one.device.device, share)
            _tell("clustered", share, slots, one, TIB)
        # All of it at random is all of it.
        if share == 1 or options.quick and share > 0.001:
            continue
        with Map(TIB) as one:
            mark_random(one.device.device, share)
            _tell("random", share, slots, one, PART)


def _tell(how, share, slots, one, part):
    pages, marked = one.grown(), one.marked()
    scaled = slots + pages * TIB / part
    emit("memory", what="map", how=how, share=share, pages=pages, marked=marked, part=part, tib=scaled)
    print(f"dirty map, {share * 100:g} % {how}: {marked / MIB:.0f} MiB marked, {pages / 1024:.0f} KiB of pages,"
          f" {scaled / MIB:.2f} MiB a TiB", flush=True)


def devices(rounds):
    """What a ready device of 64 MiB takes, sockets of both ends included: several at once, by their number."""
    size = 64 * MIB
    with bank(2 * SEVERAL, size, filled=False, threads=1) as servers:
        makers = (
            lambda index: peers.NbdKo(servers[index], number=index),
            lambda index: peers.Enbd(servers[index:index + 1], letter="abcdefgh"[index]),
            lambda index: peers.Md(servers[2 * index:2 * index + 2], bitmap=True, number=index),
            lambda index: peers.Enbd(servers[2 * index:2 * index + 2], letter="abcdefgh"[index]),
        )
        for make in makers:
            found = [_taken(make, servers) for _ in range(rounds + 1)]
            # The first time loads modules and fills caches that stay.
            name = make(0).name
            emit("memory", what="device", peer=name, bytes=statistics.median(found[1:]), rounds=found)
            print(f"device of {name}: {statistics.median(found[1:]) / 1024:.0f} KiB", flush=True)


def _taken(make, servers):
    """Of one device. A thread of a server has a stack in the kernel: that is the server's."""
    before, threads = kernel_memory(), _threads(servers)
    with contextlib.ExitStack() as stack:
        for index in range(SEVERAL):
            stack.enter_context(make(index))
        return (kernel_memory() - before - (_threads(servers) - threads) * STACK) / SEVERAL


def _threads(servers):
    return sum(len(os.listdir(f"/proc/{server.process.pid}/task")) for server in servers)


def md_map(rounds):
    """What md takes for a TiB, dirty or not. Servers keep what is written: md wants to find its superblock again."""
    found, chunk = [], None
    legs = [Nbdkit(None, Endpoint(), plugin=["memory", str(TIB + GIB)]) for _ in range(2)]
    with legs[0], legs[1]:
        for _ in range(rounds):
            md = peers.Md(legs, bitmap=True)
            for leg in md.legs:
                leg.set_up()
            before = kernel_memory()
            md.create()
            found.append(kernel_memory() - before)
            chunk = re.search(r"Chunksize : (.*)", peers.run("mdadm", "--examine-bitmap", md.legs[0].device))[1]
            md.take_down()
    emit("memory", what="peer", peer="md+bitmap", bytes=statistics.median(found), chunk=chunk, rounds=found)
    print(f"md of a TiB: {statistics.median(found) / MIB:.2f} MiB, bitmap chunk {chunk}", flush=True)


def drbd_map():
    """One node of DRBD alone, on a disk of a TiB that is nothing, with its metadata on a RAM disk."""
    disk = peers.NullBlk(TIB)
    disk.set_up()
    peers.run("modprobe", "brd", "rd_nr=1", f"rd_size={128 << 10}")
    peers.run("modprobe", "drbd", "minor_count=1", "usermode_helper=disabled")
    peers.run("drbdmeta", "--force", 0, "v08", "/dev/ram0", "flex-external", "create-md")
    with open("/dev/ram0", "r+b", buffering=0) as file:
        for offset in range(0, 128 * MIB, MIB):
            # Its pages are there before they are counted.
            data = file.read(MIB)
            file.seek(offset)
            file.write(data)
    before = kernel_memory()
    peers.run(peers.DRBD, "new-resource", "alone")
    peers.run(peers.DRBD, "new-minor", "alone", 0, 0)
    peers.run(peers.DRBD, "attach", 0, disk.device, "/dev/ram0", "flexible")
    taken = kernel_memory() - before
    emit("memory", what="peer", peer="drbd", bytes=taken)
    print(f"drbd of a TiB: {taken / MIB:.2f} MiB", flush=True)
    peers.run(peers.DRBD, "down", "alone")
    peers.run("modprobe", "-r", "drbd")
    peers.run("modprobe", "-r", "brd")
    disk.take_down()


def run(options):
    """All of it."""
    emit("memory", calm=calm.settle())
    for module in ("enbd", "nbd", "raid1", "drbd"):
        peers.run("modprobe", module)
    sizes = module_sizes()
    emit("memory", what="modules", bytes=sizes)
    print(f"modules: {sizes}", flush=True)
    for module in ("drbd", "raid1"):
        attempt("modprobe", "-r", module)
    rounds = 1 if options.quick else ROUNDS
    devices(rounds)
    dirty_maps(rounds, options)
    md_map(rounds)
    drbd_map()
