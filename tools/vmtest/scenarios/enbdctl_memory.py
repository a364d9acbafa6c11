# SPDX-License-Identifier: GPL-2.0
"""enbdctl and mirrors that remember: `create`, whatever an earlier one has left; `up` after a crash without a question; a member
that is missing is refused, in the module's words, until it comes or the administrator says otherwise; nothing is left of what was
refused."""

import contextlib
import os
import re
import shutil
import subprocess

from lib import check, nbdinfo
from lib.book import Book, spread
from lib.cases import case
from lib.ctl import DEGRADED, ETC, NOT_THERE, OK, REFUSED, ctl, forget, two_ups, up_that_waits
from lib.memory import DEVICE, EXPORT, newest, wipe
from lib.mirror import Mirror
from lib.program import run as run_program
from lib.store import check_same

LIMIT_S = 500

FILE = f"{ETC}/data.toml"
MISSING = "group {} is missing and may be newer"


class Served(Mirror):
    """The servers of a mirror that enbdctl makes."""

    def __init__(self):
        super().__init__(size=EXPORT, enable=False)

    def __enter__(self):
        for server in self.servers:
            server.launch()
        for server in self.servers:
            server.wait()
        return self

    def uri(self, group):
        """The URI of a group's export."""
        server = self.servers[group]
        return f"nbd://127.0.0.1:{server.endpoint.port}/{server.export}"

    @property
    def words(self):
        """What `create` is told."""
        return ["create", "data", self.uri(0), self.uri(1), "--channels", "2"]

    def anew(self):
        """Nothing is known of the mirror any more, and nothing is on its exports."""
        with contextlib.suppress(OSError):
            self.command("enable=0")
        if nbdinfo.status(self.letter):
            self.command("reset=1")
        for server in self.servers:
            server.kill()
            server.store.empty()
            server.start()
        forget()


def run():
    check.that(shutil.which("enbdctl"), "enbdctl is in the VM: `scripts/vm tools/vmtest/run` builds it")
    forget()
    try:
        with Served() as mirror:
            with case("create: what it refuses"):
                refused(mirror)
            with case("create: on a terminal, over a file system"):
                asked(mirror)
            with case("create: after each place where an earlier one can have ended"):
                interrupted(mirror)
            with case("create: killed, and two at once"):
                killed(mirror)
            with case("up after a crash, without a question"):
                crashed(mirror)
            with case("a member is missing"):
                missing(mirror)
            with case("a stale member alone is never started"):
                stale(mirror)
            with case("the configuration: another order, no identity, a wrong one"):
                configuration(mirror)
            with case("members come and go"):
                members(mirror)
            with case("two up at once"):
                at_once(mirror)
            with case("by force"):
                by_force(mirror)
            ctl("down data")
    finally:
        forget()


def nothing_is_left():
    """Neither a configuration nor a device."""
    check.equal(os.listdir(ETC) if os.path.isdir(ETC) else [], [], f"files in {ETC}")
    check.equal(nbdinfo.devices(), [], "devices")


def refused(mirror):
    """What is there is told, and nothing is done."""
    words = mirror.words
    ctl(*words, status=REFUSED, says="which group has the data has to be said")
    ctl(*words, "--source", "0", status=REFUSED, says="hint: --yes")
    ctl(*words, "--source", "2", "--yes", status=4, says="there is no group 2")
    ctl(*words, "nbd://127.0.0.1:9/x", "--source", "0", "--yes", status=REFUSED, says="group 2, nbd://127.0.0.1:9/x")
    ctl("create", "data", mirror.uri(0), mirror.uri(0).replace("127.0.0.1", "localhost"), "--equal", status=REFUSED,
        says="another group has this export")
    mirror.stores[1].write(EXPORT - 8192, b"data")
    ctl(*words, "--source", "0", "--yes", status=REFUSED, says="its end is in use")
    mirror.stores[1].empty()
    nothing_is_left()
    check.that(not any(any(store.snapshot()) for store in mirror.stores), "nothing was written")


