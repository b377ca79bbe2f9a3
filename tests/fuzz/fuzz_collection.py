"""Collection files against `open_collection`. Oracle: the plain reader, and the payloads of the blobs.

A member that can be read has its own payload. A sound file gives all members.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import blobpack
from blobpack import BlobpackError
from fuzz.damage import damage
from fuzz.index_files import damage_sealed

if TYPE_CHECKING:
    import random

BLOBS, MEMBERS = 4, 12


class Case(NamedTuple):
    """A collection file, and whether it is sound."""

    data: bytes
    is_sound: bool


def payload_of(blob: int, member: int) -> bytes:
    """Return the payload of a member; all of a size, so that only a comparison can tell them apart."""
    return b"%02d-%02d" % (blob, member) * 50


def name_of(blob: int, member: int) -> str:
    """Return the name of a member."""
    return f"{blob}/{member:02d}.bin"


@functools.cache
def sample() -> tuple[Path, bytes]:
    """Make blobs and their collection once in a process; return their folder, and the collection's bytes."""
    folder = Path(tempfile.mkdtemp(prefix="blobpack-fuzz-"))
    for blob in range(BLOBS):
        pairs = [(name_of(blob, member), payload_of(blob, member)) for member in range(MEMBERS)]
        blobpack.pack(pairs, folder / f"{blob}.tar", all_files=True)
    blobpack.collect(folder)
    return folder, (folder / "collection.idx").read_bytes()


def make(generator: random.Random) -> Case:
    """Make a collection file, mostly damaged with right checksums."""
    _, data = sample()
    chance = generator.random()
    if chance < 0.1:
        return Case(data, True)
    if chance < 0.8:
        return Case(damage_sealed(data, generator), False)
    return Case(damage(data, generator), False)


def check(case: Case, folder: Path) -> str:
    """Read some members by name.

    Returns:
        "accepted" if a member was read; else "refused".
    """
    blobs, _ = sample()
    for blob in range(BLOBS):
        if not (folder / f"{blob}.tar").exists():
            shutil.copy(blobs / f"{blob}.tar", folder)
    (folder / "collection.idx").write_bytes(case.data)
    answered = 0
    try:
        with blobpack.open_collection(folder) as collection:
            for blob in range(BLOBS):
                for member in (0, 5, MEMBERS - 1):
                    try:
                        payload = collection.read(name_of(blob, member))
                    except BlobpackError as exc:
                        assert not case.is_sound, exc
                    else:
                        answered += 1
                        # Rows of equal size that change places have right offsets of other members.
                        assert not case.is_sound or payload == payload_of(blob, member)
    except BlobpackError as exc:
        assert not case.is_sound, exc
    return "accepted" if answered else "refused"
