"""Check a local project: what is wrong in it, and what Supervisely's SDK can't read.

Strategy: the headers of each blob are scanned, and each row of an offsets file is compared with the header before it. Each
annotation is parsed. No image is decoded.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blobpack.errors import BlobNotFoundError, BlobpackError, StorageError
from blobpack.index.tables.offsets import read_offsets
from blobpack.integrations.supervisely.documents import (
    META_KEYS,
    faults_of_annotation,
    faults_of_meta,
    read_document,
)
from blobpack.integrations.supervisely.layout import (
    ANNOTATIONS,
    BLOB_SUFFIX,
    BLOBS,
    META_FILE,
    NESTED,
    ignored_ending,
    is_plain,
)
from blobpack.integrations.supervisely.project import find_datasets
from blobpack.stores.arguments import local_path
from blobpack.stores.location import Location
from blobpack.stores.open import open_tar
from blobpack.tar.scan import scan_store

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from blobpack.index.index import Index
    from blobpack.integrations.supervisely.documents import Document
    from blobpack.integrations.supervisely.project import Dataset
    from blobpack.model import ProblemKind

    # offset_start of a payload → offset_end, and the names of its members without folders
    Places = dict[int, tuple[int, set[str]]]

# supervisely/imaging/image.py, SUPPORTED_IMG_EXTS
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".mpo", ".bmp", ".png"),
    *(".webp", ".tiff", ".tif", ".nrrd", ".jfif"),
)


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem of a local project.

    Attributes:
        kind: "meta", "blob", "offsets", "image" or "annotation"; "sdk" for something that is correct, but can't be read by
            Supervisely's SDK.
        path: The file or folder, relative to the project.
        message: Description of the problem.
    """

    kind: ProblemKind
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def check_project(folder: str | os.PathLike[str]) -> list[Problem]:
    """Check a local project of Supervisely.

    The check finds images without annotation; annotations that the SDK refuses; offsets that do not fit their blob; images
    that are listed twice, are empty, or have no suffix of an image; blobs that are missing, damaged or not used; and
    everything that the SDK skips or can't read.

    Args:
        folder: Path of the project's folder.

    Returns:
        The problems, in the order of the datasets; empty if there are none.

    Raises:
        BlobNotFoundError: there is no such folder.
        ValueError: this is a URL.
    """
    path = Path(local_path("folder", folder))
    if not path.is_dir():
        raise BlobNotFoundError(f"{path}: no such folder")
    return list(_Check(path).problems())


