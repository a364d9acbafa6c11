# SPDX-License-Identifier: GPL-2.0
"""What came of it: a table of the faults, as text and as JSON."""

import collections
import json
import re

from parts.kinds import KINDS

# Lines of the kernel's log, in short.
NEWS = (
    (r"group \d is faulty: (.*)", "faulted: {}"),
    (r"group \d channel \d .*\): (.*)", "channel: {}"),
    (r"nbd_resync of group \d (failed|ended early)", "resync {}"),
    (r"group \d is (back as the only one)", "{}"),
    (r"(\S+) refused \(line", "command refused: {}"),
)


class Report:
    """Made of the faults that were, and what the writers saw."""

    def __init__(self, schedule, watch, seed):
        self.schedule, self.watch, self.seed = schedule, watch, seed

    def _stalls_of(self, victim):
        """Of each kind of fault the longest operation of a device that it was on at: with no other fault on meanwhile, and
        in all. Under `None` those at which none was on."""
        found = collections.defaultdict(lambda: {"alone": 0.0, "longest": 0.0})
        on = [one for one in self.schedule.past if one.victim is victim]
        for length, start, end, _ in victim.writer.stalls:
            there = [one for one in on if one.start < end and start < one.end]
            for kind in {one.kind for one in there} or {None}:
                row = found[kind]
                row["longest"] = max(row["longest"], round(length, 2))
                if len(there) <= 1:
                    row["alone"] = max(row["alone"], round(length, 2))
        return found

    def _happened(self, instances):
        count = collections.Counter()
        for one in instances:
            for line in self.watch.news_of(one.victim.letter, one.start, one.end):
                # A line that names a group of another fault belongs to that.
                named = re.search(r"group (\d)", line)
                if named and int(named[1]) != one.group and one.kind.reach.name != "CUT":
                    continue
                for pattern, text in NEWS:
                    found = re.search(pattern, line)
                    if found:
                        count[text.format(found[1])] += 1
                        break
        return dict(count.most_common())

    def rows(self, stalls):
        """A row for each kind of fault."""
        rows = []
        for kind in KINDS:
            instances = [one for one in self.schedule.past if one.kind is kind]
            rows.append({
                "fault": kind.name, "what": kind.what, "times": len(instances),
                "on_s": round(max((one.healed - one.start for one in instances), default=0.0), 1),
                "stall": {letter: found[kind] for letter, found in stalls.items()},
                "whole_after_s": round(max((one.end - one.healed for one in instances), default=0.0), 1),
                "happened": self._happened(instances),
            })
        return rows

    def write(self, ok):
        """Prints the table, and the same as one line of JSON, which `start` puts into a file."""
        stalls = {victim.letter: self._stalls_of(victim) for victim in self.schedule.victims}
        rows, quiet = self.rows(stalls), {letter: found[None] for letter, found in stalls.items()}
        print("fault               times  on for  stall, raw       stall, mounted   whole in  what enbd said")
        for row in rows:
            print(f"{row['fault']:19} {row['times']:5}  {row['on_s']:6.1f}  {self._columns(row['stall'])}  "
                  f"{row['whole_after_s']:8.1f}  " + "; ".join(f"{text} {n}" for text, n in list(row["happened"].items())[:4]))
        print(f"{'(no fault on)':19} {'':5}  {'':6}  {self._columns(quiet)}")
        print("All in seconds, and the longest that was. A stall is the time from the submission of a request to its end: first\n"
              "while no other fault was on at the device, then while there was. The last time is from the healing of the fault\n"
              "until the group was in sync with all channels up.")
        operations = {v.letter: v.writer.operations for v in self.schedule.victims}
        slowest = {verb: round(s, 2) for verb, s in sorted(self.watch.slowest.items())}
        print(f"operations of the writers: {operations}; slowest commands, s: {slowest}")
        print("JSON " + json.dumps({"seed": self.seed, "ok": ok, "faults": rows, "no_fault": quiet, "operations": operations,
                                    "commands_s": slowest}), flush=True)

    @staticmethod
    def _columns(stall):
        return "  ".join(f"{one['alone']:6.2f} / {one['longest']:6.2f}" for one in stall.values())
