"""A blob or collection as a map-style Dataset, whose images are read when they are used.

Strategy: the table of the Dataset holds the URL of each image, and no bytes, so it is made without reading an image. A
transform reads the images of a batch as one batch of ranged reads; Hugging Face's own feature Image would open each URL by
itself. The column has the form of that feature, so it also works without the transform, which can't be saved to disk.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from blobpack.errors import FormatError, PackageMissingError
from blobpack.index.tables.arrow import FIELDS, with_plain_texts
from blobpack.model import check_flag, check_text
from blobpack.opening.open import open as open_source, source_of
from blobpack.opening.reader import Reader

try:
    import datasets
    import pyarrow as pa
    import pyarrow.compute
except ImportError as exc:
    raise PackageMissingError(
        f"blobpack.integrations.huggingface needs the package datasets, which can't be imported ({exc}): "
        "pip install datasets"
    ) from exc

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from blobpack.index.index import Index
    from blobpack.model import Which

SCHEME = "blob://"
# an array of strings holds at most 2 GiB
PIECE_ROWS = 1 << 20
# columns of the index that say where a payload lies: the URL says it already
PLACES = ("offset_start", "offset_end", "crc32c")


def to_dataset(
    source: Reader | str | os.PathLike[str],
    *,
    members: Iterable[Which] | None = None,
    column: str = "image",
    decode: bool = True,
) -> datasets.Dataset:
    """Return the images of a blob or collection as a map-style datasets.Dataset.

    No image is read yet. When rows are used, their images are read as one batch: those that lie near each other by one
    request, and many requests at the same time. So a DataLoader reads each of its batches at once.

    The column has the form of the feature `datasets.Image(decode=False)`, with URLs such as `blob://cats/1.jpg::/data/out.tar`.
    `save_to_disk` and `to_iterable_dataset` accept no transform. `with_format(None).cast_column(column, datasets.Image())`
    returns the Dataset without the transform. Its images are read one by one, through fsspec.

    Args:
        source: An open blob or collection; or a path or URL that `blobpack.open` opens. It stays open.
        members: Names, Members or rows of the members; an index, such as a selection, holds Members. None: all members. If
            several members have one name, the last one is read.
        column: Name of the column of images.
        decode: Whether images are decoded, to PIL images with EXIF orientation applied, as `datasets.Image()` decodes them.
            If not, a value is {"path": URL, "bytes": payload}.

    Returns:
        A Dataset with the columns name, those of the facts that the index has (media_type, width, height, mtime), and the
        images.

    Raises:
        PackageMissingError: the package datasets is not installed.
        BlobpackError: the source can't be opened, or a member can't be found.
        TypeError: an argument has a wrong type.
        ValueError: a column has this name already, or the blob has no path or URL.
    """
    check_text("column", column)
    check_flag("decode", decode)
    found = source_of("source", source)
    reader = found if isinstance(found, Reader) else open_source(found)
    index = reader.index if members is None else reader.index[reader.index.rows(members)]
    images = LazyImages(reader, decode=decode)
    table = _table(index, column, images)
    features = datasets.Features.from_arrow_schema(table.schema)
    features[column] = datasets.Image(decode=False)
    # not by from_dict, which would copy the columns to Python objects
    made = datasets.Dataset(
        datasets.table.InMemoryTable(table), info=datasets.DatasetInfo(features=features)
    )
    return made.with_transform(images)


def _table(index: Index, column: str, images: LazyImages) -> pa.Table:
    if column in ("name", *FIELDS):
        raise ValueError(f"column must not be {column!r}, which is a column of the index")
    table = with_plain_texts(index.to_arrow())
    names = table.column("name")
    if pa.types.is_large_binary(names.type):
        raise FormatError(f"{images.reader.url}: a name is not UTF-8, so it can't be in a Dataset")
    table = table.drop_columns([name for name in PLACES if name in table.column_names])
    pieces = [names.slice(first, PIECE_ROWS) for first in range(0, len(index), PIECE_ROWS)]
    urls = [_unread(piece, images.behind) for piece in pieces]
    return table.append_column(column, pa.chunked_array(urls, datasets.Image().pa_type))


def _unread(names: pa.ChunkedArray, behind: str) -> pa.Array:
    """Return values of the feature Image that have URLs, and no bytes."""
    parts = [pa.scalar(text, pa.large_string()) for text in (SCHEME, behind, "")]
    urls = pa.compute.binary_join_element_wise(parts[0], names, *parts[1:])
    return pa.StructArray.from_arrays(
        [pa.nulls(len(names), pa.binary()), urls.cast(pa.string()).combine_chunks()],
        ["bytes", "path"],
    )


class LazyImages:
    """The transform: reads the images of a batch, and decodes them.

    Attributes:
        reader: The blob or collection.
        behind: What follows a member's name in its URL.
    """

    def __init__(self, reader: Reader, *, decode: bool) -> None:
        """Use an open blob or collection.

        Raises:
            ValueError: it has no path or URL.
        """
        location = reader._location
        if location is None:
            raise ValueError(f"source must have a path or URL, and {reader.url} has none")
        self.reader = reader
        place = os.path.abspath(location.path) if location.is_local else location.whole  # noqa: PTH100 (keeps links)
        self.behind = f"::{place}"
        self._decoder = datasets.Image() if decode else None

    def __call__(self, batch: dict[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
        """Return a batch with its images read. A column of images may have been renamed."""
        return {
            column: self._read(values) if _are_images(values) else values
            for column, values in batch.items()
        }

    def _read(self, values: Sequence[Any]) -> list[Any]:
        paths = [value["path"] for value in values if self._is_mine(value)]
        # not split at "::", which a name may hold
        names = [path[len(SCHEME) : -len(self.behind)] for path in paths]
        payloads = self.reader.read_many(names)
        filled = [
            {**value, "bytes": next(payloads)} if self._is_mine(value) else value
            for value in values
        ]
        decoder = self._decoder
        if decoder is None:
            return filled
        return [None if value is None else decoder.decode_example(value) for value in filled]

    def _is_mine(self, value: Any) -> bool:
        # an image that a function of `map` has made holds its bytes
        return (
            value is not None
            and value["bytes"] is None
            and str(value["path"]).startswith(SCHEME)
            and value["path"].endswith(self.behind)
        )


def _are_images(values: Sequence[Any]) -> bool:
    return any(
        isinstance(value, dict) and value.keys() == {"bytes", "path"} for value in values[:1]
    )
