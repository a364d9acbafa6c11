# SPDX-License-Identifier: GPL-2.0
"""A device that has nothing to do with what goes wrong elsewhere, and has to go on as if it did not."""

import os

from lib import check
from lib.mirror import Mirror


class Bystander(Mirror):
    """A mirror `z` that can be asked whether it still works."""

    def __init__(self):
        super().__init__("z", size=1 << 20, channels=1)

    def check(self, what):
        """Writes and reads."""
        data = os.urandom(8192)
        with check.within(10, f"I/O of another device, {what}"):
            self.disk.write(65536, data)
            check.that(self.disk.read(65536, 8192) == data, f"another device works, {what}")
        check.that(self.status().is_clean(), f"another device is in sync, {what}")
