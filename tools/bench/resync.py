# SPDX-License-Identifier: GPL-2.0
"""What it takes to bring a copy back: bytes moved, time, and what an application feels meanwhile."""

import contextlib
import json
import os
import random
import signal
import subprocess
import time

from bench import calm, peers
from bench.servers import MIB, bank, uri
from bench.stages import chosen, emit
from lib import check
from lib.disk import Opened

KIB = 1024
BLOCK = 4 * KIB
# The blocks that the post of 2003 had marked, on a device of 4 MiB.
POST_BLOCKS, POST_SIZE = 1033, 4 * MIB
SCATTERED = 0.01
LIMIT_S = 900
APPLICATION = ("--name=app", "--ioengine=libaio", "--direct=1", "--rw=randrw", "--rwmixread=70", "--bs=4k",
               "--iodepth=4", "--time_based", "--norandommap", "--randseed=7", "--disk_util=0", "--output-format=json")


def write_post(disk):
    """1033 blocks of 1 KiB in a row."""
    disk.write(MIB, os.urandom(POST_BLOCKS * KIB))
    return POST_BLOCKS * KIB


def write_scattered(disk):
    """A hundredth of the blocks of 4 KiB, at random."""
    blocks = disk.size() // BLOCK
    chosen_ones = random.Random(5).sample(range(blocks), int(blocks * SCATTERED))
    data = os.urandom(BLOCK)
    for block in chosen_ones:
        disk.write(block * BLOCK, data)
    return len(chosen_ones) * BLOCK


def write_nothing(_disk):
    """For a copy that is made in full."""
    return 0


# Name, what is written meanwhile, whether all is copied.
CASES = (("scattered", write_scattered, False), ("full", write_nothing, True))


class Application:
    """fio in the background, as somebody who uses the device."""

    def __init__(self, device, seconds):
        argv = ["fio", f"--filename={device}", f"--runtime={seconds}", *APPLICATION]
        self.before = _requests(device)
        self.device = device
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def requests(self):
        """How many it has made."""
        return _requests(self.device) - self.before

    def end(self):
        """Waits for its end: p99 of reads and writes in microseconds, the longest, requests a second, failures."""
        text, _ = self.process.communicate(timeout=LIMIT_S)
        job = json.loads(text[text.index("{\n"):])["jobs"][0]
        latency = {side: job[side]["clat_ns"]["percentile"]["99.000000"] / 1000 for side in ("read", "write")}
        longest = max(job[side]["clat_ns"]["max"] for side in latency) / 1e6
        return {**latency, "longest_ms": longest, "iops": job["read"]["iops"] + job["write"]["iops"],
                "failed": bool(job["error"])}

    def stop(self):
        """Asks it to report."""
        self.process.send_signal(signal.SIGINT)
        return self.end()


def _requests(device):
    stat = peers.read(f"/sys/block/{os.path.basename(device)}/stat").split()
    return int(stat[0]) + int(stat[4])


def _wire():
    return int(peers.read("/sys/class/net/lo/statistics/tx_bytes"))


@contextlib.contextmanager
def opened(device):
    """A device for direct I/O."""
    fd = os.open(device, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)
    try:
        yield Opened(fd)
    finally:
        os.close(fd)


def bring_back(peer, fill, full):
    """Sets a copy aside, writes, and brings it back: marked bytes, bytes moved, bytes on the wire, seconds."""
    peer.set_aside()
    with opened(peer.device) as disk:
        dirty = fill(disk)
        disk.flush()
    moved, wire, began = peer.moved(), _wire(), time.monotonic()
    peer.take_back(full)
    check.until(peer.is_whole, LIMIT_S, f"{peer.name} is whole", 0.002)
    seconds = time.monotonic() - began
    # What the log says comes a moment later.
    check.until(lambda: peer.moved() > moved, 20, f"{peer.name} tells what was moved")
    return {"dirty": dirty, "moved": peer.moved() - moved, "wire": _wire() - wire, "seconds": seconds}


def with_application(peer, fill, full, seconds):
    """The same under use: p99 without a resync, p99 with one, and how long it took."""
    quiet = Application(peer.device, seconds).end()
    peer.set_aside()
    with opened(peer.device) as disk:
        fill(disk)
    application = Application(peer.device, LIMIT_S)
    check.until(lambda: application.requests() > 20, 60, "the application works")
    began = time.monotonic()
    peer.take_back(full)
    check.until(peer.is_whole, LIMIT_S, f"{peer.name} is whole", 0.002)
    took = time.monotonic() - began
    busy = application.stop()
    check.that(not quiet["failed"] and not busy["failed"], f"no request of the application fails: {quiet} {busy}")
    return {"quiet": quiet, "busy": busy, "seconds": took}


def nbdcopy(source, target):
    """nbdcopy between two servers, with its own defaults."""
    began = time.monotonic()
    peers.run("nbdcopy", uri(source), uri(target))
    return time.monotonic() - began


def mirrors(get, size):
    """Those that have two copies."""
    return [peers.Md(get(2), bitmap=True, size=size), peers.Drbd(size), peers.Enbd(get(2), letter="b")]


def run(options):
    """All cases."""
    emit("resync", calm=calm.settle())
    rounds, size, seconds = (1, 64 * MIB, 3) if options.quick else (3, 1024 * MIB, 10)
    post(options, rounds)
    with bank(2, size + 16 * MIB) as servers:
        for peer in chosen(options, mirrors(lambda count: servers[:count], size)):
            with peer:
                emit("resync", peer=peer.name, settings=peer.settings, size=size)
                for case, fill, full in CASES:
                    found = [bring_back(peer, fill, full) for _ in range(rounds)]
                    show(peer.name, case, found)
                    used = [with_application(peer, fill, full, seconds) for _ in range(rounds)]
                    emit("resync", peer=peer.name, case=case, rounds=found, used=used, size=size)
                    print(f"    under use: {json.dumps(used)}", flush=True)
        if not options.only or "nbdcopy" in options.only.split(","):
            times = [nbdcopy(*servers) for _ in range(rounds)]
            emit("resync", peer="nbdcopy", case="full", size=size,
                 rounds=[{"dirty": 0, "moved": size + 16 * MIB, "seconds": seconds} for seconds in times])
            print(f"nbdcopy      full       {(size + 16 * MIB) / MIB:9.1f} MiB in {min(times):.2f} s", flush=True)


def post(options, rounds):
    """The resync of 2003."""
    with bank(2, POST_SIZE) as exact, bank(2, POST_SIZE + 4 * MIB) as roomy:
        everybody = [peers.Md(roomy, bitmap=True, size=POST_SIZE), peers.Drbd(POST_SIZE + MIB),
                     peers.Enbd(exact, letter="b", blocksize=KIB)]
        for peer in chosen(options, everybody):
            with peer:
                found = [bring_back(peer, write_post, False) for _ in range(rounds)]
                emit("resync", peer=peer.name, case="post", rounds=found, size=POST_SIZE, settings=peer.settings)
                show(peer.name, "post", found)


def show(name, case, found):
    """A line for people."""
    for one in found:
        print(f"{name:12} {case:10} {one['dirty'] / MIB:9.2f} MiB dirty, {one['moved'] / MIB:9.2f} moved,"
              f" {one['wire'] / MIB:9.2f} on the wire, {one['seconds']:.3f} s", flush=True)
