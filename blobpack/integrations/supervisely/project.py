"""Open a local project, and read its images and annotations.

Strategy: opening reads only the meta and the names of folders. At the first look-up, a dataset reads all its offsets files
into one table of names. From then on, the time of a look-up does not depend on the number of images. A blob is opened when
the first of its images is read.
"""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blobpack.closing import Closing
from blobpack.errors import BlobNotFoundError, FormatError, MemberNotFoundError, StorageError
from blobpack.index.index import Index
from blobpack.index.tables.offsets import read_offsets
from blobpack.integrations.supervisely.documents import faults_of_meta, read_document
from blobpack.integrations.supervisely.layout import (
    ANNOTATIONS,
    BLOB_SUFFIX,
    BLOBS,
    IMAGE_META,
    IMAGES,
    JSON_SUFFIX,
    META_FILE,
    NESTED,
    OFFSETS_SUFFIX,
    check_image_name,
)
from blobpack.model import check_text
from blobpack.opening.open_blob import open_blob
from blobpack.reading.wanted import Wanted, check_mode
from blobpack.stores.arguments import local_path
from blobpack.threads import fork_safe_lock

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from blobpack.integrations.supervisely.documents import Document
    from blobpack.opening.blob import Blob


class Project(Closing):
    """A local project of Supervisely: its classes and tags, and its datasets. A context manager.

    Attributes:
        folder: Path of the project.
        meta: The meta: `classes` and `tags`, as in meta.json.
        datasets: All datasets. A nested dataset follows the dataset that contains it.
    """

    def __init__(self, folder: Path, meta: Document, datasets: list[Dataset]) -> None:
        """Make a project of its parts; open_project finds them."""
        self.folder = folder
        self.meta = meta
        self.datasets = datasets

    def __getitem__(self, name: str) -> Dataset:
        """Return the dataset of a name; `a/b` is nested in `a`.

        Raises:
            MemberNotFoundError: there is no such dataset.
        """
        for dataset in self.datasets:
            if dataset.name == name:
                return dataset
        names = ", ".join(dataset.name for dataset in self.datasets)
        raise MemberNotFoundError(f"{self.folder}: no dataset {name!r}; there are: {names}")

    def __iter__(self) -> Iterator[Dataset]:
        return iter(self.datasets)

    def __len__(self) -> int:
        return len(self.datasets)

    @property
    def blob_files(self) -> list[Path]:
        """Paths of the blobs, sorted."""
        return sorted(path for path in (self.folder / BLOBS).glob("*") if path.is_file())

    def close(self) -> None:
        """Close the blobs; closing twice is harmless."""
        for dataset in self.datasets:
            dataset.close()

    def __repr__(self) -> str:
        return f"<Project {self.folder}: {', '.join(dataset.name for dataset in self.datasets)}>"


