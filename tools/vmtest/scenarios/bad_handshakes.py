# SPDX-License-Identifier: GPL-2.0
"""Servers that go wrong before the export is open, in every way that there is, and lie in each field that they send: each
connect fails in bounded time with the errno that fits, one line of the log names device, group, channel and reason, and other
devices go on. What the protocol has a client overlook is overlooked."""

import os
import struct

from lib import check, nbd, nbdinfo
from lib.bystander import Bystander
from lib.cases import case
from lib.disk import Disk
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


def replies(*words, **lies):
    """A server whose only reply lies."""
    return lambda talk: (talk.to_option(), talk.reply(*words, **lies), talk.swallow())


def a_byte_short(talk):
    """A server that sends a byte more of some information than it has said, and goes on."""
    talk.to_option()
    talk.reply(nbd.REP_INFO, b"\0\x77" + bytes(40), length=41)
    talk.reply(nbd.REP_ACK)
    talk.swallow()


def sizes(*blocks, size=None):
    """A server that states these block sizes."""
    return answers(("info", size), ("block_sizes", blocks), ("reply", nbd.REP_ACK))


GREETING = nbd.INIT_MAGIC + nbd.OPTION_MAGIC + b"\0\3"
INFO = struct.pack(">HQH", nbd.INFO_EXPORT, 4 << 20, nbd.ALL_FLAGS)
BLOCKS = struct.pack(">HIII", nbd.INFO_BLOCK_SIZE, 1, 4096, 32 << 20)

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
    ("extended headers required", refuses(nbd.ERR_EXT_HEADER), EPROTONOSUPPORT, "extended headers"),
    ("an unknown refusal", refuses(nbd.ERR + 77), EIO, "unknown error"),
    ("a refusal without a number", refuses(nbd.ERR), EIO, "unknown error"),
    ("a long refusal", answers(("reply", nbd.ERR_UNKNOWN, bytes(4096))), ENOENT, "unknown export"),
    ("a refusal of 2 GiB", replies(nbd.ERR_UNKNOWN, length=2 << 30), ENOENT, "unknown export"),
    ("a wrong reply magic", replies(nbd.REP_ACK, magic=5), EPROTO, "wrong magic"),
    ("the magic of later replies", replies(nbd.REP_ACK, magic=nbd.SIMPLE_REPLY_MAGIC << 32), EPROTO, "wrong magic"),
    ("a reply to another option", replies(nbd.REP_ACK, option=3), EPROTO, "not sent"),
    ("a reply to no option", replies(nbd.REP_ACK, option=0), EPROTO, "not sent"),
    ("a reply of another kind", answers(("reply", nbd.REP_SERVER, b"")), EPROTO, "unexpected type"),
    ("a reply of kind 0", replies(0), EPROTO, "unexpected type"),
    ("a reply of a kind nobody knows", replies(nbd.ERR - 1), EPROTO, "unexpected type"),
    ("an acknowledgement with data", answers(("info",), ("reply", nbd.REP_ACK, b"x")), EPROTO, "wrong length"),
    ("an export info cut short", answers(("reply", nbd.REP_INFO, INFO[:-1]), ("reply", nbd.REP_ACK)), EPROTO, "wrong length"),
    ("an export info that is too long", answers(("reply", nbd.REP_INFO, INFO + b"\0")), EPROTO, "wrong length"),
    ("block sizes cut short", answers(("info",), ("reply", nbd.REP_INFO, BLOCKS[:-4])), EPROTO, "wrong length"),
    ("information without a type", answers(("reply", nbd.REP_INFO, b"\0")), EPROTO, "wrong length"),
    ("information that is nothing", answers(("reply", nbd.REP_INFO)), EPROTO, "wrong length"),
    ("a length that is a byte short", a_byte_short, EPROTO, "wrong magic"),
    ("an end within the next reply", answers(("reply", nbd.REP_INFO, INFO), ("send", bytes(20))), EPROTO, "wrong magic"),
    ("a reply of 2 GiB", replies(nbd.REP_INFO, length=2 << 30), EPROTO, "too long"),
    ("a reply of 4 GiB", replies(nbd.REP_INFO, length=(4 << 30) - 1), EPROTO, "too long"),
    ("replies without end", answers(*[("info",)] * 1000), EPROTO, "too many"),
    ("no export info", answers(("reply", nbd.REP_ACK)), EPROTO, "did not describe"),
    ("only block sizes", answers(("block_sizes",), ("reply", nbd.REP_ACK)), EPROTO, "did not describe"),
    ("no flags", answers(("info", None, 0), ("reply", nbd.REP_ACK)), EPROTO, "NBD_FLAG_HAS_FLAGS"),
    ("all flags but the one", answers(("info", None, 0xFFFE), ("reply", nbd.REP_ACK)), EPROTO, "NBD_FLAG_HAS_FLAGS"),
    ("size 0", answers(("info", 0), ("reply", nbd.REP_ACK)), EINVAL, "empty"),
    ("a size of less than a sector", answers(("info", 511), ("reply", nbd.REP_ACK)), EINVAL, "smaller than a block"),
    ("a size with the highest bit", answers(("info", 1 << 63), ("reply", nbd.REP_ACK)), EFBIG, "too large"),
    ("a size of all ones", answers(("info", (1 << 64) - 1), ("reply", nbd.REP_ACK)), EFBIG, "too large"),
    ("the largest size that can be counted", answers(("info", (1 << 63) - 1), ("reply", nbd.REP_ACK)), EINVAL, "not a multiple"),
    ("a size of half a block more", answers(("info", (4 << 20) + 2048), ("reply", nbd.REP_ACK)), EINVAL, "not a multiple"),
    ("a size of a byte more", answers(("info", (4 << 20) + 1), ("reply", nbd.REP_ACK)), EINVAL, "not a multiple"),
    ("block sizes upside down", sizes(4096, 512, 4096), EPROTO, "block sizes"),
    ("no power of two", sizes(1000, 4096, 65536), EPROTO, "block sizes"),
    ("a least block of 0", sizes(0, 4096, 65536), EPROTO, "block sizes"),
    ("a least block of 128 KiB", sizes(128 << 10, 128 << 10, 32 << 20), EPROTO, "block sizes"),
    ("a least block beyond the export", sizes(65536, 65536, 32 << 20, size=32768), EINVAL, "smaller than a block"),
    ("a preferred block of 0", sizes(1, 0, 65536), EPROTO, "block sizes"),
    ("a preferred block of less than a sector", sizes(1, 256, 65536), EPROTO, "block sizes"),
    ("a preferred block that is no power of two", sizes(1, 5000, 65536), EPROTO, "block sizes"),
    ("a largest block of 0", sizes(1, 4096, 0), EPROTO, "block sizes"),
    ("a largest block below the preferred one", sizes(1, 8192, 4096), EPROTO, "block sizes"),
    ("a largest block that is not whole blocks", sizes(4096, 4096, 6000), EPROTO, "block sizes"),
    ("a reset", lambda talk: talk.abort(), ECONNRESET, "closed|reset"),
    ("a reset after the greeting", lambda talk: (talk.to_option(), talk.abort()), ECONNRESET, "closed|reset"),
)


