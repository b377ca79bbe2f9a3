"""The images of a new project: which rows of which blobs belong to which dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blobpack.errors import DuplicateNameError
from blobpack.index.index import Index
from blobpack.integrations.supervisely.layout import (
    blob_stem,
    check_dataset_name,
    check_image_name,
)
from blobpack.model import shown
from blobpack.opening.open import opened, reader_of, source_of

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping
    from contextlib import ExitStack

    import numpy as np
    from numpy.typing import NDArray

    from blobpack.opening.blob_rows import BlobPart
    from blobpack.opening.reader import Reader

    # what the images of a dataset are given as
    Source = Reader | Index | str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Piece:
    """The images of one dataset that lie in one blob.

    Attributes:
        blob: The blob.
        index: The members, with offsets in this blob.
        titles: Their names without folders, in the same order.
    """

    blob: BlobPart
    index: Index
    titles: list[str]


def check_datasets(datasets: Mapping[str, Source]) -> None:
    """Check the names and the types of datasets.

    Raises:
        TypeError: this is no mapping; a name is no str; or a value is neither a reader, an index, a path nor a URL.
        ValueError: the SDK can't read a dataset of this name; or an index belongs to no open blob.
    """
    for name, source in _items(datasets):
        check_dataset_name(name)
        if not isinstance(source, Index):
            source_of(f"dataset {name!r}", source)
        elif reader_of(source) is None:
            raise ValueError(
                f"dataset {name!r}: the index belongs to no open blob: give a blob, its path, or an index that was cut from "
                "the index of an open blob"
            )


def _items(datasets: Mapping[str, Source]) -> list[tuple[str, Source]]:
    try:
        return list(datasets.items())
    except AttributeError:
        raise TypeError(
            f"datasets must be a dict of names and blobs, not {shown(datasets)}"
        ) from None


def pieces_of(stack: ExitStack, name: str, source: Source) -> list[Piece]:
    """Find the images of a dataset.

    Args:
        stack: Closes what is opened here.
        name: Name of the dataset, for messages.
        source: Its images.

    Raises:
        DuplicateNameError: two images have the same name without folders; the message names both.
        UnsafeNameError: an image has a name that no file of an annotation can have.
    """
    pieces = []
    seen: dict[str, str] = {}
    for part, index in _parts(stack, source):
        titles = [path.rpartition("/")[2] for path in index.names]
        for title, path in zip(titles, index.names, strict=True):
            check_image_name(title, part.url)
            if seen.setdefault(title, path) is not path:
                raise DuplicateNameError(
                    f"dataset {name!r}: {seen[title]!r} and {path!r} would both be the image {title!r}: put them into "
                    "two datasets"
                )
        pieces.append(Piece(part, index, titles))
    return pieces


def _parts(stack: ExitStack, source: Source) -> Iterator[tuple[BlobPart, Index]]:
    """Yield the blobs of a source that have any of its rows, and these rows."""
    rows = None
    if isinstance(source, Index):
        reader = reader_of(source)
        assert reader is not None  # noqa: S101 (check_datasets has found it, and the caller holds it)
        if source is not reader.index:
            rows = _sorted_rows(reader, source)
    else:
        # two blobs of a folder may have a member of one name: they are two images
        reader = stack.enter_context(opened(source, duplicates="last"))
    for part in reader._each_blob():
        index = part.of_rows(rows).read_index()
        if len(index):
            yield part, index


def _sorted_rows(reader: Reader, index: Index) -> NDArray[np.int64]:
    import numpy as np

    return np.sort(reader.index.rows(index))


def blob_names(datasets: Mapping[str, list[Piece]]) -> dict[str, BlobPart]:
    """Return the blobs of all datasets by their stems, each blob once.

    Raises:
        DuplicateNameError: two blobs would have the same file.
    """
    found: dict[str, BlobPart] = {}
    for pieces in datasets.values():
        for piece in pieces:
            stem = stem_of(piece.blob)
            other = found.setdefault(stem, piece.blob)
            if other.url != piece.blob.url:
                raise DuplicateNameError(
                    f"{other.url} and {piece.blob.url} would both be the blob {stem}.tar: rename one of them"
                )
    return found


def stem_of(part: BlobPart) -> str:
    """Return the stem of a blob's file in the project."""
    name = part.location.address if part.location else part.url
    return blob_stem(name.rstrip("/").rpartition("/")[2]) or "images"
