# SPDX-License-Identifier: GPL-2.0
"""A server comes back with another export: of another size, without a feature, read-only, or without the name. The channel does
not come up, the log and the status say why, the group is faulted; when the old export is there again all becomes good."""

from lib import check, nbd
from lib.impostor import Impostor
from lib.kmsg import Kmsg
from lib.mirror import Mirror
from lib.server import Nbdkit
from lib.traffic import Traffic

LIMIT_S = 180
SIZE = 1 << 20
OLD = {"size": SIZE, "flags": nbd.ALL_FLAGS, "blocks": (1, 4096, 32 << 20)}


class Changing:
    """A script that may forget the export's name."""

    def __init__(self):
        self.is_known = True

    def __call__(self, talk):
        if self.is_known:
            talk.negotiate()
            talk.serve()
            return
        talk.to_option()
        talk.reply(nbd.ERR_UNKNOWN)
        talk.swallow()


CHANGES = (
    ("smaller", {"size": SIZE // 2}, "not the one|smaller"),
    ("larger", {"size": SIZE * 2}, "not the one"),
    ("odd", {"size": SIZE + 512}, "not the one|multiple"),
    ("read-only", {"flags": nbd.ALL_FLAGS | nbd.READ_ONLY}, "not the one|feature"),
    ("without flush", {"flags": nbd.ALL_FLAGS & ~nbd.SEND_FLUSH}, "not the one|feature"),
    ("with larger blocks", {"blocks": (4096, 4096, 65536)}, "not the one|feature"),
    ("unknown", {}, "unknown export"),
)


def run():
    script = Changing()
    impostor = Impostor(script, size=SIZE)
    with Mirror(kinds=[Nbdkit, lambda store: impostor], size=SIZE, settings=["timeout=1"]) as mirror, Kmsg() as kmsg:
        with Traffic(blocks=64) as traffic:
            for what, change, phrase in CHANGES:
                come_back_changed(mirror, kmsg, script, what, change, phrase)
                traffic.wait_for(20, 20, f"after the export came back {what}")
        traffic.verify()
        mirror.disable()
        check.that(mirror.servers[0].store.read(0, SIZE) == bytes(impostor.data), "both groups hold the same")


def come_back_changed(mirror, kmsg, script, what, change, phrase):
    """One change and back."""
    impostor = mirror.servers[1]
    kmsg.forget()
    for name, value in change.items():
        setattr(impostor, name, value)
    script.is_known = bool(change)
    hang_up(impostor)
    kmsg.wait_for(rf"\[a\] group 1 channel \d \(.*({phrase})", 20)
    lost = mirror.wait_until(lambda s: s.mark(1) == "F", 20, f"group 1 is faulted, {what}")
    check.that(not any(channel.is_up for channel in lost.of_group(1)), f"no channel of group 1 is up, {what}")
    check.that(any(channel.last_error for channel in lost.of_group(1)), f"the status says why, {what}")
    for name, value in OLD.items():
        setattr(impostor, name, value)
    script.is_known = True
    mirror.wait_in_sync(60)


def hang_up(impostor):
    """Closes all connections."""
    with impostor.changed:
        talks = list(impostor.talks)
    for talk in talks:
        talk.shutdown()
