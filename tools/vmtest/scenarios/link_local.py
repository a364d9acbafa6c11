# SPDX-License-Identifier: GPL-2.0
"""Servers at link-local addresses: the interface in the address is the one of that name in the namespace of whoever wrote the
command, and is looked up at each connect, so that the channels come back when the interface was gone and has another number."""

import os

from lib import check, nbdinfo
from lib.cases import case
from lib.disk import Disk
from lib.endpoint import Endpoint
from lib.kmsg import Kmsg
from lib.mirror import Mirror
from lib.program import run as run_program
from lib.server import Nbdkit
from lib.store import Store

LIMIT_S = 180
SIZE = 1 << 20
ENODEV, EINVAL = 19, 22


class Everywhere(Nbdkit):
    """nbdkit on all addresses: an interface that the client names is none at its end."""

    def argv(self):
        return ["::" if word == self.endpoint.host else word for word in super().argv()]


def link():
    """A wire: `near0`, fe80::1, and `far0`, fe80::2, in the namespace `far`."""
    run_program("ip", "link", "add", "near0", "type", "veth", "peer", "name", "far0", "netns", "far")
    for inside, name, address in (([], "near0", "fe80::1/64"), (["-n", "far"], "far0", "fe80::2/64")):
        run_program("ip", *inside, "link", "set", name, "addrgenmode", "none")
        run_program("ip", *inside, "link", "set", name, "up")
        run_program("ip", *inside, "addr", "add", address, "dev", name, "nodad")


def index():
    """The number of `near0`."""
    with open("/sys/class/net/near0/ifindex", encoding="ascii") as file:
        return int(file.read())


def run():
    run_program("ip", "netns", "add", "far")
    link()
    endpoint = Endpoint("tcp6", "fe80::2%near0")
    kinds = [Nbdkit, lambda store: Everywhere(store, endpoint, namespace="far")]
    with Mirror(kinds=kinds, size=SIZE, settings=["timeout=2"]) as mirror, Kmsg() as kmsg:
        check.equal({c.addr for c in mirror.status().of_group(1)}, {f"[fe80::2%near0]:{endpoint.port}"}, "the address as shown")
        mirror.disk.write(0, os.urandom(SIZE))
        refusals(mirror, endpoint)
        come_and_go(mirror, kmsg)
        mirror.check_same()
    other_namespace()
    run_program("ip", "netns", "delete", "far")


def refusals(mirror, endpoint):
    """No interface, one that is not there, one that cannot be."""
    name = mirror.servers[1].export
    for zone, number, reason in (
        ("", EINVAL, "link-local address without its interface"),
        ("%far0", ENODEV, "no such network interface"),
        ("%0123456789abcdef", EINVAL, "malformed interface name"),
    ):
        with case(f"connect to fe80::2{zone}"):
            with check.refused(number, f"connect to fe80::2{zone}"):
                mirror.command(f"connect=2 [fe80::2{zone}]:{endpoint.port} name={name}")
            check.that(reason in mirror.status().error, f"the error says why: {mirror.status().error!r}")


def come_and_go(mirror, kmsg):
    """The interface vanishes, and there is a new one of that name."""
    before = index()
    # The server first: connections that it had through the old interface could not end without it.
    mirror.servers[1].kill()
    mirror.wait_until(lambda s: not any(c.is_up for c in s.of_group(1)), 30, "the channels are down")
    run_program("ip", "link", "delete", "near0")
    kmsg.wait_for(r"\[a\] group 1 channel \d .*: no such network interface", 60)
    mirror.wait_until(lambda s: s.mark(1) == "F", 30, "the group is faulted")
    mirror.disk.write(0, os.urandom(SIZE // 2))
    link()
    check.that(index() != before, "the new interface has another number")
    mirror.servers[1].start()
    mirror.wait_in_sync(60)


def other_namespace():
    """The other way round: the writer lives in `far`, and has an interface that is none here."""
    with Everywhere(Store("near", SIZE), Endpoint("tcp6", "fe80::1%far0")) as server:
        line = f"connect[b]=0 {server.endpoint} name={server.export}"
        with check.refused(ENODEV, "an interface of another namespace"):
            nbdinfo.command(line)
        run_program("ip", "netns", "exec", "far", "sh", "-c", f"echo '{line}' > {nbdinfo.PATH}")
        nbdinfo.command("enable[b]=1")
        server.restart()
        nbdinfo.wait_until(lambda s: all(c.is_up and c.reconnects for c in s.channels), 30, "the channel is back", "b")
        data = os.urandom(65536)
        Disk("b").write(0, data)
        check.that(server.store.read(0, 65536) == data, "device b writes to its server")
        nbdinfo.command("enable[b]=0", "reset[b]=1")
