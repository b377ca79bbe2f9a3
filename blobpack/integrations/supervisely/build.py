"""Make a local project of blobs: the blobs, one offsets file for each dataset and blob, annotations, meta and README.

Strategy: the project is written into a hidden folder beside its place, and takes its place by one rename, so that it
appears whole or not at all. A local blob is linked and not copied, if the file system can.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from blobpack.argument_order import recognise_swap
from blobpack.integrations.supervisely.annotations import (
    annotations_of,
    as_json,
    given_annotations,
)
from blobpack.integrations.supervisely.documents import faults_of_meta
from blobpack.integrations.supervisely.layout import (
    ANNOTATIONS,
    BLOB_SUFFIX,
    BLOBS,
    JSON_SUFFIX,
    META_FILE,
    OFFSETS_SUFFIX,
    README_FILE,
    dataset_folder,
)
from blobpack.integrations.supervisely.readme import readme
from blobpack.integrations.supervisely.sources import (
    blob_names,
    check_datasets,
    pieces_of,
    stem_of,
)
from blobpack.model import check_callable, check_flag, shown
from blobpack.progress import Progress
from blobpack.stores.access.remote import Access, RemoteOptions, with_remote_options
from blobpack.stores.arguments import is_place, local_path
from blobpack.wording import counted
from blobpack.writing.new_folder import new_folder
from blobpack.writing.offsets import write_offsets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blobpack.integrations.supervisely.annotations import Annotations, Given
    from blobpack.integrations.supervisely.documents import Document
    from blobpack.integrations.supervisely.sources import Piece, Source
    from blobpack.opening.blob_rows import BlobPart
    from blobpack.progress import ProgressCallback

COPY_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class ProjectReport:
    """The result of build_project.

    Attributes:
        folder: Path of the project.
        datasets: Name of each dataset, with the number of its images.
        blobs: Path of each blob in the project, with its size in bytes.
        annotated: Number of images whose annotation was given; the others have an empty one.
        unused: Annotations that no image has: their names, or their paths in the folder.
        seconds: Time that it took.
    """

    folder: str
    datasets: dict[str, int]
    blobs: dict[str, int]
    annotated: int
    unused: list[str]
    seconds: float

    @property
    def images(self) -> int:
        """Number of all images."""
        return sum(self.datasets.values())

    def __str__(self) -> str:
        unused = f", {counted(len(self.unused), 'annotation')} of no image" if self.unused else ""
        return (
            f"built {self.folder}: {counted(self.images, 'image')} in {counted(len(self.datasets), 'dataset')} and "
            f"{counted(len(self.blobs), 'blob')}, {self.annotated:,} annotated{unused}, in {self.seconds:.2f} s"
        )


@recognise_swap(folder=is_place, datasets=lambda value: hasattr(value, "items"))
@with_remote_options
def build_project(
    folder: str | os.PathLike[str],
    datasets: Mapping[str, Source],
    *,
    annotations: Annotations | None = None,
    meta: Document | None = None,
    link: bool = True,
    progress: ProgressCallback | None = None,
    **remote: Unpack[RemoteOptions],
) -> ProjectReport:
    """Make a local project that Supervisely's SDK opens and uploads.

    The name of an image is the part of its member's name after the last "/". The project appears whole or not at all.

    Args:
        folder: Path of the project's folder, which must not exist yet, or be empty.
        datasets: Name of each dataset, with its images: an open blob or collection; its path or URL; or an index that
            was cut from the index of an open one, such as `blob.index.select("train/*")`. `a/b` is nested in `a`.
        annotations: Annotations in Supervisely's format, by the name of the image: the whole name of its member,
            `dataset/name`, or its name without folders. Or the path of a folder with a file for each of these names, with
            `.json` added. An image without annotation gets an empty one with its width and height.
        meta: The meta, with `classes` and `tags`; None for one without any.
        link: Link local blobs into the project, if the file system can; False copies them. Blobs that are remote or
            compressed are always copied, as plain tars.
        progress: Called with the Progress in images after each of them, and then in bytes after each copied blob.
        remote: How remote blobs are reached: see RemoteOptions.

    Returns:
        The number of images in each dataset, and which annotations were not used.

    Raises:
        DuplicateNameError: two images of a dataset, or two blobs, would have one name; the message names both.
        FormatError: an annotation is not as Supervisely demands, or names a class or tag that the meta has not.
        ImageError: an image without annotation has no known width and height.
        StorageError: the folder is not empty, or can't be written; or a blob can't be read.
        TypeError: an argument has a wrong type.
        UnsafeNameError: an image has a name that no file can have.
        ValueError: the SDK could not read a dataset of this name, an index belongs to no open blob, there are no images,
            or the folder is a URL.
    """
    target = Path(local_path("folder", folder))
    sources = check_datasets(datasets, Access.of("build_project", remote))
    given = given_annotations(annotations)
    meta = {"classes": [], "tags": []} if meta is None else meta
    if not isinstance(meta, dict):
        raise TypeError(f"meta must be a dict or None, not {shown(meta)}")
    for fault in faults_of_meta(meta):
        raise ValueError(f"meta: {fault}")
    check_flag("link", link)
    check_callable("progress", progress)
    began = time.perf_counter()
    with ExitStack() as stack, new_folder(target, "a project") as new:
        pieces = {name: pieces_of(stack, name, source) for name, source in sources.items()}
        if not any(pieces.values()):
            raise ValueError(
                "datasets: there are no images, and a project without any can't be opened"
            )
        project = _NewProject(new, meta, given, progress, sum(map(_count, pieces.values())))
        project.write(target.name, pieces, link=link)
    return ProjectReport(
        str(target),
        {name: _count(each) for name, each in pieces.items()},
        {str(target / BLOBS / name): size for name, size in project.blobs.items()},
        project.annotated,
        given.unused(),
        time.perf_counter() - began,
    )


def _count(pieces: list[Piece]) -> int:
    return sum(len(piece.titles) for piece in pieces)


class _NewProject:
    """A project that is being written.

    Attributes:
        blobs: File name of each blob, with its size.
        annotated: Number of images whose annotation was given.
    """

    def __init__(
        self,
        folder: Path,
        meta: Document,
        given: Given,
        progress: ProgressCallback | None,
        images: int,
    ) -> None:
        self._folder = folder
        self._meta = meta
        self._given = given
        self._progress = progress
        self._images = images
        self._done = 0
        self.blobs: dict[str, int] = {}
        self.annotated = 0

    def write(self, title: str, datasets: Mapping[str, list[Piece]], *, link: bool) -> None:
        """Write everything."""
        (self._folder / META_FILE).write_bytes(as_json(self._meta))
        for name, pieces in datasets.items():
            self._write_dataset(name, pieces)
        (self._folder / BLOBS).mkdir()
        # last, because they are what takes long: a wrong annotation is found before
        for stem, part in blob_names(datasets).items():
            self._write_blob(stem, part, link=link)
        listed = {
            name: (
                [f"{stem_of(piece.blob)}{OFFSETS_SUFFIX}" for piece in pieces],
                [title for piece in pieces for title in piece.titles],
            )
            for name, pieces in datasets.items()
        }
        text = readme(title, self._meta, self.blobs, listed)
        (self._folder / README_FILE).write_text(text, encoding="utf-8")

    def _write_dataset(self, name: str, pieces: list[Piece]) -> None:
        folder = dataset_folder(self._folder, name)
        (folder / ANNOTATIONS).mkdir(parents=True)
        for piece in pieces:
            # an open file, because an error must not name the hidden folder
            with (folder / f"{stem_of(piece.blob)}{OFFSETS_SUFFIX}").open("xb") as offsets:
                write_offsets(piece.index, offsets, names="basename")
            for title, annotation, was_given in annotations_of(
                name, piece, self._given, self._meta
            ):
                path = os.path.join(folder, ANNOTATIONS, title + JSON_SUFFIX)  # noqa: PTH118 (faster)
                with open(path, "xb") as file:  # noqa: PTH123
                    file.write(as_json(annotation))
                self.annotated += was_given
                self._done += 1
                if self._progress:
                    self._progress(Progress(self._done, sum(self.blobs.values()), self._images))

    def _write_blob(self, stem: str, part: BlobPart, *, link: bool) -> None:
        target = self._folder / BLOBS / f"{stem}{BLOB_SUFFIX}"
        with part.opened() as store:
            if store.is_compressed or store.is_remote or not part.location:
                with target.open("xb") as file:
                    for start in range(0, store.size, COPY_BYTES):
                        file.write(store.read_range(start, min(start + COPY_BYTES, store.size)))
            else:
                # the file itself, not a symbolic link to it
                _link_or_copy(Path(part.location.path).resolve(), target, link=link)
        self.blobs[target.name] = target.stat().st_size
        if self._progress:
            self._progress(Progress(self._done, sum(self.blobs.values()), self._images))


def _link_or_copy(source: Path, target: Path, *, link: bool) -> None:
    if link:
        # another file system, or one without hard links
        with suppress(OSError):
            target.hardlink_to(source)
            return
    shutil.copyfile(source, target)
