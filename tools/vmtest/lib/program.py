# SPDX-License-Identifier: GPL-2.0
"""Programs that are run to their end."""

import subprocess

from lib.check import Failure

# No program that is waited for may take longer than this, unless it says so.
LIMIT_S = 60


def run(*argv, limit=LIMIT_S, data=None):
    """Runs a program, which must succeed, and gives its output."""
    result = attempt(*argv, limit=limit, data=data)
    if result.returncode:
        lines = (result.stdout + result.stderr).strip().splitlines()
        raise Failure(f"{argv[0]} failed ({result.returncode}): {' | '.join(lines[-6:])}; it was: {' '.join(map(str, argv))}")
    return result.stdout


def attempt(*argv, limit=LIMIT_S, data=None):
    """Runs a program, and gives how it ended."""
    words = [str(word) for word in argv]
    try:
        return subprocess.run(words, input=data, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired as error:
        raise Failure(f"{words[0]} did not end within {limit} s; it was: {' '.join(words)}") from error