def opens(*replies, flags=nbd.FIXED_NEWSTYLE):
    """A server that greets with these flags, answers the option with these calls, and goes on as a good one."""

    def script(talk):
        talk.greet(flags)
        talk.option()
        for name, *words in (*replies, ("reply", nbd.REP_ACK)):
            getattr(talk, name)(*words)
        talk.serve()

    return script


# What the server says that a client has to overlook. The size is 4 MiB nevertheless.
OVERLOOKED = (
    ("all handshake flags", opens(("info",), flags=0xFFFF)),
    ("all transmission flags but read-only", opens(("info", None, 0xFFFF & ~nbd.READ_ONLY))),
    ("information nobody knows", opens(("reply", nbd.REP_INFO, b"\x77\x77" + bytes(5000)), ("info",))),
    ("information nobody knows, empty", opens(("info",), ("reply", nbd.REP_INFO, b"\x77\x77"))),
    ("a name and a description", opens(("reply", nbd.REP_INFO, b"\0\1\x1b[2J"), ("reply", nbd.REP_INFO, b"\0\2\n\n"), ("info",))),
    ("two sizes, of which the last counts", opens(("info", 512, 1), ("info",))),
    ("a lie about blocks, and the truth", opens(("block_sizes", (3, 2, 1)), ("info",), ("block_sizes",))),
    ("a largest block of all ones", opens(("info",), ("block_sizes", (1, 4096, (1 << 32) - 1)))),
    ("a preferred block of 2 GiB", opens(("info",), ("block_sizes", (1, 1 << 31, (1 << 32) - 1)))),
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
        for what, script in OVERLOOKED:
            with case(what, forget_device):
                overlook(Impostor(script), what)
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


def overlook(server, what):
    """Connects to the server, which has to work."""
    with server, check.within(10, what):
        nbdinfo.command(f"connect[a]=3 {server.endpoint} name=x", "enable[a]=1")
        now = nbdinfo.status()
        check.equal((now.size_kb, now.read_only), (4 << 10, False), f"size in KiB, and read-only, {what}")
        with Disk("a").open() as disk:
            disk.write(1 << 20, b"x" * 65536)
            check.that(disk.read(1 << 20, 65536) == b"x" * 65536, f"data through it, {what}")
        nbdinfo.command("enable[a]=0", "reset[a]=1")


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
