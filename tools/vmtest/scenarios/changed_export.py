# SPDX-License-Identifier: GPL-2.0
"""A server comes back with another export. What can do all that the device has promised is taken: larger, with more features, with
smaller blocks. What can do less is refused: the channel does not come up, the log and the status say what it lacks, the group is
faulted, and when the old export is there again all becomes good."""

from lib import check, nbd
from lib.cases import case
from lib.impostor import Impostor
from lib.kmsg import Kmsg
from lib.mirror import Mirror
from lib.server import Nbdkit
from lib.traffic import Traffic

LIMIT_S = 240
SIZE = 1 << 20
EBUSY, EINVAL, ENOTCONN = 16, 22, 107
SEND_CACHE = 1 << 10
OLD = {"size": SIZE, "flags": nbd.ALL_FLAGS, "blocks": (1024, 4096, 1 << 20)}


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


LESS = (
    ("smaller", {"size": SIZE // 2}, "smaller than the device.*in its old size"),
    ("smaller and odd", {"size": SIZE - 512}, "smaller than the device"),
    ("read-only", {"flags": nbd.ALL_FLAGS | nbd.READ_ONLY}, "is read-only"),
    ("without flush", {"flags": nbd.ALL_FLAGS & ~nbd.SEND_FLUSH}, "no FLUSH"),
    ("without FUA", {"flags": nbd.ALL_FLAGS & ~nbd.SEND_FUA}, "no FUA"),
    ("without write zeroes", {"flags": nbd.ALL_FLAGS & ~nbd.SEND_WRITE_ZEROES}, "no WRITE_ZEROES"),
    ("with larger blocks", {"blocks": (8192, 8192, 1 << 20)}, "larger blocks than the device"),
    ("with smaller requests", {"blocks": (1024, 4096, 65536)}, "no requests as large as the device"),
    ("unknown", {}, "unknown export"),
)

MORE = (
    ("larger", {"size": SIZE * 2}),
    ("larger and odd", {"size": SIZE + 512}),
    ("with a feature more", {"flags": nbd.ALL_FLAGS | SEND_CACHE}),
    ("without trim, which is not used", {"flags": nbd.ALL_FLAGS & ~nbd.SEND_TRIM}),
    ("with smaller blocks", {"blocks": (1, 4096, 1 << 20)}),
    ("with larger requests", {"blocks": (1024, 4096, 32 << 20)}),
)


def run():
    script = Changing()
    impostor = Impostor(script, **OLD)
    with Mirror(kinds=[Nbdkit, lambda store: impostor], size=SIZE, settings=["timeout=2"]) as mirror, Kmsg() as kmsg:
        with Traffic(blocks=64) as traffic:
            one_of_two_without_multi_conn(mirror, kmsg)
            come_back_with_more(mirror, "larger, by itself", {"size": SIZE * 3})
            mirror.wait_in_sync(60)
            # From here on the group is added by hand: the keeper would be ever more patient.
            mirror.command("autoadd=0")
            for what, change, phrase in LESS:
                with case(f"comes back {what}", lambda: mend(mirror, script)):
                    come_back_with_less(mirror, kmsg, script, what, change, phrase)
                    traffic.wait_for(20, 20, f"after the export came back {what}")
            for what, change in MORE:
                with case(f"comes back {what}", lambda: mend(mirror, script)):
                    come_back_with_more(mirror, what, change)
                    add_back(mirror)
                    traffic.wait_for(20, 20, f"while the export is {what}")
                    come_back_with_more(mirror, "old", {})
                    add_back(mirror)
            add_another(mirror, impostor)
        traffic.verify()
        mirror.disable()
        check.that(mirror.servers[0].store.read(0, SIZE) == bytes(impostor.data[:SIZE]), "both groups hold the same")


def change_to(impostor, change):
    """What the server offers from now on."""
    for name, value in {**OLD, **change}.items():
        setattr(impostor, name, value)


def mend(mirror, script):
    """After a case that went wrong: the old export, and all channels."""
    script.is_known = True
    come_back_with_more(mirror, "old", {})
    add_back(mirror)


def come_back_with_less(mirror, kmsg, script, what, change, phrase):
    """One change and back."""
    impostor = mirror.servers[1]
    kmsg.forget()
    change_to(impostor, change)
    script.is_known = bool(change)
    hang_up(impostor)
    kmsg.wait_for(rf"\[a\] group 1 channel \d \(.*({phrase})", 20)
    lost = mirror.wait_until(lambda s: s.mark(1) == "F", 20, f"group 1 is faulted, {what}")
    check.that(not any(channel.is_up for channel in lost.of_group(1)), f"no channel of group 1 is up, {what}")
    check.that(any(channel.last_error for channel in lost.of_group(1)), f"the status says why, {what}")
    change_to(impostor, {})
    script.is_known = True
    mirror.wait_until(lambda s: all(c.is_up for c in s.of_group(1)), 60, f"group 1 has its channels again, {what}")
    add_back(mirror)


def add_back(mirror):
    """Brings the group back, if it was faulted, as soon as it may."""

    def is_back():
        status = mirror.status()
        if status.mark(1) == "F":
            try:
                mirror.command("hotadd=1")
            except OSError as error:
                # The server may still carry out what was lost, or a channel is lost just now.
                check.that(error.errno in (EBUSY, ENOTCONN), f"hotadd: {error}")
        return status.is_clean()

    check.until(is_back, 60, "group 1 is in sync")


def come_back_with_more(mirror, what, change):
    """The channels come up again, and the device is what it was."""
    before = mirror.wait_until(lambda s: all(c.is_up for c in s.channels), 60, f"all channels are up, before {what}")
    change_to(mirror.servers[1], change)
    hang_up(mirror.servers[1])
    counts = [channel.reconnects for channel in before.of_group(1)]

    def is_back(status):
        channels = status.of_group(1)
        return all(c.is_up and c.reconnects > count for c, count in zip(channels, counts, strict=True))

    now = mirror.wait_until(is_back, 60, f"the channels of group 1 are back, {what}")
    check.equal((now.size_kb, now.blocks), (before.size_kb, before.blocks), f"the size of the device, {what}")


def one_of_two_without_multi_conn(mirror, kmsg):
    """While another channel relies on CAN_MULTI_CONN, one that has lost it does not come up."""
    impostor = mirror.servers[1]
    change_to(impostor, {"flags": nbd.ALL_FLAGS & ~nbd.MULTI_CONN})
    hang_up(impostor, 1)
    kmsg.wait_for(r"\[a\] group 1 channel \d \(.*no CAN_MULTI_CONN", 20)
    status = mirror.status()
    check.equal(sorted(c.is_up for c in status.of_group(1)), [False, True], "channels that are up")
    change_to(impostor, {})
    mirror.wait_until(lambda s: all(c.is_up for c in s.channels), 60, "all channels are up")
    mirror.wait_in_sync(60)


def add_another(mirror, impostor):
    """A new channel to an export of another size is taken for a mistake while the group has channels that are up."""
    change_to(impostor, {"size": SIZE * 2})
    with check.refused(EINVAL, "connect to a larger export"):
        mirror.connect(1, channels=1)
    check.that("its size differs" in mirror.status().error, f"the error says why: {mirror.status().error!r}")
    change_to(impostor, {})
    mirror.connect(1, channels=1)


def hang_up(impostor, most=None):
    """Closes all connections, or so many."""
    with impostor.changed:
        talks = [talk for talk in impostor.talks if talk.sock.fileno() >= 0]
    for talk in talks[:most]:
        talk.shutdown()
