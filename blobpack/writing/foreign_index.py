"""Write the index of a blob, or of many blobs, in the format of another program."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Unpack

from blobpack.argument_order import is_output, is_there, recognise_swap
from blobpack.errors import FormatError
from blobpack.foreign.source import SourceBlob
from blobpack.foreign.table import FORMATS
from blobpack.model import ForeignFormat, check_choice, check_flag, shown
from blobpack.opening.blob_rows import BlobPart
from blobpack.opening.find_index import whole_index
from blobpack.opening.kind import kind_of
from blobpack.opening.open import opened, source_of
from blobpack.opening.reader import Reader
from blobpack.stores.access.remote import Access, RemoteOptions, with_remote_options
from blobpack.stores.arguments import local_path_of, output_location
from blobpack.stores.open import open_tar
from blobpack.stores.output import writing
from blobpack.stores.replace import check_replaceable, check_suffix
from blobpack.tar.behind import warn_of_left_out
from blobpack.tar.header import is_blob_file
from blobpack.writing.beside import unchanged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.stores.location import Location


def _is_target(value: object) -> bool:
    """Return whether a value can be meant for a target, which never is a blob."""
    return is_output(value) and not (local_path_of(value) is not None and is_blob_file(value))


@recognise_swap(source=is_there, target=_is_target)
@with_remote_options
def write_foreign_index(
    source: Reader | str | os.PathLike[str],
    target: str | os.PathLike[str],
    format: ForeignFormat,
    *,
    force: bool = False,
    **remote: Unpack[RemoteOptions],
) -> int:
    """Write an index that another program reads.

    The file appears complete or not at all. `open_blob(url, index=target)` reads it, too. What each format holds is in
    docs/guides/foreign-indexes.md. Members that a format can't hold are left out: those without a dot in their names in
    "dali", "energon" and "energon-sqlite", and all but the last one of several with one name in "hfutils" and "kerchunk".

    Args:
        source: An open blob, or its path or URL. For "energon-sqlite", "kerchunk" and "wids", also an open collection, or
            the path or URL of a collection, folder, prefix or glob of blobs.
        target: Path or s3:// URL of the file.
        format: The format. "energon" is the `.tar.idx` of Megatron-Energon, "energon-sqlite" its `index.sqlite`.
        force: Replace a file of another kind, and allow a suffix of another format.
        remote: How remote blobs are reached: see RemoteOptions.

    Returns:
        The number of members in the file; for "wids", which has no members, those of the blobs that it names.

    Raises:
        BlobNotFoundError: there is no such blob or collection, or there are no blobs.
        DuplicateNameError: "energon-sqlite" holds each sample once, and there are two of one name.
        FormatError: the blob is damaged; or it is compressed, and the format is of a program that reads plain tars.
        StorageError: the file can't be written, or would replace a file of another kind.
        TypeError: an argument has another type.
        ValueError: there is no such format, the suffix of the target promises another format, or there are several blobs,
            and the format holds one.
    """
    access = Access.of("write_foreign_index", remote)
    found = source_of("source", source, access)
    where = output_location("target", target, access)
    check_choice("format", format, ForeignFormat)
    check_flag("force", force)
    # This is checked before the blobs are read, which may take minutes.
    check_target("target", where, format, force=force)
    with _parts_of(found) as parts:
        return write_parts(parts, where, format)


def check_target(name: str, target: Location, format: ForeignFormat, *, force: bool) -> None:
    """Check that a file of a format may be written.

    Raises:
        StorageError: there is a file of another kind.
        ValueError: its suffix promises another format.
    """
    kind = FORMATS[format].kind
    check_suffix(name, target, kind, force=force)
    check_replaceable(target, kind, force=force)


def write_parts(parts: list[BlobPart], target: Location, format: ForeignFormat) -> int:
    """Write the index of some blobs, and return the number of members in it; see write_foreign_index."""
    found = FORMATS[format]
    if len(parts) != 1 and not found.several:
        raise ValueError(
            f"format {format!r} is the index of one blob, and there are {len(parts)}: {shown(parts[0].url)} and others"
        )
    blobs = []
    for part in parts:
        if not found.compressed:
            # The offsets count bytes of the decompressed tar, and these programs do not decompress.
            _check_plain(part, found.program)
        blobs.append(
            SourceBlob(
                _name_of(part, target if found.relative else None), part.read_index(), part.opened
            )
        )
    content, members = found.encode(blobs)
    # an index of several blobs has no blob that it could stand beside
    store = parts[0].store if len(parts) == 1 else None
    with (
        unchanged(store, target) if store else nullcontext(),
        writing(target, expected_bytes=len(content)) as sink,
    ):
        sink.write(content)
    return members


def _check_plain(part: BlobPart, program: str) -> None:
    with part.opened() as store:
        if store.is_compressed:
            raise FormatError(
                f"{part.url}: it is compressed, and {program} reads plain tars: `blobpack repack` writes one"
            )


def _name_of(part: BlobPart, target: Location | None) -> str:
    """Return how an index names a blob: by its absolute path or whole URL.

    Args:
        part: The blob.
        target: The index, if it may name a blob by a path below its own folder.
    """
    if part.location is None or not part.location.is_local:
        return part.address
    path = os.path.abspath(part.location.path)  # noqa: PTH100 (keeps links)
    if target and target.is_local:
        folder = os.path.dirname(os.path.abspath(target.path))  # noqa: PTH100, PTH120
        if path.startswith(os.path.join(folder, "")):  # noqa: PTH118 (a str)
            return os.path.relpath(path, folder)
    return path


@contextmanager
def _parts_of(source: Reader | Location) -> Iterator[list[BlobPart]]:
    """Open the blobs of a source, and yield them."""
    with ExitStack() as stack:
        if isinstance(source, Reader):
            yield list(source._each_blob())
            return
        # not `opened`, which would also read an offsets file beside the blob: that may hold only some of the members
        if kind_of(source) == "blob":
            store = stack.enter_context(open_tar(source, tail=True))
            index = whole_index(store)
            warn_of_left_out(store.url, index.report)
            yield [BlobPart.of_store(store, index)]
            return
        yield list(stack.enter_context(opened(source, duplicates="last"))._each_blob())
