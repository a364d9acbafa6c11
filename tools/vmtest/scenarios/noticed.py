# SPDX-License-Identifier: GPL-2.0
"""How often a server that has lost something is noticed when it comes back in a moment: each time, if all is lost, if the last
writes are, or if a quarter of the disk is on which a quarter of the known writes lies."""

import random

from lib import check
from lib.book import Book, spread
from lib.cases import case
from lib.kmsg import Kmsg
from lib.loss import emptied, quarter_emptied, rolled_back
from lib.mirror import MIB, Mirror
from lib.store import BLOCK

LIMIT_S = 180
SIZE = 4 * MIB
DRAWS = 4
PLACES = 32
BARRIER = 3
# The loss, and how many writes come just before it.
KINDS = ((emptied, 0), (rolled_back, 1), (rolled_back, 8), (quarter_emptied, 0))


def run():
    dice = random.Random(17)
    with Mirror(size=SIZE) as mirror, Kmsg() as kmsg:
        book = Book(mirror.disk)
        book.write(*spread(SIZE, PLACES))
        for lose, last in KINDS:
            with case(f"{lose.__name__}, {last} writes before", mirror.wait_in_sync):
                noticed = [draw(mirror, kmsg, book, lose, dice.sample(range(SIZE // BLOCK), last)) for _ in range(DRAWS)]
                check.that(all(noticed), f"the loss was noticed in each draw: {noticed}")
        book.verify("in the end")
        mirror.check_same()


def draw(mirror, kmsg, book, lose, last):
    """One loss, after which all is copied anew. Whether it was noticed."""
    server = mirror.servers[1]
    older = server.store.snapshot()
    book.write(*last)
    kmsg.forget()
    server.kill()
    mirror.wait_until(lambda s: not any(c.is_up for c in s.of_group(1)), 20, "the channels are down")
    lose(server.store, older)
    server.start()
    # Ends when the group has taken it, or is out.
    book.write(BARRIER)
    noticed = mirror.status().mark(1) == "F"
    if noticed:
        check.that(kmsg.lines(r"\[a\] group 1 is faulty: clean blocks differ"), "the log says what was noticed")
    else:
        mirror.command("setfaulty=1")
    mirror.wait_until(lambda s: all(c.is_up for c in s.channels), 60, "the channels are back")
    mirror.hotadd(1, " full")
    mirror.wait_in_sync(60)
    return noticed
