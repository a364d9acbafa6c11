# SPDX-License-Identifier: GPL-2.0
"""Servers that stop talking: at connect, after accept, and at each stage of the negotiation. connect ends after
connect_timeout, whatever dribbles in; a signal ends it earlier; other devices and readers of the status do not wait."""

import signal
import socket
import subprocess
import sys
import time

from lib import check, nbd, nbdinfo
from lib.bystander import Bystander
from lib.cases import case
from lib.endpoint import Endpoint
from lib.impostor import Impostor
from lib.kmsg import Kmsg
from lib.program import run as run_program
from lib.server import QemuNbd
from lib.store import Store

EINTR, ETIMEDOUT = 4, 110
TIMEOUT_S = 2


def dribble(talk):
    """Says the right thing, a byte at a time, slowly."""
    for byte in nbd.INIT_MAGIC + nbd.OPTION_MAGIC + b"\0\3":
        talk.send(bytes([byte]))
        time.sleep(0.3)


def half_a_reply(talk):
    """Stops in the middle of an option reply."""
    talk.to_option()
    talk.send(b"\0\3\xe8\x89")
    talk.hold()


def half_an_info(talk):
    """Announces more than it sends."""
    talk.to_option()
    talk.reply(nbd.REP_INFO, b"\0\0\0", length=12)
    talk.hold()


SCRIPTS = (
    ("silence after accept", lambda talk: talk.hold()),
    ("half a greeting", lambda talk: (talk.send(b"NBDM"), talk.hold())),
    ("silence after the greeting", lambda talk: (talk.greet(), talk.hold())),
    ("silence after the option", lambda talk: (talk.to_option(), talk.hold())),
    ("half a reply", half_a_reply),
    ("half an info", half_an_info),
    ("silence before the acknowledgement", lambda talk: (talk.to_option(), talk.info(), talk.hold())),
    ("a dribble", dribble),
)


def run():
    with Bystander() as bystander, Kmsg() as kmsg:
        for what, script in SCRIPTS:
            with case(what, forget_device), Impostor(script) as server:
                time_out(kmsg, server.endpoint, what)
        not_accepting(kmsg)
        black_hole(kmsg)
        one_too_many(kmsg)
        while_waiting(bystander)
        unix_not_accepting()


def forget_device():
    """After a case that went wrong: there is no device b."""
    if nbdinfo.status("b"):
        nbdinfo.command("reset[b]=1")


def time_out(kmsg, endpoint, what, name="x", channels=2):
    """A connect that has to take connect_timeout and not much more."""
    kmsg.forget()
    nbdinfo.command(f"connect_timeout[b]={TIMEOUT_S}")
    began = time.monotonic()
    with check.refused(ETIMEDOUT, what):
        nbdinfo.command(f"connect[b]=1 {endpoint} name={name} channels={channels}")
    check.between(time.monotonic() - began, TIMEOUT_S - 0.5, TIMEOUT_S + 3, f"seconds until connect failed, {what}")
    lines = kmsg.lines(r"\[b\] group 1 channel \d \(.*did not answer in time")
    check.between(len(lines), 1, channels, f"lines of the log, {what}: {kmsg.lines()}; number")
    check.equal(nbdinfo.status("b").channels, [], f"channels, {what}")
    nbdinfo.command("reset[b]=1")


def not_accepting(kmsg):
    """A queue that is full: the kernel at the other end does not even answer."""
    endpoint = Endpoint()
    with socket.socket() as listener:
        listener.bind(endpoint.address)
        listener.listen(0)
        with socket.create_connection(endpoint.address):
            time_out(kmsg, endpoint, "a listener that never accepts")


def black_hole(kmsg):
    """An address from which nothing ever comes back."""
    # What comes out at the other end is for a station that is not there.
    run_program("ip", "link", "add", "hole", "type", "veth", "peer", "name", "bottom")
    run_program("ip", "address", "add", "192.0.2.1/24", "dev", "hole")
    run_program("ip", "link", "set", "bottom", "up")
    run_program("ip", "link", "set", "hole", "up")
    run_program("ip", "neighbour", "add", "192.0.2.77", "lladdr", "02:00:00:00:00:77", "dev", "hole")
    endpoint = Endpoint(host="192.0.2.77")
    time_out(kmsg, endpoint, "an address that swallows everything")
    run_program("ip", "link", "delete", "hole")


def one_too_many(kmsg):
    """qemu-nbd for one client accepts a second connection and never greets it."""
    with QemuNbd(Store("single", 1 << 20), shared=1) as server:
        time_out(kmsg, server.endpoint, "qemu-nbd -e 1 with two channels", server.export)


def while_waiting(bystander):
    """While a connect waits, the status can be read and other devices used and commanded; a signal ends the wait."""

    def meanwhile():
        check.until(lambda: server.talks, 10, "the connection comes")
        with check.within(5, "status and another device while a connect waits"):
            nbdinfo.text()
            nbdinfo.command("resync_max[z]=0", "timeout[d]=5", "reset[d]=1")
            bystander.check("while a connect waits")

    with Impostor(lambda talk: talk.hold()) as server:
        interrupted(server.endpoint, meanwhile, "a connect that waits for a greeting")


def unix_not_accepting():
    """The same where the connect itself waits, for room in the queue of a unix socket: no close would wake it up."""
    endpoint = Endpoint("unix")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(endpoint.address)
        listener.listen(0)
        first.connect(endpoint.address)
        interrupted(endpoint, lambda: None, "a connect that waits for room in a queue")


def interrupted(endpoint, meanwhile, what):
    """A connect that would take a minute, and does not when it gets a signal."""
    nbdinfo.command("connect_timeout[c]=60")
    line = f"connect[c]=0 {endpoint} name=x"
    writer = subprocess.Popen([sys.executable, "-c", f"open('{nbdinfo.PATH}', 'wb', 0).write(b'{line}')"], stderr=subprocess.PIPE)
    check.until(lambda: nbdinfo.status("c").channels, 10, f"a channel, {what}")
    meanwhile()
    check.equal(writer.poll(), None, f"whether the writer has ended, {what}")
    with check.within(5, what):
        writer.send_signal(signal.SIGINT)
        check.that(writer.wait(10) != 0, f"the writer was interrupted, {what}")
    writer.stderr.close()
    check.equal(nbdinfo.status("c").channels, [], f"channels after the interrupt, {what}")
    nbdinfo.command("reset[c]=1")
