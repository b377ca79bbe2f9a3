"""The `.nv-meta/index.sqlite` of Megatron-Energon: name, offset and size of each member of all tars of a set.

It numbers the tars. Their names are in `.info.json` beside it, in the order of their numbers. Databases of older versions
only have the samples, without their parts; then the tar is scanned.
"""

from __future__ import annotations

import json
from array import array
from typing import TYPE_CHECKING

from blobpack.errors import BlobNotFoundError, DuplicateNameError, FormatError
from blobpack.foreign.database import encode_database
from blobpack.foreign.fit import ForeignRows, fit
from blobpack.foreign.formats.energon import first_headers, scanned_samples
from blobpack.foreign.same_tar import same_tar
from blobpack.stores.open import open_store

if TYPE_CHECKING:
    from blobpack.foreign.index_file import IndexFile
    from blobpack.foreign.source import SourceBlob
    from blobpack.index.index import Index
    from blobpack.stores.base import Store

SAMPLES = ("tar_file_id", "sample_key", "sample_index", "byte_offset", "byte_size")
PARTS = (
    "tar_file_id",
    "sample_index",
    "part_name",
    "content_byte_offset",
    "content_byte_size",
)
SCHEMA = """
CREATE TABLE samples (tar_file_id INTEGER NOT NULL, sample_key TEXT NOT NULL UNIQUE, sample_index INTEGER NOT NULL,
    byte_offset INTEGER, byte_size INTEGER);
CREATE TABLE sample_parts (tar_file_id INTEGER, sample_index INTEGER, part_name TEXT, content_byte_offset INTEGER,
    content_byte_size INTEGER);
"""
# the indexes that Energon's own queries use
INDEXES = """
CREATE INDEX idx_samples_by_tar_and_idx ON samples(tar_file_id, sample_index);
CREATE INDEX idx_sample_parts_seq ON sample_parts(tar_file_id, sample_index, content_byte_offset);
CREATE INDEX idx_sample_parts_full ON sample_parts(tar_file_id, sample_index, part_name, content_byte_offset,
    content_byte_size);
"""


def matches(file: IndexFile) -> bool:
    """Return whether a file is a database of Energon."""
    return file.database is not None and file.database.has("samples", *SAMPLES)


def read(file: IndexFile, store: Store) -> Index:
    """Read the members of one tar from a database of Energon; see table.py."""
    database = file.found_database
    samples = database.select("samples", *SAMPLES)
    number = _tar_number({each[0] for each in samples}, file, store)
    # joined here, because a file may lack the indexes that make SQLite's join fast
    stems: dict[object, str] = {}
    offsets = []
    for tar, key, sample, offset, size in samples:
        if tar == number:
            if not isinstance(key, str):
                raise file.fault(f"sample {sample!r} has the key {key!r}, expected text")
            stems[sample] = key
            begin = file.checked(key, offset, "byte_offset")
            offsets.append((begin, begin + file.checked(key, size, "byte_size")))
    # a database of an older version: its samples are compared with a scan
    if not database.has("sample_parts", *PARTS):
        # SQLite promises no order of the rows in a table.
        offsets.sort()
        ends = [max((end for _, end in offsets), default=0)]
        return scanned_samples(array("Q", [begin for begin, _ in offsets] + ends), file, store)
    names: list[str] = []
    start, end = array("q"), array("q")
    # the parts of the other tars of a large set are not read
    where = f"WHERE tar_file_id = {number} ORDER BY content_byte_offset"
    for _, sample, part, offset, size in database.select("sample_parts", *PARTS, where=where):
        if sample not in stems or not isinstance(part, str):
            raise file.fault(f"part {part!r} at byte {offset!r} belongs to no sample of its tar")
        name = f"{stems[sample]}.{part}"
        begin = file.checked(name, offset, "content_byte_offset")
        start.append(begin)
        last = begin + file.checked(name, size, "content_byte_size")
        end.append(file.checked(name, last, "offset and size that end at"))
        names.append(name)
    return fit(ForeignRows(names, start, end), file, store)


def _tar_number(numbers: set[object], file: IndexFile, store: Store) -> int:
    """Return the number of the tar that is read."""
    shards = _shards_beside(file)
    if shards is not None:
        return shards.index(same_tar(shards, store, file))
    if len(numbers) > 1:
        raise file.fault(
            f"it has {len(numbers)} tars, and there is no .info.json beside it that names them"
        )
    return file.checked("the tar", next(iter(numbers), 0), "tar_file_id")


def _shards_beside(file: IndexFile) -> list[str] | None:
    """Return the names of the tars in `.info.json`, in their order; None if there is no such file."""
    place = file.location.folder.below(".info.json")
    try:
        with open_store(place) as store:
            content = store.read_range(0, store.size)
    except BlobNotFoundError:
        return None
    try:
        shards = json.loads(content)["shard_counts"]
        return list(shards.keys())
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as exc:
        raise file.fault(f"{place} beside it has no shard_counts: {exc}") from exc


def encode(blobs: list[SourceBlob]) -> tuple[bytes, int]:
    """Write a database of Energon; see table.py.

    Raises:
        DuplicateNameError: two samples have one name.
        FormatError: a name is not UTF-8, which SQLite's texts are.
    """
    samples: list[tuple[int, str, int, int, int]] = []
    parts: list[tuple[int, int, str, int, int]] = []
    keys: dict[str, str] = {}
    for number, blob in enumerate(blobs):
        grouped, offsets = first_headers(blob.index)
        # a sample reaches to the next one, with the padding and headers between
        for place, (stem, files) in enumerate(grouped):
            if stem in keys:
                raise DuplicateNameError(
                    f"Energon's index holds a sample once, and {stem!r} is in {keys[stem]} and in {blob.name}"
                )
            keys[stem] = blob.name
            begin, end = offsets[place : place + 2]
            samples.append((number, stem, place, begin, end - begin))
            for row, rest in files:
                first, last = blob.index._bounds_at(row)
                parts.append((number, place, rest, first, last - first))
    try:
        made = encode_database(SCHEMA, {"samples": samples, "sample_parts": parts}, INDEXES)
    except UnicodeEncodeError as exc:
        number = next(row[0] for row in (*samples, *parts) if exc.object in row)
        raise FormatError(
            f"{blobs[number].name}: the name {exc.object!r} is not UTF-8, so it can't be in Energon's index"
        ) from exc
    return made, len(parts)
