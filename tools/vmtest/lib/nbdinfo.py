# SPDX-License-Identifier: GPL-2.0
"""/proc/nbdinfo: commands, and the status taken apart."""

import errno
import functools
import os
import re

from lib import check

PATH = "/proc/nbdinfo"


def spell(name):
    """A name, text or bytes, as commands and the status spell it: octal escapes as in /proc/mounts."""
    data = name if isinstance(name, bytes) else os.fsencode(name)
    return "".join(chr(byte) if 32 < byte < 127 and byte != ord("\\") else f"\\{byte:03o}" for byte in data)


def command(*lines):
    """Writes command lines at once. Fails with the OSError of the write."""
    raw("".join(line + "\n" for line in lines).encode())


def times_out(line):
    """Writes a command that is to fail since a server does not answer."""
    with check.refused(errno.ETIMEDOUT, line):
        command(line)


def raw(data):
    """Writes these bytes with one system call."""
    fd = os.open(PATH, os.O_WRONLY | os.O_CLOEXEC)
    try:
        check.equal(os.write(fd, data), len(data), "bytes taken by the write")
    finally:
        os.close(fd)


def text():
    """All of the file."""
    with open(PATH, encoding="ascii") as file:
        return file.read()


def status(letter="a"):
    """The device's status, or None if there is no such device."""
    lines = text().splitlines()
    if f"Device {letter}:\tOpen" not in lines:
        return None
    prefix = f"[{letter}] "
    return Status([line[len(prefix):] for line in lines if line.startswith(prefix)])


def devices():
    """The letters of the devices that there are."""
    return re.findall(r"^Device ([a-z]):\tOpen$", text(), re.MULTILINE)


def wait_until(predicate, seconds, what, letter="a"):
    """Waits until the predicate holds for the device's status, and gives that."""

    def look():
        now = status(letter)
        return now if now is not None and predicate(now) else None

    try:
        return check.until(look, seconds, what)
    except check.Failure as failure:
        raise check.Failure(f"{failure}; the status is:\n{text()}") from None


def wait_in_sync(seconds, letter="a"):
    """Waits until every group is in sync and no block is marked."""
    return wait_until(lambda s: s.is_clean(), seconds, f"all groups of {letter} are in sync", letter)


