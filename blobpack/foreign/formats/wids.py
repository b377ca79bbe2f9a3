"""The shard index of wids: the URL, MD5, number of samples and size of each tar of a set. It has no members.

To read it, blobpack finds the tar in it, compares the size or the number of samples, and scans the headers of the tar. The
MD5 is not compared, because that would read all bytes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from blobpack.foreign.fit import check_tar_bytes, misfit
from blobpack.foreign.formats.samples import group_samples, split_for_wids
from blobpack.foreign.payload_hashes import hash_payloads
from blobpack.foreign.same_tar import same_tar
from blobpack.tar.scan import scan_store

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blobpack.foreign.index_file import IndexFile
    from blobpack.foreign.source import SourceBlob
    from blobpack.index.index import Index
    from blobpack.stores.base import Store


def matches(file: IndexFile) -> bool:
    """Return whether a file is a shard index of wids."""
    return isinstance(file.json, dict) and "wids_version" in file.json


def read(file: IndexFile, store: Store) -> Index:
    """Read the tar's line in a shard index of wids, and scan the tar; see table.py."""
    shards = _shards_in(file)
    found = same_tar([url for url, _ in shards], store, file)
    fields = dict(shards)[found]
    count = file.checked(found, fields.get("nsamples"), "nsamples")
    index = scan_store(store)
    if (size := fields.get("filesize")) is not None:
        check_tar_bytes(store, file.checked(found, size, "filesize"), file)
    # wids cuts names at 100 bytes, and may then count other samples. So the number is compared only if there is no size.
    elif (samples := _count_samples(index.names)) != count:
        raise misfit(file, store, f"it has {count:,} samples, and the tar has {samples:,}")
    return index


def _shards_in(file: IndexFile) -> list[tuple[str, dict[str, Any]]]:
    """Return URL and fields of each tar."""
    listed = file.json.get("shardlist")
    if not isinstance(listed, list):
        raise file.fault("it has no shardlist; sets of other indexes of wids are not read")
    shards = []
    for fields in listed:
        if not isinstance(fields, dict) or not isinstance(fields.get("url"), str):
            raise file.fault(
                f"its shardlist holds {fields!r:.80}, expected an object with url and nsamples"
            )
        shards.append((fields["url"], fields))
    return shards


def _count_samples(names: Iterable[str]) -> int:
    # wids keeps a dict of names, in which a name that is repeated keeps its first place
    return len(group_samples(dict.fromkeys(names), split_for_wids))


def encode(blobs: list[SourceBlob]) -> tuple[bytes, int]:
    """Write a shard index of wids; see table.py."""
    shards, rows = [], 0
    for blob in blobs:
        with blob.opened() as store:
            shards.append(
                {
                    "url": blob.name,
                    "md5sum": hash_payloads(store).md5,
                    "nsamples": _count_samples(blob.index.names),
                    "filesize": store.stored_bytes,
                }
            )
        rows += len(blob.index)
    # as widsindex sorts them, by text
    shards.sort(key=lambda shard: str(shard["url"]))
    made = {"__kind__": "wids-shard-index-v1", "wids_version": 1, "shardlist": shards}
    return json.dumps(made, indent=2).encode(), rows
