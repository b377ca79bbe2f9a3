"""A blob wherever it lies → its members."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobpack._native.scan import walk_headers
from blobpack.columns import Columns
from blobpack.errors import FormatError, TruncatedError
from blobpack.index.index import Index
from blobpack.model import ScanReport, check_flag, check_threads
from blobpack.stores.location import location_of
from blobpack.stores.open import open_tar
from blobpack.tar.facts import take_facts
from blobpack.tar.readahead import Readahead
from blobpack.threads import processor_count

if TYPE_CHECKING:
    import os

    from blobpack.stores.base import Store

SCAN_THREADS_MAX = 8

# first bytes → what they are, and the tool that gets at the tar inside, where repack does not
COMPRESSED = (
    (b"\x1f\x8b", "gzip", ""),
    (b"BZh", "bzip2", ""),
    (b"\xfd7zXZ\0", "xz", ""),
    (b"\x28\xb5\x2f\xfd", "zstd", ""),
    (b"\x04\x22\x4d\x18", "LZ4 data", "unlz4"),
    (b"LZIP", "lzip data", "lzip -d"),
    (b"\x1f\x9d", "compress data", "uncompress"),
    (b"PK\x03\x04", "a zip archive", "unzip"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-zip archive", "7z x"),
)


def scan(
    blob: str | os.PathLike[str],
    *,
    concatenated: bool = False,
    facts: bool = False,
    threads: int | None = None,
) -> Index:
    """Find every member of a tar, of any dialect, by walking its headers natively.

    Links, folders, devices and sparse files have no payload that is one byte range and so no row;
    `index.report` counts them. A hard link's row points at its target's payload. An archive that ends
    between two members without an end marker is accepted, as tar tools do, and reported.

    Args:
        blob: A path, file:// or s3:// URL; of seekable zstd the offsets are those in the tar that it
            decompresses to.
        concatenated: Go on behind end-of-archive markers, into tars appended with cat.
        facts: Also read every payload, and take media type, width and height as shown, CRC-32C and mtime.
        threads: How many walk a local file; None for as many as there are processors, up to 8.

    Raises:
        BlobNotFoundError: there is no such blob.
        TruncatedError: the blob is cut; `offset` is the header it happens behind.
        FormatError: a header is damaged (`offset` says which), or the data is compressed.
        StorageError: the blob can't be read.
        TypeError: an argument has another type.
        ValueError: a number out of range, or a URL of another kind.
    """
    location = location_of("blob", blob)
    check_flag("concatenated", concatenated)
    check_flag("facts", facts)
    check_threads(threads)
    store = open_tar(location)
    try:
        return scan_store(store, concatenated=concatenated, facts=facts, threads=threads)
    finally:
        store.close()


def scan_store(
    store: Store,
    *,
    concatenated: bool = False,
    facts: bool = False,
    threads: int | None = None,
    reader: Readahead | None = None,
) -> Index:
    """Scan the blob of a store; see scan.

    Args:
        store: The blob.
        concatenated: As of scan.
        facts: As of scan.
        threads: As of scan.
        reader: Reads what is no local file, and counts; closed when the walk ends. None for a new one.
    """
    try:
        with reader or Readahead(store) as far:
            walk = walk_headers(
                -1 if store.fd is None else store.fd,
                store.size,
                store.url,
                far.read if store.fd is None else None,
                concatenated=concatenated,
                with_mtime=facts,
                threads=threads or processor_count(SCAN_THREADS_MAX),
            )
    except FormatError as exc:
        if exc.offset == 0:
            refuse_other_formats(store)
        raise
    if store.size == 0:
        raise TruncatedError(f"{store.url}: an empty file, at byte 0", offset=0)
    report = ScanReport(
        bytes_scanned=walk.position,
        end_marker=walk.end_marker,
        hard_links=walk.kinds.hard_links,
        dangling_links=walk.dangling_links,
        folders=walk.kinds.folders,
        symbolic_links=walk.kinds.symbolic_links,
        devices=walk.kinds.devices,
        sparse=walk.kinds.sparse,
        other=walk.kinds.other,
    )
    index = Index.from_columns(Columns(*walk.members), report=report)
    return take_facts(store, index, threads) if facts else index


def refuse_other_formats(store: Store) -> None:
    """Say what a blob is that is no tar, if its first bytes tell.

    Raises:
        FormatError: it is compressed, or another kind of archive.
    """
    head = store.read_range(0, min(8, store.size))
    for magic, what, tool in COMPRESSED:
        if head.startswith(magic):
            found = f"{what}, not a plain tar" if tool else f"one {what} stream"
            advice = (
                f"decompress it first ({tool})"
                if tool
                else "make a blob of it with `blobpack repack FILE OUT.tar`"
            )
            raise FormatError(
                f"{store.url}: {found}, so no member can be read by its offsets: {advice}, at byte 0",
                offset=0,
            )
