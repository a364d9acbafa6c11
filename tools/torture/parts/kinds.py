# SPDX-License-Identifier: GPL-2.0
"""All kinds of faults that there are, in the order of their files."""

from parts import faults, sickness
from parts.kind import Kind

KINDS = [kind for module in (faults, sickness) for kind in vars(module).values() if isinstance(kind, Kind)]
