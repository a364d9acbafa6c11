# SPDX-License-Identifier: GPL-2.0
"""enbdctl, the program, and what it keeps."""

import shutil
import subprocess

from lib import check
from lib.program import attempt

ETC, VAR, RUN = "/etc/enbd", "/var/lib/enbd", "/run/enbd"
OK, DEGRADED, HELD, NOT_THERE, USAGE, REFUSED = range(6)


def forget():
    """Removes what enbdctl keeps."""
    for directory in (ETC, VAR, RUN):
        shutil.rmtree(directory, ignore_errors=True)


def ctl(*words, status=OK, says=""):
    """Runs it; checks how it ends, and that it says something."""
    words = words[0].split() if len(words) == 1 else words
    result = attempt("enbdctl", *words)
    said = result.stdout + result.stderr
    check.equal(result.returncode, status, f"exit status of enbdctl {' '.join(words)} ({said.strip()})")
    check.that(says in said, f"enbdctl {' '.join(words)} says {says!r}, not {said!r}")
    return result.stdout


def up_that_waits(servers, limit_s):
    """Has it wait for servers that are not there, and starts them meanwhile."""
    waiting = subprocess.Popen(["enbdctl", "up", "data", "--wait", "120"], stderr=subprocess.DEVNULL)
    for server in servers:
        server.start()
    check.equal(waiting.wait(limit_s), OK, "exit status of up that waited")


def two_ups(limit_s):
    """Two at once, which both succeed."""
    both = [subprocess.Popen(["enbdctl", "up", "data"], stderr=subprocess.DEVNULL) for _ in range(2)]
    check.equal([one.wait(limit_s) for one in both], [OK, OK], "exit statuses")
