# SPDX-License-Identifier: GPL-2.0
"""Which old writes and newer ones are made, and how a store tells what became of them.

Each old write has a region of its own. Newer writes, to three of the regions, go to the first half
of what the old one wrote. So the second half shows whether the old write was carried out at all, and the first half which of
the two was the last.
"""

from lib import check

COUNT = 24
HALF = COUNT // 2
# A server that is stopped gets the first ones only, one that is slow is late with the last ones, and what is held up by a cut
# network begins with the second half.
NEWER = (0, HALF, COUNT - 1)
LENGTHS = (8 << 10, 16 << 10, 64 << 10)
PITCH = 64 << 10
SIZE = PITCH * (COUNT + 1)
# The region behind the others is for the write of which only half is sent.
CUT_SHORT = COUNT

OLD, NEW = b"O", b"N"


def offset(number):
    """Where the region begins."""
    return number * PITCH


def length(number):
    """Bytes of its old write."""
    return LENGTHS[number % len(LENGTHS)]


def send_old(client, numbers):
    """Sends the old writes."""
    for number in numbers:
        client.write(number, offset(number), OLD * length(number))


def send_cut_short(client):
    """Sends a write without the second half of its data."""
    client.write(CUT_SHORT, offset(CUT_SHORT), OLD * LENGTHS[-1], send=LENGTHS[-1] // 2)


def write_newer(client):
    """Makes the newer writes, and waits until they are acknowledged."""
    for number in NEWER:
        client.write(number, offset(number), NEW * (length(number) // 2))
    cookies, _ = client.replies(60, len(NEWER))
    check.equal(sorted(cookies), sorted(NEWER), "newer writes that were acknowledged")
    check.equal(client.errors, 0, "newer writes that were refused")


class Look:
    """What a store holds at one moment."""

    def __init__(self, store):
        data = store.read(0, SIZE)
        self.carried_out, self.on_top, self.torn = set(), set(), set()
        for number in range(COUNT):
            start, half = offset(number), length(number) // 2
            first, second = data[start:start + half], data[start + half:start + 2 * half]
            if OLD in second:
                self.carried_out.add(number)
            if OLD in first and number in NEWER:
                self.on_top.add(number)
            if any(part.count(part[:1]) != half for part in (first, second)):
                self.torn.add(number)
        self.cut_short = OLD in data[offset(CUT_SHORT):]
