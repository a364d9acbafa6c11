# SPDX-License-Identifier: GPL-2.0
"""poll() of /proc/nbdinfo: says that something has changed since this reader has read, of commands, settings, refusals, groups,
resyncs and servers; says nothing of requests; by poll, select and epoll. Nobody who sleeps in it keeps the module."""

import os
import select
import threading

from lib import cases, check, module, nbdinfo
from lib.mirror import Mirror
from lib.pollee import CHANGED, Pollee

LIMIT_S = 240


def run():
    with Mirror(settings=["autoadd=1"]) as mirror, Pollee() as file:
        requests(mirror, file)
        for what, change, settle in CHANGES:
            with cases.case(what):
                each(mirror, file, what, change, settle)
        followed(mirror, file)
        readers(mirror)
    unload()


def refused(mirror):
    """A command that is refused is in the status, too."""
    with check.refused((16,), "enabling an enabled device"):
        mirror.command("enable=1")


def in_sync(mirror):
    """All groups are in sync, and all channels are up."""
    mirror.wait_until(lambda status: all(channel.is_up for channel in status.channels), 60, "all channels are up")
    mirror.wait_in_sync()


def down(mirror):
    """Group 1 has no channel."""
    mirror.wait_until(lambda status: not any(one.is_up for one in status.of_group(1)), 30, "group 1 has no channel that is up")


# What is changed, and what is waited for afterwards.
CHANGES = [
    ("a setting", lambda mirror: mirror.command("timeout=31"), in_sync),
    ("a refusal", refused, in_sync),
    ("setfaulty", lambda mirror: mirror.command("setfaulty=1"), lambda mirror: None),
    ("hotadd", lambda mirror: mirror.command("hotadd=1"), in_sync),
    ("a new channel", lambda mirror: mirror.connect(1, 1), in_sync),
    ("a server that dies", lambda mirror: mirror.servers[1].kill(), down),
    ("a server that comes back", lambda mirror: mirror.servers[1].start(), in_sync),
    ("a second device", lambda _: nbdinfo.command("timeout[z]=7"), in_sync),
    ("the end of a device", lambda _: nbdinfo.command("reset[z]=1"), in_sync),
    ("disable", lambda mirror: mirror.disable(), lambda mirror: None),
    ("enable", lambda mirror: mirror.command("enable=1"), in_sync),
]


def requests(mirror, file):
    """Reads and writes are nothing new."""
    file.quiet()
    mirror.disk.write(0, os.urandom(65536))
    check.that(not file.is_news(300), "poll() says that something has changed when the disk was written to")


def each(mirror, file, what, change, settle):
    """It is told of this change until it has read, and not again."""
    file.quiet()
    change(mirror)
    check.that(file.is_news(30000), f"poll() says nothing of {what}")
    check.that(file.is_news(), f"poll() forgets {what}, although nobody has read")
    settle(mirror)


def followed(mirror, file):
    """A resync is seen from its beginning to its end by who does nothing but poll."""
    mirror.wait_in_sync()
    mirror.command("setfaulty=1")
    mirror.disk.write(0, os.urandom(1 << 20))
    mirror.command("hotadd=1")
    file.wait_for(lambda text: "Group:\t1 in sync" in text, 30, "poll() leads to the end of the resync")


def readers(mirror):
    """Each reader has news of its own, also one that has not read yet; select and epoll say the same."""
    with Pollee() as first, Pollee() as second, select.epoll() as epoll:
        first.quiet()
        second.quiet()
        epoll.register(first.fileno(), select.EPOLLPRI)
        check.equal(epoll.poll(0), [], "epoll before anything has changed")
        with Pollee() as third:
            mirror.command("timeout=32")
            first.read()
            check.that(not first.is_news(), "the first reader has read")
            check.that(second.is_news(), "the second one has not")
            check.that(third.is_news(), "nor has one that was just opened")
        mirror.command("timeout=33")
        check.equal(epoll.poll(30), [(first.fileno(), CHANGED)], "epoll after a change")
        _, _, told = select.select([], [], [second], 30)
        check.equal(told, [second], "select after a change")


def unload():
    """rmmod goes on while there are sleepers, and they are woken up."""
    with Pollee() as one, Pollee() as other, select.epoll() as epoll:
        one.quiet()
        epoll.register(other.fileno(), select.EPOLLPRI)
        told = []
        sleeper = threading.Thread(target=lambda: told.append(one.look(60000)), daemon=True)
        sleeper.start()
        module.unload()
        sleeper.join(60)
        check.equal(told, [select.POLLERR | select.POLLHUP], "what who slept in poll() is told")
    module.load()
