# SPDX-License-Identifier: GPL-2.0
"""The cases of a scenario that tries many things: each is told in a line of its own, and one that fails need not end the rest.

The scenario's process says on its output when a case begins and how it ends; the runner reads that (`told`). So it is known, too,
in which case a scenario hangs.
"""

import contextlib
import re
import sys
import time
import traceback

from lib import check, module, nbdinfo
from lib.kmsg import Kmsg

# Longer names are cut.
NAME_MAX = 72
MARK = re.compile(r"^\+\+\+ (begin|pass|fail) (.*)\n", re.MULTILINE)

_counts = {"pass": 0, "fail": 0}


@contextlib.contextmanager
def case(name, mend=None):
    """One of the things that a scenario tries, under a name that says which. If it fails, `mend` is called, which makes all as it
    was before or fails; then the scenario goes on with what follows. Without `mend`, or if that fails, it ends there."""
    began = time.monotonic()
    with Kmsg() as kmsg:
        _tell("begin", _short(name))
        try:
            yield
        except Exception as error:
            traceback.print_exc(file=sys.stdout)
            print("--- /proc/nbdinfo\n" + nbdinfo.text() if module.is_loaded() else "--- enbd is not loaded")
            print("--- the kernel log since the case began\n" + "\n".join(kmsg.lines()))
            _tell("fail", reason_of(error))
            if mend is None:
                raise check.Failure(f"ended by the case {_short(name)}") from error
            try:
                mend()
            except Exception as worse:
                raise check.Failure(f"ended by the case {_short(name)}: not mended: {reason_of(worse)}") from worse
        else:
            _tell("pass", f"{time.monotonic() - began:.1f}")


def conclude():
    """Fails if a case has."""
    if _counts["fail"]:
        raise check.Failure(f"{_counts['fail']} of {sum(_counts.values())} cases failed")


def reason_of(error):
    """An exception in one line."""
    return f"{type(error).__name__}: {error}".replace("Failure: ", "", 1).split("\n", 1)[0]


def _tell(what, words):
    if what in _counts:
        _counts[what] += 1
    print(f"+++ {what} {words}", flush=True)


def _short(name):
    shown = name if name.isascii() and name.isprintable() else ascii(name)
    return shown if len(shown) <= NAME_MAX else shown[:NAME_MAX - 3] + "..."


class Told:
    """What became of a case: `seconds` if it passed, else a `reason` and `details`."""

    def __init__(self, name):
        self.name = name
        self.seconds = None
        self.reason, self.details = "not ended", ""


def told(text):
    """Takes a scenario's output apart: its cases, in order, and what was said outside of them."""
    cases, outside, at, current = [], [], 0, None
    for mark in MARK.finditer(text):
        between = text[at:mark.start()]
        at = mark.end()
        if current is None:
            outside.append(between)
        else:
            current.details += between
        if mark[1] == "begin":
            current = Told(mark[2])
            cases.append(current)
        elif current is not None:
            if mark[1] == "pass":
                current.seconds, current.reason = float(mark[2]), None
            else:
                current.reason = mark[2]
            current = None
    if current is None:
        outside.append(text[at:])
    else:
        current.details += text[at:]
    return cases, "".join(outside)
