# SPDX-License-Identifier: GPL-2.0
"""Each way to write a command wrong: the documented errno, one line in the log, the last error in the status, nothing changed,
the device as good as before."""

import os

from lib import check, nbdinfo
from lib.cases import case
from lib.kmsg import Kmsg
from lib.mirror import Mirror
from lib.refusal import Refusals, snapshot

E2BIG, ENODEV, EINVAL, ERANGE, ENAMETOOLONG, EILSEQ = 7, 19, 22, 34, 36, 84

# With a device that can be told from the line; its status shows the error.
LINES = (
    (EINVAL, ["frobnicate[a]=1", "[a]=1", "Enable[a]=1", "enable [a]=1", "connect[a]=", "connect[a]=1", "enable[a]="]),
    (EINVAL, ["enable[a]=1 2", "enable[a]=yes", "enable[a]=-1", "enable[a]=0x1", "enable[a]=1.0", "setfaulty[a]=one"]),
    (EINVAL, ["hotadd[a]=1 half", "hotadd[a]=1 full full", "blocksize[a]=1000", "blocksize[a]=513", "reset[a]=0"]),
    (EINVAL, ["connect[a]=1 localhost", "connect[a]=1 127.0.0", "connect[a]=1 127.0.0.1:", "connect[a]=1 127.0.0.1:1x"]),
    (EINVAL, ["connect[a]=1 ::1", "connect[a]=1 [::1", "connect[a]=1 [::1]1", "connect[a]=1 [fe80::1]", "connect[a]=1 unix:x"]),
    (EINVAL, ["connect[a]=1 127.0.0.256", "connect[a]=1 127.0.0.1 disk", "connect[a]=1 127.0.0.1 size=3"]),
    (EINVAL, ["connect[a]=1 127.0.0.1 name=x name=y", "connect[a]=1 127.0.0.1 channels=1 channels=1"]),
    (EINVAL, ["connect[a]=1 127.0.0.1 force force", "connect[a]=1 127.0.0.1 force=1", "connect[a]=1 force"]),
    (EINVAL, ["connect[a]=1 127.0.0.1 channels=x", "disconnect[a]=", "disconnect[a]=1 nowhere", "timeout[a]=30s"]),
    (ERANGE, ["setfaulty[a]=8", "hotadd[a]=99", "hotremove[a]=4294967297", "connect[a]=8 127.0.0.1", "disconnect[a]=8"]),
    (ERANGE, ["enable[a]=2", "show_errs[a]=2", "autoadd[a]=18446744073709551617", "reset[a]=2"]),
    (ERANGE, ["connect[a]=1 127.0.0.1 channels=0", "connect[a]=1 127.0.0.1 channels=17", "connect[a]=1 127.0.0.1:0"]),
    (ERANGE, ["connect[a]=1 127.0.0.1:65536", "connect[a]=1 [::1]:99999", "blocksize[a]=256", "blocksize[a]=131072"]),
    (ERANGE, ["blocksize[a]=0", "timeout[a]=0", "timeout[a]=3601", "connect_timeout[a]=0", "connect_timeout[a]=301"]),
    (ERANGE, ["resync_min[a]=4294967296", "resync_max[a]=99999999999999999999999999999999"]),
    (EINVAL, ["connect[a]=1 [fe80::1%]", "connect[a]=1 [fe80::1%a/b]", "connect[a]=1 [fe80::1%" + "x" * 16 + "]"]),
    (EINVAL, ["connect[a]=1 127.0.0.1 name=a\\ b", "connect[a]=1 127.0.0.1 name=\\000", "disconnect[a]=1 unix:/\\4000"]),
    (ENAMETOOLONG, ["connect[a]=1 unix:/" + "x" * 107, "connect[a]=1 unix:/" + "\\040" * 107]),
)

# With none.
NAMELESS = (
    (EINVAL, [b"garbage\n", b"enable\n", b"enable=1\n", b"enable[a]\n", b"enable[a\n", b"enable[a] =1\n"]),
    (ENODEV, [b"enable[A]=1\n", b"enable[]=1\n", b"enable[ab]=1\n", b"enable[0]=1\n", b"enable[~]=1\n"]),
    (EILSEQ, [b"enable[a]=1\0\n", b"\0", b"ena\0ble[a]=1", b"enable[a]=\x1b[31m1\n", b"enable[a]=1\r\n", b"enable[\xc3\xa4]=1\n"]),
    (EILSEQ, [b"\xff" * 100, bytes(range(256)).replace(b"\n", b"")]),
    (E2BIG, [b"x" * 4096, b"enable[a]=1" + b" " * 1014, b"\0" * 4096]),
)


def run():
    with Mirror() as mirror, Kmsg() as kmsg:
        refusals, before = Refusals(kmsg), snapshot()

        def unchanged():
            check.equal(snapshot(), before, "status after a case that failed")

        for number, lines in LINES:
            for line in lines:
                with case(line, unchanged):
                    refusals.expect(line, number)
        for number, writes in NAMELESS:
            for data in writes:
                what = f"{data[:40]!r} ({len(data)} bytes)"
                with case(what, unchanged):
                    refusals.expect(data, number, what, told=False)
        with case("random bytes", unchanged):
            garbage(kmsg)
        with case("a buffer that is not there", unchanged):
            no_pointer()
        still_works(mirror)


def garbage(kmsg):
    """Blocks of random bytes."""
    for length in (1, 64, 1024, 4096):
        for _ in range(4):
            data = os.urandom(length)
            before = snapshot()
            kmsg.forget()
            try:
                nbdinfo.raw(data)
                check.that(not data.strip(b"\n\t "), f"garbage is refused: {data[:40]!r}")
            except OSError as error:
                check.that(error.errno in (EILSEQ, E2BIG, EINVAL, ENODEV), f"errno {error.errno} for garbage {data[:40]!r}")
                check.equal(len(kmsg.lines("enbd: .*refused")), 1, f"lines of the log on garbage of {length} bytes")
            check.equal(snapshot(), before, f"status after garbage {data[:40]!r}")


def no_pointer():
    """A buffer that is not there."""
    import ctypes  # noqa: PLC0415 (nowhere else)

    libc = ctypes.CDLL(None, use_errno=True)
    with open(nbdinfo.PATH, "wb", buffering=0) as file:
        check.equal(libc.write(file.fileno(), ctypes.c_void_p(8), ctypes.c_size_t(100)), -1, "write from nowhere")
        check.equal(ctypes.get_errno(), 14, "errno of a write from nowhere")
        check.equal(os.write(file.fileno(), b""), 0, "write of nothing")


def still_works(mirror):
    """After all that, the device does."""
    data = os.urandom(1 << 20)
    mirror.disk.write(0, data)
    check.that(mirror.disk.read(0, 1 << 20) == data, "read back in the end")
    mirror.command("setfaulty=1", "hotadd=1")
    mirror.wait_in_sync()
    mirror.check_same()