def asked(mirror):
    """Whose data counts is asked, and what will be overwritten. A file system that would not fit is found out."""
    path = mirror.stores[0].path
    run_program("mkfs.ext4", "-q", "-F", "-L", "srv", path, f"{EXPORT >> 10}")
    ctl(*mirror.words, "--source", "0", "--yes", status=REFUSED, says="its end is in use")
    # Of a larger one the end is blank mostly, and a part of it all the same.
    mirror.stores[0].write(DEVICE, bytes(EXPORT - DEVICE))
    ctl(*mirror.words, "--source", "0", "--yes", status=REFUSED, says="grow all exports by 1.0 MiB")
    run_program("mkfs.ext4", "-q", "-F", "-L", "srv", path, f"{DEVICE >> 10}")
    held = mirror.stores[0].read(0, DEVICE)
    says = answer(mirror.words, "abort\n")
    check.that('holds ext4 "srv"' in says and "empty (first 1 MiB zero)" in says, f"what the exports hold: {says}")
    check.that("The groups differ. Which one has the data? [0/1/none/equal, abort]" in says, f"the question: {says}")
    nothing_is_left()
    says = answer(mirror.words, "0\ny\n")
    check.that("Group 1 will be overwritten with group 0. Proceed? [y/N]" in says, f"the question: {says}")
    check.that("/dev/enbd/data /srv/data ext4 _netdev,nofail,x-systemd.requires=enbd@data.service" in says, f"fstab: {says}")
    ctl("wait data --timeout 60")
    check.that(mirror.stores[1].read(0, DEVICE) == held, "group 1 has what group 0 had")
    check.equal(mirror.status().size_kb, DEVICE >> 10, "KiB of the device")
    # What is made already is no error.
    ctl(*mirror.words, says="is up (OK)")
    ctl("create", "data", mirror.uri(0), status=REFUSED, says="exists, of another mirror")
    ctl("create", "data", mirror.uri(1), mirror.uri(0), status=REFUSED, says="exists, of another mirror")
    ctl("create", "more", mirror.uri(0), status=REFUSED, says="member 0 of mirror")
    ctl("probe", mirror.uri(1), says="member 1")
    mirror.anew()


def answer(words, answers):
    """Runs it on a terminal with these answers; gives what it said."""
    main, other = os.openpty()
    process = subprocess.Popen(["enbdctl", *words], stdin=other, stdout=other, stderr=other, start_new_session=True)
    os.close(other)
    os.write(main, answers.encode())
    said = b""
    # The end of the last one that has it open is an error.
    with contextlib.suppress(OSError):
        while piece := os.read(main, 4096):
            said += piece
    process.wait(60)
    os.close(main)
    return said.decode()


def made(mirror):
    """The module is told what `create` tells it, as far as there is a mirror."""
    mirror.command("name=data")
    mirror.connect(0)
    mirror.connect(1)
    mirror.command("create=0")


def interrupted(mirror):
    """What is left each time is finished, or made anew."""

    def connected():
        mirror.command("name=data")
        mirror.connect(0)

    def rebooted():
        made(mirror)
        mirror.command("reset=1")

    def half_made():
        rebooted()
        wipe(mirror.stores[1])

    def draft():
        os.makedirs(ETC)
        with open(f"{FILE}.new", "w", encoding="ascii") as file:
            file.write("device")

    def written():
        made(mirror)
        uuid = re.search(r"Mirror:\t([0-9a-f-]+),", nbdinfo.text())[1]
        os.makedirs(ETC)
        with open(FILE, "w", encoding="ascii") as file:
            groups = "".join(f'[[group]]\nuri = "{mirror.uri(group)}"\n' for group in range(2))
            file.write(f'device = "a"\nmirror = "{uuid}"\n{groups}')

    def written_and_rebooted():
        written()
        mirror.command("reset=1")

    for leave in (connected, lambda: made(mirror), rebooted, half_made, draft, written, written_and_rebooted):
        leave()
        ctl(*mirror.words, "--source", "0", "--yes", says="/dev/enbd/data")
        ctl("wait data --timeout 60")
        check.equal(os.listdir(ETC), ["data.toml"], f"files in {ETC}")
        ctl("down data")
        check_same(mirror.stores, DEVICE)
        check.equal(newest(mirror.stores[1]).in_sync, {0, 1}, "who is in sync")
        mirror.anew()


