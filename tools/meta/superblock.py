# SPDX-License-Identifier: GPL-2.0
"""A second reader and writer of the superblocks of enbd, made from Documentation/metadata.rst alone.

It shares no code with the module, so that a fault of the one is seen by the other.

    superblock.py write FILE.json...   writes each description as a block of 4 KiB, in hex digits, into FILE.hex
    superblock.py read EXPORT          describes all superblocks at the end of an export, a file or block device

A description is an object of plain numbers and texts; tools/enbd-logic/tests/fixtures/meta has some.
"""

import json
import os
import struct
import sys
import uuid

BLOCK = 4096
PLACES = 8
MAGIC = b"enbd member\0\r\n\x1a\0"
VERSION = 1
HEADER = 1088
CAUSES = {1: "created", 2: "faulted", 3: "degraded", 4: "crashed", 5: "forced"}
STATES = {1: "in sync", 2: "stale"}
FULL = 1
INTENT = 1


class Unsound(Exception):
    """Why a block is no superblock."""


def crc32c(data):
    """The checksum of RFC 3720, section 12.1, by a table."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def table():
    entries = []
    for entry in range(256):
        for _ in range(8):
            entry = (entry >> 1) ^ (0x82F63B78 * (entry & 1))
        entries.append(entry)
    return entries


TABLE = table()


def layout(device_bytes):
    """The bytes of the area, the shift of a stale map's granule, and the pages of a map."""
    shift = 16
    while pages(device_bytes, shift) > 2048:
        shift += 1
    count = pages(device_bytes, shift)
    area = 256 * 1024 + 8 * count * BLOCK
    return -(-area // (1 << 20)) << 20, shift, count


def pages(device_bytes, shift):
    return -(-((device_bytes >> shift) + 1) // 32256)


def text(data):
    """A name of at most 63 bytes; bytes that are no UTF-8 come back as they were."""
    return data[:63].rstrip(b"\0").decode("utf-8", "surrogateescape")


def name(data):
    encoded = data.encode("utf-8", "surrogateescape")
    if len(encoded) > 63:
        raise Unsound(f"the name {data!r} is too long")
    return encoded


def generation(number):
    return f"{number:016x}" if number else None


def number(generation):
    return int(generation, 16) if generation else 0


def encode(told):
    """The block of a description."""
    block = bytearray(BLOCK)

    def put(form, at, *values):
        struct.pack_into("<" + form, block, at, *values)

    members = told["members"]
    own = members.get(str(told["member"]))
    put("16s", 0, MAGIC)
    put("HH", 20, told.get("version", VERSION), told.get("header_bytes", HEADER))
    put("III", 24, told.get("incompat", 0), told.get("read_only_compat", 0), told.get("compat", 0))
    put("BBH", 36, told["member"], len(members), told["seq"] % PLACES)
    put("Q", 40, told["seq"])
    put("16s16s", 48, uuid.UUID(told["mirror"]).bytes, uuid.UUID(own["uuid"]).bytes)
    put("QQ", 80, told["export_bytes"], told["device_bytes"])
    put("II", 96, told["block_bytes"], told["area_bytes"])
    put("HH", 104, told["stale_shift"], told["stale_pages"])
    put("QQQ", 112, told["event"], number(told["generation"]), told["born"])
    causes = {word: bits for bits, word in CAUSES.items()}
    put("H", 136, causes.get(told["cause"], told["cause"]))
    owner = told["owner"]
    if owner:
        put("QQ64sQ", 144, *(int(half, 16) for half in owner["nonce"]), name(owner["name"]), owner["since"])
    put("Q", 232, INTENT if told.get("intent") else 0)
    for index, past in enumerate(told["history"]):
        if past:
            put("QQ", 256 + 16 * index, number(past["generation"]), past["event"])
    for place, member in members.items():
        at = 512 + 64 * int(place)
        put("16s", at, uuid.UUID(member["uuid"]).bytes)
        put("B", at + 16, {word: bits for bits, word in STATES.items()}[member["state"]])
        if member["state"] == "stale":
            put("H", at + 18, FULL if member["full"] else 0)
            put("QQ", at + 24, member["since"], number(member["left"]))
        put("QQ", at + 40, member["seen"], member.get("page", 0))
    put("64s", 1024, name(told["name"]))
    put("I", 16, crc32c(block))
    return bytes(block)


def decode(block, place=None, export_bytes=None):
    """The description of a block, which is in this place of an export of so many bytes if that is known."""
    if block[:16] != MAGIC:
        raise Unsound("no superblock")
    (stored,) = struct.unpack_from("<I", block, 16)
    if len(block) != BLOCK or crc32c(block[:16] + bytes(4) + block[20:]) != stored:
        raise Unsound("the checksum is wrong")

    def get(form, at):
        values = struct.unpack_from("<" + form, block, at)
        return values[0] if len(values) == 1 else values

    version, header = get("HH", 20)
    incompat, read_only, compat = get("III", 24)
    if version > VERSION or incompat or read_only:
        raise Unsound("a later version has written it")
    if version == 0 or not HEADER <= header <= BLOCK:
        raise Unsound("no such version")
    member, count, told_place = get("BBH", 36)
    seq = get("Q", 40)
    if told_place != seq % PLACES or place not in (None, told_place):
        raise Unsound("it belongs to another place")
    told = {
        "member": member,
        "seq": seq,
        "mirror": str(uuid.UUID(bytes=get("16s", 48))),
        "name": text(get("64s", 1024)),
        "event": get("Q", 112),
        "generation": generation(get("Q", 120)),
        "born": get("Q", 128),
        "cause": CAUSES.get(get("H", 136), get("H", 136)),
        "export_bytes": get("Q", 80),
        "device_bytes": get("Q", 88),
        "block_bytes": get("I", 96),
        "area_bytes": get("I", 100),
        "stale_shift": get("H", 104),
        "stale_pages": get("H", 106),
        "owner": decode_owner(*get("QQ64sQ", 144)),
        "history": decode_history([get("QQ", 256 + 16 * index) for index in range(16)]),
        "members": decode_members(get),
    }
    if compat:
        told["compat"] = compat
    if get("Q", 232) & INTENT:
        told["intent"] = True
    examine(told, count, uuid.UUID(bytes=get("16s", 64)), export_bytes)
    return told


def decode_owner(first, second, host, since):
    if not first and not second:
        return None
    return {"nonce": [f"{first:016x}", f"{second:016x}"], "name": text(host), "since": since}


def decode_history(entries):
    """The generations before, the latest first, without the empty places behind the last one."""
    history = [{"generation": generation(bits), "event": event} if bits else None for bits, event in entries]
    while history and history[-1] is None:
        history.pop()
    return history


def decode_members(get):
    members = {}
    for place in range(8):
        at = 512 + 64 * place
        bits = get("B", at + 16)
        if bits == 0:
            continue
        if bits not in STATES:
            raise Unsound(f"member {place} has no state that is known")
        member = {"uuid": str(uuid.UUID(bytes=get("16s", at))), "state": STATES[bits], "seen": get("Q", at + 40)}
        if get("Q", at + 48):
            member["page"] = get("Q", at + 48)
        if STATES[bits] == "stale":
            since, left = get("QQ", at + 24)
            member |= {"since": since, "left": generation(left), "full": bool(get("H", at + 18) & FULL)}
        members[str(place)] = member
    return members


def examine(told, count, own, export_bytes):
    """What the numbers have to be to each other."""
    block, device = told["block_bytes"], told["device_bytes"]
    uuids = [member["uuid"] for member in told["members"].values()]
    nobody = str(uuid.UUID(int=0))
    needed = told["device_bytes"] + told["area_bytes"]
    for is_so, what in (
        (export_bytes in (None, told["export_bytes"]), "the export has another size"),
        (told["seq"] < 2**64 - 1 and told["event"] < 2**64 - 1, "a number has no successor"),
        (told["generation"] and told["mirror"] != nobody, "it has no identity"),
        (block in [512 << n for n in range(8)] and device and device % block == 0, "no whole blocks"),
        ((told["area_bytes"], told["stale_shift"], told["stale_pages"]) == layout(device), "another layout"),
        (needed <= told["export_bytes"] // BLOCK * BLOCK, "the device does not fit into the export"),
        (len(set(uuids)) == len(uuids) and nobody not in uuids, "an identity is there twice, or none"),
        (len(uuids) == count, "the members are not as many as it says"),
        (str(told["member"]) in told["members"], "it is of no member"),
        (told["members"].get(str(told["member"]), {}).get("uuid") == str(own), "it is of another member"),
        (any(member["state"] == "in sync" for member in told["members"].values()), "no member is in sync"),
    ):
        if not is_so:
            raise Unsound(what)


def position(size, place):
    """Where a place is in an export of so many bytes."""
    return size // BLOCK * BLOCK - BLOCK * (place + 1)


def newest(path):
    """The description of the sound one with the highest number, if there is one."""
    sound = [told for told in read(path) if isinstance(told, dict)]
    return max(sound, key=lambda told: told["seq"], default=None)


def read(path):
    """What is in each of the eight places, 0 first: a description, or why there is none."""
    with open(path, "rb") as export:
        size = export.seek(0, os.SEEK_END)
        found = []
        for place in range(PLACES):
            at = position(size, place)
            if at < 0:
                found.append("the export is too small")
                continue
            export.seek(at)
            try:
                found.append(decode(export.read(BLOCK), place, size))
            except Unsound as why:
                found.append(str(why))
    return found


def to_hex(block):
    """16 bytes a line, behind where they are; lines of zeroes are left out."""
    lines = []
    for at in range(0, len(block), 16):
        line = block[at : at + 16]
        if any(line):
            lines.append(f"{at:04x}: {line.hex()}\n")
    return "".join(lines)


def from_hex(digits):
    block = bytearray(BLOCK)
    for line in digits.splitlines():
        at, data = line.split(": ")
        block[int(at, 16) : int(at, 16) + 16] = bytes.fromhex(data)
    return bytes(block)


def write_hex(paths, block_of):
    """Writes the block of each description, a file in JSON, in hex digits beside it."""
    for path in paths:
        with open(path) as source:
            block = block_of(json.load(source))
        with open(os.path.splitext(path)[0] + ".hex", "w") as target:
            target.write(to_hex(block))


def main(words):
    match words:
        case ["write", _, *_]:
            write_hex(words[1:], lambda told: encode(told["superblock"]))
        case ["read", path]:
            print(json.dumps(read(path), indent=2))
        case _:
            sys.exit("usage: superblock.py write FILE.json... | read EXPORT")


if __name__ == "__main__":
    main(sys.argv[1:])
