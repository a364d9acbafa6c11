# SPDX-License-Identifier: GPL-2.0
"""writer.c: compiled, started, listened to."""

import os
import queue
import re
import subprocess
import threading
import time

from lib import check
from lib.program import run

SOURCE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "writer.c")
PROGRAM = os.path.abspath("writer")
BLOCK = 4096
SHIM = os.path.abspath("shim.so")
SHIM_SOURCE = "int gnutls_dh_params_generate2(void *params, unsigned int bits) { (void)params; (void)bits; return 0; }\n"


def build():
    """Compiles it, and what spares nbd-server a search for primes that nobody needs."""
    run("gcc", "-O2", "-Wall", "-pthread", "-o", PROGRAM, SOURCE)
    run("gcc", "-shared", "-fPIC", "-x", "c", "-o", SHIM, "-", data=SHIM_SOURCE)


class Writer:
    """A process that writes blocks, and verifies them. `restless` is the range of blocks, apart from those, that it writes from a
    buffer that changes meanwhile, and does not verify: what they hold shows when the stores are compared."""

    def __init__(self, path, *, first=0, blocks, seed, restless, threads=6, pace_us=8000, zeroes=False):
        self.path, self.first, self.blocks, self.seed, self.zeroes = path, first, blocks, seed, int(zeroes)
        self.operations = 0
        self.stalls = []
        self.oldest = 0.0
        self.heard = time.monotonic()
        self.trouble, self.is_ended = None, False
        self.said = ""
        self.restless_writes = 0
        self._answers = queue.Queue()
        argv = [PROGRAM, path, first, blocks, threads, seed, pace_us, self.zeroes, restless.start, len(restless)]
        self.process = subprocess.Popen(
            [str(word) for word in argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self.process.stdout:
            words = line.split()
            if words[0] == "T":
                self.heard, self.operations, self.oldest = float(words[1]), int(words[2]), float(words[3])
                start, end = float(words[4]), float(words[5])
                if end > start:
                    self.stalls.append((end - start, start, end, words[6]))
            elif words[0] in ("DIFF", "ERROR"):
                self.trouble = line.strip()
                self._answers.put(None)
            else:
                self.said = line.strip()
                self._answers.put(words[0])
        if not self.is_ended:
            self.trouble = self.trouble or f"the writer of {self.path} has ended"
        self._answers.put(None)

    def check(self):
        """Fails if it has found a difference or an error."""
        check.that(not self.trouble, f"{self.path}: {self.trouble}")

    def _ask(self, question, answer, seconds):
        self.check()
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        if answer is None:
            return
        try:
            got = self._answers.get(timeout=seconds)
        except queue.Empty:
            raise check.Failure(f"{self.path}: the writer did not say {answer} within {seconds} s") from None
        self.check()
        check.equal(got, answer, f"answer of the writer of {self.path}")

    def pause(self, seconds):
        """Waits until nothing is under way."""
        self._ask("pause", "PAUSED", seconds)

    def verify(self, seconds):
        """Reads all blocks but the restless ones, which must have been written since the last time; only while it pauses."""
        self._ask("verify", "VERIFIED", seconds)
        before, self.restless_writes = self.restless_writes, int(re.search(r"(\d+) restless", self.said)[1])
        check.that(self.restless_writes > before, f"{self.path}: restless blocks are written in this round")

    def go_on(self):
        """Ends the pause."""
        self._ask("go", None, 0)

    def decode(self, block, path, offset):
        """What a file has of a block."""
        return run(PROGRAM, "decode", self.seed, block, self.zeroes, path, offset, 1000000).strip()

    def end(self):
        """Ends it."""
        self.is_ended = True
        self._ask("quit", None, 0)
        check.equal(self.process.wait(30), 0, f"exit status of the writer of {self.path}")
