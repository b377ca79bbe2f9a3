"""The JSON index of hfutils: the size and the hashes of a tar, and offset, size and SHA-256 of each member by name.

Of several members with one name, it has the last one. Hashes are not compared when it is read: that would read all bytes.
"""

from __future__ import annotations

import json
from array import array
from typing import TYPE_CHECKING

from blobpack.foreign.fit import ForeignRows, fit
from blobpack.foreign.payload_hashes import hash_payloads

if TYPE_CHECKING:
    from blobpack.foreign.index_file import IndexFile
    from blobpack.foreign.source import SourceBlob
    from blobpack.index.index import Index
    from blobpack.stores.base import Store


def matches(file: IndexFile) -> bool:
    """Return whether a file is a JSON index of hfutils."""
    return (
        isinstance(file.json, dict)
        and isinstance(file.json.get("files"), dict)
        and "filesize" in file.json
    )


def read(file: IndexFile, store: Store) -> Index:
    """Read an index of hfutils; see table.py."""
    tar_bytes = file.checked("the tar", file.json["filesize"], "filesize")
    start, end = array("q"), array("q")
    # Python's json keeps the last one of two equal keys.
    names = file.json["files"]
    for name, fields in names.items():
        if not isinstance(fields, dict):
            raise file.fault(f"{name!r} has no object with offset and size, but {fields!r:.80}")
        offset = file.checked(name, fields.get("offset"), "offset")
        size = file.checked(name, fields.get("size"), "size")
        start.append(offset)
        end.append(file.checked(name, offset + size, "offset and size that end at"))
    return fit(ForeignRows(list(names), start, end, tar_bytes), file, store)


def encode(blobs: list[SourceBlob]) -> tuple[bytes, int]:
    """Write an index of hfutils; see table.py."""
    (blob,) = blobs
    index = blob.index
    with blob.opened() as store:
        found = hash_payloads(store, index)
        size = store.stored_bytes
    # Of several members with one name, the dict keeps the last one.
    files = {
        member.name: {
            "offset": member.offset_start,
            "size": member.size,
            "sha256": digest,
        }
        for member, digest in zip(index, found.payloads, strict=True)
    }
    made = {"filesize": size, "hash": found.git, "hash_lfs": found.whole, "files": files}
    return json.dumps(made).encode(), len(files)
