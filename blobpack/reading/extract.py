"""Extract members into files, and never write outside the target folder; or into objects in S3 (extract_objects.py).

Strategy: a name is hostile input. Names that lead outside, are too long, or are in each other's way are refused before
the first file is written (target_names.py).
Folders are opened one part at a time, each relative to the descriptor of the one above and without following links. So
a link that lies in the way, or is put there while files are written, can't lead outside.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Unpack

from blobpack.argument_order import is_several, recognise_swap
from blobpack.errors import StorageError, UnsafeNameError
from blobpack.model import check_callable, check_several
from blobpack.opening.open import is_blob, opened, source_of
from blobpack.progress import counting
from blobpack.reading.chosen import choose, read_chosen
from blobpack.reading.extract_objects import put_members
from blobpack.reading.folders import Folders, write_file
from blobpack.reading.target_names import check_names
from blobpack.stores.access.remote import CopyOptions, accesses_of, with_copy_options
from blobpack.stores.arguments import is_place, output_folder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blobpack.index.index import Index
    from blobpack.model import Which
    from blobpack.opening.reader import Reader
    from blobpack.progress import CountCallback, ProgressCallback
    from blobpack.reading.chosen import ByParts
    from blobpack.stores.location import Location


@dataclass(frozen=True, slots=True)
class ExtractReport:
    """The result of extract.

    Attributes:
        members: Number of files written.
        payload_bytes: Bytes of these files.
        hard_links: Number of these files that are hard links to others of them.
        left_out: Kind → number of entries of the blob that are never extracted, such as symbolic links and sparse
            files, if its index records them. Folders are not counted: a folder is made if a file needs it.
    """

    members: int
    payload_bytes: int
    hard_links: int = 0
    left_out: dict[str, int] = field(default_factory=dict)


@recognise_swap(source=is_blob, folder=is_place)
@recognise_swap(folder=is_place, members=is_several)
@with_copy_options
def extract(
    source: Reader | str | os.PathLike[str],
    folder: str | os.PathLike[str],
    members: Index | Iterable[Which] | None = None,
    *,
    progress: ProgressCallback | None = None,
    **remote: Unpack[CopyOptions],
) -> ExtractReport:
    """Write members as files below a folder, which is made if it does not exist; or as objects below a prefix in S3.

    Each file or object appears whole or not at all, and replaces an existing one of that name. Files are not forced to
    disk (fsync). If several members have one name, the last one is written. Members that are hard links in the blob
    become hard links of the file system, if it has them, and otherwise files of their own. Objects are uploaded in
    parallel; their Content-Type is the media type of the member, if the index has it. If the upload fails, a note of
    the error says how many objects were written before.

    Args:
        source: An open blob or collection; or the path or URL of one, or of a folder, prefix or glob of blobs.
        folder: Path of the folder to write to, or s3:// URL of a bucket or prefix, with or without a "/" at its end.
        members: The members to extract: an index, such as a selection; or names, Members or rows. None for all members of
            the source.
        progress: Called after each member with the Progress in members and bytes.
        remote: How remote blobs are reached: see CopyOptions.

    Raises:
        UnsafeNameError: a name is empty, absolute, holds "..", is too long for the target, or lies in more than 256
            folders; two names would be one file there, or a file is where another member needs a folder. In S3: a key
            would have more than 1,024 bytes, or is not UTF-8. All names are
            checked before the first file is written. Or a name would lead through a link that lies below the folder:
            links are found only when their members are written.
        MemberNotFoundError: there is no such member; nothing was written then.
        IndexError: there is no such row; nothing was written then.
        BlobNotFoundError: there is no such blob or collection, or there are no blobs.
        StorageError: a file or object can't be written, or the store failed.
        TypeError: an argument has a wrong type, such as one name instead of several.
        ValueError: the folder is a URL that can't be written to.
    """
    source_access, access = accesses_of("extract", remote)
    found = source_of("source", source, source_access)
    location = output_folder("folder", folder, access)
    check_callable("progress", progress)
    if members is not None:
        check_several("members", members, "names, Members or rows")
    with opened(found) as blob:
        return _extract(blob, location, choose(blob, members), progress)


def _extract(
    blob: Reader,
    location: Location,
    chosen: ByParts,
    progress: ProgressCallback | None,
) -> ExtractReport:
    payload_bytes = sum(each.member.size for each in chosen.values())
    show = counting(progress, total=len(chosen), total_bytes=payload_bytes)
    hard_links = 0
    if location.has_key:
        put_members(blob, chosen, location.as_folder, show)
    else:
        hard_links = _write_files(blob, chosen, location.path, show)
    left_out = blob.index.report.without_row() if blob.index.report else {}
    left_out.pop("folders", None)
    return ExtractReport(len(chosen), payload_bytes, hard_links, left_out)


def _write_files(
    blob: Reader,
    chosen: ByParts,
    folder: str,
    progress: CountCallback | None,
) -> int:
    """Write members as files below a folder, and return how many of them are hard links."""
    # all names, before the first file: a name that is refused leaves nothing behind
    check_names(chosen, folder)
    links = _links_among(blob, chosen)
    hard_links = written_bytes = 0
    # one batch for all: 300 neighbours in S3 take 2 requests instead of 300
    payloads = read_chosen(blob, (each for parts, each in chosen.items() if parts not in links))
    with Folders(folder) as folders:
        for count, (parts, each) in enumerate(chosen.items(), 1):
            member = each.member
            try:
                linked = parts in links and folders.link(links[parts], parts)
            except OSError as exc:
                raise _translated(exc, member.name, folder) from exc
            if linked:
                hard_links += 1
            else:
                payload = next(read_chosen(blob, [each]) if parts in links else payloads)
                try:
                    write_file(folders.descend(parts[:-1]), parts[-1], payload)
                except OSError as exc:
                    raise _translated(exc, member.name, folder) from exc
            written_bytes += member.size
            if progress:
                progress(count, written_bytes)
    return hard_links


def _links_among(blob: Reader, chosen: ByParts) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Find the members that are hard links: they have the offsets of a member before them, in the same blob."""
    at: dict[tuple[int, int], list[tuple[str, ...]]] = {}
    for parts, (_, member) in chosen.items():
        at.setdefault((member.offset_start, member.offset_end), []).append(parts)
    links: dict[tuple[str, ...], tuple[str, ...]] = {}
    for together in at.values():
        if len(together) < 2:
            continue
        # In a collection, members of several blobs may have equal offsets.
        located, _ = blob._locate([chosen[parts].row for parts in together])
        first: dict[int, tuple[str, ...]] = {}
        for parts, found in zip(together, located, strict=False):
            # not by its URL, which is shown without the query
            target = first.setdefault(id(found.store), parts)
            if target is not parts:
                links[parts] = target
    return links


def _translated(
    exc: OSError, name: str, folder: str | os.PathLike[str]
) -> StorageError | UnsafeNameError:
    if exc.errno in (errno.ELOOP, errno.ENOTDIR):
        return UnsafeNameError(
            f"member {name!r} would be written through a link or a file that lies below {os.fspath(folder)}"
        )
    return StorageError(
        f"member {name!r} can't be written below {os.fspath(folder)}: {exc.strerror}"
    )
