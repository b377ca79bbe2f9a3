"""Collection files against `open_collection`. Oracle: the plain reader, which finds the bytes of a member in its blob.

What is read as a member must be the bytes at the offsets of a row of that name, in the blob that the file says. A sound file
gives all members their own payloads.
"""

from __future__ import annotations

import functools
import os
import tempfile
from bisect import bisect_right
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from plain_reader import PlainIndex

import blobpack
from blobpack import BlobpackError, MemberNotFoundError
from fuzz.damage import damage
from fuzz.index_files import RowReader, damage_sealed

if TYPE_CHECKING:
    import random

# Each blob is larger than the one before it: its last rows would lie behind the ends of the others.
MEMBERS = (12, 28, 44, 60)
ASKED = [(blob, member) for blob, count in enumerate(MEMBERS) for member in (0, 5, count - 1)]
# what the table of a collection says about a blob, so that another one in its place is noticed
IDENTITY = ("archive_bytes", "tail_crc", "samples_crc")


class Case(NamedTuple):
    """A collection file, and whether it is sound."""

    data: bytes
    is_sound: bool


def payload_of(blob: int, member: int) -> bytes:
    """Return the payload of a member; all of a size, so that only a comparison can tell them apart.

    Sizes take two bytes in a block, so that damage can make them larger than a blob.
    """
    return b"%02d-%02d" % (blob, member) * 60


def name_of(blob: int, member: int) -> str:
    """Return the name of a member."""
    return f"{blob}/{member:02d}.bin"


@functools.cache
def sample() -> dict[str, bytes]:
    """Return blobs and their collection, by the names of their files; they are made once in a process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for blob, count in enumerate(MEMBERS):
            pairs = [(name_of(blob, member), payload_of(blob, member)) for member in range(count)]
            blobpack.pack(pairs, folder / f"{blob}.tar", all_files=True)
        blobpack.collect(folder)
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def make(generator: random.Random) -> Case:
    """Make a collection file, mostly damaged with right checksums."""
    data = sample()["collection.idx"]
    chance = generator.random()
    if chance < 0.1:
        return Case(data, True)
    if chance < 0.8:
        return Case(damage_sealed(data, generator), False)
    return Case(damage(data, generator), False)


def check(case: Case, folder: Path) -> str:
    """Read some members by name, one by one and together, and compare each with what the plain reader finds.

    Returns:
        "accepted" if a member was read; else "refused".
    """
    if not (folder / "0.tar").exists():
        for file, content in sample().items():
            (folder / file).write_bytes(content)
    (folder / "collection.idx").write_bytes(case.data)
    names = [name_of(*asked) for asked in ASKED]
    payloads: dict[str, bytes] = {}
    try:
        with blobpack.open_collection(folder) as collection:
            for name in [*names, "absent"]:
                try:
                    payloads[name] = collection.read(name)
                except MemberNotFoundError:
                    assert not case.is_sound or name == "absent"
                except BlobpackError as exc:
                    assert not case.is_sound, exc
            together = dict(zip(payloads, collection.read_many(payloads), strict=True))
            assert together == payloads
    except BlobpackError as exc:
        assert not case.is_sound, exc
        assert not payloads, exc
    for name, payload in payloads.items():
        assert payload in found_by_plain_reader(case.data, folder, name), name
    if case.is_sound:
        assert list(payloads) == names
        assert list(payloads.values()) == [payload_of(*asked) for asked in ASKED]
    return "accepted" if payloads else "refused"


def found_by_plain_reader(data: bytes, folder: Path, name: str) -> list[bytes]:
    """Return the bytes of each row of that name, in the blob that holds it by the table of the file, if that is the same blob."""
    plain = RowReader(data)
    columns = plain.blob_columns()
    found = []
    for row, member in enumerate(plain.members()):
        if member.name == name.encode():
            number = bisect_right(columns["row_end"], row)  # type: ignore[arg-type]
            blob = folder / os.fsdecode(columns["name"][number])  # type: ignore[arg-type]
            content = blob.read_bytes() if blob.is_file() else b""
            own = PlainIndex(content)
            is_same = all(columns[column][number] == getattr(own, column) for column in IDENTITY)
            if is_same and member.offset_end <= len(content):
                found.append(content[member.offset_start : member.offset_end])
    return found
