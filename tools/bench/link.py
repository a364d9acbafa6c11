# SPDX-License-Identifier: GPL-2.0
"""The private line between the two VMs of the stage `apart`, and how the near one finds what the far one serves.

QEMU passes packets over a socket, and does no more with them: no checksums, no segmentation. So that the network sees
packets of 64 KiB, as it does over loopback and with any real card, the line's MTU is the largest that there is.
"""

import contextlib
import json
import socket

from bench.peers import run
from lib import check

NEAR, FAR = "10.0.0.1", "10.0.0.2"
DEVICE, MTU = "eth0", 65535
CONTROL = 10800
# The other VM may have to boot, and to fill its stores, on a busy machine.
START_S = 600


def up(address):
    """Brings this end up. Gives the commands."""
    commands = [
        "modprobe virtio_net",
        # Nothing on the line but what is measured: no address of IPv6, which would ask for neighbours and routers.
        f"ip link set {DEVICE} addrgenmode none mtu {MTU} up",
        f"ip address add {address}/24 dev {DEVICE}",
    ]
    for command in commands:
        run(*command.split())
    return commands


def offer(what, orders):
    """For the far end: says what it has, and follows orders, functions by their byte, until the near end is gone."""
    with socket.create_server((FAR, CONTROL)) as listener:
        listener.settimeout(START_S)
        near, _ = listener.accept()
    with near:
        near.settimeout(None)
        near.sendall(json.dumps(what).encode() + b"\n")
        while order := near.recv(1):
            orders[order]()
            near.sendall(b"\n")


@contextlib.contextmanager
def offered():
    """For the near end: what the far end has, which ends with this, and a function that gives it an order."""
    with check.until(_connected, START_S, "the far VM answers", nap=0.2) as far, far.makefile() as lines:

        def order(byte):
            far.sendall(byte)
            check.equal(lines.readline(), "\n", "the far VM's answer")

        yield json.loads(lines.readline()), order


def _connected():
    far = socket.socket()
    far.settimeout(1)
    try:
        far.connect((FAR, CONTROL))
    except OSError:
        far.close()
        return None
    far.settimeout(None)
    return far
