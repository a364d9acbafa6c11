# SPDX-License-Identifier: GPL-2.0
"""Where writes may be on their way is on the groups before the writes are, and after a crash only that is compared. It is taken
back where nobody writes any more, and what cannot be known is compared as a whole."""

import re

import intent
from lib import check
from lib.book import Book
from lib.cases import case
from lib.kmsg import Kmsg
from lib.memory import BLOCK, Remembering
from lib.mirror import MIB
from lib.store import check_same

LIMIT_S = 480
DEVICE = 64 * MIB
EQUAL = re.compile(r"(\d+) blocks were equal")
COPIED = re.compile(r"copied (\d+) blocks")
# Nothing is taken back unless a case says so.
SETTINGS = ("owner_check=0", "intent_idle=3600")


def run():
    with Remembering(size=DEVICE + MIB, settings=SETTINGS) as mirror:
        book = Book(mirror.disk)
        with case("a write waits for its mark, and later ones do not"):
            waits_once(mirror, book)
        with case("after a crash only what is marked is compared"):
            compared_where_marked(mirror, book)
        with case("a mark that is idle is taken back"):
            taken_back(mirror, book)
        with case("no more is marked than the administrator wants"):
            bounded(mirror, book)
        with case("a group that was away has the marks again"):
            joins(mirror, book)
        with case("the client ends while a group is away: that one gets what it missed"):
            away(mirror, book)
        with case("starts in between do not forget what a group that is away misses"):
            away_for_long(mirror, book)
        with case("a group whose pages are gone is compared as a whole"):
            without_pages(mirror, book)
        with case("a group that was set back is compared as a whole"):
            set_back(mirror, book)
        with case("who is to get all gets all, be the copying cut short"):
            cut_short(mirror, book)
        with case("without intent all is compared"):
            without_intent(mirror, book)


def waits_once(mirror, book):
    """The page is durable on both groups when the write ends."""
    wait_for_page(mirror)
    before = figures(mirror)
    book.write(*at(5))
    check.equal(marked(mirror), {5}, "the regions that are marked")
    once = figures(mirror)
    check.equal((once["regions"], once["waits"]), (1, before["waits"] + 1), "regions, and writes that waited")
    book.write(*at(5, block=7))
    check.equal(figures(mirror), once, "the figures after another write of the same region")


