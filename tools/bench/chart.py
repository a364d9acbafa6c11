# SPDX-License-Identifier: GPL-2.0
"""The picture: bars by peer, a panel for each kind of figure. Plain SVG, which needs no library."""

from html import escape

from bench.workloads import WORKLOADS

PEERS = ("nbd.ko", "enbd-1", "md+bitmap", "md", "drbd", "enbd-2")
COLOURS = {"nbd.ko": "#9db4c8", "enbd-1": "#c8442c", "md+bitmap": "#5b7f9c", "md": "#7d9bb5", "drbd": "#a8a38a",
           "enbd-2": "#8a1f10"}
LEFT, TOP, BAR, GAP, PANEL, WIDTH = 150, 40, 9, 10, 470, 330


def svg(found):
    """The whole picture."""
    panels = [
        ("instructions a request, whole path", found.net_cost),
        ("instructions a request, client alone", lambda peer, load: found.net_cost(peer, load, "client")),
        ("requests a second, one processor, counted", lambda peer, load: found.speed(peer, load, counted=True)),
        ("requests a second, two processors", found.speed),
        ("p99 in µs, two processors", lambda peer, load: found.speed(peer, load, "p99")),
    ]
    group = len(PEERS) * BAR + GAP
    height = TOP + len(WORKLOADS) * group + 50
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{len(panels) * PANEL + 30}" height="{height}" '
             'font-family="sans-serif" font-size="11">', '<rect width="100%" height="100%" fill="white"/>']
    for index, (title, figure_of) in enumerate(panels):
        parts += _panel(index * PANEL + 10, title, figure_of, group)
    for index, peer in enumerate(PEERS):
        x = LEFT + index * 110
        parts += [f'<rect x="{x}" y="{height - 28}" width="12" height="12" fill="{COLOURS[peer]}"/>',
                  f'<text x="{x + 17}" y="{height - 18}">{escape(peer)}</text>']
    return "\n".join(parts + ["</svg>"]) + "\n"


def _panel(x, title, figure_of, group):
    """One kind of figure. Each workload has a scale of its own, since they differ a thousandfold."""
    parts = [f'<text x="{x}" y="20" font-size="14" font-weight="bold">{escape(title)}</text>']
    for row, workload in enumerate(WORKLOADS):
        y = TOP + row * group
        parts.append(f'<text x="{x}" y="{y + group / 2}">{escape(workload.name)}</text>')
        found = {peer: figure_of(peer, workload.name) for peer in PEERS}
        most = max((figure.median for figure in found.values() if figure), default=0)
        for number, peer in enumerate(PEERS):
            if found[peer] and most > 0:
                parts += _bar(x + LEFT - 10, y + number * BAR, found[peer], most, COLOURS[peer])
    return parts


def _bar(x, y, figure, most, colour):
    scale = (WIDTH - 90) / most
    value = max(0.0, figure.median)
    low, high = (x + max(0.0, end) * scale for end in (min(figure.values), max(figure.values)))
    middle = y + (BAR - 1) / 2
    return [f'<rect x="{x}" y="{y}" width="{value * scale:.1f}" height="{BAR - 1}" fill="{colour}"/>',
            f'<line x1="{low:.1f}" y1="{middle}" x2="{min(high, x + WIDTH - 60):.1f}" y2="{middle}" stroke="black"/>',
            f'<text x="{max(high, x + value * scale) + 4:.1f}" y="{y + BAR - 1}" font-size="8">'
            f'{figure.median:,.0f}</text>']
