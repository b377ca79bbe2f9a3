"""Write an export as files, of which none appears if the export fails."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Unpack, cast

from blobpack.integrations.export.files import ExportFiles
from blobpack.integrations.export.records import check_members, checked_form, listed_images
from blobpack.integrations.urls import without_token
from blobpack.model import ExportTool, check_flag, check_number
from blobpack.opening.blob import Blob
from blobpack.opening.kind import means_folder
from blobpack.opening.open import opened, source_of
from blobpack.stores.access.remote import Access, with_remote_options
from blobpack.stores.arguments import output_folder, output_location
from blobpack.stores.location import Location
from blobpack.stores.output import resolve_target
from blobpack.wording import counted, setting, with_article

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from blobpack.index.index import Index
    from blobpack.integrations.export.form import Form
    from blobpack.model import Which
    from blobpack.opening.reader import Reader
    from blobpack.stores.access.remote import RemoteOptions


@dataclass(frozen=True, slots=True)
class ExportReport:
    """The result of write_export.

    Attributes:
        files: Path or URL of each file, with the number of its images; empty if an open file was written.
        images: Number of all images.
        left_out: Number of chosen members that are no images, or that a later member of the same name replaces.
        first_url: URL of the first image, without the token of the gateway; "" if there is none.
        seconds: Time that it took.
    """

    files: dict[str, int]
    images: int
    left_out: int
    first_url: str
    seconds: float

    def __str__(self) -> str:
        names = list(self.files)
        where = f" to {names[0]}" if names else ""
        if len(names) > 1:
            where = f" to {len(names):,} files, {names[0]} to {names[-1]}"
        return f"exported {counted(self.images, 'image')}{where} in {self.seconds:.2f} s"


@with_remote_options
def write_export(
    source: Reader | str | os.PathLike[str],
    target: str | os.PathLike[str] | BinaryIO,
    tool: ExportTool,
    *,
    url: str | None = None,
    members: Index | Iterable[Which] | None = None,
    chunk: int | None = None,
    force: bool = False,
    **remote: Unpack[RemoteOptions],
) -> ExportReport:
    """Write a file that lists the images of a blob or collection for an annotation tool.

    The records are those of `export_records`. They are written while the index is read, so memory does not grow with their
    number. If there are more images than the tool takes from one file, several files are written: `tasks.json`,
    `tasks-2.json` and so on. If the export fails, none of them appears.

    Args:
        source: An open blob or collection, or its path or URL.
        target: Path or s3:// URL of the file, or of a folder for it, or a binary file that is open for writing. An open file
            gets all images.
        tool: See export_records.
        url: See export_records.
        members: See export_records.
        chunk: Largest number of images in one file; None for the tool's own limit.
        force: Replace files of any kind, and allow any suffix. Otherwise only a file of the same kind is replaced.
        remote: How remote blobs are reached, and the properties of a new object: see RemoteOptions.

    Raises:
        BlobNotFoundError: there is no such blob or collection.
        FactsMissingError: the index does not have the media types of its members, or their widths and heights for CVAT and
            COCO.
        FormatError: a name is not UTF-8.
        MemberNotFoundError: one of the members is not in the blob.
        StorageError: a file can't be written, or would replace a file of another kind; or the file that would be the next
            one exists, from an export of more images.
        TypeError: an argument has a wrong type.
        ValueError: there is no such tool; the URL is missing, or of a kind that the tool can't use; the suffix of the target
            promises another format, or the target is the blob itself; or chunk is less than 1.
    """
    form = checked_form(tool, url)
    access = Access.of("write_export", remote)
    found = source_of("source", source, access)
    check_members(members)
    check_flag("force", force)
    if chunk is not None:
        check_number("chunk", chunk, 1)
    where = _target_of(target, form, access, force=force)
    began = time.monotonic()
    with opened(found, duplicates="last") as reader, ExitStack() as stack:
        _check_not_blob(where, reader)
        images = listed_images(form, reader, url, members)
        files = ExportFiles(form, where, stack, chunk=chunk, force=force)
        count, first = 0, ""
        for image in images:
            files.add(form.record(image))
            count, first = count + 1, first or image.url
        files.finish()
    return ExportReport(
        {file.text: images for file, images in files.images.items()},
        count,
        images.left_out,
        without_token(first),
        time.monotonic() - began,
    )


def _check_not_blob(where: Location | BinaryIO, reader: Reader) -> None:
    """Check that a file to write is not the blob that is read, which `force` would replace.

    Raises:
        ValueError: it is.
    """
    blob = reader.store.location if isinstance(reader, Blob) else None
    if blob is None or not isinstance(where, Location) or where.kind != blob.kind:
        return
    is_same = resolve_target(where) == resolve_target(blob) if blob.is_local else where == blob
    if is_same:
        raise ValueError(f"target {where.text!r} is the blob itself")


def _target_of(
    target: str | os.PathLike[str] | BinaryIO, form: Form, access: Access, *, force: bool
) -> Location | BinaryIO:
    """Return the file to write.

    Raises:
        TypeError: the target is neither a path, a URL nor an open file.
        ValueError: it is a URL that can't be written to, or has the suffix of another format.
    """
    if hasattr(target, "write"):
        return cast("BinaryIO", target)
    where = output_folder("target", target, access)
    if means_folder(where):
        return where.as_folder.below(form.file_name)
    where = output_location("target", where, access)
    if not where.text.lower().endswith(form.suffixes) and not force:
        raise ValueError(
            f"target {where.text!r} must end in {form.suffixes[0]}, because {with_article(form.kind)} is written; "
            f"{setting('force', True)} allows this name"
        )
    return where
