# SPDX-License-Identifier: GPL-2.0
"""enbdctl, the program, and what it keeps."""

import shutil

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
