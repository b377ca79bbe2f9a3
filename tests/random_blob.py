"""A blob of random payloads, some of whose names need pax headers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import blobpack

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from random import Random

    from blobpack import Index


def pack_random(
    folder: Path, rng: Random, folders: Iterable[str], sizes: Iterable[int]
) -> tuple[bytes, Index]:
    """Pack members of these sizes, in these folders of the blob; return the blob, with its index inside, and the index."""
    payloads = [
        (f"{name}/{'é' if i % 7 == 0 else ''}{i:03}.svg", rng.randbytes(size))
        for i, (name, size) in enumerate(zip(folders, sizes, strict=True))
    ]
    path = folder / "o.tar"
    index = blobpack.pack(payloads, path).index
    return path.read_bytes(), index
