# SPDX-License-Identifier: GPL-2.0
"""Servers that go wrong before the export is open, in every way that there is: each connect fails in bounded time with the
errno that fits, one line of the log names device, group, channel and reason, and other devices go on."""

import os
import struct

from lib import check, nbd, nbdinfo
from lib.bystander import Bystander
from lib.cases import case
from lib.endpoint import Endpoint
from lib.impostor import Impostor
from lib.kmsg import Kmsg

LIMIT_S = 240
ENOENT, EIO, EACCES, EINVAL, EFBIG, EPROTO, EMSGSIZE = 2, 5, 13, 22, 27, 71, 90
EPROTONOSUPPORT, EOPNOTSUPP, ECONNRESET, ESHUTDOWN, ETIMEDOUT, ECONNREFUSED = 93, 95, 104, 108, 110, 111


def says(data):
    """A server that says this at once, and then nothing."""
    return lambda talk: (talk.send(data), talk.swallow())


def answers(*replies):
    """A server that answers the option with these calls."""

    def script(talk):
        talk.to_option()
        for name, *words in replies:
            getattr(talk, name)(*words)
        talk.swallow()

    return script


def refuses(kind):
    """A server that refuses the option, with words for a human."""
    return answers(("reply", kind, b"\x1b[2Jgo away\n"))


GREETING = nbd.INIT_MAGIC + nbd.OPTION_MAGIC + b"\0\3"
INFO = struct.pack(">HQH", nbd.INFO_EXPORT, 4 << 20, nbd.ALL_FLAGS)

# What the server does, the errno, and what the log says.
CASES = (
    ("random bytes", says(os.urandom(64)), EPROTO, "not an NBD server"),
    ("HTTP", says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), EPROTO, "not an NBD server"),
    ("oldstyle", says(nbd.INIT_MAGIC + nbd.OLDSTYLE_MAGIC + struct.pack(">QI124x", 4 << 20, 1)), EPROTONOSUPPORT, "oldstyle"),
    ("an unknown second magic", says(nbd.INIT_MAGIC + b"IHAVEOPS\0\3"), EPROTO, "second magic"),
    ("newstyle that is not fixed", says(nbd.INIT_MAGIC + nbd.OPTION_MAGIC + b"\0\0"), EPROTONOSUPPORT, "fixed newstyle"),
    ("an unknown export", refuses(nbd.ERR_UNKNOWN), ENOENT, "unknown export"),
    ("TLS required", refuses(nbd.ERR_TLS_REQD), EACCES, "TLS"),
    ("no GO", refuses(nbd.ERR_UNSUP), EPROTONOSUPPORT, "NBD_OPT_GO"),
    ("policy", refuses(nbd.ERR_POLICY), EACCES, "policy"),
    ("invalid", refuses(nbd.ERR_INVALID), EINVAL, "invalid"),
    ("platform", refuses(nbd.ERR_PLATFORM), EOPNOTSUPP, "platform"),
    ("shutting down", refuses(nbd.ERR_SHUTDOWN), ESHUTDOWN, "shutting down"),
    ("too big", refuses(nbd.ERR_TOO_BIG), EMSGSIZE, "too big"),
    ("block size required", refuses(nbd.ERR_BLOCK_SIZE_REQD), EPROTO, "block sizes"),
    ("an unknown refusal", refuses(nbd.ERR + 77), EIO, "unknown error"),
    ("a long refusal", answers(("reply", nbd.ERR_UNKNOWN, bytes(4096))), ENOENT, "unknown export"),
    ("a wrong reply magic", lambda t: (t.to_option(), t.reply(nbd.REP_ACK, magic=5), t.swallow()), EPROTO, "wrong magic"),
    ("a reply to another option", lambda t: (t.to_option(), t.reply(nbd.REP_ACK, option=3), t.swallow()), EPROTO, "not sent"),
    ("a reply of another kind", answers(("reply", nbd.REP_SERVER, b"")), EPROTO, "unexpected type"),
    ("an acknowledgement with data", answers(("info",), ("reply", nbd.REP_ACK, b"x")), EPROTO, "wrong length"),
    ("an export info cut short", answers(("reply", nbd.REP_INFO, INFO[:-1]), ("reply", nbd.REP_ACK)), EPROTO, "wrong length"),
    ("a reply of 2 GiB", lambda t: (t.to_option(), t.reply(3, length=2 << 30), t.swallow()), EPROTO, "too long"),
    ("replies without end", answers(*[("info",)] * 1000), EPROTO, "too many"),
    ("no export info", answers(("reply", nbd.REP_ACK)), EPROTO, "did not describe"),
    ("no flags", answers(("info", None, 0), ("reply", nbd.REP_ACK)), EPROTO, "NBD_FLAG_HAS_FLAGS"),
    ("size 0", answers(("info", 0), ("reply", nbd.REP_ACK)), EINVAL, "empty"),
    ("a size of less than a sector", answers(("info", 511), ("reply", nbd.REP_ACK)), EINVAL, "smaller than a block"),
    ("a size with the highest bit", answers(("info", 1 << 63), ("reply", nbd.REP_ACK)), EFBIG, "too large"),
    ("a size of half a block more", answers(("info", (4 << 20) + 2048), ("reply", nbd.REP_ACK)), EINVAL, "not a multiple"),
    ("a size of a byte more", answers(("info", (4 << 20) + 1), ("reply", nbd.REP_ACK)), EINVAL, "not a multiple"),
    ("block sizes upside down", answers(("info",), ("block_sizes", (4096, 512, 4096)), ("reply", 1)), EPROTO, "block sizes"),
    ("no power of two", answers(("info",), ("block_sizes", (1000, 4096, 65536)), ("reply", 1)), EPROTO, "block sizes"),
    ("a reset", lambda talk: talk.abort(), ECONNRESET, "closed|reset"),
    ("a reset after the greeting", lambda talk: (talk.to_option(), talk.abort()), ECONNRESET, "closed|reset"),
)


