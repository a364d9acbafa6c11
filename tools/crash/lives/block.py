# SPDX-License-Identifier: GPL-2.0
"""What a block holds: a value, which says in which life of the client it was written and as which write of that life.

A later write has a larger value, and no two lives have one in common. So whatever is found, it is known when it was written.
"""

import struct

SIZE = 4096
# Never written.
NOTHING = 0
_CELL = struct.Struct("<QQQQ")
_CELLS = SIZE // _CELL.size
_MASK = (1 << 64) - 1


def value_of(life, count):
    """The value of a write."""
    return life << 32 | count


def spell(value):
    """For people."""
    return "nothing" if value == NOTHING else f"{value >> 32}.{value & 0xFFFFFFFF}"


def _cell(seed, block, value):
    return _CELL.pack(seed, block, value, (seed ^ block * 0x9E3779B97F4A7C15 ^ value * 0xBF58476D1CE4E5B9) & _MASK)


def encode(seed, block, value):
    """The bytes of a block with this value."""
    return _cell(seed, block, value) * _CELLS


def decode(seed, block, data):
    """The value of a block, or None if it has none as a whole."""
    if not any(data):
        return NOTHING
    value = _CELL.unpack_from(data)[2]
    return value if value and data == encode(seed, block, value) else None


def describe(data):
    """What is in a block that has no value as a whole."""
    cells = [_CELL.unpack_from(data, _CELL.size * number) for number in range(_CELLS)]
    found = []
    for number, (_, block, value, _) in enumerate(cells):
        if not found or found[-1][1:] != (block, value):
            found.append((number * _CELL.size, block, value))
    return ", ".join(f"from byte {at} on block {block:x} value {spell(value)}" for at, block, value in found[:8])
