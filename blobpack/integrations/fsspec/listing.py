"""Facts of files and folders as dicts, which is the form that fsspec has for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from blobpack.columns import FACTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blobpack.index.index import Index
    from blobpack.integrations.fsspec.paths import Entry
    from blobpack.model import Member

Info = dict[str, Any]


def file_info(path: str, member: Member) -> Info:
    """Return what is known of a file: its size, its place in the blob, and the facts that the index has."""
    info: Info = {
        "name": path,
        "size": member.offset_end - member.offset_start,
        "type": "file",
        "offset_start": member.offset_start,
        "offset_end": member.offset_end,
    }
    for fact in FACTS:
        value = getattr(member, fact)
        if value is not None:
            info[fact] = value
    return info


def folder_info(path: str) -> Info:
    """Return what is known of a folder."""
    return {"name": path, "size": 0, "type": "directory"}


def infos_of(index: Index, entries: Iterable[Entry]) -> list[Info]:
    """Return what is known of files and folders; the members are read together."""
    listed = list(entries)
    rows = [entry.row for entry in listed if entry.row >= 0]
    members = iter(index[np.array(rows, np.int64)])
    return [
        folder_info(entry.path) if entry.row < 0 else file_info(entry.path, next(members))
        for entry in listed
    ]
