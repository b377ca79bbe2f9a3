"""A blob as the writers of foreign indexes see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from blobpack.index.index import Index
    from blobpack.stores.base import Store


@dataclass(frozen=True, slots=True)
class SourceBlob:
    """A blob whose index is written.

    Attributes:
        name: How the written index names the blob: a path relative to the index, or a whole URL.
        index: All of its members.
        opened: Opens the blob for a block, and returns its store.
    """

    name: str
    index: Index
    opened: Callable[[], AbstractContextManager[Store]]