class _Check:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._meta: Document = {key: [] for key in META_KEYS}
        self._places: dict[Path, Places | None] = {}

    def problems(self) -> Iterator[Problem]:
        yield from self._check_meta()
        if NESTED in self._folder.absolute().parts:
            yield Problem(
                "sdk", ".", f"lies below a folder named {NESTED!r}, where the SDK reads no image"
            )
        blobs = self._folder / BLOBS
        for file in sorted(blobs.iterdir()) if blobs.is_dir() else ():
            yield from self._check_blob(file)
        datasets = list(find_datasets(self._folder))
        if not datasets:
            yield Problem("image", ".", "a project without datasets")
        used: set[Path] = set()
        for dataset in datasets:
            yield from _check_names(dataset, self._relative(dataset.folder))
            yield from self._check_dataset(dataset)
            used |= {dataset.blob_of(file) for file in dataset.offsets_files}
        for blob in self._places.keys() - used:
            yield Problem("blob", self._relative(blob), "no dataset has images in it")

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()

    def _check_meta(self) -> Iterator[Problem]:
        try:
            meta = read_document(self._folder / META_FILE)
        except BlobpackError as exc:
            yield Problem("meta", META_FILE, _without_path(exc, self._folder / META_FILE))
            return
        faults = list(faults_of_meta(meta))
        for fault in faults:
            yield Problem("meta", META_FILE, fault)
        if not faults:
            self._meta = meta

    def _check_blob(self, file: Path) -> Iterator[Problem]:
        if file.suffix != BLOB_SUFFIX or not file.is_file():
            yield Problem("blob", self._relative(file), "no tar, but the SDK takes it for a blob")
            return
        try:
            with open_tar(Location.parse(file)) as store:
                if store.is_compressed:
                    raise StorageError(f"{file}: compressed, but the SDK reads it as a plain tar")
                self._places[file] = _places_in(scan_store(store))
        except BlobpackError as exc:
            self._places[file] = None
            yield Problem("blob", self._relative(file), _without_path(exc, file))

    def _check_dataset(self, dataset: Dataset) -> Iterator[Problem]:
        names: list[str] = []
        for file in dataset.offsets_files:
            try:
                index = read_offsets(file)
            except BlobpackError as exc:
                yield Problem("offsets", self._relative(file), _without_path(exc, file))
                continue
            names += index.names
            yield from self._check_rows(dataset.blob_of(file), self._relative(file), index)
        names += dataset.image_files
        where = self._relative(dataset.folder)
        if not names:
            yield Problem("image", where, "a dataset without images")
        for name, count in Counter(names).items():
            if count > 1:
                yield Problem("image", where, f"image {name!r} is listed {count} times")
            if not name.lower().endswith(IMAGE_SUFFIXES):
                yield Problem("image", where, f"{name!r} has no suffix of an image")
        yield from self._check_annotations(dataset, set(names))

    def _check_rows(self, blob: Path, where: str, index: Index) -> Iterator[Problem]:
        if blob not in self._places:
            yield Problem("offsets", where, f"there is no blob {self._relative(blob)}")
            return
        places = self._places[blob]
        # a damaged blob is reported as a separate problem
        if places is None:
            return
        for member in index:
            found = places.get(member.offset_start)
            if found is None or found[0] != member.offset_end or member.name not in found[1]:
                has = "no member" if found is None else f"{min(found[1])!r} to byte {found[0]}"
                yield Problem(
                    "offsets",
                    where,
                    f"stale: {member.name!r} is at bytes {member.offset_start} to {member.offset_end}, and "
                    f"{self._relative(blob)} has {has} there",
                )
            elif not member.size:
                yield Problem("image", where, f"{member.name!r} is empty")

    def _check_annotations(self, dataset: Dataset, names: set[str]) -> Iterator[Problem]:
        folder = dataset.folder / ANNOTATIONS
        if not folder.is_dir():
            yield Problem("annotation", self._relative(folder), "no such folder")
            return
        asked: dict[Path, str] = {}
        for name in sorted(names):
            if not is_plain(name):
                yield Problem(
                    "image", self._relative(dataset.folder), f"{name!r} can't be a file's name"
                )
                continue
            path = dataset.annotation_path(name)
            if (other := asked.setdefault(path, name)) != name:
                yield Problem(
                    "annotation",
                    self._relative(path),
                    f"belongs to two images: {other!r}, {name!r}",
                )
            try:
                faults = list(faults_of_annotation(read_document(path), self._meta))
            except BlobNotFoundError:
                faults = [f"image {name!r} has no annotation"]
            except BlobpackError as exc:
                faults = [_without_path(exc, path)]
            for fault in faults:
                yield Problem("annotation", self._relative(path), fault)


def _check_names(dataset: Dataset, where: str) -> Iterator[Problem]:
    ending = ignored_ending(dataset.folder.name)
    if ending is not None:
        yield Problem("sdk", where, f"the SDK skips folders whose names end with {ending!r}")
    if "/" in dataset.name and dataset.offsets_files:
        yield Problem(
            "sdk",
            where,
            "nested: the SDK reads no image of it if the project is opened by an absolute path",
        )


def _places_in(index: Index) -> Places:
    places: Places = {}
    for member in index:
        # hard links share a payload
        _, names = places.setdefault(member.offset_start, (member.offset_end, set()))
        names.add(member.name.rpartition("/")[2])
    return places


def _without_path(exc: BlobpackError, path: Path) -> str:
    return str(exc).removeprefix(f"{path}: ")
