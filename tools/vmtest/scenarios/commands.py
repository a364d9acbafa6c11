# SPDX-License-Identifier: GPL-2.0
"""Each command does what it says, in all the ways in which it may be written."""

import os
import re

from lib import check, nbdinfo
from lib.afresh import reset_all
from lib.cases import case
from lib.endpoint import Endpoint
from lib.mirror import Mirror
from lib.program import run as run_program
from lib.server import Nbdkit
from lib.store import Store

SETTINGS = (
    "timeout=1", "timeout=3600", "timeout=30", "connect_timeout=1", "connect_timeout=300", "connect_timeout=10", "show_errs=1",
    "show_errs=0", "autoadd=0", "autoadd=1", "resync_min=0", "resync_min=4294967295", "resync_min=000", "resync_max=1",
    "resync_max=0",
)


def run():
    check.equal(nbdinfo.text(), "Device a-z:\tClosed\n", "status at first")
    spellings()
    settings_and_blocksize()
    connections()
    groups()
    disable_and_enable()
    short_addresses()
    check.equal(nbdinfo.text(), "Device a-z:\tClosed\n", "status in the end")
    unprivileged_reader()


def spellings():
    """Spaces, tabs, blank lines, no newline at the end, and devices from a to z."""
    nbdinfo.raw(b"\n  timeout[a]=5\t\n\n\ttimeout[z]= 5 \n timeout[m]=5")
    check.equal(nbdinfo.devices(), ["a", "m", "z"], "devices")
    check.that("Device b-l:\tClosed\n" in nbdinfo.text(), "runs of closed devices are drawn together")
    nbdinfo.raw(b"reset[a]=1\nreset[m]=1\nreset[z]=1")
    nbdinfo.raw(b"\n \n")


def nothing():
    """There is nothing to mend: the next setting is not bound to this one."""


def settings_and_blocksize():
    """Each setting takes its bounds; the block size shows."""
    with Mirror(enable=False) as mirror:
        for setting in SETTINGS:
            with case(setting, nothing):
                mirror.command(setting)
        for size in (512, 1024, 65536, 4096):
            with case(f"blocksize={size}", nothing):
                mirror.command(f"blocksize={size}")
                check.equal(mirror.status().blocksize, size, "block size")
        mirror.command("blocksize=512", "enable=1")
        check.equal(mirror.status().blocks, (4 << 20) // 512, "blocks of 512")


def connections():
    """Channels are added to groups and removed from them, all or those of one address."""
    with Mirror(channels=1) as mirror:
        second = Nbdkit(mirror.stores[0], Endpoint("unix"))
        with second:
            mirror.command(f"connect=0 {second.endpoint} channels=3 name={second.export}")
            check.equal([c.group for c in mirror.status().channels], [0, 1, 0, 0, 0], "groups of the channels")
            mirror.disk.write(0, os.urandom(65536))
            mirror.command(f"disconnect=0 {second.endpoint}")
            check.equal([c.group for c in mirror.status().channels], [0, 1], "groups of the channels that are left")
        mirror.command("disconnect=1")
        now = mirror.status()
        check.equal([c.group for c in now.channels], [0], "channels after a group was disconnected")
        check.equal(now.group_lines[1][0], "faulty", "state of the group that was disconnected")
        mirror.disk.write(0, os.urandom(65536))
        check.equal(mirror.status().dirty, 16, "blocks that the disconnected group missed")
        mirror.connect(1)
        mirror.resync(1)
        mirror.check_same()
        mirror.command("disconnect=1", "disconnect=0")
        check.equal(mirror.status().channels, [], "channels of a device that was disconnected")


def groups():
    """setfaulty, hotadd and hotremove."""
    with Mirror() as mirror:
        mirror.command("setfaulty=0")
        check.equal(mirror.status().marks(), {0: "F", 1: ""}, "marks after setfaulty=0")
        check.equal(mirror.status().group_lines[0][0], "faulty", "state of group 0")
        mirror.disk.write(8192, os.urandom(8192))
        check.equal(mirror.status().dirty_columns, [2, 0], "marked blocks")
        mirror.resync(0)
        mirror.command("setfaulty=1", "hotremove=1")
        now = mirror.status()
        check.equal((now.marks(), now.group_count, len(now.channels)), ({0: ""}, 1, 2), "groups after hotremove=1")
        mirror.disk.write(0, os.urandom(8192))
        mirror.connect(1)
        now = mirror.status()
        check.equal((now.marks(), now.dirty_columns), ({0: "", 1: "F"}, [0, 1024]), "a group that joins an enabled device")
        mirror.resync(1)
        mirror.check_same()


def disable_and_enable():
    """A device can be taken away and published again, in between with other groups or block sizes."""
    with Mirror() as mirror:
        data = os.urandom(65536)
        mirror.disk.write(0, data)
        mirror.command("enable=0")
        check.that(not mirror.disk.exists(), "a disabled disk is gone")
        check.that(not mirror.status().enabled, "the status says disabled")
        mirror.command("blocksize=512", "enable=1")
        check.that(mirror.disk.read(0, 65536) == data, "data after enabling again")
        mirror.command("enable=0")
        mirror.command("setfaulty=1", "hotremove=1", "enable=1")
        check.that(mirror.disk.read(0, 65536) == data, "data with one group less")
        mirror.command("enable=0", "reset=1")
        check.that(mirror.status() is None, "a reset device is gone")
        mirror.connect(0)


def short_addresses():
    """The port is NBD's if none is given, the export the default one, and the channel a single one."""
    for host, address in (("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("::1", "[0:0::1]:10809")):
        endpoint = Endpoint("tcp6" if ":" in host else "tcp4")
        endpoint.port = 10809
        store = Store("default", 1 << 20)
        with case(address, reset_all), Nbdkit(store, endpoint, plugin=["file", store.path]):
            nbdinfo.command(f"connect[c]=7 {address}", "enable[c]=1")
            channel, = nbdinfo.status("c").channels
            shown = (channel.group, channel.addr, channel.name)
            plain = address.split("]")[0].replace("0:0::1", "::1") + ("]" if ":" in host else "")
            check.equal(shown, (7, f"{plain}:10809", None), "the channel")
            nbdinfo.command("reset[c]=1")


def unprivileged_reader():
    """Anybody may read the status, but where the servers are and what their exports are called is for the administrator."""
    words = ("setpriv", "--reuid=65534", "--clear-groups", "--inh-caps=-all", "cat", nbdinfo.PATH)
    check.equal(run_program(*words), nbdinfo.text(), "what an unprivileged reader sees of no device")
    store = Store("plain", 4 << 20)
    with Nbdkit(store, Endpoint("unix"), plugin=["file", store.path]) as third, Mirror(channels=1, enable=False) as mirror:
        mirror.command(f"connect=2 {third.endpoint}")
        all_of_it, seen = (without_times(text) for text in (nbdinfo.text(), run_program(*words)))
        for channel in mirror.status().channels:
            check.that(channel.addr != "-" and channel.name != "-", f"root sees where channel {channel.index} leads")
            place = " ".join(word for word in (channel.addr, channel.name) if word)
            all_of_it = all_of_it.replace(f"{channel.transport} {place},", f"{channel.transport} {'- -' if channel.name else '-'},")
        check.equal(seen, all_of_it, "what an unprivileged reader sees")
        for server in (third, *mirror.servers):
            secret = server.endpoint.shown
            check.that(secret in nbdinfo.text() and secret not in seen, f"{secret} is for the administrator")


def without_times(text):
    """The status, without what changes by itself."""
    return re.sub(r"(up|down) \d+s", r"\1", text)
