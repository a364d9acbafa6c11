# SPDX-License-Identifier: GPL-2.0
"""The far VM of the stage `apart`: the NBD servers and DRBD's peers, for as long as the near VM wants them."""

from bench import calm, link
from bench.apart import SIZE
from bench.remote import AWAIT, RENEW, FarDrbd
from bench.servers import bank

SERVERS = 3


def run(_options):
    """Serves until the near VM is done."""
    calm.settle()
    link.up(link.FAR)
    with bank(SERVERS, SIZE, host=link.FAR) as servers, FarDrbd(SIZE) as drbd:
        link.offer({
            "ports": [server.endpoint.port for server in servers],
            "nbd": [" ".join(server.argv()) for server in servers],
            "drbd": list(drbd.settings),
        }, {RENEW: drbd.renew, AWAIT: drbd.await_connection})
