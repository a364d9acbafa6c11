# SPDX-License-Identifier: GPL-2.0
"""What real servers refuse: an unknown export by name, an export that needs TLS; and a server that dies while it is asked."""

from lib import check, nbdinfo
from lib.afresh import reset_all
from lib.cases import case
from lib.kmsg import Kmsg
from lib.program import run as run_program
from lib.server import KINDS, Nbdkit
from lib.store import Store

ENOENT, EACCES, EINVAL = 2, 13, 22


def run():
    with Kmsg() as kmsg:
        for kind in KINDS:
            with case(kind.__name__, reset_all), kind(Store("there", 4 << 20)) as server:
                # nbd-server and nbdkit may answer a name that they do not know in other words, but not by an open export.
                refuse(kmsg, server, (ENOENT, EINVAL), "name=elsewhere", "unknown|invalid")
                nbdinfo.command(f"connect[a]=0 {server.endpoint} name=there", "enable[a]=1")
                nbdinfo.command("reset[a]=1")
        with case("TLS", reset_all):
            needs_tls(kmsg)


def refuse(kmsg, server, number, words, phrase):
    """A connect that has to be refused."""
    what = f"{words} at {type(server).__name__}"
    kmsg.forget()
    with check.within(5, what), check.refused(number, what):
        nbdinfo.command(f"connect[a]=2 {server.endpoint} {words}")
    lines = kmsg.lines(rf"\[a\] group 2 channel 0 \(tcp {server.endpoint} .*({phrase})")
    check.equal(len(lines), 1, f"lines of the log, {what}: {kmsg.lines()}; number")


def needs_tls(kmsg):
    """A server that talks of nothing without TLS."""
    run_program("psktool", "--username=someone", "--pskfile=keys")
    with Nbdkit(Store("secret", 4 << 20), more=["--tls=require", "--tls-psk=keys"]) as server:
        refuse(kmsg, server, EACCES, "name=secret", "TLS")