def compared_where_marked(mirror, book):
    """What differs there is mended; nothing else is read."""
    mirror.forget()
    mirror.stores[1].write(5 * MIB + 3 * BLOCK, b"torn" * (BLOCK // 4))
    check.between(crashed(mirror), MIB // BLOCK - 64, MIB // BLOCK - 1, "blocks that were compared and found equal")
    book.verify("after a crash")
    mirror.disable()
    check_same(mirror.stores, DEVICE)
    mirror.command("enable=1")


def taken_back(mirror, book):
    """Then a crash leaves nothing to be compared."""
    book.write(*at(9))
    mirror.command("intent_idle=1")
    check.until(lambda: marked(mirror) == set(), 60, "all marks to be taken back")
    check.equal(figures(mirror)["regions"], 0, "regions that are marked, by the status")
    mirror.command("intent_idle=3600")
    mirror.forget()
    check.equal(crashed(mirror), 0, "blocks that were compared and found equal")
    book.verify("after a crash with nothing marked")


def bounded(mirror, book):
    """What is not in use goes for what is."""
    mirror.command("intent_max=3")
    for region in range(20, 34, 2):
        book.write(*at(region))
        now = marked(mirror)
        check.that(region in now, f"region {region} is marked when its write has ended")
        check.that(len(now) <= 3, f"{len(now)} regions are marked, of 3 at most")
    mirror.command("intent_max=0")


def joins(mirror, book):
    """It has them before it is called in sync."""
    mirror.command("setfaulty=1")
    book.write(*at(50))
    mirror.hotadd(1)
    mirror.wait_in_sync()
    check.that(50 in marked(mirror), "what was written while the group was away is marked on both")


def away(mirror, book):
    """Nothing is taken back meanwhile, so the marks say what that is, after a crash and after an orderly end."""
    for region, end in ((55, mirror.forget), (57, mirror.disable)):
        mirror.command("setfaulty=1")
        book.write(*at(region))
        mirror.command("intent_idle=1")
        # Two looks for what is idle, at least.
        check.stays(lambda now=region: now in intent.newest(mirror.stores[0].path)["regions"], 4, "what the group misses is marked")
        end()
        mirror.forget()
        regions = len(intent.newest(mirror.stores[0].path)["regions"])
        check.equal(comes_back(mirror), regions * (MIB // BLOCK), "blocks that were copied")
        book.verify("after a group was away")
        check_same(mirror.stores, DEVICE)


def away_for_long(mirror, book):
    """The device is enabled again in this life of the client, and in the next one without the group."""
    mirror.command("setfaulty=1")
    book.write(*at(42))
    mirror.disable()
    mirror.command("enable=1")
    book.write(*at(43))
    mirror.disable()
    mirror.forget()
    mirror.connect(0)
    mirror.command("enable=1")
    book.write(*at(44))
    check.that({42, 43, 44} <= set(intent.newest(mirror.stores[0].path)["regions"]), "what the group misses is marked")
    mirror.disable()
    mirror.forget()
    comes_back(mirror)
    book.verify("after a group was away for three starts")
    mirror.disable()
    check_same(mirror.stores, DEVICE)
    mirror.command("enable=1")


def without_pages(mirror, book):
    """Nobody knows where it may differ."""
    mirror.forget()
    for place in range(intent.PLACES):
        mirror.stores[1].write(intent.position(mirror.stores[1].size, place), bytes(BLOCK))
    mirror.stores[1].write(60 * MIB, b"torn" * (BLOCK // 4))
    nearly_all(crashed(mirror), DEVICE)
    book.verify("after all was compared")


def set_back(mirror, book):
    """A snapshot of its host says the same as the others, but for the pages that it has not seen."""
    for group, regions in ((1, (11, 12, 13)), (0, (31, 32, 33))):
        wait_for_page(mirror)
        snapshot = mirror.stores[group].snapshot()
        for region in regions:
            book.write(*at(region))
        mirror.forget()
        mirror.stores[group].write(0, snapshot)
        nearly_all(crashed(mirror), DEVICE)
        # Nor is it the source: it lacks what was acknowledged since.
        book.verify(f"after group {group} was set back")
        mirror.disable()
        check_same(mirror.stores, DEVICE)
        mirror.command("enable=1")


def cut_short(mirror, book):
    """The next start does not believe what this one did not."""
    wait_for_page(mirror)
    snapshot = mirror.stores[1].snapshot()
    for region in (14, 15, 16):
        book.write(*at(region))
    # More records than the member gets until it is in sync again.
    for _ in range(8):
        mirror.disable()
        mirror.command("enable=1")
    mirror.disable()
    mirror.forget()
    mirror.stores[1].write(0, snapshot)
    begin_slowly(mirror)
    mirror.forget()
    check.equal(comes_back(mirror, "gets all of the data"), DEVICE // BLOCK, "blocks that were copied")
    book.verify("after a group was set back, and the copying cut short")
    starts_alone(mirror, 1)
    mirror.command("setfaulty=1", "resync_max=64")
    mirror.hotadd(1, " full")
    mirror.forget()
    check.equal(comes_back(mirror, "gets all of the data"), DEVICE // BLOCK, "blocks that were copied")
    book.verify("after a full copy that was cut short")
    mirror.disable()
    check_same(mirror.stores, DEVICE)


def starts_alone(mirror, group):
    """The only one in sync is the source: it was set back, and is not any more."""
    mirror.command(f"setfaulty={1 - group}")
    mirror.disable()
    mirror.forget()
    mirror.connect_all()
    mirror.command("enable=1")
    mirror.wait_in_sync()


def begin_slowly(mirror):
    """A start whose copying takes hours."""
    mirror.command("resync_max=1")
    mirror.connect_all()
    mirror.command("enable=1")


def without_intent(mirror, book):
    """Nothing is written ahead, and nothing is known afterwards."""
    mirror.command("intent=0", "enable=1")
    check.equal(mirror.status().intent, None, "the Intent line of a device that keeps no pages")
    book.write(*at(1))
    mirror.forget()
    check.equal(crashed(mirror), DEVICE // BLOCK, "blocks that were compared and found equal")
    book.verify("after a crash without intent")


def at(region, block=0):
    """A block of a region, for the book."""
    return [region * (MIB // BLOCK) + block]


def crashed(mirror):
    """Starts again after a crash; gives how many blocks were compared and found equal."""
    return starts(mirror, "blocks were equal", EQUAL)


def comes_back(mirror, gets="gets what is marked"):
    """Starts again, and one that was out of service is copied to; gives how many blocks."""
    return starts(mirror, gets, COPIED)


def starts(mirror, tells, number):
    """Connects, enables, and waits until all is in sync; gives a number that the log tells, with a line of it."""
    with Kmsg() as kmsg:
        mirror.connect_all()
        mirror.command("enable=1")
        mirror.wait_in_sync()
        kmsg.wait_for(tells, 60)
        return int(number.search("\n".join(kmsg.lines())).group(1))


def nearly_all(equal, size):
    """So many blocks of `size` bytes were equal: all but a few that differ, and what is in one window with them."""
    check.between(equal, size // BLOCK - 256, size // BLOCK - 1, "blocks that were compared and found equal")


def figures(mirror):
    """The line of the status, in numbers."""
    line = mirror.status().intent
    found = re.fullmatch(r"(\d+) regions \((\S+)\), rounds (\d+), waits (\d+)", line)
    check.that(found, f"the Intent line is {line!r}")
    return {"regions": int(found[1]), "rounds": int(found[3]), "waits": int(found[4])}


def wait_for_page(mirror):
    """The first page of a start is written without being asked for."""
    check.until(lambda: figures(mirror)["rounds"] > 0, 30, "the first page")


def marked(mirror):
    """The regions that the newest page of both groups marks; one may be on its way to one of them."""

    def same():
        first, second = (intent.newest(store.path) for store in mirror.stores)
        return first if first == second else None

    return set(check.until(same, 30, "the same page on both groups")["regions"])
