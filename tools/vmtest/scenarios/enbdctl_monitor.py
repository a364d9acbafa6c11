# SPDX-License-Identifier: GPL-2.0
"""enbdctl monitor, check and metrics: a group is lost and copied again, one is added, all servers go; the module comes and goes.
The monitor's lines, what its handler was told, the metrics that it writes and how check ends show it. A first copy is no alarm."""

import os
import select
import shutil
import socket
import subprocess
import time

from lib import check, module
from lib.ctl import DEGRADED, ETC, HELD, NOT_THERE, OK, USAGE, ctl, forget
from lib.mirror import MIB, Mirror
from lib.program import attempt
from lib.server import Nbdkit
from lib.store import Store

LIMIT_S = 300

# The text first: it is there once the line is.
HANDLER = 'cat >"$1.text"; echo "$ENBD_EVENT $ENBD_DEVICE $ENBD_NAME $ENBD_STATE" >>"$1"\n'
UNSEEN = "since the last look"


class Monitor:
    """enbdctl monitor as systemd starts it, open in a `with`: its lines, what its handler was told, its metrics."""

    def __init__(self):
        self.told_file, self._metrics = os.path.abspath("told"), os.path.abspath("enbd.prom")
        self._rest = b""
        with open("handler", "w", encoding="ascii") as file:
            file.write(HANDLER)
        os.makedirs(ETC, exist_ok=True)
        with open(f"{ETC}/monitor.toml", "w", encoding="ascii") as file:
            file.write(f'exec = ["/bin/sh", "{os.path.abspath("handler")}", "{self.told_file}"]\nmetrics = "{self._metrics}"\n')

    def __enter__(self):
        self._systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._systemd.bind("notify")
        self._systemd.settimeout(60)
        environment = {**os.environ, "NOTIFY_SOCKET": os.path.abspath("notify")}
        self._process = subprocess.Popen(["enbdctl", "monitor"], stdout=subprocess.PIPE, env=environment)
        said = self._systemd.recv(4096).decode()
        check.that(said.startswith("READY=1\n"), f"systemd is told that it is ready: {said}")
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait(60)
        self._process.stdout.close()
        self._systemd.close()
        os.unlink("notify")

    def until(self, words, seconds=60):
        """The lines up to the first one that has these words."""
        lines, end = [], time.monotonic() + seconds
        pipe = self._process.stdout.fileno()
        while not lines or words not in lines[-1]:
            while b"\n" not in self._rest:
                left = max(0, end - time.monotonic())
                check.that(select.select([pipe], [], [], left)[0], f"a line has {words!r}, after {lines}")
                piece = os.read(pipe, 4096)
                check.that(piece, f"enbdctl monitor goes on after {lines}")
                self._rest += piece
            line, self._rest = self._rest.split(b"\n", 1)
            lines.append(line.decode())
        return lines

    def told(self):
        """What the handler was told, a line an alarm."""
        if not os.path.exists(self.told_file):
            return []
        with open(self.told_file, encoding="ascii") as file:
            return file.read().splitlines()

    def wait_told(self, *alarms):
        """Waits until the handler was told just these since the last time."""
        check.until(lambda: self.told() == list(alarms), 30, f"the handler is told {alarms}")
        os.unlink(self.told_file)

    def wait_metrics(self, *lines):
        """Waits until the file of metrics has these lines."""

        def has_them():
            with open(self._metrics, encoding="utf-8") as file:
                return set(lines) <= set(file.read().splitlines())

        # It is written every 15 seconds, but at once when something has changed.
        check.until(has_them, 10, f"metrics have {lines}")


def run():
    check.that(shutil.which("enbdctl"), "enbdctl is in the VM: `scripts/vm tools/vmtest/run` builds it")
    forget()
    try:
        wrong()
        module.unload()
        ctl("check", status=NOT_THERE, says="ENBD UNKNOWN - the module enbd is not loaded")
        with Monitor() as monitor:
            monitor.until("<6>the module enbd is not loaded")
            monitor.wait_metrics("enbd_module_loaded 0")
            # By itself it looks once a minute only.
            module.load()
            monitor.until("<6>the module enbd is loaded", 40)
            ctl("check", status=NOT_THERE, says="ENBD UNKNOWN - no device is up")
            with Mirror(settings=["name=data", "autoadd=0"]) as mirror:
                monitor.until("<5>data: OK, 2 of 2 groups in sync")
                ctl("check", "a", says="ENBD OK - data: OK, 2 of 2 groups in sync | ")
                fails(mirror, monitor)
                comes_back(mirror, monitor)
                grows(mirror, monitor)
                held(mirror, monitor)
                mirror.disable()
                monitor.until("<5>data: DISABLED, ")
            monitor.until("<5>data: gone")
            # Whoever follows it does not keep the module.
            module.unload()
            monitor.until("<6>the module enbd is not loaded")
            check.equal(monitor.told(), [], "alarms of a device that was taken away")
            module.load()
            monitor.until("<6>the module enbd is loaded", 40)
        trial(monitor)
        unit()
    finally:
        forget()
        # After a failure, too, the suite finds what it left.
        if not module.is_loaded():
            module.load()