class Dataset:
    """A dataset of a local project. Safe to share between threads.

    Attributes:
        name: Name of the dataset; `a/b` is nested in `a`.
        folder: Path of its folder.
    """

    def __init__(self, project: Path, folder: Path, name: str) -> None:
        """Make a dataset of a folder; nothing is read yet."""
        self.name = name
        self.folder = folder
        self._blobs_folder = project / BLOBS
        self._lock = fork_safe_lock()
        self._images: _Images | None = None
        self._blobs: dict[int, Blob] = {}

    @property
    def names(self) -> Sequence[str]:
        """Names of the images: those of blobs, file by file, then those that are files of their own."""
        images = self._read()
        return [*images.rows.names, *sorted(images.files)] if images.files else images.rows.names

    def __len__(self) -> int:
        images = self._read()
        return len(images.rows) + len(images.files)

    def __contains__(self, name: object) -> bool:
        images = self._read()
        return name in images.rows or name in images.files

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def read(self, name: str) -> bytes:
        """Read the bytes of an image.

        If two images have this name, the last one is read, as the SDK does.

        Raises:
            MemberNotFoundError: the dataset has no such image.
            BlobNotFoundError: the project has no such blob.
            StaleIndexError: the offsets do not fit the blob.
            StorageError: the file can't be read.
        """
        images = self._find(name)
        row = images.rows._find(name)
        if row < 0:
            return _read_bytes(self.folder / IMAGES / name)
        number = bisect_right(images.firsts, row) - 1
        blob = self._blobs.get(number) or self._open_blob(number, images.offsets_files[number])
        return blob.store.read_range(*images.rows._bounds_at(row))

    def read_image(
        self, name: str, *, mode: str | None = "RGB", apply_exif_orientation: bool = True
    ) -> NDArray[np.uint8]:
        """Read an image and decode it.

        Args:
            name: Name of the image.
            mode: Pillow's mode to convert to; None leaves the image as it is stored.
            apply_exif_orientation: Rotate or mirror the image as its EXIF or XMP orientation demands.

        Returns:
            (height, width, 3) uint8, RGB, top row first. Other modes have other numbers of channels; see
            blobpack.read_image.

        Raises:
            ImageError: the bytes are not an image that Pillow can decode.
            BlobpackError: the image can't be read, for a reason that `read` lists.
            ValueError: Pillow has no such mode.
        """
        check_mode(mode)
        # it imports NumPy and Pillow
        from blobpack.reading.decode import decode_image

        return decode_image(
            self.read(name), f"{self.folder}: {name}", Wanted(mode, apply_exif_orientation)
        )

    def annotation(self, name: str) -> dict[str, Any]:
        """Read the annotation of an image: the JSON as it is stored.

        Raises:
            MemberNotFoundError: the dataset has no such image.
            BlobNotFoundError: the image has no annotation.
            FormatError: the file is no JSON object.
        """
        self._find(name)
        return read_document(self.annotation_path(name))

    def annotation_path(self, name: str) -> Path:
        """Return the path of an image's annotation: `ann/NAME.json`, or the older form without the image's suffix."""
        check_image_name(name, self.folder)
        path = self.folder / ANNOTATIONS / f"{name}{JSON_SUFFIX}"
        if path.exists():
            return path
        older = path.with_name(f"{Path(name).stem}{JSON_SUFFIX}")
        return older if older.exists() else path

    def image_meta(self, name: str) -> dict[str, Any]:
        """Read the metadata of an image; an empty dict if it has none.

        Raises:
            MemberNotFoundError: the dataset has no such image.
            FormatError: the file is no JSON object.
        """
        self._find(name)
        try:
            return read_document(self.folder / IMAGE_META / f"{name}{JSON_SUFFIX}")
        except BlobNotFoundError:
            return {}

    @property
    def image_files(self) -> list[str]:
        """Names of the images that are files of their own, sorted."""
        folder = self.folder / IMAGES
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    @property
    def offsets_files(self) -> list[Path]:
        """Paths of the offsets files, sorted."""
        return sorted(self.folder.glob(f"*{OFFSETS_SUFFIX}"))

    def blob_of(self, offsets_file: Path) -> Path:
        """Return the path of the blob that an offsets file of this dataset belongs to."""
        # only the name connects an offsets file with its blob
        return self._blobs_folder / (offsets_file.name.removesuffix(OFFSETS_SUFFIX) + BLOB_SUFFIX)

    def close(self) -> None:
        """Close the blobs; closing twice is harmless."""
        for blob in list(self._blobs.values()):
            blob.close()

    def _find(self, name: str) -> _Images:
        check_text("name", name)
        images = self._read()
        if name not in images.files and images.rows._find(name) < 0:
            raise MemberNotFoundError(f"{self.folder}: {images.rows._not_found(name)}")
        # in a hostile offsets file, the name may lead out of the dataset
        check_image_name(name, self.folder)
        return images

    def _read(self) -> _Images:
        with self._lock:
            if self._images is None:
                self._images = _Images(self)
            return self._images

    def _open_blob(self, number: int, offsets_file: Path) -> Blob:
        with self._lock:
            if number not in self._blobs:
                # compares some of the offsets with the headers in the blob
                self._blobs[number] = open_blob(self.blob_of(offsets_file), offsets_file)
            return self._blobs[number]

    def __repr__(self) -> str:
        return f"<Dataset {self.name} in {self.folder}>"


class _Images:
    """The images of a dataset.

    Attributes:
        offsets_files: The offsets files.
        rows: All their rows, one file after the other.
        firsts: Of each offsets file its first row.
        files: Names of the images that are files of their own.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.offsets_files = dataset.offsets_files
        indexes = [read_offsets(path) for path in self.offsets_files]
        self.firsts = [sum(map(len, indexes[:number])) for number in range(len(indexes))]
        # without an identity, so that rows of several blobs may stand in one index, which is only asked for names and
        # offsets
        self.rows = Index.concatenate(indexes)
        self.files = frozenset(dataset.image_files)


def open_project(folder: str | os.PathLike[str]) -> Project:
    """Open a local project of Supervisely, made by build_project, the SDK or Supervisely's export.

    Args:
        folder: Path of the project's folder, which holds `meta.json` and the folders of datasets.

    Raises:
        BlobNotFoundError: there is no such folder, or no `meta.json` in it.
        FormatError: `meta.json` is no meta, or there are no datasets.
        ValueError: this is a URL.
    """
    path = Path(local_path("folder", folder))
    meta = read_document(path / META_FILE)
    for fault in faults_of_meta(meta):
        raise FormatError(f"{path / META_FILE}: {fault}")
    datasets = list(find_datasets(path))
    if not datasets:
        raise FormatError(f"{path}: a project without datasets")
    return Project(path, meta, datasets)


def find_datasets(project: Path) -> Iterator[Dataset]:
    """Yield the datasets of a project, sorted, each before those that are nested in it."""
    for folder in _folders(project):
        if folder.name != BLOBS:
            yield from _nested(project, folder, folder.name)


def _nested(project: Path, folder: Path, name: str) -> Iterator[Dataset]:
    has_images = any(folder.glob(f"*{OFFSETS_SUFFIX}")) or (folder / IMAGES).is_dir()
    if has_images or (folder / ANNOTATIONS).is_dir():
        yield Dataset(project, folder, name)
    for inner in _folders(folder / NESTED):
        yield from _nested(project, inner, f"{name}/{inner.name}")


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise StorageError(f"{path}: can't be read: {exc.strerror}") from exc