def killed(mirror):
    """Wherever that is, another one ends well."""
    moments = (
        lambda: nbdinfo.devices(), lambda: "Mirror:" in nbdinfo.text(), lambda: os.path.exists(FILE),
        lambda: nbdinfo.devices() and nbdinfo.status().enabled,
    )
    words = ["enbdctl", *mirror.words, "--source", "0", "--yes"]
    for moment in moments:
        one = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        check.until(lambda moment=moment, one=one: moment() or one.poll() is not None, 60, "create is so far", nap=0)
        one.kill()
        one.wait(60)
        ctl(*words[1:])
        ctl("wait data --timeout 60")
        mirror.anew()
    both = [subprocess.Popen(words, stdout=subprocess.DEVNULL) for _ in range(2)]
    check.equal([one.wait(120) for one in both], [OK, OK], "exit statuses of two at once")
    check.equal(nbdinfo.devices(), ["a"], "devices")
    ctl("wait data --timeout 60")
    # Nobody else has it, so that nobody waits for beats.
    edit("mirror =", "settings.owner_check = 0\nmirror =")
    ctl("set data owner_check=0")


def edit(old, new):
    """Changes the configuration."""
    with open(FILE, encoding="ascii") as file:
        text = file.read()
    check.that(old in text, f"{old!r} is in the configuration {text!r}")
    with open(FILE, "w", encoding="ascii") as file:
        file.write(text.replace(old, new, 1))


def crashed(mirror):
    """What was acknowledged is there, and nothing is asked."""
    book = Book(mirror.disk)
    book.write(*spread(DEVICE, 8))
    for _ in range(2):
        ctl("reset data")
        mirror.stores[1].write(64 << 10, b"torn" * 1024)
        ctl("up data")
        book.verify("after a crash")
        ctl("wait data --timeout 60")
        ctl("up data")
    ctl("down data")
    check_same(mirror.stores, DEVICE)
    check.that(not newest(mirror.stores[0]).has_owner, "nobody has a device that is down")
    for _ in range(2):
        ctl("up data")
    check.that(mirror.status().is_clean(), "all members are in sync")
    ctl("disable data")
    ctl("enable data")
    ctl("status data", says="mirror ")


def missing(mirror):
    """It may be newer: that is said, and what to do. Without it by the administrator's word; it comes back."""
    book = Book(mirror.disk)
    book.write(*spread(DEVICE, 8, first=1))
    ctl("reset data")
    mirror.servers[1].kill()
    for line in ("up data --wait 0", "up --all --wait 0"):
        ctl(line, status=REFUSED, says=MISSING.format(1))
        ctl(line, status=REFUSED, says="enbdctl up data --degraded goes on without it")
        ctl(line, status=REFUSED, says="connection refused")
        check.equal(nbdinfo.devices(), [], "devices after a start that was refused")
    ctl("up data --assume-equal", status=REFUSED, says="leave --assume-equal out")
    ctl("up data --degraded --wait 0", says="when the server is back: enbdctl up data")
    ctl("status data", status=DEGRADED, says="group 1   not there  stale since event")
    book.verify("degraded")
    book.write(*spread(DEVICE, 8, first=2))
    mirror.servers[1].start()
    ctl("up data")
    ctl("wait data --timeout 60")
    book.verify("with the member that came back")
    ctl("down data")
    check_same(mirror.stores, DEVICE)
    for server in mirror.servers:
        server.kill()
    ctl("up data --wait 0", status=REFUSED, says="no member of the mirror can be connected")
    check.equal(nbdinfo.devices(), [], "devices")
    up_that_waits(mirror.servers, 180)
    check.that(mirror.status().is_clean(), "all members are in sync")


def stale(mirror):
    """The very line of the unit at boot."""
    book = Book(mirror.disk)
    ctl("fail data 1")
    book.write(*spread(DEVICE, 8, first=3))
    ctl("reset data")
    mirror.servers[0].kill()
    ctl("up --wait=0 data", status=REFUSED, says=MISSING.format(0))
    check.equal(nbdinfo.devices(), [], "devices")
    mirror.servers[0].start()
    ctl("up --wait=30 data")
    book.verify("with the member that has everything")
    ctl("wait data --timeout 60")