def whole():
    """All that a good server says until the export is open."""
    replies = struct.pack(">QIII", nbd.REPLY_MAGIC, nbd.OPT_GO, nbd.REP_INFO, len(INFO)) + INFO
    replies += struct.pack(">QIII", nbd.REPLY_MAGIC, nbd.OPT_GO, nbd.REP_ACK, 0)
    return GREETING, replies


def run():
    with Bystander() as bystander, Kmsg() as kmsg:
        for what, script, number, phrase in CASES:
            with case(what, forget_device):
                meet(kmsg, Impostor(script), number, phrase, what)
        bystander.check("after servers that misbehaved")
        with case("a cut after each number of bytes", forget_device):
            cut_everywhere(kmsg)
        with case("garbage from each byte on", forget_device):
            garbage_everywhere(kmsg)
        nobody(kmsg)
        bystander.check("after all of them")


def forget_device():
    """After a case that went wrong: there is no device a."""
    if nbdinfo.status():
        nbdinfo.command("reset[a]=1")


def meet(kmsg, server, number, phrase, what, channels=1, seconds=5):
    """Connects to the server, which has to fail."""
    kmsg.forget()
    with server, check.within(seconds, what), check.refused(number, what):
        nbdinfo.command(f"connect[a]=3 {server.endpoint} name=x channels={channels}")
    where = rf"\[a\] group 3 channel \d+ \(tcp {server.endpoint} x\): .*({phrase})"
    lines = kmsg.lines(where)
    check.equal(len(lines), channels, f"lines of the log that name channel and reason, {what}: {kmsg.lines()}; number")
    check.that(all(" " <= one <= "~" for line in kmsg.lines() for one in line), f"the log is printable, {what}")
    check.that(nbdinfo.status() is None, f"no device is left, {what}")


def cut_everywhere(kmsg):
    """The connection ends after each number of bytes, in order."""
    greeting, replies = whole()
    for length in (*range(0, len(greeting)), *range(len(greeting), len(greeting) + len(replies), 7)):

        def script(talk, length=length):
            talk.send(greeting[:length])
            if length >= len(greeting):
                talk.option()
                talk.send(replies[:length - len(greeting)])
            talk.sock.shutdown(1)
            talk.swallow()

        meet(kmsg, Impostor(script), ECONNRESET, "closed|reset", f"a cut after {length} bytes")


def garbage_everywhere(kmsg):
    """From some byte on it is garbage. Whatever is made of it, it ends, and the kernel survives."""
    greeting, replies = whole()
    for seed in range(40):
        position = seed * (len(greeting) + len(replies)) // 40
        good, rest = (greeting + replies)[:position], os.urandom(512)

        def script(talk, good=good, rest=rest):
            talk.send(good[:len(greeting)])
            if len(good) >= len(greeting):
                talk.option()
            talk.send(good[len(greeting):] + rest)
            talk.close()

        with Impostor(script) as server, check.within(5, f"garbage after {position} bytes"):
            try:
                nbdinfo.command("connect_timeout[a]=1", f"connect[a]=3 {server.endpoint} name=x", "reset[a]=1")
            except OSError:
                check.equal(len(kmsg.lines(rf"group 3 channel 0 \(tcp {server.endpoint} x\)")), 1, "lines of the log on garbage")
                nbdinfo.command("reset[a]=1")


def nobody(kmsg):
    """Where nobody listens."""
    for kind, number, phrase in (
        ("tcp4", ECONNREFUSED, "connection refused"),
        ("tcp6", ECONNREFUSED, "connection refused"),
        ("unix", ENOENT, "no such socket"),
    ):
        endpoint = Endpoint(kind)
        with case(f"nobody there, {kind}", forget_device):
            kmsg.forget()
            with check.within(5, f"nobody at {endpoint}"), check.refused(number, f"nobody at {endpoint}"):
                nbdinfo.command(f"connect[a]=0 {endpoint} name=x channels=2")
            lines = kmsg.lines(rf"\[a\] group 0 channel [01] \(.*{phrase}")
            check.between(len(lines), 1, 2, f"lines of the log, nobody at {endpoint}")
    with case("a file that is no socket", forget_device):
        with open("dead.sock", "wb"):
            pass
        with check.within(5, "a file that is no socket"), check.refused(ECONNREFUSED, "a file that is no socket"):
            nbdinfo.command(f"connect[a]=0 unix:{os.path.abspath('dead.sock')}")
    check.that(nbdinfo.status() is None, "no device is left")
