# SPDX-License-Identifier: GPL-2.0
"""Every command needs CAP_SYS_ADMIN: without it, root or not, in a user namespace of one's own or not, the write fails, and
nothing is changed or told."""

from lib import check, nbdinfo
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

EPERM, EACCES = 1, 13


def run():
    with Mirror() as mirror, Kmsg() as kmsg:
        before = snapshot()
        for number, *words in (
            (EPERM, "setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"),
            (EPERM, "unshare", "--user", "--map-root-user"),
            (EACCES, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"),
        ):
            what = " ".join(words)
            result = attempt(*words, "python3", "-c", WRITER, nbdinfo.PATH, *LINES)
            check.equal(result.returncode, 0, f"{what}: {result.stderr}")
            check.equal([int(word) for word in result.stdout.split()], [number] * len(LINES), f"errnos, {what}")
            check.equal(snapshot(), before, f"status, {what}")
            check.equal(mirror.status().last_error, 0, f"last error, {what}")
            check.equal(kmsg.lines("enbd:"), [], f"lines of the log, {what}")
        mirror.disk.write(0, b"p" * 65536)
        mirror.check_same()