def wrong():
    """What is wrong in the file is said with its place, and nothing is started."""
    os.makedirs(ETC, exist_ok=True)
    with open(f"{ETC}/monitor.toml", "w", encoding="ascii") as file:
        file.write('\nmial = "root"\n')
    ctl("monitor", status=USAGE, says="monitor.toml:2:1: there is no key")


def fails(mirror, monitor):
    """A group is lost: one alarm, and everybody knows."""
    mirror.command("setfaulty=1")
    lines = monitor.until("<3>alarm: ")
    why = "set faulty by the administrator"
    of_group = [line for line in lines if line.startswith("<4>data group 1: faulty, ")]
    check.that(of_group and of_group[0].endswith(why), f"a line of the group: {lines}")
    check.that(not any(UNSEEN in line for line in lines), f"nothing else has happened: {lines}")
    monitor.wait_told("degraded /dev/nda data degraded")
    with open(f"{monitor.told_file}.text", encoding="utf-8") as file:
        text = file.read()
    check.that("data      /dev/nda" in text and why in text, f"the handler reads the status: {text}")
    monitor.wait_metrics(
        'enbd_device_state{device="data",state="degraded"} 1', 'enbd_group_state{device="data",group="1",state="faulty"} 1')
    ctl("check", "a", status=DEGRADED, says="ENBD WARNING - data: DEGRADED, 1 of 2 groups in sync, group 1 faulty")


def comes_back(mirror, monitor):
    """It is copied again: the alarm is over."""
    mirror.disk.write(0, b"\1" * MIB)
    mirror.resync(1)
    monitor.until("<5>alarm is over: data: OK, 2 of 2 groups in sync")
    monitor.wait_told("recovered /dev/nda data ok")
    monitor.wait_metrics('enbd_device_state{device="data",state="ok"} 1', 'enbd_groups{device="data",state="in_sync"} 2')
    ctl("check", "a", status=OK, says="ENBD OK - ")


def grows(mirror, monitor):
    """One more group gets its first copy, which is slow enough to be seen, and no alarm."""
    mirror.command("resync_max=2048")
    group = mirror.add(Nbdkit(Store("a2", 4 * MIB)))
    mirror.command(f"hotadd={group} full")
    lines = monitor.until(f"data group {group}: resyncing")
    ctl("check", "a", status=DEGRADED, says="group 2 resyncing")
    mirror.command("resync_max=0")
    lines += monitor.until("<5>data: OK, 3 of 3 groups in sync")
    check.that(not any("alarm" in line for line in lines), f"a first copy is no alarm: {lines}")
    check.equal(monitor.told(), [], "alarms of a first copy")


def held(mirror, monitor):
    """All servers go: the device is held, and comes back."""
    for server in mirror.servers:
        server.kill()
    monitor.until("<2>alarm: data: HELD")
    monitor.wait_told("held /dev/nda data held")
    monitor.wait_metrics('enbd_device_state{device="data",state="held"} 1')
    ctl("check", status=HELD, says="ENBD CRITICAL - data: HELD")
    mirror.command("autoadd=1")
    for server in mirror.servers:
        server.start()
    monitor.until("<5>alarm is over: data: OK, 3 of 3 groups in sync", 120)
    # The first one that is back is the source, and the others are copied to, if they are not back at once.
    check.until(lambda: "recovered /dev/nda data ok" in monitor.told(), 30, "the handler is told that the alarm is over")
    check.that(set(monitor.told()[:-1]) <= {"degraded /dev/nda data degraded"}, f"what the handler is told: {monitor.told()}")
    os.unlink(monitor.told_file)


def trial(monitor):
    """A trial goes to the handler, and says so."""
    ctl("monitor", "--test", says=": done\n")
    monitor.wait_told("test  test ok")


def unit():
    """systemd has nothing to say against the service."""
    places = {"enbd-monitor.service": "/usr/lib/systemd/system/enbd-monitor.service", "enbdctl": "/usr/sbin/enbdctl"}
    os.makedirs(os.path.dirname(places["enbd-monitor.service"]), exist_ok=True)
    try:
        shutil.copy("/src/packaging/enbd-monitor.service", places["enbd-monitor.service"])
        os.symlink(shutil.which("enbdctl"), places["enbdctl"])
        told = attempt("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", places["enbd-monitor.service"])
        check.equal((told.returncode, told.stdout + told.stderr), (0, ""), "systemd-analyze verify")
    finally:
        for place in places.values():
            os.unlink(place)
