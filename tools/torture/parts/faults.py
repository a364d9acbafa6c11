# SPDX-License-Identifier: GPL-2.0
"""The faults. Each is a generator: what stands before a `yield` is done, the yield says how long to leave it so, and in the end
everything is healed; the schedule then waits until all groups concerned are whole.

Left out, since the mirror does not claim to survive it: every group silent for longer than `timeout` with servers that live on
(SIGSTOP), since a fence by time is all that there is then; the last group in sync refusing requests (SIGTERM to nbdkit); a
server that loses acknowledged data of the last group. netem's corruption is left out too: TCP has a checksum and NBD has none,
so it would test TCP, and a veth may leave the checksum out.
"""

import enum
import os
import signal

from lib.program import run as run_program
from lib.server import NbdServer, Server
from lib.store import Store
from parts.victim import RESYNC_KIB, TIMEOUT_S


class Reach(enum.Enum):
    """How much of a device a fault takes away, which decides what else may happen to it at the same time."""

    GENTLE = "the group goes on"
    OUT = "the group may get lost; another one has to stay whole"
    CUT = "no group can serve: requests are held"
    ALONE = "the group may get lost, and nothing else may happen"


class Kind:
    """A kind of fault."""

    def __init__(self, name, reach, run, server):
        self.name, self.reach, self.run, self.server = name, reach, run, server
        self.what = run.__doc__.strip().rstrip(".")

    def groups(self, victim):
        """The groups that it can happen to."""
        return [number for number, server in enumerate(victim.servers) if isinstance(server, self.server)]


KINDS = []


def fault(reach, server=Server):
    """Makes a generator function `(victim, group, dice)` a kind of fault, for groups with such a server."""

    def add(run):
        KINDS.append(Kind(run.__name__, reach, run, server))
        return run

    return add


def _short(dice):
    """Shorter than the timeout."""
    return dice.uniform(0.1, 0.5) * TIMEOUT_S


def _long(dice):
    """Longer than the timeout."""
    return dice.uniform(1.2, 2.5) * TIMEOUT_S


def _any(dice):
    return dice.choice([_short, _long])(dice)


@fault(Reach.OUT)
def kill(victim, group, dice):
    """Server killed (SIGKILL), started again."""
    victim.servers[group].kill()
    yield _any(dice)
    victim.servers[group].start()


@fault(Reach.OUT)
def terminate(victim, group, dice):
    """Server asked to end (SIGTERM), started again."""
    victim.servers[group].stop()
    yield _any(dice)
    victim.servers[group].start()


@fault(Reach.OUT)
def pause_short(victim, group, dice):
    """Server stopped (SIGSTOP) for less than timeout."""
    victim.servers[group].pause()
    yield _short(dice)
    victim.servers[group].resume()


@fault(Reach.OUT)
def pause_long(victim, group, dice):
    """Server stopped (SIGSTOP) for more than timeout."""
    victim.servers[group].pause()
    yield _long(dice)
    victim.servers[group].resume()


@fault(Reach.OUT, NbdServer)
def pause_connection(victim, group, dice):
    """The process of one connection (nbd-server) stopped for more than timeout; the others go on."""
    children = run_program("pgrep", "-P", victim.servers[group].process.pid).split()
    # Those of connections that were lost may still be there; the youngest serve.
    pid = int(dice.choice(sorted(children, key=int)[-2:]))
    os.kill(pid, signal.SIGSTOP)
    yield _long(dice)
    os.kill(pid, signal.SIGCONT)


@fault(Reach.OUT)
def abort(victim, group, dice):
    """One connection aborted (ss -K)."""
    victim.watch.log(f"  abort: {victim.sites[group].abort(dice)}")
    yield 1


@fault(Reach.OUT)
def drop(victim, group, dice):
    """All packets dropped."""
    victim.sites[group].drop()
    yield _any(dice)
    victim.sites[group].let_pass()


@fault(Reach.OUT)
def drop_requests(victim, group, dice):
    """Packets to the server dropped."""
    victim.sites[group].drop(replies=False)
    yield _any(dice)
    victim.sites[group].let_pass()


