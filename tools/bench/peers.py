# SPDX-License-Identifier: GPL-2.0
"""The block devices that are compared, each set up as well as its own documentation knows how.

A peer in a `with` is ready for I/O at `device`. Those over the network use the servers that they are handed. Where a
scheduler could be chosen it is `none`: each hands requests on as they come.
"""

import errno
import os
import re

from lib import check, nbdinfo, program

# Where time counts instructions a program that waits for the disk seems to take hours.
LIMIT_S = 1 << 20
DRBD = "/usr/lib/drbd/drbdsetup-84"


def run(*argv):
    """Runs a program, which must succeed, and gives its output."""
    return program.run(*argv, limit=LIMIT_S)


def attempt(*argv):
    """Runs a program that may fail."""
    return program.attempt(*argv, limit=LIMIT_S)


def read(path):
    """The word or line that a file of /sys or /proc has."""
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


def write(path, text):
    """Sets a file of /sys or /proc."""
    with open(path, "w", encoding="ascii") as file:
        file.write(str(text))


def unscheduled(device):
    """Takes a scheduler away, if the device has one."""
    path = f"/sys/block/{os.path.basename(device)}/queue/scheduler"
    if "none" in read(path):
        write(path, "none")


class Peer:
    """A device to compare. `kind` says how it is counted: against one server, or against several."""

    name = ""
    kind = ""
    device = ""

    def __init__(self):
        self.settings = []

    def run(self, *argv):
        """Runs a command of the set-up, and keeps it for who wants to repeat it."""
        self.settings.append(" ".join(map(str, argv)))
        return run(*argv)

    def is_server_thread(self, name):
        """Whether a kernel thread of this name does a server's work."""
        return False

    def __enter__(self):
        self.set_up()
        return self

    def __exit__(self, *_):
        self.take_down()

    def set_up(self):
        """Makes the device."""
        raise NotImplementedError

    def take_down(self):
        """Removes it."""
        raise NotImplementedError

    # Those that mirror have these too.

    def set_aside(self):
        """Stops writing to the last copy, and notes from now on what it misses."""
        raise NotImplementedError

    def take_back(self, full):
        """Begins to bring it back: what it missed, or all of it."""
        raise NotImplementedError

    def is_whole(self):
        """Whether all copies are equal again."""
        raise NotImplementedError

    def moved(self):
        """Bytes that were written to the last copy since some time in the past."""
        raise NotImplementedError


class NullBlk(Peer):
    """Completes each request where it was submitted: what is left is the load generator and the block layer."""

    name, kind, device = "null_blk", "floor", "/dev/nullb0"
    DIRECTORY = "/sys/kernel/config/nullb/nullb0"

    def __init__(self, size):
        super().__init__()
        self.size = size

    def set_up(self):
        self.run("modprobe", "null_blk", "nr_devices=0")
        os.mkdir(self.DIRECTORY)
        options = {"size": self.size >> 20, "queue_mode": 2, "irqmode": 0, "completion_nsec": 0, "hw_queue_depth": 256,
                   "submit_queues": os.cpu_count(), "power": 1}
        for name, value in options.items():
            write(f"{self.DIRECTORY}/{name}", value)
            self.settings.append(f"{name}={value}")
        unscheduled(self.device)

    def take_down(self):
        os.rmdir(self.DIRECTORY)
        run("modprobe", "-r", "null_blk")


class NbdKo(Peer):
    """The kernel's own client, with as many connections as enbd has channels."""

    kind = "single"

    def __init__(self, server, channels=2, number=0, name="nbd.ko", timeout=None):
        super().__init__()
        self.options = ["-t", timeout] if timeout else []
        self.name, self.server, self.channels = name, server, channels
        self.device = f"/dev/nbd{number}"

    def set_up(self):
        self.run("modprobe", "nbd")
        endpoint = self.server.endpoint
        self.run("nbd-client", "-C", self.channels, *self.options, endpoint.host, endpoint.port, self.device)
        check.until(self._size, 20, f"{self.device} has a size")
        unscheduled(self.device)

    def _size(self):
        return int(read(f"/sys/block/{os.path.basename(self.device)}/size"))

    def take_down(self):
        attempt("nbd-client", "-d", self.device)
        check.until(lambda: not self._size(), 20, f"{self.device} is gone")


