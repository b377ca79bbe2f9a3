"""Many small files → one blob, the same bytes every time, and its index in the same pass."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, cast

from blobpack import _facts, _gather
from blobpack.atomic import resolve_target, scratch
from blobpack.checksum import crc32c_address
from blobpack.columns import Columns, media_type_of
from blobpack.compress import LEVEL, check_level, compress_blob, is_compressed_target
from blobpack.embed import IndexPlace, forget_beside, region_bytes, write_behind, write_beside
from blobpack.errors import BlobNotFoundError, DuplicateNameError, SourceError, StorageError
from blobpack.identity import Witness
from blobpack.index import Index
from blobpack.indexfile import sidecar_path
from blobpack.model import Member, ScanReport
from blobpack.objects import Objects, list_prefix
from blobpack.output import writing
from blobpack.processors import processors
from blobpack.slices import gather_slices, total_bytes
from blobpack.sources import (
    Skipped,
    Sources,
    filtered,
    list_files,
    list_folder,
    listed,
    passing,
    unreadable_error,
)
from blobpack.stores import open_store, open_tar
from blobpack.tarformat import (
    BLOCK,
    END_OF_ARCHIVE,
    begins_tar,
    check_name,
    encode_name,
    member_header,
    padding,
)
from blobpack.zstdseek import is_zstd

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

    from blobpack.model import Payload, Progress


THREADS_MAX = 4


@dataclass(frozen=True, slots=True)
class PackReport:
    """What pack did.

    Attributes:
        members: Files packed.
        payload_bytes: Their bytes.
        blob_bytes: The blob's.
        skipped: Reason → how many files were left out for it.
        examples: Reason → the first few of them.
        seconds: How long it took.
        index: The blob's members.
        dry_run: Nothing was written.
        shards: How many blobs were written.
    """

    members: int
    payload_bytes: int
    blob_bytes: int
    skipped: dict[str, int]
    examples: dict[str, list[str]] = field(repr=False)
    seconds: float
    index: Index = field(repr=False)
    dry_run: bool = False
    shards: int = 1

    @property
    def megabytes_per_second(self) -> float:
        """Payload bytes a second, in units of 1,000,000."""
        return self.payload_bytes / 1e6 / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        done = "would pack" if self.dry_run else "packed"
        text = (
            f"{done} {self.members:,} members, {self.payload_bytes:,} bytes, into {self.blob_bytes:,} bytes "
            f"{f'of {self.shards:,} blobs ' if self.shards != 1 else ''}"
            f"in {self.seconds:.2f} s ({self.megabytes_per_second:,.0f} MB/s)"
        )
        for reason, count in sorted(self.skipped.items()):
            examples = ", ".join(self.examples[reason][:3])
            text += f"\nskipped {count:,}: {reason} ({examples}{', …' if count > 3 else ''})"
        return text


def pack(
    source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | Iterable[Payload],
    target: str | os.PathLike[str],
    *,
    globs: Iterable[str] = (),
    exclude: Iterable[str] = (),
    all_files: bool = False,
    hidden: bool = False,
    follow_symlinks: bool = False,
    keep_mtime: bool = False,
    facts: bool = True,
    dry_run: bool = False,
    resume: bool = False,
    index: IndexPlace = "embed",
    level: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> PackReport:
    """Pack images into a blob: a plain tar, the same bytes from the same input on any machine.

    The blob appears whole or not at all, and replaces one that is there. It is never packed into itself.
    A target that ends in .tar.zst or .tzst becomes seekable zstd: the index's offsets are then those in the
    tar that it decompresses to, which takes as much room beside the target until it is compressed.
    A target in S3 goes up while it is packed, in bounded memory; if anything fails, nothing is left there.

    Args:
        source: A folder, or a prefix in S3, packed in byte order of the names relative to it; a file or a
            list of files, whose names are their paths as given, without a leading "/"; or (name, payload)
            pairs, packed in their order.
        target: The blob to write: a path, or an s3:// URL.
        globs: Pack only names that match one of these; `*` crosses "/".
        exclude: And none of these.
        all_files: Pack every file, not only images (recognised by their first bytes; SVG by name).
        hidden: Also files and folders whose names begin with ".".
        follow_symlinks: Pack what symbolic links point at, under the links' names.
        keep_mtime: Store modification times, in whole seconds; else 0.
        facts: Also take, for the index, what tools would open every image to learn: media type, width and
            height as shown, CRC-32C and mtime. No pixel is decoded; a damaged header is of unknown size.
        dry_run: Read everything, write nothing; blob_bytes is then what they are before compression.
        resume: Of a target in S3, go on with an upload that was interrupted: what went up and is the same is not
            sent again. A failure then leaves it there, for the next time.
        index: Where the index goes: behind the archive in the blob itself, into a file beside it,
            `<blob>.idx`, or nowhere.
        level: Of zstd, 1 to 22, for a target that is compressed; None for 3.
        threads: How many read; None for as many as there are processors, up to 4.
        progress: progress(files, bytes), called now and then.

    Returns:
        What was packed and what was skipped and why, with the index.

    Raises:
        SourceError: files can't be read (all are listed) or changed while they were packed; objects the same
            (the first is named); or there is nothing to pack, and a blob that would be replaced.
        DuplicateNameError: two files have one member name.
        UnsafeNameError: a name is empty, absolute or leads upwards with "..".
        StorageError: the blob can't be written, or would replace a file that is no tar.
        ValueError: resume for a target that is not in S3; a level for a target that is not compressed, or one
            that zstd does not have.
    """
    compressed = is_compressed_target(target)
    if level is not None and not compressed:
        raise ValueError(f"{os.fspath(target)}: a level is for .tar.zst; a plain tar has none")
    level = check_level(LEVEL if level is None else level)
    began = time.perf_counter()
    skipped = Skipped()
    far = is_s3(target)
    if resume and not far:
        raise ValueError(f"{os.fspath(target)}: only an upload to S3 can be resumed")
    if far and compressed:
        raise StorageError(
            f"{os.fspath(target)}: compressed blobs are packed to local files; upload them then"
        )
    replaced = None if far else check_target(target)
    exists = check_far_target(os.fspath(target)) if far else replaced is not None
    sources, is_folder = find_sources(source, skipped, hidden=hidden, follow=follow_symlinks)
    if far and isinstance(sources, Objects):
        sources = sources.without(os.fspath(target), skipped)
    expected = expected_bytes(sources) if far else None
    with (
        nullcontext()
        if dry_run
        else writing(target, expected_bytes=expected, resume=resume) as file,
        scratch(target)
        if file and compressed
        else nullcontext(cast("BinaryIO", Witness(file)) if file and far else file) as tar,
    ):
        packed, size = pack_sources(
            sources,
            tar,
            skipped,
            target=os.fspath(target),
            replaced=replaced,
            globs=globs,
            exclude=exclude,
            images_only=not all_files,
            follow_links=follow_symlinks or not is_folder,
            keep_mtime=keep_mtime,
            facts=facts,
            threads=threads,
            progress=progress,
        )
        if exists and file and not packed:
            raise SourceError(f"nothing to pack, so {os.fspath(target)} stays as it is")
        packed.report = ScanReport(bytes_scanned=size - len(END_OF_ARCHIVE), end_marker=2)
        archive_bytes = size
        if index == "embed":
            size += write_behind(tar, packed, size) if tar else region_bytes(packed)
        if tar and file and compressed:
            size = compress_blob(tar, packed.columns, archive_bytes, file, level)
    if not dry_run and not far:
        forget_beside(target)
    if index == "sidecar" and isinstance(tar, Witness):
        packed.identity = replace(tar.identity(), version=getattr(file, "version", ""))
        packed.save(sidecar_path(target))
    elif index == "sidecar" and not dry_run:
        with open_tar(target) as store:
            write_beside(store, packed, sidecar_path(target))
    return PackReport(
        members=len(packed),
        payload_bytes=packed.payload_bytes,
        blob_bytes=size,
        skipped=dict(skipped.counts),
        examples=skipped.examples,
        seconds=time.perf_counter() - began,
        index=packed,
        dry_run=dry_run,
    )


def is_s3(url: str | os.PathLike[str]) -> bool:
    """Tell whether a URL is one of S3, be it an object's or a prefix."""
    return isinstance(url, str) and url[:5].lower() == "s3://"


