"""Hashes of a tar and of its payloads, in one pass over its bytes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from blobpack.index.index import Index
    from blobpack.stores.base import Store

# memory holds one such piece of the tar
READ_BYTES = 8 << 20


class Hashes(NamedTuple):
    """Hashes of a tar file, in hexadecimal.

    Attributes:
        git: SHA-1 of the file as Git names it: of "blob", its size, NUL, and its bytes.
        whole: SHA-256 of the file.
        md5: MD5 of the file.
        payloads: SHA-256 of each payload, in the order of the index; empty without an index.
    """

    git: str
    whole: str
    md5: str
    payloads: list[str]


def hash_payloads(store: Store, index: Index | None = None) -> Hashes:
    """Read a tar once, and hash it and its payloads.

    Raises:
        StorageError: the store failed.
    """
    size = store.size
    # The formats require MD5 and SHA-1. These hashes protect no secret here.
    whole = [
        hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False),
        hashlib.sha256(),
        hashlib.md5(usedforsecurity=False),
    ]
    members = (
        []
        if index is None
        else list(zip(index.offset_start.tolist(), index.offset_end.tolist(), strict=True))
    )
    digests = [""] * len(members)
    # The next member stands at the end of the list, where pop() is cheap.
    waiting = sorted(range(len(members)), key=members.__getitem__, reverse=True)
    open_rows: dict[int, hashlib._Hash] = {}
    for begin in range(0, size, READ_BYTES):
        body = memoryview(store.read_range(begin, min(begin + READ_BYTES, size)))
        for each in whole:
            each.update(body)
        end = begin + len(body)
        while waiting and members[waiting[-1]][0] < end:
            open_rows[waiting.pop()] = hashlib.sha256()
        # hard links share bytes, so several rows may be open
        for row in list(open_rows):
            first, last = members[row]
            open_rows[row].update(body[max(0, first - begin) : last - begin])
            if last <= end:
                digests[row] = open_rows.pop(row).hexdigest()
    # Only empty members at the end of the tar are left.
    for row in waiting:
        digests[row] = hashlib.sha256().hexdigest()
    git, sha256, md5 = (each.hexdigest() for each in whole)
    return Hashes(git, sha256, md5, digests)
