"""What the caller chose: of pack, append and pack_shards as one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blobpack.model import Progress


@dataclass(frozen=True, slots=True)
class Choices:
    """Which files are packed, and how.

    Attributes:
        globs: Only names that match one of these, if there are any.
        exclude: And none of these.
        all_files: Also what is no image.
        hidden: Also what has a name that begins with ".".
        follow_symlinks: What symbolic links point at.
        keep_mtime: Store modification times.
        facts: Take them for the index.
        threads: How many read; None for as many as there are processors, up to 4.
        progress: progress(files, bytes).
    """

    globs: Sequence[str]
    exclude: Sequence[str]
    all_files: bool
    hidden: bool
    follow_symlinks: bool
    keep_mtime: bool
    facts: bool
    threads: int | None
    progress: Progress | None
