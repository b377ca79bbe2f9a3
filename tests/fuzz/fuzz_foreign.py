"""Indexes of other programs against `open_blob`. Oracle: tarfile, which finds the members of the tar.

An index that blobpack accepts must hold members of the tar only, under names that can mean them. A sound index must be
accepted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from foreign_indexes import SAMPLES, TAR, WITH_ROWS, energon, rows_of

import blobpack
from blobpack.foreign.fit import may_mean
from fuzz.damage import damage

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

MEMBERS = rows_of(TAR)
# where the headers of the samples may begin, and the end of the archive
OFFSETS = [512, 2560, 5120, 8192, 10752, 13824, 14336]


class Case(NamedTuple):
    """An index, and whether it is sound."""

    data: bytes
    is_sound: bool


def make(generator: random.Random) -> Case:
    """Make an index of one of the formats, two times in three damaged."""
    is_sound = generator.random() < 0.34
    if generator.random() < 0.2:
        data = SAMPLES[generator.choice(sorted(SAMPLES))].read_bytes()
        # the database of Energon names its tars in a file beside it
        return Case(data if is_sound else damage(data, generator), is_sound)
    if generator.random() < 0.2:
        offsets = sorted(generator.sample(OFFSETS[:-1], generator.randint(1, 6))) + OFFSETS[-1:]
        if not is_sound:
            offsets[generator.randrange(len(offsets))] += 512 * generator.choice((-1, 1, 1 << 40))
        return Case(energon([max(0, each) for each in offsets]), is_sound)
    rows: list[tuple[str, int, int]] = [
        (name, start, end - start) for name, (start, end) in MEMBERS.items()
    ]
    generator.shuffle(rows)
    rows = rows[: generator.randint(1, len(rows))]
    encode: Callable[[list[tuple[str, int, int]]], bytes] = WITH_ROWS[
        generator.choice(sorted(WITH_ROWS))
    ]
    if not is_sound and generator.random() < 0.5:
        place = generator.randrange(len(rows))
        name, start, size = rows[place]
        wrong = generator.choice((-512, -1, 1, 512, 1 << 40))
        rows[place] = generator.choice(
            ((name, start + wrong, size), (name, start, size + wrong), (f"x{name}", start, size))
        )
        return Case(encode(rows), is_sound)
    data = encode(rows)
    return Case(data if is_sound else damage(data, generator), is_sound)


def check(case: Case, folder: Path) -> str:
    """Compare the members of an index with those of the tar.

    Returns:
        "refused", or "accepted".
    """
    path = folder / "index"
    path.write_bytes(case.data)
    try:
        blob = blobpack.open_blob(TAR, index=path)
    except blobpack.BlobpackError as exc:
        assert not case.is_sound, exc
        assert str(path) in str(exc), exc
        return "refused"
    with blob:
        for member in blob.index:
            place = member.offset_start, member.offset_end
            names = [name for name, bounds in MEMBERS.items() if bounds == place]
            assert any(may_mean(member.name, name) for name in names), member
    return "accepted"