def decimals(whole_rest, places):
    """The digits of 2003 behind the point: one after the other, dropping what is below one each time."""
    digits = ""
    for _ in range(places):
        digit = min(whole_rest * 10 // 1024, 9)
        whole_rest = (whole_rest - digit * 1024 // 10) * 10
        digits += str(digit)
    return digits


@functools.lru_cache(None)
def _rests(places):
    table = {}
    for rest in range(1024):
        table.setdefault(decimals(rest, places), rest)
    return table


def figure(word):
    """The number that a figure stands for. With four decimals and K this is exact; else the least one that looks so."""
    match = re.fullmatch(r"(\d+)(?:\.(\d+)([KMGTPE]))?", word)
    check.that(match, f"not a figure of 2003: {word!r}")
    whole, places, suffix = match.groups()
    if suffix is None:
        return int(whole)
    check.that(places in _rests(len(places)), f"no number of blocks gives {word!r}")
    return ((int(whole) << 10) + _rests(len(places))[places]) << 10 * "KMGTPE".index(suffix)


def numbers(text):
    """The words `key=number` of a line; what is no number is left as it is."""
    words = (word.split("=") for word in text.split(" "))
    return {key: int(value) if value.isdigit() else value for key, value in words}


class Channel:
    """One channel of a device."""

    FORM = re.compile(
        r"(\d+) (tcp|unix) (\S+?)(?: (\S+))?, (up|down) (\d+)s, reconnects (\d+)(?:, last error: (.*))?"
    )

    def __init__(self, line):
        match = self.FORM.fullmatch(line)
        check.that(match, f"malformed Channel line: {line!r}")
        index, self.transport, self.addr, self.name, link, since, reconnects, self.last_error = match.groups()
        self.index, self.since, self.reconnects = int(index), int(since), int(reconnects)
        self.is_up = link == "up"
        self.group, self.mark, self.socket = None, None, None
        self.requested = self.despatched = self.errored = self.pending = 0


class Resync:
    """One line of progress."""

    FORM = re.compile(r"\[(=*>\.*)\] recovery = (\d+\.\d)% \((\d+)/(\d+)\) finish=(\d+)s(?: group (\d))?")

    def __init__(self, line):
        match = self.FORM.fullmatch(line)
        check.that(match, f"malformed Resync line: {line!r}")
        self.bar, percent, *numbers, group = match.groups()
        self.percent = float(percent)
        self.pos, self.max, self.finish = map(int, numbers)
        self.group = None if group is None else int(group)

    def check(self):
        """Fails unless percent and bar are those of the position."""
        permille = self.pos * 1000 // (self.max + 1)
        check.equal(round(self.percent * 10), permille, "permille of the resync")
        check.equal(self.bar, "=" * (permille // 50) + ">" + "." * (20 - permille // 50), "bar of the resync")


class Status:
    """What /proc/nbdinfo says of one device."""

    def __init__(self, lines):
        pairs = [line.split(":\t", 1) for line in lines]
        check.that(all(len(pair) == 2 for pair in pairs), f"a line without a label: {lines}")
        self.labels = [label for label, _ in pairs]
        one = dict(pairs)
        match = re.fullmatch(r"verify, (ro|rw), (enabled|disabled), last error (\d+)", one["State"])
        check.that(match, f"malformed State line: {one['State']!r}")
        self.read_only = match[1] == "ro"
        self.enabled = match[2] == "enabled"
        self.last_error = int(match[3])
        self.error = one.get("Error")
        self._geometry(one)
        self.channels = [Channel(value) for label, value in pairs if label == "Channel"]
        self.name = one.get("Name")
        self.intent = one.get("Intent")
        self.mirror = one.get("Mirror")
        self.events = int(one["Events"])
        self.settings = numbers(one["Settings"])
        self.bytes = [numbers(value.split(" ", 1)[1]) for label, value in pairs if label == "Bytes"]
        check.equal(len(self.bytes), len(self.channels), "lines of Bytes, one a channel")
        self.resyncs = [Resync(value) for label, value in pairs if label == "Resync"]
        self._columns(one)
        self._traffic(one)
        self._groups(one, [value for label, value in pairs if label == "Group"])

    def _geometry(self, one):
        match = re.fullmatch(r"(\d+) current/(\d+) real/(\d+) max", one["Queued"])
        check.that(match, f"malformed Queued line: {one['Queued']!r}")
        self.queued_current, self.queued_real, self.queued_max = map(int, match.groups())
        match = re.fullmatch(r"(\d+)\t\(log=(\d+)\)", one["Blocksize"])
        check.that(match, f"malformed Blocksize line: {one['Blocksize']!r}")
        self.blocksize = int(match[1])
        check.equal(1 << int(match[2]), self.blocksize, "log of the block size")
        check.that(one["Size"].endswith("KB"), f"malformed Size line: {one['Size']!r}")
        self.size_kb = int(one["Size"][:-2])
        self.blocks = int(one["Blocks"])

    def _columns(self, one):
        first, *groups = one["Groups"].split("\t")
        self.group_count = int(first)
        count, *sockets = one["Sockets"].split("\t")
        check.equal(int(count), len(sockets), "columns of Sockets")
        check.equal(len(groups), len(self.channels), "columns of Groups, one a channel")
        check.equal(len(sockets), len(self.channels), "columns of Sockets, one a channel")
        for channel, group, socket in zip(self.channels, groups, sockets, strict=True):
            match = re.fullmatch(r"\((\d)([F_]?)\)", group)
            check.that(match, f"malformed column of Groups: {group!r}")
            channel.group, channel.mark = int(match[1]), match[2]
            check.that(socket in ("(+)", "(*)", "(-)"), f"malformed column of Sockets: {socket!r}")
            channel.socket = socket[1]
            check.equal(socket != "(-)", channel.is_up, "up in Sockets and in Channel")

    def _counts(self, one, label, tail):
        match = re.fullmatch(r"([\d.KMGTPE]+)((?:\t\([\d.KMGTPE]+\))*)" + tail, one[label])
        check.that(match, f"malformed {label} line: {one[label]!r}")
        columns = [figure(word) for word in re.findall(r"\(([^)]*)\)", match[2])]
        return figure(match[1]), columns, match.groups()[2:]

    def _traffic(self, one):
        sides = r" ([\d.KMGTPE]+)R/([\d.KMGTPE]+)W"
        self.requested, columns, more = self._counts(one, "Requested", sides + r" max (\d+)")
        self.requested_read, self.requested_written = figure(more[0]), figure(more[1])
        despatched = self._counts(one, "Despatched", sides + r" md5 ([\d.KMGTPE]+)")
        self.same = figure(despatched[2][2])
        errored = self._counts(one, "Errored", "")
        pending = self._counts(one, "Pending", "")
        self.despatched, self.errored, self.pending = despatched[0], errored[0], pending[0]
        self.despatched_read, self.despatched_written = figure(despatched[2][0]), figure(despatched[2][1])
        for number, channel in enumerate(self.channels):
            channel.requested, channel.despatched = columns[number], despatched[1][number]
            channel.errored, channel.pending = errored[1][number], pending[1][number]

    def _groups(self, one, lines):
        self.dirty, dirty, _ = self._counts(one, "Dirty", "")
        check.equal(len(dirty), self.group_count, "columns of Dirty, one a group")
        self.dirty_columns = dirty
        # All groups; and those of which there is more to say than their state.
        self.group_states, self.group_lines = {}, {}
        # Groups whose servers may still carry out old writes.
        self.suspects = set()
        for line in lines:
            match = re.fullmatch(r"(\d) (in sync|faulty|resyncing), dirty (\d+)(, volatile)?(, suspect)?(?:, reason: (.*))?", line)
            check.that(match, f"malformed Group line: {line!r}")
            self.group_states[int(match[1])] = match[2]
            if match[5]:
                self.suspects.add(int(match[1]))
            if match[4] or match[6]:
                self.group_lines[int(match[1])] = (match[2], bool(match[4]), match[6])
        check.equal(len(self.group_states), self.group_count, "lines of Group, one a group")

    def marks(self):
        """The groups that have channels, each with `` (in sync), `F` or `_`."""
        return {channel.group: channel.mark for channel in self.channels}

    def mark(self, group):
        """The mark of one group, or None if it has no channel."""
        return self.marks().get(group)

    def of_group(self, group):
        """The channels of a group."""
        return [channel for channel in self.channels if channel.group == group]

    def is_clean(self):
        """Every group is in sync, and no block is marked."""
        states = set(self.group_states.values())
        return self.dirty == 0 and not self.resyncs and not any(self.marks().values()) and states <= {"in sync"}
