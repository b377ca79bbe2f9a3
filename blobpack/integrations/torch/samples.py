"""Samples: members of one stem, such as `cats/1.jpg` and `cats/1.cls`, as WebDataset groups them.

Members of a sample lie next to each other, as `pack` and GNU tar's `--sort=name` write them. A sample may begin in one blob
of a collection and end in the next: other programs than `pack_shards` may begin a new blob at any member.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from blobpack.tar.names import split_sample

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from blobpack.opening.reader import Reader


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Which members belong to which sample.

    Attributes:
        fields: Names of all fields.
        rows: (k,) int64, the rows of all members that belong to samples, sample by sample.
        codes: (k,) int32, the field of each, as its place in `fields`.
        bounds: (n + 1,) int64: sample i has the members from bounds[i] to bounds[i + 1].
    """

    fields: tuple[str, ...]
    rows: NDArray[np.int64]
    codes: NDArray[np.int32]
    bounds: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def rows_of(self, sample: int) -> dict[str, int]:
        """Return the row of each field. If a sample has two members of one name, the last one counts."""
        first, last = self.bounds[sample], self.bounds[sample + 1]
        fields = self.fields
        return {
            fields[code]: row
            for code, row in zip(
                self.codes[first:last].tolist(), self.rows[first:last].tolist(), strict=True
            )
        }


def group(names: Iterable[str], rows: Sequence[int]) -> Samples:
    """Group members into samples.

    Args:
        names: The names of the members, in the order of their rows.
        rows: Their rows, ascending.
    """
    codes_of: dict[str, int] = {}
    kept: list[int] = []
    codes: list[int] = []
    bounds: list[int] = []
    current = ""
    for name, row in zip(names, rows, strict=True):
        stem, field = split_sample(name)
        if not field:
            continue
        if stem != current:
            bounds.append(len(kept))
            current = stem
        kept.append(row)
        codes.append(codes_of.setdefault(field, len(codes_of)))
    bounds.append(len(kept))
    return Samples(
        tuple(codes_of),
        np.array(kept, np.int64),
        np.array(codes, np.int32),
        np.array(bounds, np.int64),
    )


def group_members(reader: Reader, rows: NDArray[np.int64] | None) -> Samples:
    """Group the members of a blob or collection.

    Args:
        reader: The blob or collection.
        rows: The rows of those members that count, in any order; None: all.
    """
    if rows is None:
        return group(reader.index.names, range(len(reader)))
    ascending = np.unique(rows)
    return group(reader.index[ascending].names, ascending.tolist())


def find_field(rows_of: dict[str, int], field: str) -> tuple[str, int] | None:
    """Return the first of the alternatives that a sample has, and its row; None if it has none.

    Args:
        rows_of: The rows of the sample's fields.
        field: Name of a field, or alternatives, such as "jpg;png".
    """
    return next(((name, rows_of[name]) for name in field.split(";") if name in rows_of), None)
