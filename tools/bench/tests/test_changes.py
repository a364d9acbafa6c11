# SPDX-License-Identifier: GPL-2.0
"""Two small files of figures, compared by the program that `make bench-compare` calls; and what a log makes of itself."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

BENCH = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path[:0] = [os.path.dirname(BENCH)]

from bench import changes, figures, kept, pages, results  # noqa: E402  (their place is known only now)

OLD = {
    "cost/all/4k-randread-d32/enbd-1": [35000, 35500, 36000],
    "cost/all/4k-randread-d32/nbd.ko": [47000, 47300, 47500],
    "speed/iops/4k-randread-d1/enbd-1": [900, 1000, 1100],
    "speed/p99/4k-randread-d1/enbd-1": [1400],
    "resync/seconds/full/enbd-2": [16.9],
}

COST = {"stage": "cost", "workload": "4k-randread-d1"}
LINES = (
    {"stage": "facts", "kernel": "7.3.4"},
    {**COST, "peer": "null_blk", "rounds": [{"all": 100, "server": 0}]},
    {**COST, "peer": "enbd-1", "rounds": [{"all": 1100, "server": 600}, {"all": 1300, "server": 700}]},
    {"stage": "speed", "calm": [], "counted": False},
    {"stage": "speed", "workload": "4k-randread-d1", "counted": False,
     "rounds": {"enbd-1": [{"iops": 1000.4, "p50": 1, "p99": 2, "p999": 3}]}},
    {"stage": "resync", "peer": "enbd-2", "case": "post", "rounds": [{"moved": 1 << 20, "seconds": 0.5}], "size": 4 << 20},
    {"stage": "failover", "case": "nothing", "rounds": {"enbd-2": [{"stall_ms": 48}, {"stall_ms": 9}]}},
)
LOG = "@host commit 0123456789abcdef\n@host quick no\n@host qemu 11.1.3\nthis is for people\n" + "".join(
    f"@bench {json.dumps(line)}\n" for line in LINES
)


class Compare(unittest.TestCase):
    """The rule, through the program."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def write(self, name, values):
        """A file of figures."""
        path = os.path.join(self.folder, name)
        figures.Run("2026-11-26", {"kernel": "7.3.4"}, [{"stages": ["cost"], "commit": "c0ffee"}], values).write(path)
        return path

    def compare(self, old, new):
        """What the program ends with and says."""
        argv = [sys.executable, "-B", os.path.join(BENCH, "compare-runs"), old, new]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def against(self, **changed):
        """The old figures and the same with changes, by the end of their names."""
        new = dict(OLD)
        for name in OLD:
            for end, values in changed.items():
                if name.startswith(end.replace("_", "/", 1)) and not name.endswith("nbd.ko"):
                    new[name] = values
        return self.compare(self.write("old.json", OLD), self.write("new.json", new))

    def test_the_same(self):
        status, said = self.against()
        self.assertEqual(status, 0, said)
        self.assertIn("0 worse, 0 better, 4 same", said)

    def test_more_instructions_are_worse(self):
        status, said = self.against(cost_all=[38000, 38500, 39000])
        self.assertEqual(status, 1, said)
        self.assertIn("worse", said)
        self.assertIn("cost/all/4k-randread-d32/enbd-1", said)

    def test_fewer_are_better(self):
        status, said = self.against(cost_all=[30000, 30500, 31000])
        self.assertEqual(status, 0, said)
        self.assertIn("0 worse, 1 better, 3 same", said)

    def test_fewer_requests_a_second_are_worse(self):
        self.assertEqual(self.against(speed_iops=[500, 550, 600])[0], 1)
        self.assertEqual(self.against(speed_iops=[1900, 2000, 2100])[0], 0)

    def test_within_the_limit_is_the_same(self):
        self.assertEqual(self.against(cost_all=[37000, 37500, 37600])[0], 0)
        self.assertEqual(self.against(speed_p99=[2000])[0], 0)
        self.assertEqual(self.against(speed_p99=[2200])[0], 1)

    def test_rounds_that_overlap_are_the_same(self):
        status, said = self.against(speed_iops=[500, 550, 900])
        self.assertEqual(status, 0, said)

    def test_peers_are_not_judged(self):
        new = {**OLD, "cost/all/4k-randread-d32/nbd.ko": [90000]}
        status, said = self.compare(self.write("old.json", OLD), self.write("new.json", new))
        self.assertEqual(status, 0, said)
        self.assertIn("not judged", said)

    def test_what_one_run_lacks_is_told(self):
        less = {name: values for name, values in OLD.items() if not name.startswith("resync")}
        status, said = self.compare(self.write("old.json", OLD), self.write("new.json", less))
        self.assertEqual(status, 0, said)
        self.assertIn("1 figures are only in the old run", said)

    def test_nothing_to_compare(self):
        other = self.write("other.json", {"cost/all/x/enbd-1": [1]})
        status, said = self.compare(self.write("old.json", OLD), other)
        self.assertEqual(status, 2, said)
        with open(other, "w", encoding="utf-8") as file:
            file.write('{"format": 1}')
        status, said = self.compare(self.write("old.json", OLD), other)
        self.assertEqual(status, 2, said)
        self.assertIn("no file of figures", said)


