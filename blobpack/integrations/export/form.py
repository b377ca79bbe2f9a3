"""The form of a tool's files: the record of an image, and what stands around the records."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blobpack.integrations.urls import WEB
from blobpack.stores.replace import OutputKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from blobpack.integrations.export.image import ListedImage
    from blobpack.stores.base import Store

    Record = dict[str, Any]

# text before the first record, between two records, and after the last one
LIST = ("[\n", ",\n", "\n]\n")
LINES = ("", "\n", "\n")


@dataclass(frozen=True, slots=True)
class Form:
    """The form of a tool's files.

    Attributes:
        kind: What the files are, for messages.
        file_name: Name of such a file in a folder.
        record: Returns the record of an image.
        mark: The text that every record begins with, by which a file is recognised.
        around: Text before the first record, between two records, and after the last one.
        schemes: Schemes that the URLs may have; () if the tool takes no URLs.
        needs_url: The tool finds images by their URLs only.
        needs_sides: The tool must know the width and height of each image.
        images_max: Largest number of images in one file; None if there is no limit.
        bytes_max: Largest size of one file in bytes; None if there is no limit.
    """

    kind: str
    file_name: str
    record: Callable[[ListedImage], Record]
    mark: str
    around: tuple[str, str, str]
    schemes: tuple[str, ...] = WEB
    needs_url: bool = True
    needs_sides: bool = False
    images_max: int | None = None
    bytes_max: int | None = None

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The suffixes that a file may have."""
        return (".json",) if self.around[1] == LIST[1] else (".jsonl", ".ndjson", ".manifest")

    def encode(self, record: Record) -> bytes:
        """Return a record as JSON, in one line of UTF-8."""
        return json.dumps(record, ensure_ascii=False).encode()

    def end(self, images: int) -> bytes:
        """Return what ends a file of so many images."""
        after = self.around[2]
        # a list is closed, also an empty one; a file of lines that has no line is empty
        return after.encode() if images or after.strip() else b""

    @property
    def output(self) -> OutputKind:
        """The kind of the files: an export replaces only files that it could have written."""
        before = self.around[0].encode()
        begins = (before + self.mark.encode(), before + self.end(0))

        def is_export(store: Store) -> bool:
            head = store.read_range(0, min(max(map(len, begins)) + 1, store.size))
            return head.startswith(begins[0]) or head == begins[1]

        return OutputKind(self.kind, is_export)
