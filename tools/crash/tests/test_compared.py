# SPDX-License-Identifier: GPL-2.0
"""What starts compared, read from the kernel's log."""

import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from lives.compared import compared  # noqa: E402  (its place is known only now)

PLAN = """[ 23.7] enbd: [a] group 0 is current
[ 23.8] enbd: [a] group 1 is compared where it is marked
[ 25.4] enbd: [a] nbd_hotadd launched resync thread with pid 214 for group 1
"""
WALK = """[ 28.1] enbd: [a] nbd_resync of group 1 by pid 214 copied 12 blocks (49152 bytes) in 2688 ms
[ 28.1] enbd: [a] nbd_resync of group 1 compared before it wrote: 5108 blocks were equal
"""
LOST = """[ 28.2] enbd: [a] group 1 is faulty: a channel was lost with unanswered writes
[ 28.2] enbd: [a] nbd_resync of group 1 ended early
"""
IN_SYNC = "[ 28.2] enbd: [a] group 1 is in sync\n"
LATER = IN_SYNC + "[ 31.0] enbd: [a] group 1 is faulty: no channel was up for the timeout\n" + WALK + IN_SYNC


class OfALog(unittest.TestCase):
    def test_what_differed_and_what_did_not_was_compared(self):
        self.assertEqual(compared(PLAN + WALK + IN_SYNC), [5120])

    def test_what_comes_later_is_of_no_start(self):
        self.assertEqual(compared(PLAN + WALK + LATER), [5120])
        self.assertEqual(compared(WALK + IN_SYNC), [])

    def test_what_was_cut_short_tells_nothing(self):
        self.assertEqual(compared(PLAN + WALK), [])
        self.assertEqual(compared(PLAN + WALK + LOST + IN_SYNC), [])


if __name__ == "__main__":
    unittest.main()