def configuration(mirror):
    """Members are known by what is on them, and the mirror by its identity."""
    ctl("down data")
    with open(FILE, encoding="ascii") as file:
        text = file.read()
    head, one, two = text.split("\n[[group]]\n")
    with open(FILE, "w", encoding="ascii") as file:
        file.write("\n[[group]]\n".join([head, two.rstrip("\n"), one.rstrip("\n")]) + "\n")
    ctl("up data")
    for group, server in enumerate(mirror.servers):
        ports = {str(server.endpoint) in line for line in nbdinfo.text().splitlines() if f"Channel:\t{2 * (1 - group)} " in line}
        check.equal(ports, {True}, f"the channels of group {group} are those of its own server")
    ctl("down data")
    with open(FILE, "w", encoding="ascii") as file:
        file.write(text)
    # A file that does not know it: the servers are asked.
    edit("mirror =", "# mirror =")
    ctl("up data")
    check.that(mirror.status().is_clean(), "all members are in sync")
    ctl("down data")
    edit("# mirror =", "mirror =")
    uuid = re.search(r'mirror = "([0-9a-f-]+)"', text)[1]
    edit(uuid, uuid[::-1].translate(str.maketrans("0123456789abcdef", "123456789abcdef0"))[:8] + uuid[8:])
    ctl("up data", status=REFUSED, says=f"the exports are those of mirror {uuid}")
    check.equal(nbdinfo.devices(), [], "devices")
    with open(FILE, "w", encoding="ascii") as file:
        file.write(text)
    # An up that was killed half way is gone on with.
    mirror.command("name=data")
    ctl("attach data 1")
    ctl("up data")
    check.that(mirror.status().is_clean(), "all members are in sync")
    mirror.command("name=other")
    ctl("up data", status=REFUSED, says="is called other")
    mirror.command("name=data")


def members(mirror):
    """One is forgotten, and joins again as a new one; each is connected by itself."""
    book = Book(mirror.disk)
    book.write(*spread(DEVICE, 8, first=4))
    ctl("forget data 1", status=REFUSED, says="enbdctl disable data && enbdctl forget data 1")
    ctl("disable data")
    ctl("forget data 5", status=NOT_THERE, says="there are: 0, 1")
    ctl("forget data 1", says=f"take {mirror.uri(1)} out of {FILE}")
    ctl("down data")
    ctl("up data", says=f"enbdctl add data {mirror.uri(1)} makes it a member")
    # Nothing is left of what made it a member; what somebody else has there is not overwritten unseen.
    mirror.stores[1].write(EXPORT - 8192, b"data")
    ctl("add", "data", mirror.uri(1), "--channels", "2", status=REFUSED, says="enbdctl resync data 1 --full overwrites it")
    ctl("resync data 1 --full")
    ctl("wait data --timeout 60")
    book.verify("with a new member")
    ctl("down data")
    check_same(mirror.stores, DEVICE)
    ctl("attach data 0")
    ctl("attach", "data", "0", mirror.uri(1), status=REFUSED, says="is group 1, not 0")
    ctl("status data", status=NOT_THERE, says="group 1   not there  in sync by the last record: a start needs it")
    ctl("enable data", status=REFUSED, says=MISSING.format(1))
    ctl("enable data", status=REFUSED, says="enbdctl up data --degraded goes on without it")
    for _ in range(2):
        ctl("attach data 1")
    ctl("enable data")
    check.that(mirror.status().is_clean(), "all members are in sync")


def at_once(mirror):
    """Two at once do what one does, after a crash."""
    ctl("reset data")
    two_ups(120)
    ctl("wait data --timeout 60")
    check.equal(len(mirror.status().channels), 4, "channels")


def by_force(mirror):
    """One group is chosen; the other one keeps what it has until it is overwritten."""
    book = Book(mirror.disk)
    book.write(*spread(DEVICE, 8, first=5))
    ctl("down data")
    ctl("up data --source 0")
    ctl("status data", status=DEGRADED, says="the administrator said that another group counts")
    ctl("up data")
    ctl("status data", status=DEGRADED, says="1 of 2 groups in sync")
    ctl("resync data 1 --full")
    ctl("wait data --timeout 60")
    book.verify("of the group that was chosen")
    ctl("disable data")
    ctl("up data --source 1", status=REFUSED, says="the module knows who is current")
    ctl("up data")
