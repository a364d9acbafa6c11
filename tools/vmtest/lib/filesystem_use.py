# SPDX-License-Identifier: GPL-2.0
"""What the scenarios of each file system do."""

import os

from lib import check
from lib.filesystem import SIZE, FileSystem, copy_tree, digest, stress
from lib.mirror import Mirror
from lib.program import attempt

# The repository itself is the tree.
TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))


def use(kind):
    """All that a file system is for."""
    with Mirror(size=SIZE[kind]) as mirror:
        made = FileSystem(kind, mirror.disk)
        with made:
            copy_tree(os.path.join(TREE, "rust"), made.path("tree"))
            stress(made.path("stress"), 1, 150)
            mirror.command("setfaulty=1")
            stress(made.path("without"), 2, 100)
            trim(made)
            mirror.command("hotadd=1")
            stress(made.path("during"), 3, 100)
            mirror.wait_in_sync()
            mirror.command("setfaulty=0")
            stress(made.path("other"), 4, 50)
            mirror.command("hotadd=0")
            mirror.wait_in_sync()
            wanted = digest(made.place)
        made.check()
        with made:
            check.equal(digest(made.place), wanted, "all files after mounting again")
        check.that(mirror.status().is_clean(), "all groups are in sync")
        mirror.check_same()


def trim(made):
    """Discards what the file system does not use."""
    result = attempt("fstrim", made.place)
    check.that(result.returncode == 0, f"fstrim: {result.stderr}")