def expected_bytes(sources: Sources | Objects | Iterator[Payload]) -> int | None:
    """Add up what members of these take at most, about; None when that is not known."""
    if isinstance(sources, Objects):
        return sources.total_bytes()
    return total_bytes(sources) if isinstance(sources, Sources) else None


def check_far_target(target: str) -> bool:
    """Tell whether there is an object that a blob would replace, and refuse to lose one that is no tar.

    Raises:
        StorageError: it is neither empty nor a tar, or S3 can't be reached.
        ValueError: the URL names no object.
    """
    try:
        with open_store(target) as store:
            block = store.read_range(0, min(BLOCK, store.size))
    except BlobNotFoundError:
        return False
    if block and not begins_tar(block):
        raise StorageError(f"{target}: exists and is no tar; it is not replaced: remove it first")
    return True


def check_target(target: str | os.PathLike[str]) -> os.stat_result | None:
    """Find the file that a blob would replace, if there is one, and refuse to lose one that is no tar.

    Raises:
        StorageError: it is not a plain file, or neither empty nor a tar, nor zstd where that is written.
    """
    if "://" in os.fspath(target):
        raise StorageError(
            f"{os.fspath(target)}: blobs are packed to local files; upload them then"
        )
    path = resolve_target(target)
    try:
        with path.open("rb") as file:
            block = file.read(BLOCK)
            state = os.fstat(file.fileno())
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise StorageError(f"{os.fspath(target)}: can't be replaced: {exc.strerror}") from exc
    if block and not begins_tar(block) and not (is_compressed_target(path) and is_zstd(block)):
        raise StorageError(
            f"{os.fspath(target)}: exists and is no tar; it is not replaced: remove it first"
        )
    return state