class Md(Peer):
    """md's raid1 over two nbd.ko. The bitmap has mdadm's own chunk size."""

    kind = "mirror"

    def __init__(self, servers, bitmap, channels=2, number=0, size=None, timeout=None):
        super().__init__()
        self.device = f"/dev/md{number}"
        self.size = size
        self.name = ("md+bitmap" if bitmap else "md") + (f", nbd -t {timeout}" if timeout else "")
        self.bitmap = "internal" if bitmap else "none"
        # /dev/nbd0 and /dev/nbd1 are others'.
        first = 2 + 4 * number
        self.legs = [NbdKo(server, channels, first + leg, timeout=timeout) for leg, server in enumerate(servers)]

    def set_up(self):
        for leg in self.legs:
            leg.set_up()
            self.settings += leg.settings
        self.create()

    def create(self):
        """Makes the array of the two, which are there."""
        self.run("mdadm", "--create", self.device, "--run", "--level=1", f"--raid-devices={len(self.legs)}",
                 "--assume-clean", f"--bitmap={self.bitmap}", "--metadata=1.2",
                 *([f"--size={self.size >> 10}"] if self.size else []), *(leg.device for leg in self.legs))
        # As fast as it can while nobody uses it. What it leaves to users is its own default.
        write("/proc/sys/dev/raid/speed_limit_max", 10 ** 7)
        self.settings.append("dev.raid.speed_limit_max=10000000")

    def _attribute(self, name):
        return read(f"/sys/block/{os.path.basename(self.device)}/md/{name}")

    def set_aside(self):
        leg = self.legs[-1].device
        run("mdadm", self.device, "--fail", leg)
        check.until(lambda: attempt("mdadm", self.device, "--remove", leg).returncode == 0, 30, f"{leg} can be removed")

    def take_back(self, full):
        leg = self.legs[-1].device
        if full:
            run("mdadm", "--zero-superblock", leg)
        run("mdadm", self.device, "--add" if full else "--re-add", leg)

    def is_whole(self):
        return self._attribute("degraded") == "0" and self._attribute("sync_action") == "idle"

    def moved(self):
        # The seventh figure: sectors written.
        return int(read(f"/sys/block/{os.path.basename(self.legs[-1].device)}/stat").split()[6]) * 512

    def take_down(self):
        run("mdadm", "--stop", self.device)
        for leg in self.legs:
            attempt("mdadm", "--zero-superblock", leg.device)
            leg.take_down()


