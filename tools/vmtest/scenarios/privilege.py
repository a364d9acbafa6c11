# SPDX-License-Identifier: GPL-2.0
"""Every command needs CAP_SYS_ADMIN: without it, root or not, in a user namespace of one's own or not, the write fails, and
nothing is changed or told. Whoever has opened the file needs it as well, and to see where the servers are."""

import contextlib
import os
import socket
import subprocess

from lib import check, nbdinfo
from lib.cases import case
from lib.kmsg import Kmsg
from lib.mirror import Mirror
from lib.program import attempt
from lib.refusal import snapshot

LINES = (
    "connect[a]=1 127.0.0.1:9", "disconnect[a]=1", "enable[a]=0", "enable[a]=1", "setfaulty[a]=1", "hotadd[a]=1", "hotremove[a]=1",
    "blocksize[a]=512", "timeout[a]=1", "connect_timeout[a]=1", "show_errs[a]=1", "autoadd[a]=0", "resync_min[a]=1",
    "resync_max[a]=1", "reset[a]=1", "timeout[b]=1", "garbage", "x" * 5000,
)

# Writes each line on its own, and prints the errno of each.
WRITER = """
import os, sys
for line in sys.argv[2:]:
    try:
        fd = os.open(sys.argv[1], os.O_WRONLY)
        os.write(fd, line.encode())
        print(0)
    except OSError as error:
        print(error.errno)
"""

# Opens the file, and sends it away.
OPENER = """
import os, socket, sys
fd = os.open(sys.argv[1], os.O_RDWR)
socket.send_fds(socket.socket(fileno=int(sys.argv[2])), [b"f"], [fd])
"""

EPERM, EACCES = 1, 13

# Root, but not the administrator.
NO_ADMINS = (
    ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"),
    ("unshare", "--user", "--map-root-user"),
)


def run():
    with Mirror() as mirror, Kmsg() as kmsg:
        # The last request of those who look at a new disk may just have ended.
        mirror.wait_until(lambda s: (s.pending, s.queued_current) == (0, 0), 30, "nothing is on its way")
        before = snapshot()
        for number, *words in (
            *((EPERM, *words) for words in NO_ADMINS),
            (EACCES, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"),
        ):
            what = " ".join(words)
            with case(what):
                result = attempt(*words, "python3", "-c", WRITER, nbdinfo.PATH, *LINES)
                check.equal(result.returncode, 0, f"{what}: {result.stderr}")
                check.equal([int(word) for word in result.stdout.split()], [number] * len(LINES), f"errnos, {what}")
                check.equal(snapshot(), before, f"status, {what}")
                check.equal(mirror.status().last_error, 0, f"last error, {what}")
                check.equal(kmsg.lines("enbd:"), [], f"lines of the log, {what}")
        for words in NO_ADMINS:
            with case("a file passed on, " + " ".join(words)):
                opened_by_others(words, before)
                written_by_others(words, before)
        check.equal(kmsg.lines("enbd:"), [], "lines of the log, files that were passed on")
        opened_by_root(mirror)
        mirror.disk.write(0, b"p" * 65536)
        mirror.check_same()


@contextlib.contextmanager
def opened_by(*words):
    """The file, opened by a program that these words start."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        argv = [*words, "python3", "-c", OPENER, nbdinfo.PATH, str(theirs.fileno())]
        subprocess.run(argv, pass_fds=[theirs.fileno()], timeout=60, check=True)
        _, (fd,), _, _ = socket.recv_fds(ours, 1, 1)
    try:
        yield fd
    finally:
        os.close(fd)


def read_all(fd):
    """All of the file, from its beginning."""
    os.lseek(fd, 0, os.SEEK_SET)
    return b"".join(iter(lambda: os.read(fd, 65536), b"")).decode()


def places(text):
    """The addresses and exports of all channels."""
    channels = [nbdinfo.Channel(line.split("\t", 1)[1]) for line in text.splitlines() if "] Channel:" in line]
    return {(channel.addr, channel.name) for channel in channels}


def opened_by_others(words, before):
    """What the administrator writes to a file that somebody else has opened is refused; read, it shows what that one may see."""
    what = "opened by " + " ".join(words)
    with opened_by(*words) as fd:
        for line in LINES:
            with check.refused(EPERM, f"{line[:40]}, {what}"):
                os.write(fd, line.encode())
        check.equal(places(read_all(fd)), {("-", "-")}, f"places, {what}")
    check.equal(snapshot(), before, f"status, {what}")


def written_by_others(words, before):
    """What somebody else writes to a file that the administrator has opened is refused."""
    what = "written by " + " ".join(words)
    with opened_by() as fd:
        argv = [*words, "python3", "-c", "import os; os.write(1, b'timeout[b]=1')"]
        result = subprocess.run(argv, stdout=fd, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    check.that(result.returncode == 1 and "PermissionError: [Errno 1]" in result.stderr, f"refused, {what}: {result.stderr}")
    check.equal(snapshot(), before, f"status, {what}")


def opened_by_root(mirror):
    """A file that was passed on works if nobody lacks the capability."""
    shown = {(server.endpoint.shown, server.export) for server in mirror.servers}
    with opened_by() as fd:
        os.write(fd, b"timeout[a]=30")
        check.equal(places(read_all(fd)), shown, "places, opened by root")
