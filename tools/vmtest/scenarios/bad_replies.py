# SPDX-License-Identifier: GPL-2.0
"""Servers that go wrong while they serve: replies that are cut, garbage, unasked for, too long or never come. Whoever uses the
device sees none of it, since another group has the data; the log names device, group, channel and reason; the channel comes
back; in the end both groups hold the same."""

import os
import struct

from lib import check, nbd
from lib.cases import case
from lib.impostor import Impostor
from lib.kmsg import Kmsg
from lib.mirror import Mirror
from lib.server import Nbdkit
from lib.store import Store
from lib.trap import Trap

LIMIT_S = 300
KIB = 1024
SIZE = 1 << 20


def close_after(data_of):
    """Sends what `data_of` gives for a request, and closes."""

    def act(talk, request):
        talk.send(data_of(talk, request))
        talk.sock.shutdown(1)
        talk.swallow()

    return act


def header(request, error=0, magic=nbd.SIMPLE_REPLY_MAGIC, cookie=None):
    """A reply's header."""
    return nbd.SIMPLE_REPLY.pack(magic, error, request.cookie if cookie is None else cookie)


def half_the_data(talk, request):
    """A reply to a read up to the middle of its data."""
    return header(request) + talk.carry_out(request)[:request.length // 2]


def too_long(talk, request):
    """More data than was asked for."""
    talk.send(header(request) + talk.carry_out(request) + bytes(4096))
    talk.swallow()


def twice(talk, request):
    """The same reply once more."""
    talk.answer(request)
    talk.answer(request)
    talk.swallow()


def structured(talk, request):
    """A reply of a form that was not agreed on."""
    talk.send(struct.pack(">IHHQI", 0x668E33EF, 1, 0, request.cookie, 0))
    talk.swallow()


def garbage(talk, request):
    """Random bytes in place of a reply."""
    del request
    talk.send(os.urandom(4096))
    talk.swallow()


def unknown_cookie(talk, request):
    """A reply to a request that nobody made."""
    talk.send(header(request, cookie=request.cookie ^ 0x5555))
    talk.swallow()


def silence(talk, request):
    """No reply, ever."""
    del request
    talk.swallow()


def shutting_down(talk, request):
    """An error that says that no request will be served any more."""
    talk.answer(request, nbd.ESHUTDOWN)
    talk.swallow()


def only_half(talk, request):
    """Half a header, and silence."""
    talk.send(header(request)[:8])
    talk.swallow()


# The command that meets it, what is done, and what the log says.
CASES = (
    (nbd.READ, "a cut in a reply's header", close_after(lambda talk, request: header(request)[:7]), "middle of a message"),
    (nbd.WRITE, "a cut in a reply's header", close_after(lambda talk, request: header(request)[:7]), "middle of a message"),
    (nbd.READ, "a cut before the data", close_after(lambda talk, request: header(request)), "middle of a message"),
    (nbd.READ, "a cut in the data", close_after(half_the_data), "middle of a message"),
    (nbd.READ, "the end instead of a reply", close_after(lambda talk, request: b""), "closed the connection"),
    (nbd.WRITE, "the end instead of a reply", close_after(lambda talk, request: b""), "closed the connection"),
    (nbd.FLUSH, "the end instead of a reply", close_after(lambda talk, request: b""), "closed the connection"),
    (nbd.WRITE, "a reset", lambda talk, request: talk.abort(), "reset|closed"),
    (nbd.READ, "a reset", lambda talk, request: talk.abort(), "reset|closed"),
    (nbd.READ, "garbage", garbage, "wrong magic"),
    (nbd.WRITE, "garbage", garbage, "wrong magic"),
    (nbd.WRITE, "an unknown cookie", unknown_cookie, "not asked"),
    (nbd.READ, "an unknown cookie", unknown_cookie, "not asked"),
    (nbd.READ, "more than was asked for", too_long, "wrong magic"),
    (nbd.WRITE, "the same reply twice", twice, "not asked"),
    (nbd.WRITE, "a structured reply", structured, "structured"),
    (nbd.READ, "silence", silence, "not answered in time"),
    (nbd.WRITE, "silence", silence, "not answered in time"),
    (nbd.FLUSH, "silence", silence, "not answered in time"),
    (nbd.READ, "the end announced", shutting_down, "shutting down"),
    (nbd.WRITE, "the end announced", shutting_down, "shutting down"),
    (nbd.READ, "half a header and silence", only_half, "not answered in time"),
)


def run():
    trap = Trap()
    with Impostor(trap, size=SIZE) as impostor:
        kinds = [lambda store: impostor, Nbdkit]
        with Mirror(kinds=kinds, size=SIZE, settings=["timeout=2", "connect_timeout=5"]) as mirror, Kmsg() as kmsg:
            impostor.store = Store("of-impostor", SIZE)
            for command, what, act, phrase in CASES:
                what = f"{what}, {nbd.NAMES[command]}"
                with case(what, lambda: mend(mirror, trap)):
                    meet(mirror, kmsg, trap, command, what, act, phrase)
            mirror.disable()
            store = mirror.servers[1].store.read(0, SIZE)
            check.that(store == bytes(impostor.data), "both groups hold the same in the end")


def end_silence(mirror):
    """A write that is never answered may still be carried out: the group is kept away until its connection ends."""
    mirror.wait_until(lambda s: s.mark(0) == "F", 10, "the group is faulted")
    end_talks(mirror.servers[0])


def end_talks(impostor):
    """Ends all of its connections."""
    with impostor.changed:
        talks = list(impostor.talks)
    for talk in talks:
        talk.shutdown()


def mend(mirror, trap):
    """After a case that went wrong: an honest server, and new connections to it."""
    trap.set(None, None)
    end_talks(mirror.servers[0])
    wait_well(mirror, "after a case that failed")


def wait_well(mirror, what):
    """Waits until nothing is marked and all channels are up."""
    mirror.wait_until(lambda s: s.is_clean() and all(c.is_up for c in s.channels), 40, f"all is well again, {what}")


def meet(mirror, kmsg, trap, command, what, act, phrase):
    """Uses the device until the trap has closed, and sees to it that all becomes good again."""
    kmsg.forget()
    data = os.urandom(128 * KIB)
    mirror.disk.write(256 * KIB, data)
    trap.set(command, act)
    with mirror.disk.open() as disk:

        def use():
            with check.within(15, f"I/O through {what}"):
                disk.write(384 * KIB, data)
                check.that(disk.read(256 * KIB, 128 * KIB) == data, f"data read, {what}")
                check.that(disk.read(384 * KIB, 128 * KIB) == data, f"data written, {what}")
                disk.flush()

        trap.spring(use, what)
    kmsg.wait_for(rf"\[a\] group 0 channel [01] \(tcp .* impostor\): .*({phrase})", 10)
    if act is silence and command == nbd.WRITE:
        end_silence(mirror)
    wait_well(mirror, what)
