"""The scan of a tar: find its members by walking the headers, in a local file or in a store."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Unpack

from blobpack._native.scan import walk_headers
from blobpack.columns import Columns
from blobpack.errors import FormatError, TruncatedError
from blobpack.index.index import Index
from blobpack.index.stored.shared_names import SharedNames
from blobpack.model import ScanReport, check_flag, check_threads
from blobpack.stores.access.remote import Access, RemoteOptions, with_remote_options
from blobpack.stores.arguments import location_of
from blobpack.stores.open import open_tar
from blobpack.tar.behind import (
    LOOK_BYTES_MAX,
    Behind,
    is_at_work,
    look_behind,
    warn_of_left_out,
)
from blobpack.tar.facts import take_facts
from blobpack.tar.header import BLOCK
from blobpack.tar.other_formats import raise_if_other_format
from blobpack.tar.readahead import Readahead
from blobpack.threads import processor_count

if TYPE_CHECKING:
    from blobpack._native.results import Walk
    from blobpack.stores.base import Store

# The limit of a scan is the copying of headers out of the page cache, which scales with processors: a walk in plain C
# took 127 ns for each member of 1.1 KB with one thread, and 60 ns with two threads on two processors.
SCAN_THREADS_MAX = 8


@with_remote_options
def scan(
    blob: str | os.PathLike[str],
    *,
    concatenated: bool = False,
    facts: bool = False,
    threads: int | None = None,
    **remote: Unpack[RemoteOptions],
) -> Index:
    """Find every member of a tar, of any dialect, by walking its headers in native code.

    Folders, symbolic links, devices and sparse files have no payload that is one byte range, so they get no row;
    `index.report` counts them. Members behind the first end-of-archive marker are left out, with a LeftOutWarning, unless
    concatenated is True. The row of a hard link points at the payload of its target. An archive that
    ends between two members without an end marker is accepted, as tar tools do; the report says so.

    Args:
        blob: A path, file:// or s3:// URL. For seekable zstd, offsets are those in the tar that it decompresses to.
        concatenated: Continue behind end-of-archive markers, into tars that were appended with cat.
        facts: Also read every payload, and add media type, width and height as shown, CRC-32C and mtime.
        threads: Number of threads that walk a local file; None for one for each processor, up to 8.
        remote: How remote blobs are reached: see RemoteOptions.

    Raises:
        BlobNotFoundError: there is no such blob.
        TruncatedError: the blob ends too early; `offset` is the last header before the cut.
        FormatError: a header is damaged (`offset` says which), or the blob is compressed.
        StorageError: the blob can't be read.
        TypeError: an argument has the wrong type.
        ValueError: a number is out of range, or the URL is of another kind.
    """
    location = location_of("blob", blob, access=Access.of("scan", remote))
    check_flag("concatenated", concatenated)
    check_flag("facts", facts)
    check_threads(threads)
    store = open_tar(location)
    try:
        found = scan_store(store, concatenated=concatenated, facts=facts, threads=threads)
    finally:
        store.close()
    warn_of_left_out(store.url, found.report)
    return found


def scan_store(
    store: Store,
    *,
    concatenated: bool = False,
    facts: bool = False,
    threads: int | None = None,
    reader: Readahead | None = None,
    look_bytes: int | None = LOOK_BYTES_MAX,
) -> Index:
    """Scan the blob of a store; see scan.

    Args:
        store: The blob.
        concatenated: See scan.
        facts: See scan.
        threads: See scan.
        reader: Reads a blob that is not a local file, and counts its requests. It is closed when the walk ends.
            None for a new one.
        look_bytes: Bytes behind the end of a remote archive that are searched for members; None for all. In a local file,
            all are searched, except with concatenated, where the walk itself goes on.

    Raises:
        TruncatedError: the blob ends too early, or is empty.
        FormatError: a header is damaged, or the blob is compressed.
        StorageError: the store failed.
    """
    try:
        with reader or Readahead(store) as readahead:
            walk, behind = _walk(
                store,
                readahead,
                concatenated=concatenated,
                with_mtime=facts,
                threads=threads,
                look_bytes=look_bytes,
            )
    except FormatError as exc:
        # Only if the first header is wrong: a sound tar may begin with such bytes, if the name of its first member does
        # ("BZh1.jpg").
        if exc.offset == 0:
            raise_if_other_format(store)
        raise
    # The walk accepts an archive without an end marker, and so a file of no bytes. But a tar without members has its
    # end marker: an empty file is the rest of a download or a copy that failed.
    if store.size == 0:
        raise TruncatedError(f"{store.url}: the file is empty, at byte 0", offset=0)
    report = _report(walk, behind)
    index = Index._from_columns(Columns(*walk.members), report=report)
    if facts:
        index = take_facts(store, index, threads)
    if walk.shared is None:
        return index
    return Index._from_stored(SharedNames.of_scan(index._columns, walk.shared, report, store.url))


def _walk(
    store: Store,
    readahead: Readahead,
    *,
    concatenated: bool,
    with_mtime: bool,
    threads: int | None,
    look_bytes: int | None,
) -> tuple[Walk, Behind]:
    """Walk over the headers, then look behind the end of the archive; with concatenated, the walk itself goes on there."""
    fd = store.fd
    at_work = fd is not None and is_at_work(fd)
    walked = walk_headers(
        -1 if fd is None else fd,
        store.size,
        store.url,
        readahead.read if fd is None else None,
        concatenated=concatenated,
        with_mtime=with_mtime,
        threads=threads or processor_count(SCAN_THREADS_MAX),
    )
    if concatenated:
        return walked, Behind()
    behind = look_behind(
        readahead.read_once if fd is None else store.read_range,
        walked.position + BLOCK * walked.end_marker,
        store.size,
        look_bytes if store.is_remote else None,
    )
    # An append that has begun before the walk, or since then, has written what was found.
    if fd is not None and behind != Behind():
        grown = os.fstat(fd).st_size != store.size
        behind = Behind() if at_work or grown or is_at_work(fd) else behind
    return walked, behind


def _report(walked: Walk, behind: Behind) -> ScanReport:
    return ScanReport(
        bytes_scanned=walked.position,
        end_marker=walked.end_marker,
        hard_links=walked.kinds.hard_links,
        dangling_links=walked.dangling_links,
        folders=walked.kinds.folders,
        symbolic_links=walked.kinds.symbolic_links,
        devices=walked.kinds.devices,
        sparse=walked.kinds.sparse,
        other=walked.kinds.other,
        members_behind=behind.members_behind,
        other_behind=behind.other_behind,
        unseen_behind=behind.unseen_behind,
    )
