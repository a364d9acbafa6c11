# SPDX-License-Identifier: GPL-2.0
"""The second reader and writer of superblocks, over the fixtures that the module's own code is tested with."""

import glob
import json
import os
import subprocess
import sys
import tempfile
import unittest

META = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
FIXTURES = os.path.join(os.path.dirname(META), "enbd-logic", "tests", "fixtures", "meta")
sys.path[:0] = [META]

import superblock  # noqa: E402  (its place is known only now)


def fixtures():
    for path in sorted(glob.glob(os.path.join(FIXTURES, "*.json"))):
        with open(path) as description, open(path.replace(".json", ".hex")) as digits:
            yield os.path.basename(path), json.load(description), superblock.from_hex(digits.read())


def sound():
    return [(told["superblock"], block) for _, told, block in fixtures() if told["expect"] == "sound"]


class Checksum(unittest.TestCase):
    def test_the_examples_of_the_rfc(self):
        # RFC 3720, B.4.
        for data, sum_ in ((bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E)):
            self.assertEqual(superblock.crc32c(data), sum_)


class Fixtures(unittest.TestCase):
    def test_there_are_some(self):
        self.assertGreater(len(sound()), 3)

    def test_each_is_written_as_it_stands(self):
        for name, told, block in fixtures():
            self.assertEqual(superblock.encode(told["superblock"]), block, name)
            self.assertEqual(superblock.from_hex(superblock.to_hex(block)), block, name)

    def test_each_is_read_as_it_is_described(self):
        for name, told, block in fixtures():
            if told["expect"] == "sound":
                self.assertEqual(superblock.decode(block), told["superblock"], name)
            else:
                with self.assertRaisesRegex(superblock.Unsound, "a later version", msg=name):
                    superblock.decode(block)

    def test_what_has_changed_is_refused(self):
        for _, block in sound():
            for at in range(0, len(block), 7):
                changed = bytearray(block)
                changed[at] ^= 1 << at % 8
                with self.assertRaises(superblock.Unsound):
                    superblock.decode(bytes(changed))

    def test_numbers_that_cannot_be(self):
        told, _ = sound()[0]
        for change in (
            {"seq": 2**64 - 1},
            {"event": 2**64 - 1},
            {"version": 0},
            {"header_bytes": 1087},
            {"header_bytes": 4097},
            {"generation": None},
            {"block_bytes": 768},
            {"device_bytes": 0},
            {"device_bytes": told["device_bytes"] * 2},
            {"area_bytes": 4096},
            {"stale_shift": 17},
            {"members": {**told["members"], "7": told["members"]["0"]}},
            {"members": {"0": {**told["members"]["0"], "state": "stale", "since": 0, "left": None, "full": True}}},
        ):
            with self.assertRaises(superblock.Unsound, msg=change):
                superblock.decode(superblock.encode(told | change))


class Exports(unittest.TestCase):
    def test_the_ring_of_a_file(self):
        told = {told["seq"]: told for told, _ in sound()}[23]
        size = told["export_bytes"]
        with tempfile.NamedTemporaryFile() as export:
            export.truncate(size)
            export.seek(size // 4096 * 4096 - 8 * 4096)
            export.write(superblock.encode(told))
            export.flush()
            program = os.path.join(META, "superblock.py")
            run = subprocess.run([sys.executable, "-B", program, "read", export.name], capture_output=True, check=True)
            self.assertEqual(json.loads(run.stdout), ["no superblock"] * 7 + [told])
            export.truncate(size + 512)
            self.assertEqual(superblock.read(export.name)[7], "the export has another size")


if __name__ == "__main__":
    unittest.main()
