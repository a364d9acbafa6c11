# SPDX-License-Identifier: GPL-2.0
"""What the client of a life writes, noted before and after, and how it is read back."""

import mmap
import os
import random
import threading

from lives import block
from lives.block import SIZE

# Blocks of one write at most, of one read, and those of each thread that get half of all writes.
SPAN = 8
READ_SPAN = 32
HOT = 8
# In a hundred writes: flushes, and writes that are to be durable.
FLUSHES, DURABLE = 4, 15
# Bytes of the largest file.
LARGEST = 64 << 10


class Notes:
    """The journal. The host has what was noted before this goes on, and keeps it when the VM dies."""

    def __init__(self):
        for name in os.listdir("/sys/class/virtio-ports"):
            with open(f"/sys/class/virtio-ports/{name}/name", encoding="ascii") as file:
                if file.read().strip() == "journal":
                    self._fd = os.open(f"/dev/{name}", os.O_WRONLY)
        self._lock = threading.Lock()

    def note(self, line):
        """Notes a line, as one piece."""
        data = f"{line}\n".encode()
        with self._lock:
            if os.write(self._fd, data) != len(data):
                raise OSError("the journal takes no more")


class Load:
    """Threads that write until they are told to stop."""

    # Counts the writes of a life, so that no two have one value.
    _count = 0
    _counting = threading.Lock()

    def __init__(self, notes, seed, life, threads):
        self.notes, self.seed, self.life = notes, seed, life
        self._stopped = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(threads)]
        for thread in self.threads:
            thread.start()

    def _run(self, number):
        dice = random.Random(f"{self.seed} {self.life} {number} {type(self).__name__}")
        try:
            self.work(number, dice)
        except Exception as error:
            # Whatever it is, a thread that has ended writes nothing, and nothing would be found.
            self.notes.note(f"x {type(self).__name__} {number} {error!r}")

    def work(self, number, dice):
        """What one thread does until `is_over`."""
        raise NotImplementedError

    def is_over(self):
        """Whether to stop."""
        return self._stopped.is_set()

    def value(self):
        """A new value."""
        with Load._counting:
            Load._count += 1
            return block.value_of(self.life, Load._count)

    def stop(self):
        """Waits until nothing is under way."""
        self._stopped.set()
        for thread in self.threads:
            thread.join()


class BlockLoad(Load):
    """Writes blocks past the page cache. Each thread has blocks of its own."""

    def __init__(self, notes, path, seed, life, blocks, threads):
        self.path, self.own = path, blocks // threads
        super().__init__(notes, seed, life, threads)

    def work(self, number, dice):
        with mmap.mmap(-1, SPAN * SIZE) as buffer:
            fd = os.open(self.path, os.O_RDWR | os.O_DIRECT)
            try:
                while not self.is_over():
                    self._step(number, dice, fd, buffer)
            finally:
                os.close(fd)

    def _step(self, number, dice, fd, buffer):
        if dice.randrange(100) < FLUSHES:
            os.fsync(fd)
            self.notes.note("f")
        count = 1 if dice.randrange(4) else dice.randint(1, SPAN)
        first = number * self.own + dice.randrange(HOT if dice.randrange(2) else self.own - count)
        value = self.value()
        for at in range(count):
            buffer[at * SIZE:(at + 1) * SIZE] = block.encode(self.seed, first + at, value)
        flags = os.RWF_DSYNC if dice.randrange(100) < DURABLE else 0
        self.notes.note(f"i {first} {count} {value}")
        with memoryview(buffer)[:count * SIZE] as view:
            done = os.pwritev(fd, [view], first * SIZE, flags)
        if done != count * SIZE:
            raise OSError(f"wrote {done} of {count} blocks")
        self.notes.note(f"a {first} {count} {value}")


def read_blocks(path, seed, blocks):
    """What all blocks hold, and what is in those that hold no value."""
    values, broken = [], {}
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    with mmap.mmap(-1, READ_SPAN * SIZE) as buffer:
        for first in range(0, blocks, READ_SPAN):
            done = os.preadv(fd, [buffer], first * SIZE)
            if done != READ_SPAN * SIZE:
                raise OSError(f"read {done} bytes of block {first} on")
            for number in range(first, first + READ_SPAN):
                data = buffer[(number - first) * SIZE:(number - first + 1) * SIZE]
                values.append(block.decode(seed, number, data))
                if values[-1] is None:
                    broken[number] = block.describe(data)
    os.close(fd)
    return values, broken


class FileLoad(Load):
    """Writes files of which each is whole, old or new: it has another name until it is durable."""

    def __init__(self, notes, directory, seed, life, count):
        self.directory, self.count = directory, count
        super().__init__(notes, seed, life, 1)

    def work(self, number, dice):
        directory = os.open(self.directory, os.O_RDONLY)
        while not self.is_over():
            file, value = dice.randrange(self.count), self.value()
            data = block.encode(self.seed, file, value) * dice.randint(1, LARGEST // SIZE)
            self.notes.note(f"I {file} 1 {value}")
            fresh = f"{self.directory}/fresh"
            fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            if os.write(fd, data) != len(data):
                raise OSError("a file was not written as a whole")
            os.fsync(fd)
            os.close(fd)
            os.rename(fresh, f"{self.directory}/{file}")
            os.fsync(directory)
            self.notes.note(f"A {file} 1 {value}")
        os.close(directory)


def read_files(directory, seed, count):
    """What the files hold: a value, or None for one that is not whole."""
    values = []
    for number in range(count):
        try:
            with open(f"{directory}/{number}", "rb") as file:
                data = file.read()
        except FileNotFoundError:
            values.append(block.NOTHING)
            continue
        pieces = {data[at:at + SIZE] for at in range(0, len(data), SIZE)}
        value = block.decode(seed, number, next(iter(pieces))) if len(pieces) == 1 else None
        values.append(value or None)
    return values
