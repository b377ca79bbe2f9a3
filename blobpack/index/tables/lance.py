"""A dataset of Lance, with a column of payloads that Lance reads from the blob by ranges."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from blobpack.errors import StorageError
from blobpack.index.tables.arrow import need_alone, with_plain_texts
from blobpack.index.tables.places import places_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from blobpack.index.tables.places import Places, Urls
    from blobpack.index.tabular import TabularRows

PAYLOAD = "payload"
# rows that are written at a time: each of them holds the URL of its blob
BATCH_ROWS = 1 << 16
# the first version of Lance's format with ranges of other files
STORAGE_VERSION = "2.2"


def to_lance(
    index: TabularRows,
    target: str,
    url: Urls | None = None,
    storage_options: Mapping[str, str] | None = None,
) -> Any:
    """Write the members as a dataset of Lance, and return it; see Index.to_lance."""
    lance = need_alone("lance", "pylance")
    # installed with Lance
    pa = need_alone("pyarrow")
    table = with_plain_texts(index.to_arrow())
    field = lance.blob_field(PAYLOAD)
    places = places_of(index, url)
    try:
        return lance.write_dataset(
            pa.RecordBatchReader.from_batches(
                table.schema.append(field), _batches(pa, table, field, places)
            ),
            target,
            schema=table.schema.append(field),
            data_storage_version=STORAGE_VERSION,
            # The blob does not lie in the dataset's own folder.
            allow_external_blob_outside_bases=True,
            storage_options=dict(storage_options or {}),
        )
    except OSError as exc:
        # Lance's message ends with a place in its own source.
        reason = str(exc).partition(", /")[0]
        raise StorageError(f"{target}: the dataset can't be written: {reason}") from exc


def _batches(pa: Any, table: Any, field: Any, places: Places) -> Iterator[Any]:
    import numpy as np

    urls = list(map(_uri, places.urls))
    for first in range(0, len(table), BATCH_ROWS):
        piece = table.slice(first, BATCH_ROWS).combine_chunks()
        starts = piece.column("offset_start").to_numpy()
        sizes = piece.column("offset_end").to_numpy() - starts
        empty = sizes == 0
        numbers = places.numbers[first : first + len(piece)]
        # A payload is either bytes or a range. For Lance, an empty range is an error, so an empty payload is written as bytes.
        inline = [b"" if is_empty else None for is_empty in empty.tolist()]
        uris = [urls[number] for number in numbers.tolist()]
        values = pa.StructArray.from_arrays(
            [
                pa.array(inline, pa.large_binary()),
                pa.array(uris, pa.string(), mask=empty),
                pa.array(starts.astype(np.uint64), mask=empty),
                pa.array(sizes.astype(np.uint64), mask=empty),
            ],
            ["data", "uri", "position", "size"],
        )
        payloads = pa.ExtensionArray.from_storage(field.type, values)
        yield from piece.append_column(field, payloads).to_batches()


def _uri(place: str) -> str:
    """Return the URI of a blob as Lance decodes it: percent-encoded, the key of an object, too."""
    if "://" not in place:
        return Path(place).as_uri()
    scheme, _, rest = place.partition("://")
    return f"{scheme}://{quote(rest)}" if scheme == "s3" else place