class Figures(unittest.TestCase):
    """From a log to a file, and to tables."""

    def test_a_log_becomes_figures(self):
        with tempfile.NamedTemporaryFile("w", suffix=".log", encoding="utf-8") as log, tempfile.TemporaryDirectory() as folder:
            log.write(LOG)
            log.flush()
            run = figures.of_run(results.Results(log.name), "2026-11-30")
            path = os.path.join(folder, "one.json")
            run.write(path)
            self.assertEqual(figures.read(path), run)
        self.assertEqual(run.figures, {
            "cost/all/4k-randread-d1/enbd-1": [1000, 1200],
            "cost/client/4k-randread-d1/enbd-1": [400, 500],
            "speed/iops/4k-randread-d1/enbd-1": [1000], "speed/p50/4k-randread-d1/enbd-1": [1],
            "speed/p99/4k-randread-d1/enbd-1": [2], "speed/p999/4k-randread-d1/enbd-1": [3],
            "resync/moved/post/enbd-2": [1], "resync/seconds/post/enbd-2": [0.5],
            "failover/stall_ms/nothing/enbd-2": [9, 48],
        })
        self.assertEqual(run.parts, [{"stages": ["cost", "speed", "failover", "resync"], "commit": "0123456789abcdef"}])

    def test_every_stage_has_a_limit(self):
        for path in kept.all_of_them():
            for name in figures.read(path).figures:
                self.assertIn(name.split("/", 1)[0], changes.LIMITS)

    def test_the_tables_are_those_of_the_newest_run(self):
        newest = kept.newest()
        with open(kept.path(kept.TABLES), encoding="utf-8") as file:
            self.assertEqual(file.read(), pages.document(figures.read(newest), os.path.basename(newest)))

    def test_what_pages_include_is_there(self):
        with open(kept.path(kept.TABLES), encoding="utf-8") as file:
            tables = file.read()
        for page in ("bench.rst", "performance.rst"):
            with open(os.path.join(kept.FOLDER, os.pardir, page), encoding="utf-8") as file:
                options = [line.strip() for line in file if line.startswith(("   :start-after: ", "   :end-before: "))]
            words = [option.split(": ", 1)[1] for option in options]
            self.assertTrue(words)
            for word in words:
                self.assertEqual(tables.count(word), 1, word)

    def test_a_file_is_json(self):
        with open(kept.newest(), encoding="utf-8") as file:
            self.assertEqual(json.load(file)["format"], figures.FORMAT)


if __name__ == "__main__":
    unittest.main()
