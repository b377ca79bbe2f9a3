"""Makes the test vectors of the index file's format: tests/data/format/, which readers in other languages can use, too.

    python tests/format_vectors.py

Small blobs, indexes and collections, sound and damaged, and `vectors.json` with what a right reader answers. The README in
that folder describes it. `tests/test_format_vectors.py` checks that the folder is what this script makes, and lets
blobpack, the plain reader and blobpack.js read all of it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import blobpack
from blobpack import Index, Member
from blobpack.checksum import crc32c
from blobpack.columns import Columns
from blobpack.indexfile.identity import COLLECTION_IDENTITY, Identity
from blobpack.indexfile.shard_table import Shard, encode_shards
from blobpack.indexfile.writer import write_sections
from blobpack.stores.sink import FileSink
from blobpack.writing.embed import embed_index

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blobpack.opening.reader import Reader

FOLDER = Path(__file__).with_name("data") / "format"
README = "README.md"
FOOTER = 512
PAGE = 4096
LISTED_ROWS_MAX = 40
SAFE_MAX = (1 << 53) - 1
MARK = b"blobpack: an append is at work here, or was interrupted; index: embed"


@dataclass
class Vector:
    """One file, and what a right reader answers.

    Attributes:
        file: The file, in the folder of vectors.
        what: What is special about it, for people.
        absent: Names that it does not hold.
        globs: Globs to try.
        has_payloads: The blobs are there, and their payloads are read, too.
        error: Kind of the error that reading it raises; None if it is sound.
        needs: A feature that a reader may lack. Without it, the answer is `error`; with it, the file is sound.
    """

    file: str
    what: str
    absent: tuple[str, ...] = ("", "absent", "zzzz", "\udcff")
    globs: tuple[str, ...] = ("*", "*.png", "[!a]*", "")
    has_payloads: bool = True
    error: str | None = None
    needs: str | None = None
    answers: dict[str, Any] = field(default_factory=dict)


def png(width: int, height: int, tail: bytes = b"") -> bytes:
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I4sIIBBBBBI", 13, b"IHDR", width, height, 8, 2, 0, 0, 0, 0)
        + tail
    )


def gif(width: int, height: int, tail: bytes = b"") -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0) + tail


MEMBERS = [
    ("birds/a b.png", png(24, 16)),
    ("cats/0001.png", png(640, 480, b"x" * 600)),
    ("cats/0002.gif", gif(3, 70_00)),
    ("cats/größe 大.png", png(70_000, 1)),
    ("dogs/[1].txt", b"no image"),
    ("dogs/empty", b""),
    ("notes/" + "long" * 60, b"a name of more than 100 bytes"),
    ("z/\udcff\udcfe\udc80.bin", b"a name that is not UTF-8"),
]
SHUFFLED = [MEMBERS[place] for place in (5, 2, 7, 0, 4, 1, 6, 3)]


# Sound files


def make_sound(folder: Path) -> list[Vector]:
    """Write the sound files."""
    globs = (
        "*",
        "*.png",
        "cats/*",
        "cats/000?.*",
        "*[[]1[]]*",
        "[!a-c]*",
        "*\udcfe*",
        "*?大*",
        "??????????????",
        "",
    )
    for name, members, options in (
        ("ascending.tar", MEMBERS, {}),
        ("shuffled.tar", SHUFFLED, {}),
        ("without_facts.tar", MEMBERS, {"facts": False}),
        ("beside.tar", MEMBERS, {"index": "sidecar"}),
        ("one.tar", MEMBERS[:1], {}),
    ):
        blobpack.pack(members, folder / name, all_files=True, **options)
    padded(folder / "padded.tar")
    both(folder)
    (folder / "shards").mkdir()
    blobpack.pack(MEMBERS[:3], folder / "shards" / "0.tar", all_files=True)
    blobpack.pack(MEMBERS[2:], folder / "shards" / "1.tar", all_files=True)
    blobpack.collect(folder / "shards", duplicates="last")
    return [
        Vector(
            "ascending.tar", "index inside; names ascend, so it has a guide; all facts", globs=globs
        ),
        Vector("shuffled.tar", "names in no order, so it has no guide", globs=globs),
        Vector("without_facts.tar", "no facts", globs=globs),
        Vector("beside.tar", "index in the file beside it, beside.tar.idx", globs=globs),
        Vector("one.tar", "one member: its block has columns of width 0"),
        Vector("padded.tar", "archive filled with zeros up to 10,240 bytes, as GNU tar does"),
        Vector("both.tar", "an index beside it, and then one put inside, too"),
        Vector(
            "shards/collection.idx",
            "collection of two blobs; one name is in both, and the last one counts",
        ),
        *make_indexes(folder),
    ]


def padded(path: Path) -> None:
    blobpack.pack(MEMBERS[:2], path, all_files=True, index="none")
    with path.open("r+b") as file:
        file.truncate(10_240)
    embed_index(path, facts=True)


def both(folder: Path) -> None:
    blobpack.pack(MEMBERS[:4], folder / "both.tar", all_files=True, index="sidecar")
    beside = (folder / "both.tar.idx").read_bytes()
    embed_index(folder / "both.tar", facts=True)
    (folder / "both.tar.idx").write_bytes(beside)


def make_indexes(folder: Path) -> list[Vector]:
    """Write collections whose blobs are not there: only their rows can be read."""
    numbered = [Member(f"{row:05d}.png", 512 * row, 512 * row + row % 300) for row in range(2100)]
    equal = [f"{row // 3:04d}" for row in range(2100)]
    far = [f"{row % 700:04d}" for row in range(2100)]
    facts = [
        Member(
            f"{row}",
            0,
            0,
            "image/png",
            width,
            1 + row,
            crc32c=row * 0x9E3779B9 % (1 << 32),
            mtime=mtime,
        )
        for row, (width, mtime) in enumerate(
            [(1, -3600), (255, 1), (256, SAFE_MAX), (65_536, 0), ((1 << 32) - 1, -SAFE_MAX)]
        )
    ]
    offsets = [SAFE_MAX - 3, 0, 1 << 32, (1 << 32) + 1, 511, 1 << 50]
    write_index(folder / "blocks.idx", numbered)
    write_index(
        folder / "equal_ascending.idx", (Member(name, 0, row) for row, name in enumerate(equal))
    )
    write_index(folder / "equal_far.idx", (Member(name, 0, row) for row, name in enumerate(far)))
    write_index(folder / "facts.idx", facts)
    write_index(
        folder / "offsets.idx",
        (
            Member(f"{row}", start, min(SAFE_MAX, start + (5 << 30)))
            for row, start in enumerate(offsets)
        ),
    )
    write_index(
        folder / "colliding.idx", (Member(name, 0, row) for row, name in enumerate(colliding(600)))
    )
    write_index(folder / "nothing.idx", [])
    blocks_globs = ("0102[2-6].png", "*77.png", "020*", "00000.png", "9*")
    return [
        Vector("blocks.idx", "three blocks; names ascend", globs=blocks_globs, has_payloads=False),
        Vector(
            "equal_ascending.idx",
            "three rows of each name, some in two blocks",
            has_payloads=False,
            globs=("0341", "034?"),
        ),
        Vector(
            "equal_far.idx",
            "three rows of each name, 700 rows apart; no guide",
            has_payloads=False,
            globs=("0341", "034?"),
        ),
        Vector("facts.idx", "columns of all widths, and mtimes before 1970", has_payloads=False),
        Vector(
            "offsets.idx",
            "offsets up to 2⁵³ − 1, in no order, and sizes over 4 GiB",
            has_payloads=False,
        ),
        Vector(
            "colliding.idx",
            "600 names of one hash, so it has no lookup",
            has_payloads=False,
            absent=("", "absent"),
        ),
        Vector("nothing.idx", "no members and no blobs", has_payloads=False),
    ]


def write_index(
    path: Path,
    members: Iterable[Member],
    blob: str = "absent.tar",
    identity: Identity = Identity(SAFE_MAX, 0, 0),  # noqa: B008 (frozen)
) -> None:
    """Write a collection of one blob, which need not be there."""
    columns = Columns.of_members(members)
    rows = len(columns)
    shards = [Shard(blob, 0, rows, identity.archive_bytes, 0, False, identity)] if rows else []
    with path.open("w+b") as file:
        sink = FileSink(file)
        footer = write_sections(
            sink,
            [columns] if rows else [],
            None,
            identity=COLLECTION_IDENTITY,
            blobs=lambda: encode_shards(shards),
        )
        sink.write(footer.encode())


def colliding(count: int) -> list[str]:
    """Make names of 16 bytes that have one hash, whatever the seed."""
    mask = (1 << 64) - 1

    def unmix(x: int) -> int:
        x ^= x >> 31 ^ x >> 62
        x = x * pow(0x94D049BB133111EB, -1, 1 << 64) & mask
        x ^= x >> 27 ^ x >> 54
        x = x * pow(0xBF58476D1CE4E5B9, -1, 1 << 64) & mask
        return x ^ x >> 30 ^ x >> 60

    def mix(x: int) -> int:
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & mask
        x = (x ^ x >> 27) * 0x94D049BB133111EB & mask
        return x ^ x >> 31

    start = 16 * 0x9E3779B97F4A7C15 & mask
    goal = unmix(0x1234567890ABCDEF)
    pairs = ((first, mix(start ^ first) ^ goal) for first in range(count))
    return [struct.pack("<QQ", *pair).decode("utf-8", "surrogateescape") for pair in pairs]


# Damaged files, and files that are something else


def make_damaged(folder: Path) -> list[Vector]:
    """Write the files that a reader must refuse."""
    blob, guided, bare = (
        packed(members, place)
        for members, place in (
            ([MEMBERS[2], MEMBERS[1]], "embed"),
            (MEMBERS[1:3], "embed"),
            (MEMBERS[1:3], "none"),
        )
    )
    large = (folder / "ascending.tar").read_bytes()
    far = (folder / "equal_far.idx").read_bytes()
    collection = (folder / "shards" / "collection.idx").read_bytes()
    at = Sections(blob)
    made: list[Vector] = []

    def add(name: str, content: bytes, error: str, what: str, **options: Any) -> None:
        path = folder / "damaged" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        made.append(Vector(f"damaged/{name}", what, error=error, **options))

    def flipped(content: bytes, place: int) -> bytes:
        return content[:place] + bytes([content[place] ^ 0x40]) + content[place + 1 :]

    add("footer.tar", flipped(blob, len(blob) - 300), "ChecksumError", "a bit of the footer")
    add("block.tar", flipped(blob, at.blocks + 100), "ChecksumError", "a bit of a block")
    add("lookup.tar", flipped(blob, at.lookup + 2000), "ChecksumError", "a bit of the lookup")
    add(
        "directory.tar",
        flipped(blob, at.directory + 3000),
        "ChecksumError",
        "a bit of the directory",
    )
    add(
        "guide.tar",
        flipped(guided, Sections(guided).guide + 9),
        "ChecksumError",
        "a bit of the guide",
    )
    add(
        "payload.tar",
        flipped(large, large.index(b"x" * 600)),
        "ChecksumError",
        "a bit of a payload",
    )
    add(
        "blobs.idx",
        flipped(collection, Sections(collection).blobs + 60),
        "ChecksumError",
        "a bit of the section of blobs",
    )
    add(
        "version.tar",
        patched(blob, 4, struct.pack("<I", 3)),
        "FormatError",
        "version 3 of the format",
    )
    add(
        "flag.tar",
        patched(blob, 116, struct.pack("<I", 1 << 20 | 3)),
        "FormatError",
        "a flag of a later version",
    )
    add(
        "collection_flag.tar",
        patched(blob, 116, struct.pack("<I", 1 << 16 | 3)),
        "FormatError",
        "the flag of a collection, and no blobs",
    )
    add(
        "row_count.tar",
        patched(blob, 32, struct.pack("<Q", 5000)),
        "FormatError",
        "more rows than its blocks hold",
    )
    add(
        "outside.tar",
        patched(blob, 64, struct.pack("<Q", 1 << 40)),
        "FormatError",
        "a directory outside of the region",
    )
    add(
        "last_end.tar",
        patched(blob, 48, struct.pack("<Q", 600)),
        "FormatError",
        "members that end behind last_end",
    )
    add(
        "slot.idx", with_wrong_slots(far), "FormatError", "a lookup that points behind the last row"
    )
    add(
        "swapped_blocks.idx",
        with_swapped_blocks(far),
        "FormatError",
        "two blocks, each whole, in each other's place",
    )
    add(
        "swapped_pages.idx",
        with_swapped_pages(far),
        "ChecksumError",
        "two pages of the lookup in each other's place",
    )
    add(
        "unfit.tar",
        with_other_tail(blob),
        "StaleIndexError",
        "the archive before its index has changed",
    )
    add(
        "appended.tar",
        with_header_gone(blob),
        "StaleIndexError",
        "the header of the index's member was overwritten",
    )
    add(
        "grown.tar",
        with_growth((folder / "padded.tar").read_bytes()),
        "StaleIndexError",
        "a member was appended over the zeros that fill the archive",
    )
    add("joined.tar", bare + blob, "StaleIndexError", "another tar stands before the blob")
    add("other.tar", bare, "StaleIndexError", "the index beside it is another blob's")
    shutil.copy(folder / "both.tar.idx", folder / "damaged" / "other.tar.idx")
    add(
        "index.idx",
        (folder / "beside.tar.idx").read_bytes(),
        "FormatError",
        "the index of one blob, opened as a collection",
    )
    add("no_index.tar", bare, "MissingIndexError", "a tar without an index", needs="scan")
    add("cut.tar", blob[:-700], "MissingIndexError", "cut inside the index", needs="scan")
    add(
        "at_work.tar",
        bare + MARK.ljust(512, b"\0"),
        "MissingIndexError",
        "an append is at work, or was interrupted",
        needs="scan",
    )
    add(
        "page.tar",
        b"<!DOCTYPE html><html><body>Sign in</body></html>",
        "FormatError",
        "an HTML page",
    )
    add(
        "error.tar",
        b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>',
        "FormatError",
        "an error of S3",
    )
    add("offsets.pkl", b"\x80\x04\x95\x00", "FormatError", "an offsets file")
    add("blob.tar.gz", b"\x1f\x8b\x08" + bytes(40), "FormatError", "a compressed tar")
    add("text.tar", b"not a tar " * 100, "FormatError", "text")
    add("nothing.tar", b"", "FormatError", "an empty file")
    with tempfile.TemporaryDirectory() as other:
        blobpack.pack(MEMBERS, Path(other) / "x.tar.zst", all_files=True, level=3)
        add(
            "blob.tar.zst",
            (Path(other) / "x.tar.zst").read_bytes(),
            "FormatError",
            "a blob that is compressed",
            needs="zstd",
        )
    for name, blob_name, error, what in (
        ("elsewhere", "http://203.0.113.1/x.tar", "UnsafeNameError", "a blob on another host"),
        ("absolute", "/etc/passwd", "UnsafeNameError", "a blob at a path of its own"),
        ("absent", "absent.tar", "BlobNotFoundError", "a blob that is not there"),
        (
            "changed",
            "no_index.tar",
            "StaleIndexError",
            "a blob that is not the one that was collected",
        ),
    ):
        write_index(folder / "damaged" / f"{name}.idx", [Member("a", 512, 600)], blob_name)
        made.append(Vector(f"damaged/{name}.idx", f"collection: {what}", error=error))
    tail = crc32c(bare[-4096:])
    found = Identity(len(bare), tail, tail)
    behind = [Member("a", 512, len(bare) + 1)]
    write_index(folder / "damaged" / "behind.idx", behind, "no_index.tar", found)
    made.append(
        Vector(
            "damaged/behind.idx",
            "collection: a member that ends behind its blob",
            error="FormatError",
        )
    )
    write_index(folder / "damaged" / "above_2_53.idx", [Member("a", SAFE_MAX, SAFE_MAX + 5)])
    made.append(
        Vector(
            "damaged/above_2_53.idx",
            "an offset that is no exact double",
            error="FormatError",
            needs="64-bit",
            has_payloads=False,
        )
    )
    return made


class Sections:
    """Where the sections of an index begin in its file."""

    def __init__(self, content: bytes) -> None:
        """Read the footer."""
        region, *_ = struct.unpack_from("<Q", content, len(content) - FOOTER + 8)
        self.start = len(content) - region
        self.blocks = self.start + 64
        places = {"directory": 64, "lookup": 72, "lookup_pages": 80, "guide": 96, "blobs": 320}
        for name, place in places.items():
            (value,) = struct.unpack_from("<Q", content, len(content) - FOOTER + place)
            setattr(self, name, value if name == "lookup_pages" else self.start + value)

    directory: int
    lookup: int
    lookup_pages: int
    guide: int
    blobs: int

    def block(self, content: bytes, number: int) -> tuple[int, int]:
        """Return where a block begins and ends."""
        start, end = struct.unpack_from("<QQ", content, self.directory + 8 + 8 * number)
        return self.start + start, self.start + end


def sealed(piece: bytes) -> bytes:
    """Put the right checksum before bytes whose first four hold it."""
    return struct.pack("<I", crc32c(piece[4:])) + piece[4:]


def patched(content: bytes, place: int, value: bytes) -> bytes:
    """Change the footer at a place, and seal it again."""
    footer = bytearray(content[-FOOTER:])
    footer[place : place + len(value)] = value
    return content[:-FOOTER] + sealed(bytes(footer))


def with_wrong_slots(content: bytes) -> bytes:
    at = Sections(content)
    result = bytearray(content)
    for number in range(at.lookup_pages):
        start = at.lookup + number * PAGE
        page = bytearray(content[start : start + PAGE])
        for slot in range(64, PAGE, 8):
            if page[slot : slot + 8] != b"\xff" * 8:
                page[slot + 4 : slot + 8] = struct.pack("<I", 1 << 30)
        result[start : start + PAGE] = sealed(bytes(page))
    return bytes(result)


def with_swapped_blocks(content: bytes) -> bytes:
    at = Sections(content)
    (a, b), (c, d) = at.block(content, 0), at.block(content, 1)
    assert b - a == d - c
    assert b == c
    return content[:a] + content[c:d] + content[a:b] + content[d:]


def with_swapped_pages(content: bytes) -> bytes:
    at = Sections(content)
    assert at.lookup_pages >= 2
    a, b, c = (at.lookup + number * PAGE for number in range(3))
    return content[:a] + content[b:c] + content[a:b] + content[c:]


def with_other_tail(content: bytes) -> bytes:
    place = Sections(content).start - 512 - 2000
    return content[:place] + b"?" + content[place + 1 :]


def with_header_gone(content: bytes) -> bytes:
    place = Sections(content).start - 512
    return content[:place] + bytes(512) + content[place + 512 :]


def with_growth(content: bytes) -> bytes:
    """Write a header where the archive ended."""
    (scanned,) = struct.unpack_from("<q", content, len(content) - FOOTER + 120)
    return content[:scanned] + content[:512] + content[scanned + 512 :]


def packed(members: list[tuple[str, bytes]], place: Any) -> bytes:
    """Return the bytes of a blob."""
    with tempfile.TemporaryDirectory() as folder:
        blobpack.pack(members, Path(folder) / "x.tar", all_files=True, index=place)
        return (Path(folder) / "x.tar").read_bytes()


# What a right reader answers


def answer(folder: Path, vector: Vector) -> None:
    """Ask blobpack, and keep its answers."""
    with blobpack.open(folder / vector.file) as opened:
        index = opened.index
        vector.answers = {
            "facts": sorted(index.facts),
            "members": len(index),
            "rows_sha256": rows_hash(index),
            "rows": [row_of(member) for member in list(index)[:LISTED_ROWS_MAX]],
            "found": found(index),
            "absent": list(vector.absent),
            "globs": {glob: select(index, glob) for glob in vector.globs},
        }
        if vector.has_payloads:
            vector.answers["payloads_sha256"] = payload_hashes(opened)


def row_of(member: Member) -> list[Any]:
    """Return the fields of a member in the order of `columns` in vectors.json."""
    return [
        member.name,
        member.offset_start,
        member.offset_end,
        member.media_type,
        member.width,
        member.height,
        member.crc32c,
        member.mtime,
    ]


def rows_hash(index: Index) -> str:
    """Hash all rows: a line each, the name in hex and the other fields behind it, "-" for null."""
    lines = hashlib.sha256()
    for member in index:
        name, *others = row_of(member)
        fields = [
            name.encode("utf-8", "surrogateescape").hex(),
            *("-" if value is None else str(value) for value in others),
        ]
        lines.update("\t".join(fields).encode() + b"\n")
    return lines.hexdigest()


def found(index: Index) -> dict[str, int]:
    names = list(dict.fromkeys(index.names))
    return {name: index.row_of(name) for name in names[:: len(names) // LISTED_ROWS_MAX + 1]}


def select(index: Index, glob: str) -> list[Any]:
    """Return the number of rows that match a glob, and the first of them."""
    names = set(index.select(glob).names)
    rows = [row for row, name in enumerate(index.names) if name in names]
    return [len(rows), rows[:LISTED_ROWS_MAX]]


def payload_hashes(opened: Reader) -> list[str]:
    return [hashlib.sha256(payload).hexdigest() for payload in opened.read_many(opened.index)]


def make(folder: Path) -> None:
    """Write all files of the vectors, without the README, into an empty folder."""
    vectors = make_sound(folder)
    for vector in vectors:
        answer(folder, vector)
    vectors += make_damaged(folder)
    (folder / "vectors.json").write_text(to_json(vectors))


def to_json(vectors: list[Vector]) -> str:
    """Return the text of vectors.json: a line for each vector."""
    lines = []
    for vector in vectors:
        one: dict[str, Any] = {"file": vector.file, "what": vector.what}
        one |= {"error": vector.error} if vector.error else {}
        one |= {"needs": vector.needs} if vector.needs else {}
        lines.append(json.dumps(one | vector.answers))
    columns = [
        "name",
        "offset_start",
        "offset_end",
        "media_type",
        "width",
        "height",
        "crc32c",
        "mtime",
    ]
    return (
        f'{{"version": 2, "columns": {json.dumps(columns)}, "vectors": [\n'
        + ",\n".join(lines)
        + "\n]}\n"
    )


def main() -> None:
    """Replace the folder's files, and keep its README."""
    readme = (FOLDER / README).read_bytes() if (FOLDER / README).exists() else b""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    (FOLDER / README).write_bytes(readme)
    make(FOLDER)
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    print(f"{len(files)} files, {sum(path.stat().st_size for path in files):,} bytes in {FOLDER}")


if __name__ == "__main__":
    main()
