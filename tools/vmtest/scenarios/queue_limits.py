# SPDX-License-Identifier: GPL-2.0
"""The limits of the disk are the strictest of its groups': block sizes, largest request, cache and FUA, zeroes and discards,
rotation; 512-byte blocks where a server says nothing; never more than 4 MiB; stable pages always."""

from lib import check, nbd, nbdinfo
from lib.afresh import reset_all
from lib.cases import case
from lib.disk import Disk
from lib.impostor import Impostor

KIB = 1024
MIB = KIB * KIB
ALL = nbd.ALL_FLAGS

# Flags and block sizes of each group, and the limits that follow.
CASES = (
    ([(ALL, None)], {
        "logical_block_size": 512, "max_hw_sectors_kb": 4 * KIB, "write_cache": "write back", "fua": 1,
        "stable_writes": 1, "rotational": 0,
    }),
    ([(ALL, (1, 4096, 32 * MIB))], {"logical_block_size": 512, "physical_block_size": 4096}),
    ([(ALL, (512, 4096, MIB))], {"logical_block_size": 512, "physical_block_size": 4096, "max_hw_sectors_kb": KIB}),
    ([(ALL, (4096, 65536, 2 * MIB))], {"logical_block_size": 4096, "max_hw_sectors_kb": 2 * KIB}),
    ([(ALL, (512, 4096, MIB)), (ALL, (4096, 4096, 2 * MIB))], {"logical_block_size": 4096, "max_hw_sectors_kb": KIB}),
    ([(ALL & ~nbd.SEND_FUA, None)], {"write_cache": "write back", "fua": 0}),
    ([(ALL & ~nbd.SEND_FLUSH & ~nbd.SEND_FUA, None)], {"write_cache": "write through", "fua": 0}),
    ([(ALL, None), (ALL & ~nbd.SEND_FLUSH & ~nbd.SEND_FUA, None)], {"write_cache": "write back", "fua": 0}),
    ([(ALL | nbd.ROTATIONAL, None), (ALL, None)], {"rotational": 1}),
    ([(ALL & ~nbd.SEND_WRITE_ZEROES, None), (ALL, None)], {"discard_max_bytes": 0, "write_zeroes_max_bytes": 0}),
    ([(ALL, None), (ALL & ~nbd.SEND_TRIM, None)], {"discard_max_bytes": 0, "write_zeroes_max_bytes": 32 * MIB}),
)


def run():
    for groups, limits in CASES:
        with case(f"flags and blocks {groups}", reset_all):
            see_limits(groups, limits)
    zeroes_are_offered()


def see_limits(groups, limits):
    """A device over such groups."""
    servers = [Impostor(flags=flags, blocks=blocks).start() for flags, blocks in groups]
    for number, server in enumerate(servers):
        nbdinfo.command(f"connect[a]={number} {server.endpoint} name={server.export}")
    nbdinfo.command("enable[a]=1")
    got = {name: Disk().limit(name) for name in limits}
    check.equal(got, limits, f"limits over {groups}")
    Disk().write(0, bytes(8192))
    nbdinfo.command("enable[a]=0", "reset[a]=1")
    for server in servers:
        server.stop()


def zeroes_are_offered():
    """Where every server can write zeroes and trim, they and discards are offered, in pieces that a slow server can write."""
    with Impostor() as server:
        nbdinfo.command(f"connect[a]=0 {server.endpoint} name={server.export}", "enable[a]=1")
        for name in ("discard_max_bytes", "write_zeroes_max_bytes"):
            check.equal(Disk().limit(name), 32 * MIB, name)
        nbdinfo.command("enable[a]=0", "reset[a]=1")
