# SPDX-License-Identifier: GPL-2.0
"""All kinds of faults that there are."""

from parts import faults
from parts.kind import Kind

KINDS = [kind for kind in vars(faults).values() if isinstance(kind, Kind)]