class Drbd(Peer):
    """DRBD 8.4 against itself: two nodes in one kernel, protocol C, each on a RAM disk."""

    name, kind, device = "drbd", "mirror", "/dev/drbd0"
    NODES = (("near", 0, "127.0.0.1:7788", "127.0.0.2:7788"), ("far", 1, "127.0.0.2:7788", "127.0.0.1:7788"))
    # Nothing but memory is below: there is no cache to flush and no order to keep.
    DISK = ("--disk-barrier=no", "--disk-flushes=no", "--md-flushes=no", "--al-extents=6007",
            "--c-max-rate=4194304", "--c-plan-ahead=20", "--c-fill-target=1M")
    NET = ("--protocol=C", "--max-buffers=8000", "--max-epoch-size=8000", "--sndbuf-size=0", "--rcvbuf-size=0",
           "--connect-int=1")

    def __init__(self, size):
        super().__init__()
        self.size = size

    def is_server_thread(self, name):
        return name.endswith("_far")

    def setup(self, *argv):
        """drbdsetup of the kernel's DRBD."""
        return self.run(DRBD, *argv)

    def set_up(self):
        self.run("modprobe", "brd", "rd_nr=2", f"rd_size={self.size >> 10}")
        # The kernel would ask drbdadm, which knows nothing of these two.
        self.run("modprobe", "drbd", "minor_count=2", "usermode_helper=disabled")
        for name, minor, here, there in self.NODES:
            disk = f"/dev/ram{minor}"
            self._fill(disk)
            self.run("drbdmeta", "--force", minor, "v08", disk, "internal", "create-md")
            self.setup("new-resource", name)
            self.setup("new-minor", name, minor, 0)
            self.setup("attach", minor, disk, disk, "internal", *self.DISK)
            self.setup("connect", name, here, there, *self.NET)
        check.until(lambda: self.state("cstate") == "Connected", 30, "DRBD is connected")
        # Both disks are taken for equal, as with the others.
        self.setup("new-current-uuid", 0, "--clear-bitmap=yes")
        check.until(lambda: self.state("dstate") == "UpToDate/UpToDate", 30, "DRBD is up to date")
        self.setup("primary", 0)

    def _fill(self, disk):
        with open(disk, "wb", buffering=0) as file:
            for _ in range(self.size >> 20):
                file.write(bytes(1 << 20))

    def state(self, what):
        """`cstate` or `dstate` of the near node."""
        return run(DRBD, what, "0").strip()

    def set_aside(self):
        _, _, here, there = self.NODES[0]
        run(DRBD, "disconnect", here, there)

    def take_back(self, full):
        name, minor, here, there = self.NODES[0]
        if full:
            run(DRBD, "invalidate-remote", minor)
        run(DRBD, "connect", name, here, there, *self.NET)

    def is_whole(self):
        return self.state("cstate") == "Connected" and self.state("dstate") == "UpToDate/UpToDate"

    def moved(self):
        # Of the far node, the second line in /proc/drbd: KiB that it wrote to its disk.
        return int(re.search(r"^ 1: .*\n.* dw:(\d+)", read("/proc/drbd"), re.MULTILINE)[1]) << 10

    def take_down(self):
        for name, _, _, _ in self.NODES:
            attempt(DRBD, "down", name)
        run("modprobe", "-r", "drbd")
        run("modprobe", "-r", "brd")


class Enbd(Peer):
    """enbd with a group for each server."""

    def __init__(self, servers, channels=2, name=None, letter="a", blocksize=None):
        super().__init__()
        self.blocksize = blocksize
        self.letter, self.device = letter, f"/dev/nd{letter}"
        self.servers, self.channels = servers, channels
        self.name = name or f"enbd-{len(servers)}"
        self.kind = "single" if len(servers) == 1 else "mirror"

    def command(self, line):
        """Writes a command, `verb=value`, for this device."""
        verb, value = line.split("=", 1)
        line = f"{verb}[{self.letter}]={value}"
        self.settings.append(line)
        nbdinfo.command(line)

    def set_up(self):
        self.run("modprobe", "enbd")
        if self.blocksize:
            self.command(f"blocksize={self.blocksize}")
        for group, server in enumerate(self.servers):
            self.command(f"connect={group} {server.endpoint} channels={self.channels}")
        self.command("enable=1")
        unscheduled(self.device)

    def set_aside(self):
        nbdinfo.command(f"setfaulty[{self.letter}]={len(self.servers) - 1}")

    def take_back(self, full):
        check.until(lambda: self._try_back(full), 30, "the group can be brought back")

    def _try_back(self, full):
        try:
            nbdinfo.command(f"hotadd[{self.letter}]={len(self.servers) - 1}{' full' if full else ''}")
        except OSError as error:
            # It is on its way out still.
            if error.errno != errno.EBUSY:
                raise
            return False
        return True

    def is_whole(self):
        return nbdinfo.status(self.letter).is_clean()

    def moved(self):
        pattern = rf"\[{self.letter}\] nbd_resync of group \d by pid \d+ copied \d+ blocks \((\d+) bytes\)"
        return sum(map(int, re.findall(pattern, run("dmesg"))))

    def take_down(self):
        check.until(self._reset, 30, "the device can be reset")

    def _reset(self):
        try:
            nbdinfo.command(f"reset[{self.letter}]=1")
        except OSError:
            return False
        return True