def find_sources(
    source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | Iterable[Payload],
    skipped: Skipped,
    *,
    hidden: bool,
    follow: bool,
) -> tuple[Sources | Objects | Iterator[Payload], bool]:
    """List a folder's files or a prefix's objects, or take files or (name, payload) pairs.

    Returns:
        What there is to pack, and whether it is a folder's.
    """
    if isinstance(source, Objects):
        return source, False
    if isinstance(source, str) and is_s3(source):
        return list_prefix(source, skipped, hidden=hidden), False
    if isinstance(source, (str, os.PathLike)) and os.path.isfile(source):  # noqa: PTH113
        source = [source]
    if isinstance(source, (str, os.PathLike)):
        return list_folder(os.fsencode(source), skipped, hidden=hidden, follow=follow), True
    return _listed_or_payloads(source, skipped, follow=follow), False


def pack_sources(
    sources: Sources | Objects | Iterator[Payload],
    file: BinaryIO | None,
    skipped: Skipped,
    *,
    target: str,
    replaced: os.stat_result | None,
    globs: Iterable[str],
    exclude: Iterable[str],
    images_only: bool,
    follow_links: bool,
    keep_mtime: bool,
    facts: bool,
    threads: int | None,
    progress: Progress | None,
    start: int = 0,
    held: bytearray | None = None,
) -> tuple[Index, int]:
    """Write members and the end-of-archive marker.

    Args:
        sources: What to pack.
        file: Where to; None writes nothing.
        skipped: Takes what was left out.
        target: The blob, for messages.
        replaced: The file that must not be packed: the blob, as it is.
        globs: Pack only names that match one of these.
        exclude: And none of these.
        images_only: Leave out what is no image.
        follow_links: Open symbolic links.
        keep_mtime: Store modification times.
        facts: Take them.
        threads: How many read.
        progress: progress(files, bytes).
        start: Where in the file the first member goes.
        held: Takes the first bytes from there on, which are not written, when files are packed.

    Returns:
        The members, and where the archive ends.
    """
    globs, exclude = listed(globs), listed(exclude)
    if isinstance(sources, Objects):
        sources = iter(sources.only(globs, exclude, skipped, images_only=images_only))
        globs = exclude = []
    if not isinstance(sources, Sources):
        wanted = _wanted(sources, globs, exclude, skipped, images_only=images_only)
        return _pack_payloads(wanted, file, progress, start, facts=facts)
    return _pack_files(
        filtered(sources, globs, exclude, skipped),
        file,
        skipped,
        target=target,
        replaced=replaced,
        images_only=images_only,
        follow_links=follow_links,
        keep_mtime=keep_mtime,
        facts=facts,
        threads=threads or processors(THREADS_MAX),
        progress=progress,
        start=start,
        held=held,
    )


def _listed_or_payloads(
    source: Iterable[str | os.PathLike[str]] | Iterable[Payload], skipped: Skipped, *, follow: bool
) -> Sources | Objects | Iterator[Payload]:
    """Tell a list of files from (name, payload) pairs by the first of them."""
    items = iter(source)
    first = list(islice(items, 1))
    if first and isinstance(first[0], tuple):
        return cast("Iterator[Payload]", chain(first, items))
    files = cast("Iterator[str | os.PathLike[str]]", chain(first, items))
    return list_files(files, skipped, follow=follow)


