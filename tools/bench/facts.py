# SPDX-License-Identifier: GPL-2.0
"""What has to be known of the VM to repeat a measurement."""

import os
import platform

from bench.stages import emit
from lib.program import attempt

VERSIONS = {
    "fio": ("fio", "--version"), "nbdkit": ("nbdkit", "--version"), "nbd-client": ("nbd-client", "-V"),
    "nbdcopy": ("nbdcopy", "--version"), "mdadm": ("mdadm", "--version"),
    "drbd": ("modinfo", "-F", "version", "drbd"), "drbd-utils": ("dpkg-query", "-W", "-f", "${Version}", "drbd-utils"),
}
TCP = ("tcp_congestion_control", "tcp_rmem", "tcp_wmem")


def run(_options):
    """Reports it."""
    versions = {}
    for name, argv in VERSIONS.items():
        done = attempt(*argv, limit=1 << 20)
        versions[name] = (done.stdout + done.stderr).strip().splitlines()[0]
    emit("facts", kernel=platform.release(), built=platform.version(), cpus=os.cpu_count(), versions=versions,
         cpu=_line("/proc/cpuinfo", "model name"), memory=_line("/proc/meminfo", "MemTotal"),
         tcp={name: _read(f"/proc/sys/net/ipv4/{name}") for name in TCP}, command_line=_read("/proc/cmdline"),
         clock=_read("/sys/devices/system/clocksource/clocksource0/current_clocksource"))


def _read(path):
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


def _line(path, label):
    return next(line.split(":", 1)[1].strip() for line in _read(path).splitlines() if line.startswith(label))
