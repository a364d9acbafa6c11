# SPDX-License-Identifier: GPL-2.0
"""Servers that go wrong while they serve: replies that are cut, garbage, unasked for, too long or never come, and that lie in
each of their fields. Whoever uses the device sees none of it, since another group has the data; the log names device, group,
channel and reason; the channel comes back; in the end both groups hold the same."""

import os
import re
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
# A cookie is the number of a slot, and above that how often it was used.
SLOT_USE, NO_SLOT = 1 << 32, 0xFFFF


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
    talk.send(struct.pack(">IHHQI", nbd.STRUCTURED_REPLY_MAGIC, 1, 0, request.cookie, 0))
    talk.swallow()


def with_magic(magic):
    """A reply with another magic."""

    def act(talk, request):
        talk.answer(request, magic=magic)
        talk.swallow()

    return act


def with_cookie(change):
    """A reply with a cookie that is not quite that of the request."""

    def act(talk, request):
        talk.send(header(request, cookie=change(request.cookie)))
        talk.swallow()

    return act


def elsewhere(talk, request):
    """A reply on another connection of the group, and then where it belongs."""
    with talk.server.changed:
        others = [other for other in talk.server.talks if other is not talk and other.sock.fileno() >= 0]
    others[-1].answer(request)
    talk.answer(request)


def refused_with_data(talk, request):
    """An error, and data behind it as if there was none."""
    talk.send(header(request, error=nbd.EIO) + talk.carry_out(request))
    talk.swallow()


def data_unasked(talk, request):
    """Data where there is none."""
    talk.answer(request)
    talk.send(bytes(request.length))
    talk.swallow()


def half_and_silence(talk, request):
    """Half of the data, and silence."""
    talk.send(half_the_data(talk, request))
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
    (nbd.READ, "the magic of a request", with_magic(nbd.REQUEST_MAGIC), "wrong magic"),
    (nbd.WRITE, "the magic of extended headers", with_magic(nbd.EXTENDED_REPLY_MAGIC), "wrong magic"),
    (nbd.WRITE, "the cookie of an earlier use of its slot", with_cookie(lambda cookie: cookie - SLOT_USE), "not asked"),
    (nbd.READ, "the cookie of a later use of its slot", with_cookie(lambda cookie: cookie + SLOT_USE), "not asked"),
    (nbd.WRITE, "the cookie of a slot that there is not", with_cookie(lambda cookie: cookie | NO_SLOT), "not asked"),
    (nbd.FLUSH, "a cookie of all ones", with_cookie(lambda cookie: (1 << 64) - 1), "not asked"),
    (nbd.WRITE, "a reply on another connection", elsewhere, "not asked"),
    (nbd.READ, "a reply on another connection", elsewhere, "not asked"),
    (nbd.WRITE, "an unknown cookie", unknown_cookie, "not asked"),
    (nbd.READ, "an unknown cookie", unknown_cookie, "not asked"),
    (nbd.READ, "more than was asked for", too_long, "wrong magic"),
    (nbd.READ, "an error and data", refused_with_data, "wrong magic"),
    (nbd.WRITE, "data that nobody asked for", data_unasked, "wrong magic"),
    (nbd.READ, "half of the data and silence", half_and_silence, "not answered in time"),
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
                    meet(mirror, trap, command, what, act, phrase)
            for phrase in {phrase for *_, phrase in CASES}:
                # Each reason once a minute.
                lines = kmsg.lines(rf"\[a\] group 0 channel [01] \(tcp .* impostor\): .*({phrase})")
                check.that(lines, f"the log tells {phrase!r}")
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


def is_told(channel, phrase, before):
    """Whether the status says this of a channel that was lost since then."""
    was_lost = not channel.is_up or channel.reconnects > before[channel.index]
    return was_lost and re.search(phrase, channel.last_error or "")


def meet(mirror, trap, command, what, act, phrase):
    """Uses the device until the trap has closed, and sees to it that all becomes good again."""
    data = os.urandom(128 * KIB)
    mirror.disk.write(256 * KIB, data)
    before = {channel.index: channel.reconnects for channel in mirror.status().of_group(0)}
    trap.set(command, act)
    with mirror.disk.open() as disk:

        def use():
            with check.within(15, f"I/O through {what}"):
                disk.write(384 * KIB, data)
                check.that(disk.read(256 * KIB, 128 * KIB) == data, f"data read, {what}")
                check.that(disk.read(384 * KIB, 128 * KIB) == data, f"data written, {what}")
                disk.flush()

        trap.spring(use, what)
    mirror.wait_until(
        lambda s: any(is_told(channel, phrase, before) for channel in s.of_group(0)), 10, f"the status says why, {what}"
    )
    if act is silence and command == nbd.WRITE:
        end_silence(mirror)
    wait_well(mirror, what)
