# SPDX-License-Identifier: GPL-2.0
"""From whatever state devices are in to none."""

from lib import check, module, nbdinfo


def release_held():
    """Lets requests that wait for a server end."""
    for letter in nbdinfo.devices() if module.is_loaded() else ():
        nbdinfo.command(f"show_errs[{letter}]=1", f"timeout[{letter}]=1", f"connect_timeout[{letter}]=1")


def reset_all():
    """Resets every device; waits for those that are in use. What a case does that had the machine for itself and failed."""
    release_held()
    for letter in nbdinfo.devices() if module.is_loaded() else ():
        check.until(lambda device=letter: _try_reset(device), 30, f"device {letter} can be reset")


def _try_reset(letter):
    try:
        nbdinfo.command(f"reset[{letter}]=1")
    except OSError:
        return False
    return True
