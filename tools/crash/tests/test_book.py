# SPDX-License-Identifier: GPL-2.0
"""The book of what a client that died may have left: a book that forgives would find nothing."""

import os
import sys
import unittest

CRASH = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path[:0] = [CRASH, os.path.join(os.path.dirname(CRASH), "vmtest")]

from lib.check import Failure  # noqa: E402  (their place is known only now)
from lives import block  # noqa: E402
from lives.book import Book, Journal  # noqa: E402

FIRST, SECOND, THIRD = (block.value_of(1, count) for count in (1, 2, 3))
NEXT_LIFE = block.value_of(2, 1)


class OfBlocks(unittest.TestCase):
    def setUp(self):
        self.blocks, self.files = Book("block"), Book("file")
        self.journal = Journal(self.blocks, self.files)

    def enter(self, *lines):
        return self.journal.enter("".join(f"{line}\n" for line in lines))

    def test_what_was_acknowledged_must_be_there(self):
        self.assertEqual(self.enter(f"i 7 2 {FIRST}", f"a 7 2 {FIRST}", "f"), (1, 1))
        self.assertEqual(self.blocks.read({7: FIRST, 8: FIRST, 9: block.NOTHING}, "read"), (0, 0))
        for wrong in (block.NOTHING, SECOND, None):
            with self.assertRaisesRegex(Failure, "block 7 holds"):
                self.blocks.look({7: wrong}, "read")

    def test_what_was_on_its_way_may_be_there(self):
        self.enter(f"i 7 1 {FIRST}", f"a 7 1 {FIRST}", f"i 7 1 {SECOND}")
        self.assertEqual(self.blocks.on_their_way(), 1)
        for right in (FIRST, SECOND):
            self.blocks.look({7: right}, "read")
        with self.assertRaises(Failure):
            self.blocks.look({7: THIRD}, "read")

    def test_two_reads_agree(self):
        for seen, other in ((FIRST, SECOND), (SECOND, FIRST)):
            self.setUp()
            self.enter(f"i 7 1 {FIRST}", f"a 7 1 {FIRST}", f"i 7 1 {SECOND}")
            self.assertEqual(self.blocks.read({7: seen}, "read"), (int(seen == SECOND), int(seen == FIRST)))
            self.blocks.read({7: seen}, "read again")
            with self.assertRaises(Failure):
                self.blocks.read({7: other}, "read in the next life")

    def test_of_several_lives_what_nobody_has_read_may_be_there(self):
        self.enter(f"i 7 1 {FIRST}")
        self.enter(f"i 7 1 {NEXT_LIFE}")
        for right in (block.NOTHING, FIRST, NEXT_LIFE):
            self.blocks.look({7: right}, "read")

    def test_files_are_not_blocks(self):
        self.enter(f"I 7 1 {FIRST}", f"A 7 1 {FIRST}")
        self.blocks.look({7: block.NOTHING}, "read")
        with self.assertRaises(Failure):
            self.files.look({7: block.NOTHING}, "read")

    def test_a_request_that_failed_is_a_failure(self):
        with self.assertRaisesRegex(Failure, "a request failed"):
            self.enter("x write 7 5")
        with self.assertRaisesRegex(Failure, "unasked"):
            self.enter(f"a 7 1 {FIRST}")


class OfBytes(unittest.TestCase):
    def test_a_block_says_what_it_is(self):
        data = block.encode(5, 7, SECOND)
        self.assertEqual(len(data), block.SIZE)
        self.assertEqual(block.decode(5, 7, data), SECOND)
        self.assertEqual(block.decode(5, 7, bytes(block.SIZE)), block.NOTHING)

    def test_another_block_another_run_and_a_mixture_are_none(self):
        data = block.encode(5, 7, SECOND)
        for seed, number, other in (
            (5, 8, data), (6, 7, data), (5, 7, data[:512] + block.encode(5, 7, FIRST)[512:]), (5, 7, data[:512] + bytes(3584)),
            (5, 7, bytes(512) + data[512:]),
        ):
            self.assertIsNone(block.decode(seed, number, other))
            block.describe(other)


if __name__ == "__main__":
    unittest.main()
