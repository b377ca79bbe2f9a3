"""Files for Encord: items are divided among them by Encord's limits, and written one after the other as they come.

Strategy: no file is in memory, unless the caller asks for dicts or texts. Items of one key follow each other, so that each array
of a JSON file is written once, from its start to its end.
"""

from __future__ import annotations

import csv
import io
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from blobpack.errors import FormatError
from blobpack.integrations.encord.form.client_metadata import ENCODER
from blobpack.integrations.encord.form.items import flags_of, key_of, to_document
from blobpack.integrations.encord.form.kinds import (
    ITEMS_MAX,
    KINDS,
    URL_COLUMN,
    URLS_MAX,
    VIDEO_COLUMN,
)
from blobpack.quoting import quoted
from blobpack.stores.output import replacing

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from blobpack.integrations.encord.form.items import Document, Item
    from blobpack.integrations.encord.options import FileOptions

STEM = "registration"
# of text that is collected before it is written
BUFFERED_PARTS = 64


class Target(Protocol):
    """A file that is being made."""

    def add(self, item: Item) -> None:
        """Add an item."""

    def finish(self) -> Any:
        """End the file, and return what the caller gets."""


class DictTarget:
    """A JSON file as a dict."""

    def __init__(self, options: FileOptions) -> None:
        self._options = options
        self._document: dict[str, Any] = {}

    def add(self, item: Item) -> None:
        """Add an item."""
        form, style = self._options["form"], self._options["key_style"]
        self._document.setdefault(key_of(item, form), []).append(to_document(item, form, style))

    def finish(self) -> Document:
        """Return the dict."""
        return self._document | flags(self._options)


class JsonTarget:
    """A JSON file as text, with an item on each line."""

    def __init__(self, options: FileOptions, write: Callable[[str], object]) -> None:
        self._options, self._write = options, write
        self._parts: list[str] = []
        self._key = ""

    def add(self, item: Item) -> None:
        """Add an item."""
        form = self._options["form"]
        key = key_of(item, form)
        before = ",\n"
        if key != self._key:
            ended = "\n]," if self._key else "{"
            before = f'{ended}\n"{key}":[\n'
            self._key = key
        document = to_document(item, form, self._options["key_style"])
        self._parts.append(before + ENCODER.encode(document))
        if len(self._parts) == BUFFERED_PARTS:
            self._flush()

    def finish(self) -> None:
        """Write the flags and the end."""
        listed = ENCODER.encode(flags(self._options))
        self._parts.append(f"\n],\n{listed[1:]}\n")
        self._flush()

    def _flush(self) -> None:
        self._write("".join(self._parts))
        self._parts.clear()


class CsvTarget:
    """A CSV file as text; a new header line follows where the kind changes.

    A header names at least two columns: a single column of URLs means videos to Encord.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._text = io.StringIO()
        self._rows = csv.writer(self._text, lineterminator="\n")
        self._header: tuple[str, ...] = ()

    def add(self, item: Item) -> None:
        """Add an item: a line for each URL."""
        kind = KINDS[item.kind]
        is_group = kind.key == "image_groups"
        header = (URL_COLUMN, kind.column, *((VIDEO_COLUMN,) if is_group else ()))
        if header != self._header:
            self._rows.writerow(header)
            self._header = header
        made_video = ("true" if item.kind == "image_sequences" else "false",) if is_group else ()
        for file in item.files:
            title = item.title if kind.has_files else file.title
            self._rows.writerow((file.url, title or "", *made_video))
        self._write(self._text.getvalue())
        self._text.seek(0)
        self._text.truncate()

    def finish(self) -> None:
        """Do nothing: a CSV has no end."""


def flags(options: FileOptions) -> Document:
    """Return the flags of a JSON file."""
    return flags_of(
        options["form"],
        skip_duplicate_urls=options["skip_duplicate_urls"],
        upsert_metadata=options["upsert_metadata"],
    )


class Files:
    """Divides items among files.

    Attributes:
        files: Number of files that are complete.
        items: Number of items in them.
        urls: Number of URLs in them.
    """

    def __init__(self, options: FileOptions) -> None:
        """Use checked options."""
        self._options = options
        self._items_max = min(options["chunk"] or ITEMS_MAX, ITEMS_MAX)
        self.files = self.items = self.urls = 0

    def of(self, items: Iterator[Item]) -> Generator[Any, None, None]:
        """Yield each file when it is complete."""
        item = next(items, None)
        while item is not None:
            counts = [0, 0]
            with self._new_file() as (target, result):
                item = self._fill(target, item, items, counts)
                ended = target.finish()
            self.files += 1
            self.items += counts[0]
            self.urls += counts[1]
            yield ended if result is None else result()

    def _fill(
        self, target: Target, item: Item | None, items: Iterator[Item], counts: list[int]
    ) -> Item | None:
        """Add items while they fit; return the first one that does not, or None at the end."""
        while item is not None:
            urls = len(item.files)
            if urls > URLS_MAX:
                raise FormatError(
                    f"{quoted(item.title or '')} has {urls:,} images, and Encord accepts {URLS_MAX:,} URLs in a file"
                )
            if counts[0] == self._items_max or counts[1] + urls > URLS_MAX:
                return item
            target.add(item)
            counts[0] += 1
            counts[1] += urls
            item = next(items, None)
        return None

    @contextmanager
    def _new_file(self) -> Iterator[tuple[Target, Callable[[], Any] | None]]:
        """Yield what takes items, and what returns the result; None if finishing does."""
        options = self._options
        if options["output"] == "dicts":
            yield DictTarget(options), None
        elif options["output"] == "texts":
            text = io.StringIO()
            yield self._text_target(text.write), text.getvalue
        else:
            suffix = "csv" if options["form"] == "csv" else "json"
            path = Path(options["folder"] or "") / f"{STEM}-{self.files + 1:05}.{suffix}"
            with replacing(path) as file:
                yield self._text_target(lambda text: file.write(text.encode())), lambda: path

    def _text_target(self, write: Callable[[str], object]) -> Target:
        return (
            CsvTarget(write) if self._options["form"] == "csv" else JsonTarget(self._options, write)
        )
