# SPDX-License-Identifier: GPL-2.0
"""Instructions that a request costs the client, with all servers and DRBD's peers in another VM.

What this VM executes is counted by a plugin of its QEMU (insn/count.c), so it is the client's side exactly: nothing of
a server, and its own ends of TCP in full. As in `cost.py` a long job less a short one is what requests cost; that also
takes out what the kernel does now and then, as far as it is the same in both.
"""

import collections
import os

from bench import calm, cost, link, peers, remote
from bench.servers import MIB
from bench.stages import chosen, emit, median_of, workloads

SIZE = 64 * MIB
STAGE = "apart"


class Meter:
    """The plugin, read by a program that is compiled here."""

    KEYS = ("kernel", "user", "string")

    def __init__(self):
        self.program = os.path.abspath("counts")
        peers.run("gcc", "-O2", "-o", self.program, "/src/tools/bench/insn/counts.c")
        # Fails if there is no plugin.
        peers.run(self.program)

    def script(self):
        """The program that prints a snapshot."""
        return self.program

    def between(self, first, second):
        """What was counted between two snapshots, in files."""
        before, after = _parse(first), _parse(second)
        return dict(zip(self.KEYS, (end - start for start, end in zip(before, after, strict=True)), strict=True))

    def each(self, short, long, count):
        """What one of so many requests cost. `all` has a repeated string instruction as one."""
        spent = {key: (long[key] - short[key]) / count for key in self.KEYS}
        return {"all": spent["kernel"] + spent["user"], **spent}


def _parse(path):
    with open(path, encoding="ascii") as file:
        return [int(word) for word in file.read().split()]


def everybody(servers, order):
    """All that are compared."""
    return [
        peers.NullBlk(SIZE), peers.NbdKo(servers[0]), *(peers.Enbd(servers[:count]) for count in (1, 2, 3)),
        remote.NearDrbd(SIZE, has_disk=False, order=order), remote.NearDrbd(SIZE, has_disk=True, order=order),
    ]


def run(options):
    """Each peer, each workload; one peer at a time, and all of them anew in each round.

    How many replies meet in one interrupt depends on the other VM and on the host, and on how connections have begun.
    That differs more between two set-ups of a peer than between two jobs of one, and so several set-ups are measured.
    """
    rounds, share = (2, 0.1) if options.quick else (7, 0.4)
    found = collections.defaultdict(list)
    emit(STAGE, calm=calm.settle(), line=link.up(link.NEAR))
    meter = Meter()
    with link.offered() as (far, order):
        servers = [remote.server(port) for port in far["ports"]]
        for number in range(rounds):
            for peer in chosen(options, everybody(servers, order)):
                with peer:
                    measured = cost.measure(peer, meter, workloads(options), 1, share)
                if not number:
                    emit(STAGE, peer=peer.name, kind=peer.kind, settings=peer.settings + _far_settings(peer, far))
                for name, one in measured.items():
                    found[peer.name, name] += one
                    # All rounds so far, of which the last line counts: nothing is lost if the next one fails.
                    emit(STAGE, peer=peer.name, workload=name, rounds=found[peer.name, name])
                    _show(peer, name, number, one)


def _far_settings(peer, far):
    if peer.kind == "floor":
        return []
    return [f"there: {line}" for line in far["drbd" if isinstance(peer, remote.NearDrbd) else "nbd"]]


def _show(peer, name, number, one):
    print(f"{number} {peer.name:14} {name:18} {median_of(one, 'all'):10.0f} instructions a request, of the kernel"
          f" {median_of(one, 'kernel'):10.0f}, units moved by string instructions {median_of(one, 'string'):8.0f}",
          flush=True)