@fault(Reach.OUT)
def drop_replies(victim, group, dice):
    """Packets from the server dropped."""
    victim.sites[group].drop(requests=False)
    yield _any(dice)
    victim.sites[group].let_pass()


@fault(Reach.OUT)
def reset(victim, group, dice):
    """Each packet answered with a reset."""
    victim.sites[group].reset()
    yield _any(dice)
    victim.sites[group].let_pass()


@fault(Reach.OUT)
def unplug(victim, group, dice):
    """The client's interface taken down."""
    victim.sites[group].unplug()
    yield _any(dice)
    victim.sites[group].plug()


def _spoiled(victim, group, dice, *netem):
    victim.watch.log(f"  netem {' '.join(netem)}")
    victim.sites[group].spoil(*netem)
    yield dice.uniform(3, 12)
    victim.sites[group].unspoil()


@fault(Reach.GENTLE)
def delay(victim, group, dice):
    """Packets delayed, with jitter."""
    ms = dice.randrange(5, 200)
    yield from _spoiled(victim, group, dice, "delay", f"{ms}ms", f"{ms // 2}ms")


@fault(Reach.GENTLE)
def loss(victim, group, dice):
    """Packets lost."""
    yield from _spoiled(victim, group, dice, "loss", f"{dice.randrange(1, 9)}%")


@fault(Reach.GENTLE)
def reorder(victim, group, dice):
    """Packets reordered."""
    yield from _spoiled(victim, group, dice, "delay", "15ms", "reorder", f"{dice.randrange(20, 80)}%", "50%")


@fault(Reach.GENTLE)
def duplicate(victim, group, dice):
    """Packets duplicated."""
    yield from _spoiled(victim, group, dice, "duplicate", f"{dice.randrange(5, 40)}%")


@fault(Reach.GENTLE)
def slow(victim, group, dice):
    """A thin line."""
    yield from _spoiled(victim, group, dice, "rate", f"{dice.randrange(16, 60)}mbit")


@fault(Reach.GENTLE)
def channels(victim, group, dice):
    """Channels added, later removed."""
    victim.connect_second(group, dice.randrange(1, 4))
    yield dice.uniform(1, 8)
    victim.try_command(f"disconnect={group} {victim.sites[group].address(1)}")


@fault(Reach.GENTLE)
def speed(victim, group, dice):
    """Bounds of the resync changed."""
    victim.command(f"resync_max={dice.choice([0, 2048, 8192])}", f"resync_min={dice.choice([0, 1024])}")
    yield dice.uniform(2, 10)
    _free_resync(victim)


def _free_resync(victim):
    victim.command("resync_max=0", f"resync_min={RESYNC_KIB}")


def _set_faulty(victim, group):
    """The group is out, unless enbd has just taken it out itself: then the keeper brings it back."""
    done = victim.try_command(f"setfaulty={group}")
    if not done:
        victim.watch.log(f"  setfaulty of group {group} of {victim.letter} refused")
    return done


@fault(Reach.OUT)
def setfaulty(victim, group, dice):
    """setfaulty, then hotadd."""
    if _set_faulty(victim, group):
        yield dice.uniform(0.5, 6)
        victim.hotadd(group)


@fault(Reach.OUT)
def setfaulty_full(victim, group, dice):
    """setfaulty, then hotadd full."""
    if _set_faulty(victim, group):
        yield dice.uniform(0.5, 3)
        victim.hotadd(group, " full")


def _resyncing(victim, group, dice):
    """Brings the group to the middle of a resync, which is slow. False if it did not come to it."""
    if not _set_faulty(victim, group):
        return False
    victim.wait_dirty(group, dice.randrange(20, 200))
    victim.command(f"resync_max={dice.choice([512, 1024, 4096])}")
    victim.hotadd(group, dice.choice(["", " full"]))
    return victim.status().mark(group) == "_"


@fault(Reach.OUT)
def setfaulty_in_resync(victim, group, dice):
    """setfaulty in the middle of a resync, then hotadd."""
    if _resyncing(victim, group, dice):
        yield dice.uniform(0, 3)
        if _set_faulty(victim, group):
            yield dice.uniform(0, 2)
            _free_resync(victim)
            victim.hotadd(group)
    _free_resync(victim)


