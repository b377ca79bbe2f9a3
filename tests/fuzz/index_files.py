"""Index files for the fuzzers: made from random members, and damaged so that their checksums are right again."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import google_crc32c
import plain_reader
from plain_reader import PAGE, PlainIndex

from blobpack import Index, Member
from fuzz.damage import WORDS

if TYPE_CHECKING:
    import random

FOOTER_BYTES = 512
# The plain reader computes checksums byte by byte, for its readers. This is the same checksum.
plain_reader.crc32c = lambda piece, crc=0: google_crc32c.extend(crc, bytes(piece))


# The header at the beginning has no checksum; the footer counts.
HEADER = plain_reader.MAGIC + struct.pack("<I52x", 2)
# Bytes of the footer that say nothing about rows: the version of the blob, and zeros that readers pass over.
WITHOUT_ROWS = ((192, 320), (336, 504))


class RowReader(PlainIndex):
    """The plain reader without what it checks beyond the rows: the header, the version of the blob, zeros, and the guide."""

    def __init__(self, packed: bytes) -> None:
        footer = bytearray(packed[-FOOTER_BYTES:])
        if len(footer) == FOOTER_BYTES and google_crc32c.value(bytes(footer[4:])) == int.from_bytes(
            footer[:4], "little"
        ):
            for start, end in WITHOUT_ROWS:
                footer[start:end] = bytes(end - start)
            struct.pack_into("<I", footer, 0, google_crc32c.value(bytes(footer[4:])))
        super().__init__(HEADER + packed[len(HEADER) : -FOOTER_BYTES] + footer)

    def _read_directory(self, start: int) -> list[int]:
        positions: list[int] = []
        for number in range(self.block_count // 511 + 1 if self.block_count else 0):
            page = plain_reader.sealed(self.region[start : start + PAGE], "directory")
            found, *some = struct.unpack("<4xI511Q", page)
            plain_reader.expect(found == (1 << 31) + number, "the directory page's number")
            positions += some
            start += PAGE
        return positions[: self.block_count + 1]

    def _read_guide(self, start: int) -> list[bytes]:
        return []


def make_members(generator: random.Random) -> list[Member]:
    """Make members in the order of their names or in any order, with or without facts."""
    count = generator.choice((0, 1, 2, 30, 1023, 1024, 1025, 2100))
    has_facts = generator.random() < 0.5
    unit = generator.choice((1, 512))
    members = []
    position = 512
    for number in range(count):
        size = (
            generator.choice((0, 1, 700, 1 << 20, 1 << 40))
            if count < 100
            else generator.randrange(3000)
        )
        name = generator.choice(
            ("{}", "{}.jpg", "a/b/{}", "é{}", "\udcff{}", "{}" + "n" * 300)
        ).format(number)
        facts = (
            {
                "media_type": generator.choice(("image/png", "image/jpeg", None)),
                "width": generator.randrange(9),
                "height": generator.choice((7, 300, 1 << 20)),
                "crc32c": generator.randrange(1 << 32),
                "mtime": generator.choice((1, 86_400 * number, -number, 1 << 40)),
            }
            if has_facts
            else {}
        )
        members.append(Member(name, position, position + size, **facts))
        position += -(-size // unit) * unit + 512
    if generator.random() < 0.5:
        members.sort(key=lambda member: member.name.encode("utf-8", "surrogateescape"))
    return members


def make_index(generator: random.Random) -> Index:
    """Make an index of random members; some of their names stand twice."""
    members = make_members(generator)
    if members and generator.random() < 0.3:
        members.append(members[0])
    return Index(members)


def spans_of(packed: bytes) -> list[tuple[int, int]]:
    """Return the pieces of an index file that carry a checksum of their own; the last one is the footer."""
    index = PlainIndex(packed)
    spans = [
        (index.directory + PAGE * i, index.directory + PAGE * (i + 1))
        for i in range(index.block_count // 511 + 1)
    ]
    spans += zip(index.block_starts, index.block_starts[1:], strict=False)
    spans += [
        (index.lookup + PAGE * i, index.lookup + PAGE * (i + 1)) for i in range(index.lookup_pages)
    ]
    spans += [(index.guide, index.guide + index.guide_bytes)] if index.guide_bytes else []
    spans += [(index.blobs, index.blobs + index.blobs_bytes)] if index.blobs_bytes else []
    return [*spans, (len(packed) - FOOTER_BYTES, len(packed))]


def damage_sealed(packed: bytes, generator: random.Random) -> bytes:
    """Change one to three pieces of an index file, and make their checksums right again."""
    changed = bytearray(packed)
    spans = spans_of(packed)
    blocks = PlainIndex(packed).block_starts[:-1]
    for _ in range(generator.randint(1, 3)):
        # the footer is one piece of many, and decides the most
        start, end = generator.choice([*spans, spans[-1], spans[-1]])
        kind = generator.randrange(6)
        if kind == 0:
            twins = [span for span in spans if span[1] - span[0] == end - start]
            first, last = generator.choice(twins)
            changed[start:end] = packed[first:last]
        elif kind == 1 and blocks:
            lengthen_names(changed, generator.choice(blocks), generator.choice((1, 64, 4096)))
        elif kind == 2 and blocks:
            change_row(changed, packed, generator.choice(blocks), generator)
        elif end - start >= 12:
            change_number(changed, start + 4, end, generator)
    for start, end in spans:
        if end - start > 4:
            crc = google_crc32c.value(bytes(changed[start + 4 : end]))
            struct.pack_into("<I", changed, start, crc)
    return bytes(changed)


def change_number(changed: bytearray, start: int, end: int, generator: random.Random) -> None:
    """Change a number between start and end, most often near the start, where most numbers stand."""
    width = generator.choice((1, 2, 4, 8))
    reach = end - start - width
    place = start + generator.randint(0, generator.choice((reach, min(reach, 120))))
    change_value(changed, place, width, generator)


def change_row(changed: bytearray, packed: bytes, start: int, generator: random.Random) -> None:
    """Change one number of a row of a block: the end of its name, the start or size of its payload, or a fact."""
    (rows,) = struct.unpack_from("<I", packed, start + 4)
    widths = packed[start + 40 : start + 48]
    column = generator.choice([number for number, width in enumerate(widths) if width])
    place = start + 48 + sum((rows * width + 7) // 8 * 8 for width in widths[:column])
    place += generator.choice((0, rows - 1, generator.randrange(rows))) * widths[column]
    change_value(changed, place, widths[column], generator)


def change_value(changed: bytearray, place: int, width: int, generator: random.Random) -> None:
    """Change the number at a place a little, or replace it by an extreme one."""
    value = generator.choice(WORDS)
    if generator.random() < 0.7:
        usual = int.from_bytes(changed[place : place + width], "little")
        value = usual + generator.choice((-512, -64, -1, 1, 64, 512))
    changed[place : place + width] = (value % (1 << 8 * width)).to_bytes(width, "little")


def lengthen_names(changed: bytearray, start: int, more: int) -> None:
    """Make the last name of a block longer, and the names of the block with it, so that they end behind the block."""
    (rows,) = struct.unpack_from("<I", changed, start + 4)
    (names_bytes,) = struct.unpack_from("<I", changed, start + 32)
    width = changed[start + 40]
    place = start + 48 + (rows - 1) * width
    last_end = int.from_bytes(changed[place : place + width], "little")
    if width <= 8 and 0 < rows <= 1024 and last_end + more < 1 << 8 * width:
        struct.pack_into("<I", changed, start + 32, (names_bytes + more) % (1 << 32))
        changed[place : place + width] = (last_end + more).to_bytes(width, "little")
