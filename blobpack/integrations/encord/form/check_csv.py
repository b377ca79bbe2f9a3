"""Check a CSV for Encord."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobpack.integrations.encord.form.kinds import KINDS, URL_COLUMN, VIDEO_COLUMN
from blobpack.integrations.encord.form.problems import (
    Problem,
    counts_problems,
    title_problems,
    url_problems,
)
from blobpack.integrations.encord.form.read import csv_rows, kind_of_header
from blobpack.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator


def csv_problems(text: str) -> Iterator[Problem]:
    """Yield the problems of a CSV."""
    items, urls = set(), 0
    header: list[str] = []
    for row in csv_rows(text, "the file"):
        where = f"line {row.line}"
        if row.header is not header:
            header = row.header
            yield from _of_header(where, header)
        if len(row.cells) != len(header):
            yield Problem(where, f"has {counted(len(row.cells), 'cell')} below {len(header)}")
        yield from url_problems(where, URL_COLUMN, row.cells[0])
        title = row.cells[1] if len(row.cells) > 1 else ""
        yield from title_problems(where, {"title": title})
        kind = kind_of_header(header)
        has_files = bool(kind) and KINDS[str(kind)].has_files
        if has_files and not title:
            yield Problem(where, f"has no {header[1]}")
        items.add((kind, title) if has_files else row.line)
        urls += 1
    yield from counts_problems(len(items), urls)


def _of_header(where: str, header: list[str]) -> Iterator[Problem]:
    kind = kind_of_header(header)
    if len(header) == 1:
        yield Problem(
            where,
            f"the single column {header[0]} means videos to Encord; for images, add the column "
            f"{KINDS['images'].column!r}",
        )
    elif kind is None:
        yield Problem(where, f"{header[1]!r} is no column of titles that Encord knows")
    elif KINDS[kind].key == "image_groups" and header[2:] != [VIDEO_COLUMN]:
        yield Problem(where, f"the third column must be {VIDEO_COLUMN!r}")
