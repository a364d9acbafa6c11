# SPDX-License-Identifier: GPL-2.0
"""A group with four channels: connections are cut one by one, at the server's side, by the administrator's ss -K, and all at
once. I/O goes on without an error, the channels come back, and each is used."""

import os
import signal

from lib import check
from lib.afresh import reset_all
from lib.cases import case
from lib.impostor import Impostor
from lib.kmsg import Kmsg
from lib.mirror import Mirror
from lib.program import attempt
from lib.program import run as run_program
from lib.server import Nbdkit, NbdServer
from lib.traffic import Traffic

LIMIT_S = 180
# A read of so much is several requests at once.
LARGE = 16 << 20


def run():
    used_alike()
    read_alike()
    for how, kind in ((cut_at_server, lambda store: Impostor()), (kill_process, NbdServer), (cut_by_ss, Nbdkit)):
        with case(how.__name__, reset_all):
            lose_one(how, kind)
    lose_all()


def used_alike():
    """With several large requests at once every channel gets its share, and shows it."""
    with Mirror(kinds=[Nbdkit], channels=4, size=LARGE) as mirror:
        with Traffic(seed=1) as one, Traffic(seed=2, first=256) as two, Traffic(seed=3, first=512) as three:
            for traffic in (one, two, three):
                traffic.wait_for(100, 60, "three at once")
        # Before the figures are rounded.
        now = mirror.status()
        check.equal(sum(channel.requested for channel in now.channels), now.requested, "sum of the channels' requests")
        # Small requests stay together, large ones spread.
        for _ in range(8):
            mirror.disk.read(0, LARGE)
        now = mirror.status()
        check.that(all(channel.despatched for channel in now.channels), "every channel was used")
        check.equal(sum(channel.socket == "*" for channel in now.channels), 1, "channels that were the last to be active")
        mirror.disable()


def read_alike():
    """Reads one after the other stay with a group for a while, but not for ever."""
    with Mirror(kinds=[Nbdkit, Nbdkit], channels=2) as mirror:
        with mirror.disk.open(os.O_RDONLY | os.O_DIRECT) as disk:
            for number in range(1000):
                disk.read(number % 256 * 4096, 4096)
        now = mirror.status()
        shares = [sum(channel.despatched for channel in now.of_group(group)) / now.despatched for group in (0, 1)]
        check.that(min(shares) > 0.1, f"shares of the groups in single reads: {shares}")
        check.that(all(channel.despatched for channel in now.channels), "every channel was used for single reads")
        mirror.disable()


def lose_one(how, kind):
    """One connection after the other."""
    with Mirror(kinds=[kind], channels=4, settings=["timeout=10"]) as mirror, Kmsg() as kmsg:
        with Traffic(seed=4) as traffic:
            for number in range(4):
                what = f"connection {number} is lost, {how.__name__}"
                traffic.wait_for(10, 20, f"before {what}")
                before = sum(channel.reconnects for channel in mirror.status().channels)
                how(mirror)
                traffic.wait_for(30, 20, f"while {what}")
                mirror.wait_until(
                    lambda s, before=before: all(c.is_up for c in s.channels) and sum(c.reconnects for c in s.channels) > before,
                    20, f"the channel is back after {what}",
                )
                check.equal(mirror.status().marks(), {0: ""}, f"marks after {what}")
            check.that(kmsg.lines(r"\[a\] group 0 channel \d"), f"the log names the channel, {how.__name__}")
        traffic.verify()
        mirror.disable()


def cut_at_server(mirror):
    """The server closes it."""
    server = mirror.servers[0]
    with server.changed:
        talk = [talk for talk in server.talks if talk.sock.fileno() >= 0][0]
    talk.shutdown()


def kill_process(mirror):
    """nbd-server has a process for each connection."""
    children = run_program("pgrep", "-P", mirror.servers[0].process.pid).split()
    os.kill(int(children[0]), signal.SIGKILL)


def cut_by_ss(mirror):
    """The kernel is told to abort it."""
    port = mirror.servers[0].endpoint.port
    connections = attempt("ss", "-tnH", "state", "established", f"dport = :{port}").stdout.splitlines()
    source = connections[0].split()[2].rsplit(":", 1)[1]
    result = attempt("ss", "-K", "-tn", f"sport = :{source} and dport = :{port}")
    check.that(result.returncode == 0 and source in result.stdout, f"ss -K: {result.stdout} {result.stderr}")


def lose_all():
    """All connections at once, while requests are on their way; there is no other group, so they wait."""
    with Mirror(kinds=[lambda store: Impostor()], channels=4, settings=["timeout=20"]) as mirror:
        server = mirror.servers[0]
        with Traffic(seed=5) as traffic:
            for _ in range(3):
                traffic.wait_for(20, 20, "before all connections are lost")
                with server.changed:
                    talks = list(server.talks)
                for talk in talks:
                    talk.shutdown()
                traffic.wait_for(20, 30, "after all connections were lost")
                mirror.wait_until(lambda s: all(c.is_up for c in s.channels), 20, "all channels are back")
        traffic.verify()
        mirror.disable()
