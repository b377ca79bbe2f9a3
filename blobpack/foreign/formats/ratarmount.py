"""The SQLite index of ratarmount: folder, name, offset, size, time and mode of each entry, and the size of the tar.

Its names have no "./" at their beginning. It does not record the payload of a hard link, so hard links get no row. Entries
of tars inside the tar, of sparse files, and of archives that are no tars are not read.
"""

from __future__ import annotations

import json
import os
import posixpath
import stat
from array import array
from typing import TYPE_CHECKING

from blobpack.foreign.database import encode_database
from blobpack.foreign.fit import ForeignRows, fit
from blobpack.foreign.formats.header_fields import iter_fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from blobpack.foreign.index_file import IndexFile
    from blobpack.foreign.source import SourceBlob
    from blobpack.index.index import Index
    from blobpack.stores.base import Store

COLUMNS = ("path", "name", "offset", "size", "mode", "linkname", "issparse")
# ratarmount itself makes these tables while it writes, and drops them at the end
UNFINISHED = {"filestmp", "parentfolders"}
BACKEND = "SQLiteIndexedTar"
SCHEMA = """
CREATE TABLE "files" ("path" VARCHAR(65535) NOT NULL, "name" VARCHAR(65535) NOT NULL, "offsetheader" INTEGER,
    "offset" INTEGER, "size" INTEGER, "mtime" REAL, "mode" INTEGER, "type" INTEGER, "linkname" VARCHAR(65535),
    "uid" INTEGER, "gid" INTEGER, "istar" BOOL, "issparse" BOOL, "isgenerated" BOOL, "recursiondepth" INTEGER,
    PRIMARY KEY ("path", "name", "offsetheader"));
CREATE TABLE "metadata" ("key" VARCHAR(65535) NOT NULL, "value" VARCHAR(65535) NOT NULL, PRIMARY KEY ("key"));
CREATE TABLE "versions" ("name" VARCHAR(65535) NOT NULL, "version" VARCHAR(65535) NOT NULL, "major" INTEGER,
    "minor" INTEGER, "patch" INTEGER, PRIMARY KEY ("name"));
"""
# the version of the layout above
VERSION = ("index", "0.7.0", 0, 7, 0)
FOLDER_MODE = stat.S_IFDIR | 0o555
FOLDER_TYPE = 5


def matches(file: IndexFile) -> bool:
    """Return whether a file is an index of ratarmount."""
    return file.database is not None and file.database.has(
        "files", "path", "name", "offset", "size"
    )


def read(file: IndexFile, store: Store) -> Index:
    """Read an index of ratarmount; see table.py."""
    database = file.found_database
    if not database.has("files", *COLUMNS) or UNFINISHED & database.names:
        raise file.fault("it is unfinished, or of a version of ratarmount before 0.5")
    metadata = (
        dict(database.select("metadata", "key", "value"))
        if database.has("metadata", "key", "value")
        else {}
    )
    if (backend := metadata.get("backendName", BACKEND)) != BACKEND:
        raise file.fault(f"it is the index of an archive that is no tar: {backend!r}")
    # recursiondepth is in indexes of version 0.6 and later
    nested = "recursiondepth" if database.has("files", "recursiondepth") else "issparse"
    names: list[str] = []
    start, end = array("q"), array("q")
    rows = database.select("files", *COLUMNS, nested, where='ORDER BY "offset"')
    for folder, base, offset, size, mode, link, sparse, depth in rows:
        # The folder of a member at the top is empty.
        name = f"{folder}/{base}".lstrip("/")
        # 16 bits: the type and the rights
        kind = stat.S_IFMT(file.checked(name, mode, "mode") & 0xFFFF)
        # Folders and links have no payload, and a sparse file has none in one range. Rows with a depth lie in a tar
        # inside the tar.
        if kind != stat.S_IFREG or link or sparse or depth:
            continue
        begin = file.checked(name, offset, "offset")
        start.append(begin)
        last = begin + file.checked(name, size, "size")
        end.append(file.checked(name, last, "offset and size that end at"))
        names.append(name)
    return fit(ForeignRows(names, start, end, _tar_bytes(metadata, file)), file, store)


def _tar_bytes(metadata: dict[object, object], file: IndexFile) -> int | None:
    """Return the size of the tar when the index was made; None if it is not recorded."""
    recorded = metadata.get("tarstats")
    if recorded is None:
        return None
    try:
        size = json.loads(str(recorded))["st_size"]
    except (ValueError, RecursionError, KeyError, TypeError) as exc:
        raise file.fault(f"its tarstats have no st_size: {exc}") from exc
    return file.checked("the tar", size, "st_size")


def encode(blobs: list[SourceBlob]) -> tuple[bytes, int]:
    """Write an index of ratarmount; see table.py."""
    (blob,) = blobs
    with blob.opened() as store:
        files = list(_rows(store, blob.index))
        metadata = list(_metadata(store).items())
    folders: dict[tuple[str, str], tuple[object, ...]] = {}
    for path, _, header, offset, *_ in files:
        # each folder needs a row, up to the root
        folder = str(path)
        while folder and (key := posixpath.split(folder)) not in folders:
            parent = key[0].rstrip("/")
            folders[key] = (
                parent,
                key[1],
                header,
                offset,
                0,
                0,
                FOLDER_MODE,
                FOLDER_TYPE,
                "",
                0,
                0,
                0,
                0,
                0,
                0,
            )
            folder = parent
    tables: dict[str, Iterable[Sequence[object]]] = {
        "files": [*files, *folders.values()],
        "metadata": metadata,
        "versions": [VERSION],
    }
    return encode_database(SCHEMA, tables), len(files)


def _rows(store: Store, index: Index) -> Iterator[tuple[object, ...]]:
    """Yield the row of each member; hard links become files that have the bytes of the other member."""
    for member, fields in zip(index, iter_fields(store, index), strict=True):
        # as ratarmount spells bytes that are not UTF-8
        name = member.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        folder, _, base = posixpath.normpath(f"/{name}").lstrip("/").rpartition("/")
        yield (
            f"/{folder}" if folder else "",
            base,
            member.offset_start - 512,
            member.offset_start,
            member.size,
            fields.mtime,
            stat.S_IFREG | fields.mode,
            0,
            "",
            fields.uid,
            fields.gid,
            0,
            0,
            0,
            0,
        )


def _metadata(store: Store) -> dict[str, str]:
    """Return what ratarmount compares with the tar before it believes an index."""
    metadata = {"backendName": BACKEND, "isGnuIncremental": "0"}
    if store.location is not None and store.location.is_local:
        found = os.stat(store.location.path)  # noqa: PTH116 (a str)
        stats = {"st_size": found.st_size, "st_mtime": found.st_mtime}
        # ratarmount refuses the index of a tar that has become smaller
        metadata["tarstats"] = json.dumps(stats)
    return metadata
