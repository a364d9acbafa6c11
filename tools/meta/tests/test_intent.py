# SPDX-License-Identifier: GPL-2.0
"""The second reader and writer of intent pages, over the fixtures that the module's own code is tested with."""

import glob
import json
import os
import subprocess
import sys
import tempfile
import unittest

META = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
FIXTURES = os.path.join(os.path.dirname(META), "enbd-logic", "tests", "fixtures", "intent")
sys.path[:0] = [META]

import intent  # noqa: E402  (its place is known only now)
from superblock import from_hex  # noqa: E402


def fixtures():
    found = {}
    for path in glob.glob(os.path.join(FIXTURES, "*.json")):
        with open(path) as description, open(path.replace(".json", ".hex")) as digits:
            found[os.path.basename(path)[:-5]] = json.load(description), from_hex(digits.read())
    return found


class Fixtures(unittest.TestCase):
    def test_each_is_written_as_it_stands(self):
        self.assertEqual(set(fixtures()), {"empty", "list", "bits"})
        for name, (told, block) in fixtures().items():
            self.assertEqual(intent.encode(told), block, name)

    def test_a_list_is_read_as_it_is_described_and_bits_are_rounded_out(self):
        for name, (told, block) in fixtures().items():
            read = intent.decode(block)
            more = read["shift"] - told["shift"]
            self.assertEqual(read["regions"], sorted({region >> more for region in told["regions"]}), name)
            self.assertEqual({**told, "shift": 0, "regions": 0}, {**read, "shift": 0, "regions": 0}, name)

    def test_what_has_changed_is_none(self):
        for _, block in fixtures().values():
            for at in range(0, len(block), 7):
                changed = bytearray(block)
                changed[at] ^= 1 << at % 8
                self.assertIsNone(intent.decode(bytes(changed)))
            self.assertIsNone(intent.decode(block, 47))


class Exports(unittest.TestCase):
    def test_the_newest_page_of_a_file(self):
        told, block = fixtures()["list"]
        older = intent.encode(told | {"seq": told["seq"] - 1})
        size = (64 << 20) + 512
        with tempfile.NamedTemporaryFile() as export:
            export.truncate(size)
            for page, seq in ((block, told["seq"]), (older, told["seq"] - 1)):
                export.seek(intent.position(size, seq % intent.PLACES))
                export.write(page)
            export.flush()
            program = os.path.join(META, "intent.py")
            run = subprocess.run([sys.executable, "-B", program, "read", export.name], capture_output=True, check=True)
            self.assertEqual(json.loads(run.stdout), told)


if __name__ == "__main__":
    unittest.main()