@fault(Reach.ALONE)
def sources_delayed(victim, group, dice):
    """Packets of the sources of a full resync delayed, each by another time."""
    sites = [site for number, site in enumerate(victim.sites) if number != group]
    if not _set_faulty(victim, group):
        return
    victim.wait_dirty(group, dice.randrange(20, 200))
    for site in sites:
        site.spoil("delay", "60ms", "58ms")
    victim.hotadd(group, " full")
    yield dice.uniform(5, 15)
    for site in sites:
        site.unspoil()


@fault(Reach.OUT)
def target_killed(victim, group, dice):
    """Server of the group killed in the middle of its resync."""
    if _resyncing(victim, group, dice):
        yield dice.uniform(0, 3)
        victim.servers[group].kill()
        yield _any(dice)
        victim.servers[group].start()
    _free_resync(victim)
    # What the administrator had set faulty stays so when the resync fails, if enbd takes it so.
    victim.hotadd(group)


@fault(Reach.CUT)
def source_killed(victim, group, dice):
    """All servers that a resync copies from killed in the middle of it."""
    if _resyncing(victim, group, dice):
        yield dice.uniform(0, 3)
        others = [server for number, server in enumerate(victim.servers) if number != group]
        victim.cut()
        for server in others:
            server.kill()
        yield _any(dice)
        _start_all(victim, others, dice)
    _free_resync(victim)
    victim.hotadd(group)


@fault(Reach.OUT)
def disconnect(victim, group, dice):
    """All channels of the group removed, connected again, hotadd."""
    if not victim.try_command(f"disconnect={group}"):
        return
    yield dice.uniform(0.5, 6)
    victim.connect(group)
    victim.hotadd(group)


@fault(Reach.ALONE)
def hotremove(victim, group, dice):
    """The group removed, connected again, hotadd."""
    if not _set_faulty(victim, group):
        return
    victim.command(f"hotremove={group}")
    yield dice.uniform(0.5, 4)
    victim.connect(group)
    victim.hotadd(group)


@fault(Reach.OUT)
def changed_export(victim, group, dice):
    """Server replaced for a while by one with an export of another size."""
    server, own = victim.servers[group], victim.servers[group].store
    server.kill()
    other = Store(own.name, own.size // 2)
    server.store = other
    if hasattr(server, "plugin"):
        server.plugin = ["file", f"dir={other.directory}"]
    server.start()
    yield _any(dice)
    used = other.allocated()
    server.kill()
    server.store = own
    if hasattr(server, "plugin"):
        server.plugin = ["file", f"dir={own.directory}"]
    server.start()
    if used:
        victim.watch.fail(f"a server with another size was written to: {used} bytes")


def _start_all(victim, servers, dice):
    """Starts servers, in any order."""
    dice.shuffle(servers)
    for server in servers:
        server.start()
    victim.restored()


@fault(Reach.CUT)
def all_killed(victim, group, dice):
    """All servers killed, started again."""
    victim.cut()
    for server in victim.servers:
        server.kill()
    yield _any(dice)
    _start_all(victim, list(victim.servers), dice)


@fault(Reach.CUT)
def all_paused(victim, group, dice):
    """All servers stopped (SIGSTOP) for less than timeout."""
    victim.cut()
    for server in victim.servers:
        server.pause()
    yield _short(dice)
    for server in victim.servers:
        server.resume()
    victim.restored()


@fault(Reach.CUT)
def all_dropped(victim, group, dice):
    """All packets of all groups dropped."""
    victim.cut()
    for site in victim.sites:
        site.drop()
    yield _any(dice)
    for site in dice.sample(victim.sites, len(victim.sites)):
        site.let_pass()
    victim.restored()


@fault(Reach.CUT)
def all_unplugged(victim, group, dice):
    """The client's interfaces taken down."""
    victim.cut()
    for site in victim.sites:
        site.unplug()
    yield _any(dice)
    for site in dice.sample(victim.sites, len(victim.sites)):
        site.plug()
    victim.restored()
