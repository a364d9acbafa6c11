# SPDX-License-Identifier: GPL-2.0
"""A network of two hosts, the second of them a network namespace, that can be cut."""

from lib.endpoint import Endpoint
from lib.program import run

NAMESPACE = "far"
NEAR, FAR = "192.0.2.1", "192.0.2.2"
CUT = """
table inet experiment {
	chain input { type filter hook input priority 0; iifname "near0" drop; }
	chain output { type filter hook output priority 0; oifname "near0" drop; }
}
"""


class Network:
    """Made in a `with`."""

    def __enter__(self):
        run("ip", "netns", "add", NAMESPACE)
        run("ip", "link", "add", "near0", "type", "veth", "peer", "name", "far0", "netns", NAMESPACE)
        run("ip", "address", "add", f"{NEAR}/24", "dev", "near0")
        run("ip", "link", "set", "near0", "up")
        run("ip", "-n", NAMESPACE, "address", "add", f"{FAR}/24", "dev", "far0")
        run("ip", "-n", NAMESPACE, "link", "set", "far0", "up")
        run("ip", "-n", NAMESPACE, "link", "set", "lo", "up")
        return self

    def __exit__(self, *_):
        self.heal()
        run("ip", "link", "delete", "near0")
        run("ip", "netns", "delete", NAMESPACE)

    def endpoint(self):
        """An address of the far host."""
        return Endpoint(host=FAR)

    def cut(self):
        """Packets are lost in both directions from now on."""
        run("nft", "-f", "-", data=CUT)

    def heal(self):
        """Packets get through again."""
        run("nft", "-f", "-", data="table inet experiment\ndelete table inet experiment\n")
