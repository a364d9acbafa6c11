# SPDX-License-Identifier: GPL-2.0
"""A file system on the disk, and what is done to it."""

import hashlib
import os
import random
import shutil

from lib import check
from lib.program import attempt, run

# How each is made and checked. btrfs and xfs have least sizes.
MAKE = {
    "ext4": ["mkfs.ext4", "-q"],
    "xfs": ["mkfs.xfs", "-q", "-f", "--unsupported"],
    "btrfs": ["mkfs.btrfs", "-q", "-f", "--mixed"],
}
CHECK = {
    "ext4": ["fsck.ext4", "-fn"],
    "xfs": ["xfs_repair", "-n"],
    "btrfs": ["btrfs", "check", "--force"],
}
SIZE = {"ext4": 32 << 20, "xfs": 64 << 20, "btrfs": 64 << 20}


class FileSystem:
    """Made when it is made, mounted in a `with`."""

    def __init__(self, kind, disk, place="mnt"):
        self.kind, self.disk, self.place = kind, disk, os.path.abspath(place)
        run(*MAKE[kind], disk.path)

    def __enter__(self):
        os.makedirs(self.place, exist_ok=True)
        run("mount", "-t", self.kind, self.disk.path, self.place)
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            run("umount", self.place)

    def check(self):
        """Fails if the file system is damaged. Only while it is not mounted."""
        result = attempt(*CHECK[self.kind], self.disk.path, limit=120)
        check.equal(result.returncode, 0, f"{' '.join(CHECK[self.kind])}: {result.stdout[-400:]} {result.stderr[-400:]}; status")

    def path(self, *parts):
        """A file of it."""
        return os.path.join(self.place, *parts)


def copy_tree(source, target):
    """Copies files, links and directories."""
    shutil.copytree(source, target, symlinks=True)


def digest(directory):
    """A sum over all names and contents below a directory."""
    total = hashlib.sha256()
    for place, directories, files in os.walk(directory):
        directories.sort()
        for name in sorted(files):
            path = os.path.join(place, name)
            total.update(os.path.relpath(path, directory).encode() + b"\0")
            total.update(os.readlink(path).encode() if os.path.islink(path) else _content(path))
    return total.hexdigest()


def _content(path):
    with open(path, "rb") as file:
        return file.read()


def stress(directory, seed, operations, most=1 << 16):
    """Creates, overwrites, extends, cuts, renames and removes files as a seed decides; checks all of them in the end."""
    dice, known = random.Random(seed), {}
    os.makedirs(directory, exist_ok=True)
    for number in range(operations):
        path = os.path.join(directory, f"f{dice.randrange(24)}")
        _STEPS[dice.randrange(len(_STEPS))](dice, known, path, most)
        if number % 16 == 15:
            _sync(path)
    for path, data in known.items():
        check.that(_content(path) == bytes(data), f"{path} holds what was written to it")


def _write(dice, known, path, most):
    data, offset = known.setdefault(path, bytearray()), dice.randrange(most)
    piece = dice.randbytes(dice.randrange(1, most // 2))
    data.extend(bytes(max(0, offset + len(piece) - len(data))))
    data[offset:offset + len(piece)] = piece
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, piece, offset)
    os.close(fd)


def _cut(dice, known, path, most):
    if path in known:
        length = dice.randrange(most)
        data = known[path]
        data[:] = data[:length] + bytes(max(0, length - len(data)))
        os.truncate(path, length)


def _rename(dice, known, path, most):
    del most
    if path in known:
        target = f"{path}-{dice.randrange(4)}"
        os.rename(path, target)
        known[target] = known.pop(path)


def _remove(dice, known, path, most):
    del dice, most
    if known.pop(path, None) is not None:
        os.unlink(path)


def _sync(path):
    if os.path.exists(path):
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)


_STEPS = (_write, _write, _write, _cut, _rename, _remove)
