#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""resolve.py OUTPUT COUNT IOS [COUNT2 IOS2]: names the functions of one count of plugin.c, or of
two side by side, in instructions an I/O. OUTPUT is what `measure -k` printed, for its symbols."""

import bisect
import re
import sys
from collections import Counter

TOP = 100


def symbols(path: str) -> tuple[list[int], list[str]]:
    found = []
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            match = re.match(r"([0-9a-f]{16}) [tTwW] (\S+)(\s+\[\S+\])?$", line)
            if match:
                found.append((int(match[1], 16), match[2] + (match[3] or "").replace("\t", " ")))
    found.sort()
    return [a for a, _ in found], [n for _, n in found]


def short(name: str) -> str:
    return re.sub(r"^_R\S*?(?=\d)", "", name) if name.startswith("_R") else name


def totals(path: str, ios: float, addresses: list[int], names: list[str]) -> Counter:
    result: Counter = Counter()
    with open(path, encoding="ascii") as file:
        for line in file:
            address, count = line.split()
            where = int(address, 16)
            if where < 1 << 47:
                name = "user"
            else:
                at = bisect.bisect_right(addresses, where) - 1
                name = short(names[at]) if at >= 0 else "?"
            result[name] += int(count) / ios
    return result


def main() -> None:
    addresses, names = symbols(sys.argv[1])
    first = totals(sys.argv[2], float(sys.argv[3]), addresses, names)
    second = Counter()
    if len(sys.argv) > 4:
        second = totals(sys.argv[4], float(sys.argv[5]), addresses, names)
    for name in sorted(first | second, key=lambda n: -max(first[n], second[n]))[:TOP]:
        print(f"{first[name]:9.0f} {second[name]:9.0f} {first[name] - second[name]:9.0f}  {name}")
    print(f"{first.total():9.0f} {second.total():9.0f}            total")


if __name__ == "__main__":
    main()
