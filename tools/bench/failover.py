# SPDX-License-Identifier: GPL-2.0
"""How long an application stands still when a connection or a server is lost."""

import json

from bench import peers
from bench.resync import Application
from bench.servers import MIB, bank
from bench.stages import chosen, emit
from lib import check

SIZE = 64 * MIB
# Of a request to nbd.ko, in seconds. Its default is 30; a short one fails requests that are merely slow.
SHORT_TIMEOUT = 3
# Requests before the loss, how long the application runs, and how often all of it is done.
BEFORE_REQUESTS, SECONDS, ROUNDS = 200, 5, 3


def reset_connection(servers):
    """One connection of the last server is reset."""
    port = servers[-1].endpoint.port
    lines = peers.run("ss", "-tnH", "state", "established", f"dport = :{port}").splitlines()
    source = lines[0].split()[2].rsplit(":", 1)[1]
    shown = peers.run("ss", "-K", "-tn", f"sport = :{source} and dport = :{port}")
    check.that(source in shown, f"ss -K has reset a connection: {shown!r}")


def kill_server(servers):
    """The last server is killed."""
    servers[-1].kill()


# Name, what happens, how many servers the peer has. The first is what the others are seen beside.
CASES = (("nothing", None, 2), ("connection reset", reset_connection, 2), ("server killed", kill_server, 2),
         ("connection reset, one server", reset_connection, 1))


def contenders(count, quick):
    """For each of those who can lose one of so many servers, what makes it. Some wait for half a minute then, and are left out
    where there is no time for it."""
    if count == 1:
        patient, others = lambda servers: peers.NbdKo(servers[0]), [peers.Enbd]
    else:
        patient, others = lambda servers: peers.Md(servers, bitmap=True), [
            lambda servers: peers.Enbd(servers, letter="b"),
            # Devices of its own: nbd.ko keeps a timeout for the next user of a device.
            lambda servers: peers.Md(servers, bitmap=True, number=1, timeout=SHORT_TIMEOUT),
        ]
    return others if quick else [patient, *others]


def stall(peer, servers, happen):
    """The longest that a request took, in milliseconds, with something happening meanwhile."""
    application = Application(peer.device, SECONDS)
    check.until(lambda: application.requests() > BEFORE_REQUESTS, 60, "the application works")
    if happen:
        happen(servers)
    report = application.end()
    return {"stall_ms": report["longest_ms"], "iops": report["iops"], "failed": report["failed"]}


def run(options):
    """Each case with fresh servers."""
    for name, happen, count in CASES[1:] if options.quick else CASES:
        found = {}
        for _ in range(1 if options.quick else ROUNDS):
            for make in contenders(count, options.quick):
                with bank(count, SIZE) as servers:
                    peer = make(servers)
                    if not chosen(options, [peer]):
                        continue
                    with peer:
                        found.setdefault(peer.name, []).append(stall(peer, servers, happen))
        emit("failover", case=name, rounds=found)
        print(f"{name:30} {json.dumps(found)}", flush=True)
