# SPDX-License-Identifier: GPL-2.0
"""Peers whose other half is in another VM."""

import dataclasses

from bench import link, peers
from lib import check
from lib.endpoint import Endpoint

PORT = 7788
# What the near half has the far one do.
RENEW, AWAIT = b"r", b"a"


@dataclasses.dataclass
class RemoteServer:
    """An NBD server in the other VM: what a peer has to know of it."""

    endpoint: Endpoint


def server(port):
    """The far server with that port."""
    endpoint = Endpoint(host=link.FAR)
    endpoint.port = port
    return RemoteServer(endpoint)


class _Node(peers.Drbd):
    """One of two nodes, on a RAM disk, which look for each other on the line."""

    NODES = (("one", 0, "", ""),)
    # A machine that is busy with other things keeps its VMs waiting longer than the half second that is usual.
    NET = peers.Drbd.NET + ("--ping-timeout=300",)

    def make(self, here, there):
        """Makes it."""
        self.run("modprobe", "brd", "rd_nr=1", f"rd_size={self.size >> 10}")
        self.run("modprobe", "drbd", "minor_count=1", "usermode_helper=disabled")
        self._fill("/dev/ram0")
        self.run("drbdmeta", "--force", 0, "v08", "/dev/ram0", "internal", "create-md")
        self.setup("new-resource", "one")
        self.setup("new-minor", "one", 0, 0)
        self.setup("attach", 0, "/dev/ram0", "/dev/ram0", "internal", *self.DISK)
        self.setup("connect", "one", f"{here}:{PORT}", f"{there}:{PORT}", *self.NET)

    def await_connection(self):
        """Waits until this half takes itself for connected."""
        check.until(lambda: self.state("cstate") == "Connected", 60, "DRBD is connected")


class FarDrbd(_Node):
    """The half that is not measured."""

    def set_up(self):
        self.make(link.FAR, link.NEAR)

    def renew(self):
        """Makes it anew, since a near half that is new knows nothing of what this one has been through."""
        self.take_down()
        self.set_up()


class NearDrbd(_Node):
    """The half that is measured: with a disk of its own, or without, so that all requests go to the other.

    A node that never had a disk takes no more than 4 KiB at a time. So the disk is taken away when all is connected.
    """

    def __init__(self, size, has_disk, order):
        super().__init__(size)
        self.has_disk, self.order = has_disk, order
        self.name, self.kind = ("drbd", "mirror") if has_disk else ("drbd-diskless", "single")

    def set_up(self):
        self.order(RENEW)
        self.make(link.NEAR, link.FAR)
        self.await_connection()
        # The other half may tell a state from before what follows, and it would stay.
        self.order(AWAIT)
        # Both disks are taken for equal, as with the others.
        self.setup("new-current-uuid", 0, "--clear-bitmap=yes")
        self._wait("UpToDate/UpToDate")
        self.setup("primary", 0)
        if not self.has_disk:
            self.setup("detach", 0)
            self._wait("Diskless/UpToDate")

    def _wait(self, disks):
        check.until(lambda: self.state("dstate") == disks, 60, f"DRBD is {disks}")
