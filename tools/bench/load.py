# SPDX-License-Identifier: GPL-2.0
"""The load generator: fio with a job file, and what it reports."""

import json
import os
import subprocess
import tempfile

from lib.check import Failure

GLOBAL = ("ioengine=libaio", "direct=1", "thread=1", "norandommap=1", "randseed=1", "disk_util=0")
# A device that hangs must not keep the VM for ever.
LIMIT_S = 1800


def job(name, *lines):
    """A section of a job file."""
    return [f"[{name}]", *lines]


def run(device, *jobs, common=()):
    """Runs the jobs, on this device if they name none: the directory where it ran, what fio says of each by name."""
    directory = tempfile.mkdtemp(prefix="fio-")
    lines = ["[global]", *GLOBAL, *common] + ([f"filename={device}"] if device else [])
    path = os.path.join(directory, "jobs.fio")
    with open(path, "w", encoding="ascii") as file:
        file.write("\n".join(sum(jobs, lines)) + "\n")
    done = subprocess.run(["fio", "--output-format=json", path], cwd=directory, capture_output=True, text=True,
                          timeout=LIMIT_S, check=False)
    if done.returncode:
        raise Failure(f"fio: status {done.returncode}: {(done.stdout + done.stderr).strip()[-600:]}")
    # fio's notes may stand before the report.
    report = json.loads(done.stdout[done.stdout.index("{\n"):])
    return directory, {one["jobname"]: one for one in report["jobs"]}
