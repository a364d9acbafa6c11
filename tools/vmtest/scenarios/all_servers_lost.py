# SPDX-License-Identifier: GPL-2.0
"""Every server dies: I/O is held, and goes on when they return, with nothing lost. With show_errs=1 it fails after the timeout
instead, and works again when they return. reset and enable=0 end in bounded time although nobody answers."""

import os
import threading

from lib import check, nbdinfo
from lib.mirror import Mirror
from lib.traffic import Traffic

LIMIT_S = 240


def run():
    hold()
    fail()
    first_back()
    take_away()
    reset_with_held_requests()


def kill_all(mirror):
    """All servers."""
    for server in mirror.servers:
        server.kill()


def start_all(mirror):
    """All servers; waits until the channels are up."""
    for server in mirror.servers:
        server.start()
    mirror.wait_until(lambda s: all(c.is_up for c in s.channels), 60, "all channels are up again")


def hold():
    """The default."""
    with Mirror(settings=["timeout=3"]) as mirror:
        with Traffic(seed=8) as traffic:
            traffic.wait_for(50, 30, "before")
            kill_all(mirror)
            mirror.wait_until(lambda s: s.pending > 0 and not any(c.is_up for c in s.channels), 20, "a request is held")
            done = traffic.operations
            mirror.wait_until(lambda s: min(c.since for c in s.channels) >= 5, 60, "the timeout has long passed")
            traffic.check()
            check.between(traffic.operations, done, done + 1, "operations while every server is gone")
            start_all(mirror)
            traffic.wait_for(50, 60, "after the servers returned")
            mirror.wait_in_sync(60)
        traffic.verify()
        mirror.check_same()


def fail():
    """show_errs=1."""
    with Mirror(settings=["timeout=3", "show_errs=1"]) as mirror:
        data = os.urandom(65536)
        mirror.disk.write(0, data)
        kill_all(mirror)
        for what, act in (("a read", lambda: mirror.disk.read(0, 4096)), ("a write", lambda: mirror.disk.write(4096, bytes(4096)))):
            with check.within(20, f"{what} without servers"), check.refused((5, 110), f"{what} without servers"):
                act()
        start_all(mirror)
        check.that(mirror.disk.read(8192, 4096) == data[8192:12288], "data after the servers returned")
        mirror.disk.write(4096, data[:4096])
        mirror.wait_in_sync(60)
        mirror.check_same()


def first_back():
    """The one that is back first is the source; the status says so of the other one."""
    with Mirror(settings=["timeout=600"]) as mirror:
        # Not flushed, so nobody knows what became of it.
        mirror.disk.write(0, os.urandom(65536))
        kill_all(mirror)
        mirror.wait_until(lambda s: not any(c.is_up for c in s.channels), 20, "the channels are down")
        check.equal(mirror.status().marks(), {0: "", 1: ""}, "marks while both servers are away")
        mirror.servers[1].start()
        back = mirror.wait_until(lambda s: all(c.is_up for c in s.of_group(1)), 60, "group 1 is back")
        wanted = ("faulty", "another group was back before it, and is the source")
        check.equal((back.group_lines[0][0], back.group_lines[0][2]), wanted, "group 0 after that")
        mirror.servers[0].start()
        mirror.wait_in_sync(60)
        mirror.check_same()


def take_away():
    """enable=0 without servers: what cannot be flushed is told, the disk goes, and reset works."""
    with Mirror(settings=["timeout=3"]) as mirror:
        mirror.disk.write(0, os.urandom(65536))
        kill_all(mirror)
        mirror.wait_until(lambda s: not any(c.is_up for c in s.channels), 20, "the channels are down")
        with check.within(40, "enable=0 without servers"):
            try:
                mirror.disable()
            except OSError as error:
                check.equal(error.errno, 5, "errno of enable=0 without servers")
        check.that(not mirror.disk.exists(), "the disk is gone")
        with check.within(10, "reset without servers"):
            mirror.command("reset=1")


def reset_with_held_requests():
    """A reader waits for ever; show_errs=1 lets it go, and reset ends the device."""
    with Mirror(settings=["timeout=2"]) as mirror:
        kill_all(mirror)
        mirror.wait_until(lambda s: not any(c.is_up for c in s.channels), 20, "the channels are down")
        failed = []

        def read():
            try:
                mirror.disk.read(0, 4096)
            except OSError as error:
                failed.append(error.errno)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        mirror.wait_until(lambda s: s.queued_real > 0 or s.queued_current > 0, 10, "a request is held")
        with check.refused(16, "reset while a reader waits"):
            mirror.command("reset=1")
        mirror.command("show_errs=1")
        reader.join(20)
        check.equal(failed, [5], "errno of the read that was held")
        with check.within(10, "reset without servers"):
            mirror.command("reset=1")
        check.equal(nbdinfo.devices(), [], "devices")
