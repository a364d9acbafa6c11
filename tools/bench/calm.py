# SPDX-License-Identifier: GPL-2.0
"""A kernel that does nothing of its own accord while it is measured."""

import os

SETTINGS = {
    "/sys/kernel/mm/transparent_hugepage/enabled": "never",
    "/sys/kernel/mm/ksm/run": "0",
    "/sys/module/damon_stat/parameters/enabled": "N",
    "/proc/sys/vm/compaction_proactiveness": "0",
}
# Where time counts instructions it leaps while all wait for the host's disk: hours may pass in a moment.
HUNG_TASKS = "/proc/sys/kernel/hung_task_timeout_secs"


def settle(time_leaps=False):
    """Stops what works in the background. Gives the settings that were made."""
    settings = dict(SETTINGS)
    if time_leaps:
        settings[HUNG_TASKS] = "0"
    made = []
    for path, value in settings.items():
        if os.path.exists(path):
            with open(path, "w", encoding="ascii") as file:
                file.write(value)
            made.append(f"{path}={value}")
    return made
