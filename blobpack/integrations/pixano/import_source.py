"""Sources of imports into Pixano 0.8: a blob, a collection, or a folder that holds blobs or names one."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pixano.datasets.io import DetectResult, PixanoDataError, SpecValidationError
from pydantic import BaseModel, ConfigDict, ValidationError

from blobpack.errors import BlobpackError
from blobpack.integrations.pixano.blob_folder import METADATA, BlobFolder
from blobpack.opening.kind import BLOB_SUFFIXES, name_of
from blobpack.opening.open import opened
from blobpack.stores.location import is_absolute

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pixano.datasets.io import ImportSpec, SourceRef

SOURCE_SUFFIXES = (".idx", *BLOB_SUFFIXES)
# more than Pixano's own importer claims for a folder with dataset.yaml
FOLDER_CONFIDENCE, FILE_CONFIDENCE = 0.97, 0.9


class BlobOptions(BaseModel):  # type: ignore[misc]  # pydantic may be missing where types are checked
    """Options of the format, under `options` in dataset.yaml.

    Attributes:
        blob: Path or URL of the blob or collection, if it is not the source itself. A path is relative to the source.
        metadata: A folder with `<split>/metadata.jsonl`, or one such file. If the source is a folder, this is the source.
        folder: Folder in the blob that holds the splits.
        previews: With the media mode "uri", read all images to make previews of them. The pages of Pixano 0.8 show the images
            themselves, so no image need be read.
    """

    model_config = ConfigDict(extra="forbid")

    blob: str | None = None
    metadata: str | None = None
    folder: str = ""
    previews: bool = False

    @classmethod
    def of(cls, spec: ImportSpec) -> BlobOptions:
        """Return the options of a spec.

        Raises:
            SpecValidationError: there are others, or one has a wrong type.
        """
        try:
            options: BlobOptions = cls.model_validate(spec.options)
        except ValidationError as exc:
            raise SpecValidationError(f"Invalid options: {exc}") from None
        return options


@contextmanager
def opened_folder(source: SourceRef, spec: ImportSpec) -> Iterator[BlobFolder]:
    """Yield the image folder of a source.

    Raises:
        PixanoDataError: the blob can't be opened, or an error of blobpack is raised in the block. Pixano shows these errors
            to its users, and would fail with others.
        SpecValidationError: the options are wrong, or the source is neither a file nor a folder.
    """
    options = BlobOptions.of(spec)
    here = folder_of(source)
    metadata = here if source.kind == "local_dir" else None
    if options.metadata is not None:
        metadata = here / options.metadata
    try:
        with opened(blob_of(source, spec), duplicates="last") as reader:
            yield BlobFolder(reader, metadata=metadata, folder=options.folder)
    except BlobpackError as exc:
        raise PixanoDataError(str(exc)) from exc


def blob_of(source: SourceRef, spec: ImportSpec) -> str:
    """Return the path or URL of a source's blob."""
    blob = BlobOptions.of(spec).blob
    if blob is None:
        folder_of(source)
        return str(source.path)
    return blob if is_absolute(blob) else str(folder_of(source) / blob)


def folder_of(source: SourceRef) -> Path:
    """Return the folder that a source is, or that it lies in.

    Raises:
        SpecValidationError: the source is not local.
    """
    if source.path is None:
        raise SpecValidationError(f"A blob at a URL is named by options.blob, not by {source.url}")
    path = Path(source.path)
    return path if source.kind == "local_dir" else path.parent


def dataset_name(source: SourceRef, spec: ImportSpec) -> str:
    """Return the name of a dataset whose spec names none: that of the folder, or of the blob."""
    return folder_of(source).name if source.kind == "local_dir" else name_of(blob_of(source, spec))


def fingerprint(folder: BlobFolder) -> str:
    """Return a digest of the state of the blobs and of the metadata."""
    found = hashlib.sha256()
    reader = folder.reader
    for number in range(len(reader.blobs)):
        store = reader._open_store(number)
        state = reader._identity_of(number) or (store.version if store else "")
        found.update(f"{reader.blobs[number].url}\0{state!r}\0".encode("utf-8", "surrogateescape"))
    for name, text in folder.metadata_files():
        found.update(f"{name}\0{len(text)}\0".encode("utf-8", "surrogateescape") + text)
    return f"blobpack:{found.hexdigest()}"


def detect(source: SourceRef) -> DetectResult | None:
    """Return how sure it is that a source is a blob, a collection, or a folder of blobs; None if it is none."""
    if source.path is None:
        return None
    path = Path(source.path)
    if source.kind == "local_file":
        if path.name.endswith(SOURCE_SUFFIXES):
            return DetectResult(confidence=FILE_CONFIDENCE, evidence=path.name)
        return None
    blobs = sorted(each.name for each in path.iterdir() if each.name.endswith(SOURCE_SUFFIXES))
    # a folder of images may hold an archive, too
    splits = [each for each in path.iterdir() if each.is_dir() and not each.name.startswith(".")]
    has_files = any(file.name != METADATA for split in splits for file in split.iterdir())
    if not blobs or has_files:
        return None
    return DetectResult(confidence=FOLDER_CONFIDENCE, evidence=blobs[0])
