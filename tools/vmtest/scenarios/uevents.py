# SPDX-License-Identifier: GPL-2.0
"""uevents of the disk: for each change of a group, the beginning and the end of a resync, held and released, and a new name; with
what has changed, how the device fares, and a number. No more than ten a second, and what is folded is counted. Reads and writes
make none."""

import errno
import os
import time

from lib import check, nbdinfo
from lib.mirror import Mirror
from lib.server import Nbdkit
from lib.store import Store
from lib.uevents import Uevents

LIMIT_S = 240

MOST = 10
ROUNDS = 40


def run():
    with Uevents() as events, Mirror() as mirror:
        leg(mirror, events)
        named(mirror, events)
        groups(mirror, events)
        held(mirror, events)
        flapping(mirror, events)


def word(event, *keys):
    """These words of an event, without their beginning."""
    return tuple(event.get(f"ENBD_{key}") for key in keys)


def leg(mirror, events):
    """A group is set faulty and comes back, with what it has missed."""
    check.equal(events.drain(0.5), [], "events of a device that was just enabled")
    mirror.command("setfaulty=1")
    event = events.expect("group_faulty")["group_faulty"]
    why = mirror.status().group_lines[1][2]
    check.equal(word(event, "GROUP", "GROUP_STATE", "STATE", "REASON", "SEQ", "FOLDED"),
                ("1", "faulty", "degraded", why, "1", None), "words of the event")
    mirror.disk.write(0, os.urandom(1 << 20))
    check.equal(events.drain(1), [], "events of a write")
    mirror.resync(1)
    got = events.expect("resync_started", "resync_finished", "group_in_sync")
    check.equal([got[kind]["ENBD_SEQ"] for kind in ("resync_started", "resync_finished", "group_in_sync")], ["2", "3", "4"],
                "numbers of the events of a resync")
    check.equal(word(got["resync_started"], "GROUP", "GROUP_STATE", "STATE"), ("1", "resyncing", "degraded"), "its beginning")
    check.equal(word(got["group_in_sync"], "GROUP", "GROUP_STATE", "STATE"), ("1", "in_sync", "ok"), "its end")
    check.equal(mirror.status().events, 4, "events in the status")


def named(mirror, events):
    """A name is in the status and in all events; two devices cannot have the same."""
    check.equal(mirror.status().name, None, "name of a device that was not named")
    mirror.command("name=data")
    check.equal(word(events.expect("renamed")["renamed"], "NAME", "STATE"), ("data", "ok"), "words of the event")
    mirror.command("name=data")
    with check.refused(errno.EEXIST, "another device of that name"):
        nbdinfo.command("name[b]=data")
    for name in ("b", "../data", "data/x", "n" * 65):
        with check.refused(errno.EINVAL, f"the name {name}"):
            mirror.command(f"name={name}")
    check.equal(mirror.status().name, "data", "name of the device")
    check.equal(nbdinfo.devices(), ["a"], "devices after names that were refused")
    nbdinfo.command("name[b]=other", "name[a]=" + "n" * 64)
    check.equal((nbdinfo.status("b").name, mirror.status().name), ("other", "n" * 64), "names of two devices")
    check.equal(word(events.expect("renamed")["renamed"], "NAME"), ("n" * 64,), "the longest name")
    nbdinfo.command("reset[b]=1", "name[a]=other")
    check.equal(word(events.expect("renamed")["renamed"], "NAME"), ("other",), "a name that has become free")


def groups(mirror, events):
    """A group that joins, and one that is dropped."""
    group = mirror.add(Nbdkit(Store("a2", mirror.stores[0].size)))
    check.equal(word(events.expect("group_faulty")["group_faulty"], "GROUP"), (str(group),), "the group that has joined")
    mirror.command(f"hotremove={group}")
    event = events.expect("group_removed")["group_removed"]
    check.equal(word(event, "GROUP", "GROUP_STATE", "STATE"), (str(group), "absent", "ok"), "the group that was dropped")
    mirror.servers.pop().stop()


def held(mirror, events):
    """All servers are gone, and come back."""
    for server in mirror.servers:
        server.kill()
    seen = until(events, "held")
    check.equal(word(seen[-1], "STATE", "GROUP"), ("held", None), "words of the event")
    for server in mirror.servers:
        server.start()
    check.that(word(until(events, "released")[-1], "STATE") != ("held",), "a device that is released is not held")
    mirror.wait_until(lambda status: all(channel.is_up for channel in status.channels), 60, "all channels are up")
    mirror.wait_in_sync(60)
    events.drain()


def until(events, kind):
    """The events up to one of that kind."""
    seen = []
    while not seen or seen[-1]["ENBD_EVENT"] != kind:
        event = events.next(60)
        check.that(event, f"no event {kind} within 60 s, but {seen}")
        seen.append(event)
    return seen


def flapping(mirror, events):
    """A group goes and comes as fast as it can."""
    first = mirror.status().events
    began = time.monotonic()
    for _ in range(ROUNDS):
        mirror.command("setfaulty=1")
        mirror.hotadd(1)
        mirror.wait_in_sync()
    got = events.drain()
    took = time.monotonic() - began
    check.that(len(got) <= MOST * (took + 1), f"{len(got)} events in {took:.1f} s, no more than {MOST} a second")
    check.equal([int(event["ENBD_SEQ"]) for event in got], list(range(first + 1, first + 1 + len(got))), "numbers of the events")
    # What is told of a state is one change; the end of a resync is told twice.
    states = [event for event in got if event["ENBD_EVENT"] in ("group_faulty", "resync_started", "group_in_sync")]
    folded = sum(int(event.get("ENBD_FOLDED", 0)) for event in got)
    print(f"{len(got)} events in {took:.1f} s for {3 * ROUNDS} changes, {folded} of them folded")
    check.equal(mirror.status().events, first + len(got), "events in the status")
    check.equal(got[-1]["ENBD_STATE"], "ok", "the state that was told last")
    check.that(len(states) + folded >= 3 * ROUNDS, f"changes that were told or counted: {len(states)} and {folded}")
