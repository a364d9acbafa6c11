# SPDX-License-Identifier: GPL-2.0
"""The tables that people read, in Markdown."""

from bench.results import Figure
from bench.workloads import WORKLOADS

SINGLE = ("nbd.ko", "enbd-1")
# How exactly the kernel's memory can be measured while everything else goes on.
NOISE = 2 << 20
MIRROR = ("md+bitmap", "md", "drbd", "enbd-2")


def short(value):
    """A number with three digits that count."""
    if value is None:
        return ""
    for limit, divisor, suffix in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= limit:
            scaled = value / divisor
            return f"{scaled:.{0 if abs(scaled) >= 100 else 1 if abs(scaled) >= 10 else 2}f}{suffix}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def cell(figure):
    """The median, and how far the rounds lie around it, if there were several."""
    if figure is None:
        return ""
    spread = f" ±{100 * figure.spread:.0f}%" if len(figure.values) > 1 else ""
    return short(figure.median) + spread


def ratio(one, other):
    """How they compare."""
    return "" if one is None or other is None or not other.median else f"**{one.median / other.median:.2f}**"


def table(head, rows):
    """A table; the first column is text, the others are numbers."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def against(figure_of):
    """A row a workload: the two that have one server, and those that mirror; ratios of enbd to each."""
    head = ["workload", "nbd.ko", "enbd-1", "to nbd.ko", "md+bitmap", "md", "drbd", "enbd-2", "to md+bitmap", "to md",
            "to drbd"]
    rows = []
    for workload in WORKLOADS:
        found = {peer: figure_of(peer, workload.name) for peer in SINGLE + MIRROR}
        if not any(found.values()):
            continue
        row = [workload.name, cell(found["nbd.ko"]), cell(found["enbd-1"]), ratio(found["enbd-1"], found["nbd.ko"])]
        row += [cell(found[peer]) for peer in MIRROR]
        row += [ratio(found["enbd-2"], found[peer]) for peer in ("md+bitmap", "md", "drbd")]
        rows.append(row)
    return table(head, rows) if rows else []


def cost(found):
    """Instructions a request."""
    if not found.of("cost"):
        return []
    lines = ["## Instructions a request", "",
             "One processor. The whole path on one machine: client, servers, both ends of TCP. What null_blk needs for"
             " the same requests, which is the load generator's part, is subtracted. A copy by `rep movsb` counts an"
             " instruction a byte.", ""]
    lines += against(found.net_cost)
    lines += ["", "The client's side alone: the same without the threads of the servers, and without DRBD's peer.", ""]
    lines += against(lambda peer, workload: found.net_cost(peer, workload, "client"))
    floor = [[workload.name, cell(found.cost("null_blk", workload.name))] for workload in WORKLOADS]
    return lines + ["", "What was subtracted:", ""] + table(["workload", "null_blk"], floor)


def apart(found):
    """Instructions of a client whose servers are in another VM."""
    if not found.of("apart"):
        return []
    lines = ["## The client alone", "",
             "Servers and DRBD's other half are in another VM; what the client's VM executes is counted. What null_blk"
             " needs for the same requests is subtracted. *2nd, 3rd*: what one group more adds, as a share of what one"
             " group costs. DRBD without a disk sends every request to the other half, as enbd-1 does; with one it"
             " reads from memory of its own, and writes to both.", ""]
    lines += _apart(found, False)
    return lines + ["", "The same if `rep movs` and `rep stos`, which count as one instruction above, count for each"
                    " unit that they move, mostly a byte:", ""] + _apart(found, True)


def _apart(found, copies):
    head = ["workload", "nbd.ko", "drbd diskless", "enbd-1", "to nbd.ko", "to drbd diskless", "drbd", "enbd-2",
            "to drbd", "enbd-3", "2nd", "3rd"]
    rows = []
    for workload in WORKLOADS:
        nbd, diskless, one, drbd, two, three = (found.apart(peer, workload.name, copies) for peer in (
            "nbd.ko", "drbd-diskless", "enbd-1", "drbd", "enbd-2", "enbd-3"))
        steps = [f"**{step:.2f}**" if step is not None else "" for step in found.further(workload.name, copies)]
        if any((nbd, diskless, one, drbd, two, three)):
            rows.append([workload.name, cell(nbd), cell(diskless), cell(one), ratio(one, nbd), ratio(one, diskless),
                         cell(drbd), cell(two), ratio(two, drbd), cell(three), *steps])
    return table(head, rows)


def pace(found):
    """Throughput and latency where time counts instructions."""
    return _speed(found, True, "one processor that does an instruction a nanosecond")


def speed(found):
    """Throughput and latency on two processors."""
    return _speed(found, False, "two processors")


def _speed(found, counted, where):
    lines = []
    for key, title in (("iops", "Requests a second"), ("p50", "p50 in microseconds"), ("p99", "p99 in microseconds"),
                       ("p999", "p99.9 in microseconds")):
        rows = against(lambda peer, workload, key=key: found.speed(peer, workload, key, counted))
        if rows:
            lines += ["", f"## {title}, {where}", ""] + rows
    return lines[1:]


def resync(found):
    """Bringing a copy back."""
    if not found.of("resync"):
        return []
    rows = []
    for case in ("post", "scattered", "full"):
        for peer in ("md+bitmap", "drbd", "enbd-2", "nbdcopy"):
            if found.resync(peer, case, "seconds") is None:
                continue
            size = found.last("resync", peer=peer, case=case)["size"]
            row = [f"{case}, {size >> 20} MiB", peer]
            for key in ("dirty", "moved", "wire"):
                figure = found.resync(peer, case, key)
                row.append(f"{figure.median / (1 << 20):.2f}" if figure else "")
            row.append(f"{found.resync(peer, case, 'seconds').median:.2f}")
            row += [cell(found.slowdown(peer, case, side)) for side in ("read", "write")]
            used = found.last("resync", peer=peer, case=case).get("used")
            rows.append(row + [f"{Figure(one['seconds'] for one in used).median:.2f}" if used else ""])
    head = ["case", "peer", "MiB dirty", "MiB moved", "MiB on the wire", "s", "p99 of reads ×", "p99 of writes ×",
            "s under use"]
    return ["## Resync", "", "Moved: written to the returning copy. On the wire: all that went through the loopback"
            " device meanwhile. ×: an application's p99 during the resync to its p99 without one.", "",
            *table(head, rows)]


def failover(found):
    """Losing connections and servers."""
    lines = found.of("failover")
    if not lines:
        return []
    rows = []
    for line in lines:
        for peer, rounds in line["rounds"].items():
            failed = "yes" if any(one["failed"] for one in rounds) else "no"
            rows.append([line["case"], peer, cell(Figure(one["stall_ms"] for one in rounds)), failed])
    return ["## Failover", "", "The longest that a request of an application took, in ms.", ""] + table(
        ["what happened", "peer", "ms", "errors"], rows)


def scale(found):
    """Channels, groups, delays."""
    lines = [line for line in found.of("scale") if "rounds" in line]
    rows = []
    for line in lines:
        for peer, rounds in line["rounds"].items():
            row = [line["case"], line["workload"], peer]
            rows.append(row + [cell(Figure(one[key] for one in rounds)) for key in ("iops", "mib_s", "p50", "p99")])
    head = ["case", "workload", "peer", "requests/s", "MiB/s", "p50 µs", "p99 µs"]
    return ["## Channels, groups, delays", ""] + table(head, rows) if rows else []


def above_noise(size):
    """Bytes, as far as they can be told from memory that comes and goes for other reasons."""
    return f"{size / (1 << 20):.1f} MiB" if size > NOISE else f"less than {NOISE >> 20} MiB (noise)"


def memory(found):
    """Memory."""
    if not found.of("memory"):
        return []
    rows = [[f"module: {who}", f"{size / 1024:.0f} KiB"] for line in found.of("memory", what="modules")
            for who, size in line["bytes"].items()]
    rows += [[f"device: {line['peer']}", above_noise(line["bytes"])] for line in found.of("memory", what="device")]
    for line in found.maps():
        per_mib = ""
        if line["how"] == "clustered":
            per_mib = f", {line['tib'] / (line['share'] * (1 << 20)):.1f} bytes a dirty MiB"
        rows.append([f"enbd's map of a TiB, {line['share'] * 100:g} % dirty, {line['how']}",
                     f"{line['tib'] / (1 << 20):.2f} MiB{per_mib}"])
    rows += [[f"{line['peer']}, a TiB", above_noise(line["bytes"])] for line in found.of("memory", what="peer")]
    return ["## Memory", ""] + table(["what", "memory"], rows)


SECTIONS = (cost, apart, pace, speed, scale, resync, failover, memory)


def sections(found):
    """All that there are results for."""
    return [lines for lines in (section(found) for section in SECTIONS) if lines]


def goal_table(judged):
    """What was to be reached."""
    mark = {True: "yes", False: "**no**", None: "not measured"}
    rows = [[goal["what"], goal["figure"] or "", goal["limit"], mark[goal["met"]]] for goal in judged]
    return ["## Goals", ""] + table(["goal", "measured", "limit", "reached"], rows)


def warnings(found):
    """What makes figures doubtful."""
    processors, load = int(found.host.get("processors", 1)), float(found.host.get("load", "0").split()[0])
    if not found.of("speed") or load < processors / 4:
        return []
    return ["", f"**The host was busy** (load {load} on {processors} processors when this began): throughput, latencies"
            " and times are what was left of it, and say little. Instructions, what was counted, bytes and memory"
            " are not touched by that."]


def circumstances(found):
    """What is needed to repeat it."""
    lines = ["## Circumstances", ""] + [f"- {key}: {value}" for key, value in found.host.items()]
    for facts in found.facts[:1]:
        lines += [f"- kernel: {facts['kernel']} {facts['built']}", f"- memory of the VM: {facts['memory']}"]
        lines += [f"- {name}: {version}" for name, version in facts["versions"].items()]
    kinds = [f"- VM with {facts['cpus']} processors ({facts['cpu']}), clock {facts['clock']}" for facts in found.facts]
    lines += dict.fromkeys(kinds)
    lines += ["", "How each was set up:", ""]
    for peer, settings in found.settings().items():
        lines += [f"- {peer}: " + "; ".join(f"`{setting}`" for setting in settings)]
    return lines


def document(found, parts, judged):
    """All of it."""
    lines = ["# enbd and its peers", "",
             "Medians, ± half the distance of the extremes where there were several rounds."
             " Ratios are enbd's figure to the peer's."]
    lines += warnings(found)
    for part in parts:
        lines += [""] + part
    return "\n".join(lines + [""] + goal_table(judged) + [""] + circumstances(found)) + "\n"
