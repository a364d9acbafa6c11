# SPDX-License-Identifier: GPL-2.0
"""The module is pinned while a disk is open or mounted, cannot be loaded twice, goes when nothing is open although devices
are enabled, and comes back."""

import os

from lib import check, module, nbdinfo
from lib.mirror import Mirror
from lib.program import attempt
from lib.program import run as run_program


def run():
    with Mirror() as mirror:
        with mirror.disk.open() as disk:
            refuse_unload("while the disk is open")
            disk.write(0, b"x" * 4096)
        run_program("mkfs.ext4", "-q", mirror.disk.path)
        os.mkdir("mnt")
        run_program("mount", mirror.disk.path, "mnt")
        refuse_unload("while the disk is mounted")
        run_program("umount", "mnt")
        load_twice()
        with open(nbdinfo.PATH, encoding="ascii") as file:
            file.read(10)
            check.until(unload_or_not, 30, "rmmod with enabled devices")
            check.that(not module.threads(), "threads are left after rmmod")
            check.that(not mirror.disk.exists(), "the disk is left after rmmod")
        with check.refused((2,), "opening /proc/nbdinfo without the module"):
            nbdinfo.text()
        module.load()
        check.equal(nbdinfo.text(), "Device a-z:\tClosed\n", "status after loading again")
        for server in mirror.servers:
            server.stop()


def refuse_unload(when):
    """rmmod has to fail, and to do no harm."""
    result = attempt("rmmod", "enbd")
    check.that(result.returncode and "in use" in result.stderr, f"rmmod {when}: {result.stderr.strip() or 'succeeded'}")
    check.that(nbdinfo.status().enabled, f"the device is enabled after rmmod {when} was refused")


def load_twice():
    """insmod of a loaded module says so."""
    result = attempt("insmod", "/root/enbd.ko")
    check.that(result.returncode and "File exists" in result.stderr, f"insmod twice: {result.stderr.strip() or 'succeeded'}")


def unload_or_not():
    """Loading is retried by nobody, so a reader of the file may delay it."""
    return attempt("rmmod", "enbd").returncode == 0
