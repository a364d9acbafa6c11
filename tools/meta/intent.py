# SPDX-License-Identifier: GPL-2.0
"""A second reader and writer of the intent pages of enbd, made from Documentation/metadata.rst alone.

    intent.py write FILE.json...   writes each description as a block of 4 KiB, in hex digits, into FILE.hex
    intent.py read EXPORT          describes the newest page of an export, a file or block device, if it has one

A description says which mirror, which page, how large the device and a region are, and which regions are marked;
tools/enbd-logic/tests/fixtures/intent has some.
"""

import json
import os
import struct
import sys
import uuid

from superblock import BLOCK, crc32c, write_hex

PLACES = 48
MAGIC = b"enbdINTE"
HEAD = "<8sIHH16sQQIIQ"
PAYLOAD = 64
LIST = (BLOCK - PAYLOAD) // 4
BITS = (BLOCK - PAYLOAD) * 8


def regions_of(device_bytes, shift):
    return ((device_bytes - 1) >> shift) + 1


def encode(told):
    """The page of a description: of a list if there is room for one, else of bits as fine as they fit."""
    shift, regions = told["shift"], sorted(told["regions"])
    payload = bytearray(BLOCK - PAYLOAD)
    kind, count = 1, len(regions)
    if count <= LIST:
        struct.pack_into(f"<{count}I", payload, 0, *regions)
    else:
        kind, count, coarse = 2, 0, shift
        while regions_of(told["device_bytes"], coarse) > BITS:
            coarse += 1
        for region in regions:
            at = region >> (coarse - shift)
            payload[at // 8] |= 1 << at % 8
        shift = coarse
    mirror = uuid.UUID(told["mirror"]).bytes
    fields = (kind, shift, mirror, told["seq"], told["event"], count, told["seq"] % PLACES, told["device_bytes"])
    block = struct.pack(HEAD, MAGIC, 0, *fields) + payload
    return struct.pack(HEAD, MAGIC, crc32c(block), *fields) + payload


def decode(block, place=None):
    """The description of a block, or None if it is no page."""
    magic, stored, kind, shift, mirror, seq, event, count, told_place, device_bytes = struct.unpack_from(HEAD, block)
    if magic != MAGIC or len(block) != BLOCK or crc32c(block[:8] + bytes(4) + block[12:]) != stored:
        return None
    if kind not in (1, 2) or told_place != seq % PLACES or place not in (None, told_place):
        return None
    if kind == 1:
        regions = list(struct.unpack_from(f"<{count}I", block, PAYLOAD))
    else:
        payload = block[PAYLOAD:]
        regions = [n for n in range(BITS) if payload[n // 8] >> n % 8 & 1]
    return {
        "mirror": str(uuid.UUID(bytes=mirror)),
        "seq": seq,
        "event": event,
        "device_bytes": device_bytes,
        "shift": shift,
        "regions": regions,
    }


def position(size, place):
    """Where a place is in an export of so many bytes."""
    return size // BLOCK * BLOCK - 16 * BLOCK - BLOCK * (place + 1)


def newest(path):
    """The description of the newest page of an export, if it has one."""
    with open(path, "rb") as export:
        size = export.seek(0, os.SEEK_END)
        found = []
        for place in range(PLACES):
            if position(size, place) >= 0:
                export.seek(position(size, place))
                found.append(decode(export.read(BLOCK), place))
    return max(filter(None, found), key=lambda told: told["seq"], default=None)


def main(words):
    match words:
        case ["write", _, *_]:
            write_hex(words[1:], encode)
        case ["read", path]:
            print(json.dumps(newest(path), indent=2))
        case _:
            sys.exit("usage: intent.py write FILE.json... | read EXPORT")


if __name__ == "__main__":
    main(sys.argv[1:])
