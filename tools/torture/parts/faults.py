# SPDX-License-Identifier: GPL-2.0
"""The faults. Each is a generator: what stands before a `yield` is done, the yield says how long to leave it so, and in the end
everything is healed; the schedule then waits until all groups concerned are whole.

Left out, since the mirror does not claim to survive it: every group silent for longer than `timeout` with servers that live on
(SIGSTOP), since a fence by time is all that there is then; the last group in sync refusing requests (SIGTERM to nbdkit); a
server that loses a few blocks of acknowledged data, which chance alone shows (one that has lost all of it is refused). netem's
corruption is left out too: TCP has a checksum and NBD has none, so it would test TCP, and a veth may leave the checksum out.
"""

import os
import signal

from lib import check
from lib.program import run as run_program
from lib.server import NbdServer
from lib.store import Store
from parts.kind import Reach, fault
from parts.victim import NAP_S, RECOVER_S, RESYNC_KIB, TIMEOUT_S

# What enbd says of a server that has lost its data: of a group that others can stand in for, and of a channel of one that is alone.
DIFFERS = "clean blocks differ from the mirror's: not the server that was lost"
NOT_HELD = "the server does not hold the data of the group"


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
def flap(victim, group, dice):
    """Server killed and started again, over and over."""
    for _ in range(dice.randrange(4, 9)):
        victim.servers[group].kill()
        yield dice.uniform(0, 1)
        victim.servers[group].start()
        yield dice.uniform(0, 3)


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


@fault(Reach.ALONE)
def deep_queue(victim, group, dice):
    """Far more reads at once than all lines carry within timeout: nothing is lost for it."""
    # All of them, or the reads would go where there is room.
    mbit = dice.randrange(24, 36) / len(victim.sites)
    victim.wait_answered()
    before = victim.connections()
    for site in victim.sites:
        site.spoil("rate", f"{mbit:.1f}mbit")
    victim.load.read_much(dice.uniform(5, 12))
    check.equal(victim.connections(), before, f"groups and connections of {victim.letter}, after it was asked for much")
    yield dice.uniform(0, 2)
    for site in victim.sites:
        site.unspoil()


@fault(Reach.GENTLE)
def channels(victim, group, dice):
    """Channels added, later removed."""
    victim.connect_second(group, dice.randrange(1, 4))
    yield dice.uniform(1, 8)
    victim.try_command(f"disconnect={group} {victim.sites[group].address(1)}")


@fault(Reach.GENTLE)
def churn(victim, group, dice):
    """Channels added and removed at once, again and again."""
    for _ in range(dice.randrange(3, 8)):
        victim.connect_second(group, dice.randrange(1, 4))
        victim.try_command(f"disconnect={group} {victim.sites[group].address(1)}")
        yield dice.uniform(0, 0.2)


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


@fault(Reach.OUT)
def emptied(victim, group, dice):
    """Server back with an empty store, refused; healed by hotadd full, or by the right store."""
    server = victim.servers[group]
    counts = _lose(victim, [group])
    yield _any(dice)
    server.start()
    _wait_refused(victim, counts, lambda s: s.group_lines.get(group, (None, None, None))[::2] == ("faulty", DIFFERS))
    yield _short(dice)
    full = dice.choice([" full", ""])
    if not full:
        server.kill()
        server.store.bring_back()
        server.start()
    victim.hotadd(group, full)


def _lose(victim, groups):
    """Kills the servers of groups, and gives them empty stores; what the channels of each have despatched by then."""
    for group in groups:
        victim.servers[group].kill()
        victim.servers[group].store.set_aside()
    what = f"the channels of groups {groups} of {victim.letter} are down"
    now = victim.wait_until(lambda s: not any(c.is_up for g in groups for c in s.of_group(g)), RECOVER_S, what)
    return {group: _despatched(now, group) for group in groups}


def _despatched(status, group):
    return sum(channel.despatched for channel in status.of_group(group))


def _wait_refused(victim, counts, is_refused):
    """Waits until servers with empty stores are refused. Fails if one of them has carried anything for a group in sync."""

    def look():
        now = victim.status()
        used = [group for group, count in counts.items() if now.mark(group) == "" and _despatched(now, group) > count]
        check.that(not used, f"servers of groups {used} of {victim.letter} with empty stores are not used")
        return is_refused(now)

    check.until(look, RECOVER_S, f"servers of groups {list(counts)} of {victim.letter} with empty stores are refused", NAP_S)


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
def all_emptied(victim, group, dice):
    """All servers back with empty stores, refused, later with the right ones."""
    victim.cut()
    counts = _lose(victim, range(len(victim.servers)))
    for server in victim.servers:
        server.start()
    _wait_refused(victim, counts, lambda s: any(not c.mark and NOT_HELD in (c.last_error or "") for c in s.channels))
    yield _any(dice)
    _wait_refused(victim, counts, lambda s: True)
    for server in victim.servers:
        server.kill()
        server.store.bring_back()
    _start_all(victim, list(victim.servers), dice)
    # One that was out of service when it showed the empty store stays so until somebody says that it is right.
    lines = victim.status().group_lines
    for group in range(len(victim.servers)):
        if lines.get(group, (None, None, None))[::2] == ("faulty", DIFFERS):
            victim.hotadd(group)


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
