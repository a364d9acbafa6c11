# SPDX-License-Identifier: GPL-2.0
"""Exports and sockets whose names hold blanks, backslashes, newlines, and bytes outside ASCII: each is reached by its octal
escapes, the status and the log show it so that it can be typed back, and a bad escape changes nothing."""

import os

from lib import check, nbdinfo
from lib.afresh import reset_all
from lib.cases import case
from lib.disk import Disk
from lib.endpoint import Endpoint
from lib.kmsg import Kmsg
from lib.nbdinfo import spell
from lib.server import Nbdkit, QemuNbd
from lib.store import Store

LIMIT_S = 180
SIZE = 1 << 20
EINVAL, ENOENT, EILSEQ, E2BIG = 22, 2, 84, 7
NAMES = (
    "VM disk 1", "B\u00fcro", "a%20b", "x=y", "quo'te\"s", "back\\slash", r"\040", "two\nlines\tand tabs", "#~!", "\x7f\x01",
    "force",
)
SPELLED = {"VM disk 1": r"VM\040disk\0401", "B\u00fcro": r"B\303\274ro", "back\\slash": r"back\134slash", r"\040": r"\134040"}


def run():
    for name, spelled in SPELLED.items():
        check.equal(spell(name), spelled, f"the spelling of {name!r}")
    exports()
    qemu()
    sockets()
    long_name()


def exports():
    """Files of one directory, each an export."""
    store = Store("disk", SIZE)
    for number, name in enumerate(NAMES):
        with open(os.path.join(store.directory, name), "wb") as file:
            file.write(bytes([number]) * SIZE)
    with Nbdkit(store) as server, Kmsg() as kmsg:
        for number, name in enumerate(NAMES):
            with case(f"the export {name!r}", reset_all):
                nbdinfo.command(f"connect[a]=0 {server.endpoint} name={spell(name)}", "enable[a]=1")
                check.equal(nbdinfo.status().channels[0].name, spell(name), f"the export {name!r} as shown")
                check.equal(Disk("a").read(0, 4096), bytes([number]) * 4096, f"what the export {name!r} holds")
                nbdinfo.command("enable[a]=0", "reset[a]=1")
        needless = "".join(f"\\{byte:03o}" for byte in b"disk")
        nbdinfo.command(f"connect[a]=0 {server.endpoint} name={needless}")
        check.equal(nbdinfo.status().channels[0].name, "disk", "an export in needless escapes as shown")
        nbdinfo.command("reset[a]=1")
        refusals(server)
        told(server, kmsg)


def refusals(server):
    """What is no spelling."""
    line = f"connect[b]=0 {server.endpoint} name="
    for bad in ("VM\\ disk", "a\\", "\\04", "\\000", "\\400", "\\x41", "\\\\"):
        with case(f"name={bad}", reset_all), check.refused(EINVAL, f"name={bad}"):
            nbdinfo.command(line + bad)
    with check.refused(EINVAL, "a blank"):
        nbdinfo.command(line + "VM disk 1")
    with check.refused(EILSEQ, "a byte above 127"):
        nbdinfo.raw((line + "B\u00fcro\n").encode())
    with check.refused(ENOENT, "an export that is not there"):
        nbdinfo.command(line + r"VM\040disk\0402")
    check.equal(nbdinfo.devices(), [], "devices after refusals")


def told(server, kmsg):
    """The log spells it as the status does."""
    name = spell("two\nlines\tand tabs")
    nbdinfo.command(f"connect[a]=0 {server.endpoint} name={name}")
    kmsg.forget()
    server.kill()
    nbdinfo.wait_until(lambda s: not s.channels[0].is_up, 20, "the channel is down")
    # /dev/kmsg has escapes of its own.
    shown = f"(tcp {server.endpoint} {name}): ".replace("\\", r"\x5c")
    check.until(lambda: any(shown in line for line in kmsg.lines()), 10, f"the log says {shown}")
    nbdinfo.command("reset[a]=1")


def qemu():
    """Another server, whose export has a name of its own."""
    server = QemuNbd(Store("q", SIZE))
    server.export = "pool/vol-1@snap \u00fc"
    with server:
        nbdinfo.command(f"connect[a]=0 {server.endpoint} name={spell(server.export)}")
        check.equal(nbdinfo.status().channels[0].name, spell(server.export), "the export of qemu-nbd as shown")
        nbdinfo.command("reset[a]=1")


def sockets():
    """A socket whose path takes escapes, to connect to and to disconnect from."""
    os.mkdir("a dir\\")
    endpoint = Endpoint("unix")
    endpoint.path = os.path.abspath("a dir\\/n\u00fc")
    with Nbdkit(Store("s", SIZE), endpoint) as server:
        nbdinfo.command(f"connect[a]=0 {endpoint} name={server.export} channels=2")
        shown = nbdinfo.status().channels[0].addr
        check.equal(shown, spell(endpoint.path), "the path as shown")
        check.that(shown.endswith(r"/a\040dir\134/n\303\274"), f"the spelling of the path: {shown}")
        with check.refused(ENOENT, "disconnect of another path"):
            nbdinfo.command(f"disconnect[a]=0 unix:{shown}x")
        nbdinfo.command(f"connect[a]=1 unix:{shown} name={server.export} force", f"disconnect[a]=0 unix:{shown}")
        check.equal([channel.group for channel in nbdinfo.status().channels], [1], "groups that are left")
        nbdinfo.command("reset[a]=1")


def long_name():
    """As long as a line can hold; nbdkit's memory goes by any name."""
    with Nbdkit(Store("m", SIZE), plugin=["memory", str(SIZE)]) as server:
        line = f"connect[a]=0 {server.endpoint} name="
        name = "n" * (1024 - len(line))
        nbdinfo.command(line + name)
        check.equal(nbdinfo.status().channels[0].name, name, "a long name as shown")
        nbdinfo.command("reset[a]=1")
        with check.refused(E2BIG, "a name that makes the line too long"):
            nbdinfo.command(line + name + "n")
