# SPDX-License-Identifier: GPL-2.0
"""xfs on a mirror: make it, copy a tree, work on it while a group leaves and comes back, unmount, check; both stores the same."""

from lib.filesystem_use import use

LIMIT_S = 180


def run():
    use("xfs")