def _pack_files(
    sources: Sources,
    file: BinaryIO | None,
    skipped: Skipped,
    *,
    target: str,
    replaced: os.stat_result | None,
    images_only: bool,
    follow_links: bool,
    keep_mtime: bool,
    facts: bool,
    threads: int,
    progress: Progress | None,
    start: int,
    held: bytearray | None,
) -> tuple[Index, int]:
    """Gather files natively, end the archive, and turn what went wrong into errors."""
    root_fd = os.open(sources.root or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    gather = partial(
        _gather.gather,
        target_device=replaced.st_dev if replaced else 0,
        target_inode=replaced.st_ino if replaced else 0,
        images_only=images_only,
        follow_links=follow_links,
        keep_mtime=keep_mtime,
        facts=facts,
        crc32c_address=crc32c_address() if facts else 0,
        threads=threads,
    )
    try:
        if isinstance(file, Witness):
            columns, position, write_error, not_packed = gather_slices(
                gather, root_fd, sources, cast("BinaryIO", file), start=start, progress=progress
            )
        else:
            rows, position, write_error, not_packed = gather(
                root_fd,
                file.fileno() if file else -1,
                sources.paths,
                sources.names,
                progress=progress,
                start=start,
                held=held,
            )
            columns = Columns(*rows)
    finally:
        os.close(root_fd)
    if write_error:
        raise StorageError(f"{target}: can't be written: {os.strerror(write_error)}")
    _judge(sources, not_packed, skipped)
    if file:
        if not isinstance(file, Witness):
            file.seek(position)
        file.write(END_OF_ARCHIVE)
    return Index.from_columns(columns), position + len(END_OF_ARCHIVE)


def _judge(sources: Sources, not_packed: list[tuple[int, int, int]], skipped: Skipped) -> None:
    """Count what was skipped.

    Raises:
        SourceError: files could not be read, or changed meanwhile.
    """
    unreadable = []
    for i, status, error in not_packed:
        path = os.path.join(sources.root, sources.paths[i])  # noqa: PTH118 (bytes)
        if status == _gather.FILE_NOT_IMAGE:
            skipped.add("not an image", sources.names[i])
        elif status == _gather.FILE_IS_TARGET:
            skipped.add("the blob itself", sources.names[i])
        elif status == _gather.FILE_NOT_REGULAR:
            skipped.add("not a plain file", sources.names[i])
        elif status == _gather.FILE_CHANGED:
            unreadable.append((path, "changed while it was packed"))
        else:
            unreadable.append((path, os.strerror(error)))
    if unreadable:
        raise unreadable_error(unreadable)


def _wanted(
    payloads: Iterable[Payload],
    globs: list[str],
    exclude: list[str],
    skipped: Skipped,
    *,
    images_only: bool,
) -> Iterator[tuple[bytes, bytes]]:
    """Check names, and leave out what is filtered or no image."""
    seen: set[bytes] = set()
    for name, payload in payloads:
        encoded = encode_name(name)
        check_name(encoded)
        if encoded in seen:
            raise DuplicateNameError(f"two payloads would both be member {name!r}")
        seen.add(encoded)
        data = payload if isinstance(payload, bytes) else memoryview(payload).tobytes()
        if (globs or exclude) and not passing([encoded], globs, exclude)[0]:
            skipped.add("filtered out", encoded)
        elif images_only and not _gather.recognise_image(data, encoded):
            skipped.add("not an image", encoded)
        else:
            yield encoded, data


def _pack_payloads(
    payloads: Iterable[tuple[bytes, bytes]],
    file: BinaryIO | None,
    progress: Progress | None,
    first: int,
    *,
    facts: bool,
) -> tuple[Index, int]:
    """Write payloads as members, in their order, the first one at a position."""
    members = []
    position = first
    for name, payload in payloads:
        header = member_header(name, len(payload))
        start = position + len(header)
        taken = _facts_of(name, payload) if facts else {}
        members.append(Member(os.fsdecode(name), start, start + len(payload), **taken))
        written = b"".join((header, payload, padding(len(payload))))
        position += len(written)
        if file:
            file.write(written)
        if progress and len(members) % 1000 == 0:
            progress(len(members), position - first)
    if file:
        file.write(END_OF_ARCHIVE)
    return Index(members), position + len(END_OF_ARCHIVE)


def _facts_of(name: bytes, payload: bytes) -> dict[str, Any]:
    code, width, height, crc32c = _facts.facts_of(payload, name, crc32c_address=crc32c_address())
    media_type = media_type_of(code) or ""
    return {
        "media_type": media_type,
        "width": width,
        "height": height,
        "crc32c": crc32c,
        "mtime": 0,
    }
