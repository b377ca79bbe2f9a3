"""Write the offsets of a blob's members, or those of many blobs: one file for each blob, or one table.

Strategy: an offsets file of Supervisely holds the offsets in one blob, and lies in a folder with others. The other formats
have a column that names the blob, so one file can hold the offsets in many blobs.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, Unpack, cast

from blobpack.argument_order import is_output, is_there, recognise_swap
from blobpack.errors import DuplicateNameError, UnsafeNameError
from blobpack.index.index import Index
from blobpack.index.row_numbers import ascends, rows_as_array
from blobpack.index.tables.offsets import format_of, offsets_path
from blobpack.index.tables.offsets_table import TablePart, write_table
from blobpack.index.which import numbers_of_several
from blobpack.indexfile.identity import COLLECTION_IDENTITY
from blobpack.model import (
    NameStyle,
    OffsetsFormat,
    check_choice,
    check_flag,
    check_several,
    shown,
)
from blobpack.opening.blob import Blob
from blobpack.opening.blob_rows import BlobPart
from blobpack.opening.find_index import whole_index
from blobpack.opening.kind import kind_of, means_folder
from blobpack.opening.open import opened
from blobpack.opening.reader import Reader
from blobpack.stores.access.remote import Access, RemoteOptions, with_remote_options
from blobpack.stores.arguments import local_path_of, location_of, output_folder, output_location
from blobpack.stores.descriptor import never_short
from blobpack.stores.location import Location
from blobpack.stores.open import open_tar
from blobpack.stores.output import translate_write_errors
from blobpack.tar.behind import warn_of_left_out
from blobpack.tar.header import is_blob_file
from blobpack.wording import setting
from blobpack.writing.beside import unchanged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    import numpy as np
    from numpy.typing import NDArray

    from blobpack.model import Which


def _is_target(value: object) -> bool:
    """Return whether a value can be meant for a target. An offsets file never replaces a blob."""
    is_local_blob = local_path_of(value) is not None and is_blob_file(value)
    return is_output(value) and not is_local_blob


@recognise_swap(source=is_there, target=_is_target)
@with_remote_options
def write_offsets(
    source: Index | Iterable[Index] | Reader | str | os.PathLike[str],
    target: str | os.PathLike[str] | BinaryIO,
    names: NameStyle = "path",
    *,
    format: OffsetsFormat | None = None,
    members: Index | Iterable[Which] | None = None,
    force: bool = False,
    **remote: Unpack[RemoteOptions],
) -> int:
    """Write the name and offsets of each member.

    Each file appears complete or not at all, and replaces an older one. Without members, the file is empty. For a
    collection, a folder, a prefix or a glob, the target decides. Into a folder, one file for each blob is written,
    named after the blob, as Supervisely expects. Otherwise one table is written, with a column `blob` that holds the
    path or URL of the blob. This URL is whole, so that it can be opened; the query of a presigned URL is a secret.

    Args:
        source: The members; or several indexes, which are written one after the other in bounded memory (with
            names="basename", all names are kept in memory). Or an open blob or collection; or the path or URL of one, or
            of a folder, prefix or glob of blobs.
        target: Path or s3:// URL of the file, or a binary file that is open for writing; or a folder, or an s3:// prefix
            that ends with "/".
        names: "path" writes the member's name; "basename" its part after the last "/", as Supervisely's importer
            expects.
        format: "pkl" is Supervisely's; "csv" has a header line; "jsonl" has one object on each line; "parquet". All but
            "pkl" also have the facts of the index (of the first one, if there are several). An unknown value is an
            empty cell or null. One table of many blobs can't be "pkl". None: by the suffix of the target, else "pkl".
        members: The members to write, in archive order: a selection of the source's index; or names, members or rows.
            None for all. Not with an index as the source.
        force: Replace a file that is not an offsets file of this format, and allow a suffix of another format.
        remote: How remote blobs are reached: see RemoteOptions.

    Returns:
        The number of rows that were written.

    Raises:
        BlobNotFoundError: there is no such blob or collection, or there are no blobs.
        DuplicateNameError: two members of one blob have the same basename, or two blobs would have the same file; the
            message names both.
        MemberNotFoundError: one of `members` does not exist; for a row, it is an IndexError.
        StorageError: the file can't be written, or would replace a file of another kind.
        PackageMissingError: the format is Parquet, and pyarrow is not installed.
        TypeError: an argument has another type.
        ValueError: there is no such choice, the suffix of the target promises another format, the index belongs to a
            collection, one file of many blobs would be a pickle, or members are given besides an index.
    """
    access = Access.of("write_offsets", remote)
    found = _checked_source(source, access)
    where: Location | BinaryIO
    if hasattr(target, "write"):
        where = never_short(cast("BinaryIO", target))
    else:
        where = output_folder("target", target, access)
    check_choice("names", names, NameStyle)
    if format is None:
        format = format_of(where.address) if isinstance(where, Location) else "pkl"
    check_choice("format", format, OffsetsFormat)
    check_flag("force", force)
    if members is not None:
        check_several("members", members, "names, members or rows")
    if isinstance(found, (Location, Reader)):
        return _write_blobs(found, where, names, format, members, force=force)
    if members is not None:
        raise ValueError(
            "members can't be combined with an Index: pass index.select(…) as the source"
        )
    # Parquet may need a second pass
    indexes = list(found) if format == "parquet" else found
    return write_table(
        lambda: map(TablePart, indexes),
        _one_file(where),
        names,
        format,
        whole=isinstance(source, Index),
        force=force,
    )


def _checked_source(
    source: Index | Iterable[Index] | Reader | str | os.PathLike[str], access: Access
) -> Iterable[Index] | Reader | Location:
    """Return the indexes that a caller gave, a reader, or a location.

    Raises:
        TypeError: the source is none of these.
        ValueError: it is the index of a collection, or no path or URL.
    """
    if isinstance(source, (str, os.PathLike)):
        return location_of("source", source, prefix=True, access=access)
    if isinstance(source, Index):
        return [_check_index(source)]
    if isinstance(source, Reader):
        return source
    check_several("source", source, "indexes")
    # one by one as they are written: an iterator may make each index when it is asked for it
    return map(_check_index, source)


def _write_blobs(
    source: Location | Reader,
    where: Location | BinaryIO,
    names: NameStyle,
    format: OffsetsFormat,
    members: Index | Iterable[Which] | None,
    *,
    force: bool,
) -> int:
    """Write the offsets of the blobs of a source, into a folder or one file, and return the number of rows."""
    with _blobs_of(source, members) as (blobs, are_many):
        if isinstance(where, Location) and _is_folder(where, format, are_many=are_many):
            return _write_files(blobs, where, names, format, force=force)
        if are_many and format == "pkl":
            given = f"{setting('target', where.text)}: " if isinstance(where, Location) else ""
            raise ValueError(
                f"{given}an offsets file holds the offsets in one blob: name a folder, for one file for each blob, or "
                "write one table as csv, jsonl or parquet"
            )
        return _write_table(blobs, _one_file(where), names, format, are_many=are_many, force=force)


def _one_file(where: Location | BinaryIO) -> Location | BinaryIO:
    """Return a target that is one file, or an open one.

    Raises:
        ValueError: it is a prefix in S3.
    """
    return output_location("target", where) if isinstance(where, Location) else where


@contextmanager
def _blobs_of(
    source: Location | Reader, members: Index | Iterable[Which] | None
) -> Iterator[tuple[list[BlobPart], bool]]:
    """Find the blobs of a source, and their chosen members; yield them, and whether there may be several."""
    with ExitStack() as stack:
        if isinstance(source, Location):
            # Not `opened`, which would also read an existing offsets file: that may hold only some of the members.
            if kind_of(source) == "blob":
                store = stack.enter_context(open_tar(source, tail=True))
                index = whole_index(store)
                warn_of_left_out(store.url, index.report)
                rows = _rows_in(index, members)
                yield [BlobPart.of_store(store, index).of_rows(rows)], False
                return
            source = stack.enter_context(opened(source, duplicates="last"))
        rows = _rows_in(source.index, members)
        blobs = [part.of_rows(rows) for part in source._each_blob()]
        yield blobs, not isinstance(source, Blob)


def _rows_in(
    index: Index, members: Index | Iterable[Which] | None
) -> range | NDArray[np.int64] | None:
    """Return the rows of chosen members, ascending; None for all."""
    import numpy as np

    if members is None or members is index:
        return None
    rows = numbers_of_several(index, members, "members")
    return rows if ascends(rows) else np.sort(rows_as_array(rows))


def _is_folder(target: Location, format: OffsetsFormat, *, are_many: bool) -> bool:
    """Return whether a target means a folder for files, and not one file."""
    if means_folder(target):
        return True
    # Several pickles need a folder, and pathlib drops the "/" at its end.
    return are_many and format == "pkl" and not PurePosixPath(target.address).suffix


def _write_files(
    blobs: Sequence[BlobPart],
    folder: Location,
    names: NameStyle,
    format: OffsetsFormat,
    *,
    force: bool,
) -> int:
    """Write one file for each blob into a folder, and return the number of rows."""
    rows = 0
    # all names before the first file
    for blob, name in zip(blobs, _file_names(blobs, format), strict=True):
        file = folder.as_folder.below(name)
        if file.is_local:
            with translate_write_errors(file):
                os.makedirs(os.path.dirname(file.path), exist_ok=True)  # noqa: PTH103, PTH120
        rows += _write_table([blob], file, names, format, are_many=False, force=force)
    return rows


def _write_table(
    blobs: Sequence[BlobPart],
    target: Location | BinaryIO,
    names: NameStyle,
    format: OffsetsFormat,
    *,
    are_many: bool,
    force: bool,
) -> int:
    """Write one file, and return the number of rows."""

    def parts() -> Iterator[TablePart]:
        for blob in blobs:
            yield TablePart(blob.read_index(), blob.address if are_many else None)

    checked: AbstractContextManager[None] = nullcontext()
    if len(blobs) == 1 and blobs[0].store and isinstance(target, Location):
        checked = unchanged(blobs[0].store, target)
    with checked:
        return write_table(parts, target, names, format, whole=True, force=force)


def _file_names(blobs: Sequence[BlobPart], format: OffsetsFormat) -> list[str]:
    """Return the name of each blob's file in a folder: relative to the deepest folder that holds all blobs.

    Raises:
        DuplicateNameError: two blobs would have the same file.
        UnsafeNameError: a file would lie outside the folder.
    """
    paths = [_path_of(blob) for blob in blobs]
    # not commonpath, which changes "//" in keys of S3
    shared = os.path.commonprefix([path.rpartition("/")[0] + "/" for path in paths])  # noqa: RUF071
    begin = shared.rfind("/") + 1
    files: dict[str, str] = {}
    for blob, path in zip(blobs, paths, strict=True):
        name = os.fspath(offsets_path(path[begin:], format))
        # a key in S3 may hold ".."
        if not {"", ".", ".."}.isdisjoint(name.split("/")):
            raise UnsafeNameError(
                f"{blob.address}: its offsets file {name!r} would lie outside the folder"
            )
        if files.setdefault(name, blob.address) != blob.address:
            raise DuplicateNameError(
                f"{files[name]} and {blob.address} would both have the offsets file {name!r}"
            )
    return list(files)


def _path_of(blob: BlobPart) -> str:
    """Return the path of a blob; of a remote one, the path on its server, behind the name of the server or bucket."""
    if blob.location is None:
        return blob.address
    if blob.location.is_local:
        return os.path.abspath(blob.location.path)  # noqa: PTH100 (keeps links)
    server = blob.location.bucket if blob.location.has_key else blob.location.whole.split("/", 3)[2]
    return f"{server}/{blob.location.remote_name}"


def _check_index(index: Index) -> Index:
    """Check that a value is an index of one blob, and return it.

    Raises:
        TypeError: the value is no index.
        ValueError: it is the index of a collection.
    """
    if not isinstance(index, Index):
        raise TypeError(f"source must be an Index or several, but one is {shown(index)}")
    if index.identity == COLLECTION_IDENTITY:
        raise ValueError(
            "source is the index of several blobs, and does not record which blob each offset belongs to: give the "
            "collection, or its path"
        )
    return index
