"""The annotations of a new project: given by name or as files, and empty ones for all other images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from blobpack.errors import FormatError, ImageError
from blobpack.integrations.supervisely.documents import (
    empty_annotation,
    faults_of_annotation,
    read_document,
)
from blobpack.integrations.supervisely.layout import ANNOTATIONS, JSON_SUFFIX
from blobpack.model import check_path, shown
from blobpack.stores.arguments import local_path
from blobpack.tar.facts import take_facts

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    from blobpack.index.index import Index
    from blobpack.integrations.supervisely.documents import Document
    from blobpack.integrations.supervisely.sources import Piece

    # by the name of an image, or as files in a folder
    Annotations = Mapping[str, Document] | str | os.PathLike[str]


class Given(Protocol):
    """Annotations that the caller has given."""

    def find(self, dataset: str, path: str) -> tuple[Document, object] | None:
        """Return an image's annotation and where it comes from; None if there is none.

        Args:
            dataset: Name of the dataset.
            path: Whole name of the member.
        """

    def unused(self) -> list[str]:
        """Return the names of annotations that no image has asked for."""


def given_annotations(annotations: Annotations | None) -> Given:
    """Return what finds the annotations that a caller gave.

    Raises:
        TypeError: the argument is neither a mapping nor a path.
        ValueError: it is a URL.
    """
    if annotations is None:
        return _ByName({})
    if isinstance(annotations, Mapping):
        listed: Iterable[tuple[Any, Any]] = annotations.items()
        for name, annotation in listed:
            if not (isinstance(name, str) and isinstance(annotation, dict)):
                raise TypeError(
                    f"annotations must be dicts by the names of images, and one is {shown({name: annotation})}"
                )
        return _ByName(annotations)
    check_path("annotations", annotations)
    return _InFolder(Path(local_path("annotations", annotations)))


class _ByName:
    """Annotations by the name of the image, with or without the folders of the member."""

    def __init__(self, annotations: Mapping[str, Document]) -> None:
        self._annotations = annotations
        self._used: set[str] = set()

    def find(self, dataset: str, path: str) -> tuple[Document, object] | None:
        title = path.rpartition("/")[2]
        # the most exact name first, because two datasets may have images with one name
        for name in (path, f"{dataset}/{title}", title):
            if name in self._annotations:
                self._used.add(name)
                return self._annotations[name], f"the annotation of {name!r}"
        return None

    def unused(self) -> list[str]:
        return [name for name in self._annotations if name not in self._used]


class _InFolder:
    """Annotations in files `NAME.json`, in the folders of the members, of the datasets, or in one folder."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise FormatError(f"{folder}: annotations must be a folder of JSON files")
        self._folder = folder
        # listed once, because checking four possible names of each image on disk would take longer
        self._files = {
            path.relative_to(folder).as_posix() for path in folder.rglob(f"*{JSON_SUFFIX}")
        }
        self._used: set[str] = set()

    def find(self, dataset: str, path: str) -> tuple[Document, object] | None:
        title = path.rpartition("/")[2]
        for name in (path, f"{dataset}/{ANNOTATIONS}/{title}", f"{dataset}/{title}", title):
            if (file := name + JSON_SUFFIX) in self._files:
                self._used.add(file)
                return read_document(self._folder / file), self._folder / file
        return None

    def unused(self) -> list[str]:
        return sorted(self._files - self._used)


def annotations_of(
    dataset: str, piece: Piece, given: Given, meta: Document
) -> Iterator[tuple[str, Document, bool]]:
    """Yield the title of each image, its annotation, and whether it was given.

    Raises:
        FormatError: an annotation is not as Supervisely demands, or names a class or tag that the meta has not.
        ImageError: an image without annotation has no known width and height.
    """
    without: list[int] = []
    for row, (path, title) in enumerate(zip(piece.index.names, piece.titles, strict=True)):
        found = given.find(dataset, path)
        if found is None:
            without.append(row)
            continue
        annotation, where = found
        for fault in faults_of_annotation(annotation, meta):
            raise FormatError(f"{where}: {fault}")
        yield title, annotation, True
    if without:
        for row, member in zip(without, _measured(piece, without), strict=True):
            if not (member.width and member.height):
                raise ImageError(
                    f"{piece.blob.url}: {member.name!r} has no width and height, so it needs an annotation: pass "
                    "one, or select images only"
                )
            yield piece.titles[row], empty_annotation(member.width, member.height), False


def _measured(piece: Piece, rows: list[int]) -> Index:
    """Return members with their widths and heights."""
    index = piece.index[rows]
    if {"width", "height"} <= index.facts:
        return index
    # an index of a scan or of an offsets file has no facts: they are read from the images
    with piece.blob.opened() as store:
        return take_facts(store, index)


def as_json(document: dict[str, Any]) -> bytes:
    """Return a document as the bytes of a file."""
    return json.dumps(document).encode()
