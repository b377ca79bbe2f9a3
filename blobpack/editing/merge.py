"""Copy members of blobs into one new blob: all of several blobs, or some of one."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Unpack

from blobpack.argument_order import is_new_file, is_several, recognise_swap
from blobpack.editing.combine import combine
from blobpack.editing.source_blobs import all_of, blobs_of, choose
from blobpack.model import (
    Duplicates,
    IndexPlace,
    check_callable,
    check_choice,
    check_flag,
    check_several,
)
from blobpack.opening.kind import kind_of
from blobpack.opening.list_blobs import list_blobs
from blobpack.opening.open import is_blob, opened, source_of
from blobpack.opening.open_blob import open_blob
from blobpack.opening.reader import Reader
from blobpack.stores.access.remote import Access, CopyOptions, accesses_of, with_copy_options
from blobpack.stores.arguments import is_place, output_location
from blobpack.stores.location import Location
from blobpack.stores.replace import check_suffix
from blobpack.tar.scan import scan
from blobpack.wording import setting
from blobpack.writing.compress import is_compressed_target
from blobpack.writing.target import TAR

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    from blobpack.editing.combine import CombineReport
    from blobpack.index.index import Index
    from blobpack.model import Which
    from blobpack.progress import ProgressCallback


@recognise_swap(sources=is_several, target=is_place)
@with_copy_options
def merge(
    sources: Iterable[Reader | str | os.PathLike[str]],
    target: str | os.PathLike[str],
    *,
    duplicates: Duplicates = "refuse",
    concatenated: bool = False,
    index: IndexPlace = "embed",
    allow_empty: bool = False,
    force: bool = False,
    progress: ProgressCallback | None = None,
    **remote: Unpack[CopyOptions],
) -> CombineReport:
    """Copy the members of several blobs into one new blob, in the order of the sources.

    The new blob appears whole or not at all, and replaces a blob that is already there.

    Args:
        sources: Open blobs and collections; and paths and URLs of blobs, collections, and folders, prefixes and globs
            of blobs.
        target: The blob to write: a path, or an s3://, gs:// or az:// URL.
        duplicates: What to do with members of the same name: "refuse" them, or keep only the "last" one. "a.jpg"
            and "./a.jpg" count as one name, because both are extracted to one file.
        concatenated: Ignore the indexes of the sources, and scan each blob, also behind end-of-archive markers, for tars
            that were joined by cat. For paths and URLs only; not for a collection's file.
        index: Where the index of the new blob goes: "embed" puts it behind the members, "sidecar" into a file beside
            the blob, and "none" writes no index.
        allow_empty: Make a blob without members if the sources have none. Otherwise that is an error.
        force: Replace a file that is not a tar, and allow a suffix of another format, such as .zip.
        progress: Called from time to time with the Progress in members, and in bytes of the new blob.
        remote: How remote blobs are reached: see CopyOptions.

    Returns:
        What was copied, and the index.

    Raises:
        DuplicateNameError: two members have the same name.
        SourceError: there is no member to copy.
        BlobNotFoundError: a source does not exist.
        BlobChangedError: an index does not fit its blob.
        FormatError: a source is damaged.
        StorageError: a source can't be read; or the target can't be written, is one of the sources, or would
            replace a file that is not a tar.
        TypeError: an argument has a wrong type, such as one blob instead of several.
        UnsafeNameError: a blob lies outside of its collection's folder; see open_collection.
        ValueError: a choice does not exist, the target can't be written to or is compressed, its suffix promises
            another format, or a source can't be scanned as joined tars.
    """
    source_access, access = accesses_of("merge", remote)
    location = _check_arguments(target, access, index, allow_empty, force, progress)
    check_choice("duplicates", duplicates, Duplicates)
    check_several("sources", sources, "blobs, paths or URLs")
    # a list, because a generator could be read only once, and a wrong element must be found before a blob is opened
    found = [source_of("sources", source, source_access) for source in sources]
    check_flag("concatenated", concatenated)
    if concatenated:
        found = [_check_scannable(source) for source in found]
    with ExitStack() as stack:
        blobs = [
            blob
            for source in found
            for reader in _readers_of(source, stack, concatenated=concatenated)
            for blob in blobs_of(reader)
        ]
        parts = [all_of(blob) for blob in blobs]
        return combine(location, blobs, parts, duplicates, index, allow_empty, force, progress)


def _check_scannable(source: Reader | Location) -> Location:
    """Check that the blobs of a source can be scanned, and return its location.

    Raises:
        ValueError: the source has an index already.
    """
    if isinstance(source, Reader):
        # no TypeError: without the flag, it would do
        raise ValueError(  # noqa: TRY004
            f"{setting('concatenated', True)} needs paths or URLs: an open blob already has its index"
        )
    if kind_of(source) == "collection":
        raise ValueError(
            f"{setting('concatenated', True)} needs blobs, and {source} is a collection: `blobpack collect --concatenated` makes one of "
            f"joined tars"
        )
    return source


def _readers_of(
    source: Reader | Location, stack: ExitStack, *, concatenated: bool
) -> Iterator[Reader]:
    """Open a source until the stack is closed. Names that two of its blobs have are found when all names are compared."""
    if not concatenated:
        yield stack.enter_context(opened(source, duplicates="last"))
    elif isinstance(source, Location):
        for blob in list_blobs(source, kind_of(source)):
            yield stack.enter_context(open_blob(blob, scan(blob, concatenated=True)))


@recognise_swap(source=is_blob, target=is_new_file)
@recognise_swap(target=is_place, members=is_several)
@with_copy_options
def subset(
    source: Reader | str | os.PathLike[str],
    target: str | os.PathLike[str],
    members: Index | Iterable[Which],
    *,
    index: IndexPlace = "embed",
    allow_empty: bool = False,
    force: bool = False,
    progress: ProgressCallback | None = None,
    **remote: Unpack[CopyOptions],
) -> CombineReport:
    """Copy some members of a blob, or of many blobs, into a new blob, in the order given.

    The new blob appears whole or not at all, and replaces a blob that is already there.

    Args:
        source: An open blob or collection; or the path or URL of one, or of a folder, prefix or glob of blobs.
        target: The blob to write: a path, or an s3://, gs:// or az:// URL.
        members: A selection of the source's index; or names, members or rows.
        index: Where the index of the new blob goes; see merge.
        allow_empty: Make a blob without members if none is given. Otherwise that is an error.
        force: Replace a file that is not a tar, and allow a suffix of another format; see merge.
        progress: Called from time to time with the Progress in members, and in bytes of the new blob.
        remote: How remote blobs are reached: see CopyOptions.

    Returns:
        What was copied, and the index.

    Raises:
        MemberNotFoundError: there is no such member.
        IndexError: there is no such row.
        TypeError: an argument has a wrong type, such as one name instead of several.
        BlobpackError: as described for merge.
    """
    source_access, access = accesses_of("subset", remote)
    location = _check_arguments(target, access, index, allow_empty, force, progress)
    found = source_of("source", source, source_access)
    check_several("members", members, "names, members or rows")
    with opened(found, duplicates="last") as reader:
        blobs = blobs_of(reader)
        parts = choose(reader, blobs, members)
        return combine(location, blobs, parts, None, index, allow_empty, force, progress)


def _check_arguments(
    target: str | os.PathLike[str],
    access: Access,
    place: IndexPlace,
    allow_empty: bool,
    force: bool,
    progress: ProgressCallback | None,
) -> Location:
    """Check the arguments that merge and subset share, and return the target; nothing is read.

    Raises:
        TypeError: an argument has a wrong type.
        ValueError: the target can't be written to or ends like a compressed blob, or the place of the index does not
            exist.
    """
    location = output_location("target", target, access)
    check_choice("index", place, IndexPlace)
    check_flag("allow_empty", allow_empty)
    check_flag("force", force)
    check_callable("progress", progress)
    # ranges are copied from file to file as they are, and no step compresses them
    if is_compressed_target(location):
        raise ValueError(
            f"target {location}: merge and subset write plain tars: make one, then compress it by `blobpack repack`"
        )
    check_suffix("target", location, TAR, force=force)
    return location
