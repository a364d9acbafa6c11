# SPDX-License-Identifier: GPL-2.0
"""The runs whose figures are kept, oldest first: Documentation/results."""

import glob
import os

FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__)))), "Documentation", "results")
TABLES = "tables.inc"


def path(name):
    """Where a file of that name lies."""
    return os.path.join(FOLDER, name)


def all_of_them():
    """Their paths. A name begins with the date."""
    return sorted(glob.glob(path("*.json")))


def newest():
    """The path of the last one."""
    return all_of_them()[-1]
