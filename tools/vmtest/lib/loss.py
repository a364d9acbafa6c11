# SPDX-License-Identifier: GPL-2.0
"""What a store may have lost when its server comes back. Each takes the store and what it held at an earlier time."""

# Where a foreign store begins; no other store of a scenario is filled from here.
FOREIGN_SEED = 4711


def emptied(store, _):
    """Nothing is left, as of a RAM disk, or where the path is wrong."""
    store.empty()


def rolled_back(store, older):
    """It is a copy that was made earlier."""
    store.replace(older)


def foreign(store, _):
    """It is somebody else's."""
    store.fill(FOREIGN_SEED)


def quarter_emptied(store, _):
    """One of four disks that are joined end to end is a new one: the second."""
    store.write(store.size // 4, bytes(store.size // 4))
