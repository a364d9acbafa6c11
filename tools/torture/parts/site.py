# SPDX-License-Identifier: GPL-2.0
"""Where a server stands: a network namespace of its own at the end of a cable, which can be cut, slowed and spoiled."""

import itertools

from lib.endpoint import Endpoint
from lib.program import run

_numbers = itertools.count(1)

# Cut at the server's end, so that what the client has sent before is not called back.
DROP_REQUESTS = "chain input { type filter hook input priority 0; tcp dport %d drop; }"
DROP_REPLIES = "chain output { type filter hook output priority 0; tcp sport %d drop; }"
RESET = "chain input { type filter hook input priority 0; tcp dport %d reject with tcp reset; }"


class Everywhere(Endpoint):
    """An endpoint whose server listens on all addresses of its site, and which clients know by one of them."""

    def __init__(self, address):
        super().__init__(host="0.0.0.0")
        self.known_as = address

    def __str__(self):
        return f"{self.known_as}:{self.port}"


class Site:
    """A namespace with two addresses, to which a pair of veth leads."""

    def __init__(self):
        number = next(_numbers)
        self.name, self.cable = f"site{number}", f"cable{number}"
        self.addresses = [f"10.77.{number}.{host}" for host in (2, 3)]
        self.endpoint = Everywhere(self.addresses[0])
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", self.cable, "type", "veth", "peer", "name", "cable", "netns", self.name)
        run("ip", "address", "add", f"10.77.{number}.1/24", "dev", self.cable)
        run("ip", "link", "set", self.cable, "up")
        for address in self.addresses:
            run("ip", "-n", self.name, "address", "add", f"{address}/24", "dev", "cable")
        for device in ("lo", "cable"):
            run("ip", "-n", self.name, "link", "set", device, "up")

    def address(self, number):
        """The server by one of its addresses, as the connect command wants it."""
        return f"{self.addresses[number]}:{self.endpoint.port}"

    def _rules(self, *chains):
        text = "flush ruleset\n"
        if chains:
            text += "table inet torture {\n" + "\n".join(chain % self.endpoint.port for chain in chains) + "\n}\n"
        run("ip", "netns", "exec", self.name, "nft", "-f", "-", data=text)

    def drop(self, requests=True, replies=True):
        """Loses all packets of one direction or both."""
        self._rules(*([DROP_REQUESTS] if requests else []), *([DROP_REPLIES] if replies else []))

    def reset(self):
        """Answers each packet with a reset."""
        self._rules(RESET)

    def let_pass(self):
        """Ends `drop` and `reset`."""
        self._rules()

    def spoil(self, *netem):
        """Delays, loses, reorders in both directions, as netem is told to."""
        run("tc", "qdisc", "replace", "dev", self.cable, "root", "netem", *netem)
        run("tc", "-n", self.name, "qdisc", "replace", "dev", "cable", "root", "netem", *netem)

    def unspoil(self):
        """Ends `spoil`; what was still delayed is lost."""
        run("tc", "qdisc", "delete", "dev", self.cable, "root")
        run("tc", "-n", self.name, "qdisc", "delete", "dev", "cable", "root")

    def unplug(self):
        """Takes the client's end down."""
        run("ip", "link", "set", self.cable, "down")

    def plug(self):
        """Takes it up again."""
        run("ip", "link", "set", self.cable, "up")

    def abort(self, dice):
        """Makes the client's kernel abort one of the connections to the server; says which."""
        words = [line.split() for line in run("ss", "-tnH", "state", "established", "dst", f"{self.addresses[0]}/24").splitlines()]
        sources = sorted(line[2].rsplit(":", 1)[1] for line in words if line[3].endswith(f":{self.endpoint.port}"))
        if not sources:
            return "none was there"
        source = dice.choice(sources)
        run("ss", "-K", "-tn", f"sport = :{source} and dport = :{self.endpoint.port}")
        return f"port {source}"

    def remove(self):
        """Ends the namespace."""
        run("ip", "netns", "delete", self.name)
