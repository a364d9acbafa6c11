# SPDX-License-Identifier: GPL-2.0
"""A command that has to be refused, and what else has to be so afterwards."""

import re

from lib import check, nbdinfo


def snapshot():
    """The status of all devices, without what changes by itself or is to change: times, errors and who was active last."""
    lines = [line for line in nbdinfo.text().splitlines() if not re.match(r"\[.\] Error:", line)]
    text = "\n".join(lines).replace("(*)", "(+)")
    return re.sub(r", (up|down) \d+s", r", \1", re.sub(r"last error \d+", "", text))


class Refusals:
    """Writes what has to be refused, and checks each time: the errno, one line in the log, the last error in the status of
    `letter` where it is told of, and that nothing else has changed."""

    def __init__(self, kmsg, letter="a"):
        self.kmsg, self.letter = kmsg, letter

    def expect(self, data, number, what=None, *, told=True, phrase=r"refused"):
        """Expects that these bytes, or this line, are refused with the errno."""
        what = what or repr(data)
        if isinstance(data, str):
            data = data.encode() + b"\n"
        before, errors = snapshot(), self._last_error()
        self.kmsg.forget()
        with check.refused(number, what):
            nbdinfo.raw(data)
        lines = self.kmsg.lines("enbd: .*" + phrase)
        check.equal(len(lines), 1, f"lines of the log on {what}: {lines}; number")
        check.that(all(32 <= ord(one) < 127 for one in lines[0]), f"the line is printable: {lines[0]!r}, {what}")
        check.equal(snapshot(), before, f"status after {what}")
        if told:
            check.equal(self._last_error()[0], number, f"last error after {what}")
            check.that(self._last_error()[1], f"an Error line after {what}")
        else:
            check.equal(self._last_error(), errors, f"last error after {what}")

    def _last_error(self):
        status = nbdinfo.status(self.letter)
        return (status.last_error, status.error) if status else (None, None)
