"""Many small files → one blob, the same bytes every time, and its index in the same pass."""

from __future__ import annotations

import os
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, cast

from blobpack import _gather
from blobpack._lookup import match_names
from blobpack.atomic import replacing, resolve_target
from blobpack.errors import DuplicateNameError, SourceError, StorageError
from blobpack.index import Index
from blobpack.model import Member
from blobpack.tarformat import END_OF_ARCHIVE, check_name, member_header, padding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import BinaryIO

    Progress = Callable[[int, int], object]
    Payload = tuple[str, bytes]

THREADS_MAX = 4
LISTED = 20  # files named in an error, or examples kept of each reason to skip


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
    """

    members: int
    payload_bytes: int
    blob_bytes: int
    skipped: dict[str, int]
    examples: dict[str, list[str]] = field(repr=False)
    seconds: float
    index: Index = field(repr=False)
    dry_run: bool = False

    @property
    def megabytes_per_second(self) -> float:
        """Payload bytes a second, in units of 1,000,000."""
        return self.payload_bytes / 1e6 / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        done = "would pack" if self.dry_run else "packed"
        text = (
            f"{done} {self.members:,} members, {self.payload_bytes:,} bytes, into {self.blob_bytes:,} bytes "
            f"in {self.seconds:.2f} s ({self.megabytes_per_second:,.0f} MB/s)"
        )
        for reason, count in sorted(self.skipped.items()):
            examples = ", ".join(self.examples[reason][:3])
            text += f"\nskipped {count:,}: {reason} ({examples}{', …' if count > 3 else ''})"
        return text


class Skipped:
    """Why files were left out: counts, and the first few of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def add(self, reason: str, name: bytes) -> None:
        """Count one file."""
        self.counts[reason] += 1
        examples = self.examples.setdefault(reason, [])
        if len(examples) < LISTED:
            examples.append(os.fsdecode(name))


@dataclass(frozen=True, slots=True)
class Sources:
    """Files to pack: where each is, and what its member will be called.

    Attributes:
        root: The folder that paths start from; empty for the current one.
        paths: One a file, in the order of the blob.
        names: The members' names; the same list as paths for a folder.
    """

    root: bytes
    paths: list[bytes]
    names: list[bytes]


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
    dry_run: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> PackReport:
    """Pack images into a blob: a plain tar, the same bytes from the same input on any machine.

    The blob appears whole or not at all, and replaces one that is there. It is never packed into itself.

    Args:
        source: A folder, packed in byte order of the names relative to it; a list of files, whose names are
            their paths as given, without a leading "/"; or (name, payload) pairs, packed in their order.
        target: The blob to write.
        globs: Pack only names that match one of these; `*` crosses "/".
        exclude: And none of these.
        all_files: Pack every file, not only images (recognised by their first bytes; SVG by name).
        hidden: Also files and folders whose names begin with ".".
        follow_symlinks: Pack what symbolic links point at, under the links' names.
        keep_mtime: Store modification times, in whole seconds; else 0.
        dry_run: Read everything, write nothing.
        threads: How many read; None for as many as there are processors, up to 4.
        progress: progress(files, bytes), called now and then.

    Returns:
        What was packed and what was skipped and why, with the index.

    Raises:
        SourceError: files can't be read (all are listed) or changed while they were packed.
        DuplicateNameError: two files have one member name.
        UnsafeNameError: a name is empty, absolute or leads upwards with "..".
        StorageError: the blob can't be written.
    """
    began = time.perf_counter()
    skipped = Skipped()
    globs, exclude = _listed(globs), _listed(exclude)
    resolved = resolve_target(target)
    if isinstance(source, (str, os.PathLike)):
        sources: Sources | Iterable[Payload] = list_folder(
            os.fsencode(source),
            os.fsencode(resolved),
            skipped,
            hidden=hidden,
            follow=follow_symlinks,
        )
    else:
        sources = _as_sources(source, skipped, follow=follow_symlinks)
    with nullcontext() if dry_run else replacing(target) as file:
        if isinstance(sources, Sources):
            index, size = _pack_files(
                _filtered(sources, globs, exclude, skipped),
                file,
                skipped,
                target=os.fspath(target),
                images_only=not all_files,
                follow_links=follow_symlinks or not isinstance(source, (str, os.PathLike)),
                keep_mtime=keep_mtime,
                threads=threads or _processors(),
                progress=progress,
            )
        else:
            wanted = _wanted(sources, globs, exclude, skipped, images_only=not all_files)
            index, size = _pack_payloads(wanted, file, progress)
    return PackReport(
        members=len(index),
        payload_bytes=index.payload_bytes,
        blob_bytes=size,
        skipped=dict(skipped.counts),
        examples=skipped.examples,
        seconds=time.perf_counter() - began,
        index=index,
        dry_run=dry_run,
    )


# Listing


def list_folder(
    root: bytes, target: bytes, skipped: Skipped, *, hidden: bool, follow: bool
) -> Sources:
    """List the files below a folder, in byte order of their paths.

    Raises:
        SourceError: the folder, or any below it, can't be listed; all are named.
    """
    unreadable: list[tuple[bytes, OSError]] = []
    paths: list[bytes] = []
    waiting: list[tuple[bytes, frozenset[tuple[int, int]]]] = [(b"", frozenset())]
    target_folder, target_name = os.path.split(target)
    while waiting:
        folder, above = waiting.pop()
        path = os.path.join(root, folder) if folder else root  # noqa: PTH118 (bytes)
        try:
            if follow:
                state = os.stat(path)  # noqa: PTH116 (bytes)
                above = above | {(state.st_dev, state.st_ino)}
            is_target_folder = os.path.realpath(path) == target_folder
            with os.scandir(path) as found:
                for entry in found:
                    name = b"%s/%s" % (folder, entry.name) if folder else entry.name
                    if is_target_folder and entry.name == target_name:
                        skipped.add("the blob itself", name)
                    elif entry.name.startswith(b".") and not hidden:
                        skipped.add("hidden", name)
                    else:
                        _list_entry(entry, name, above, paths, waiting, skipped, follow=follow)
        except OSError as exc:
            unreadable.append((path, exc))
    if unreadable:
        raise _unreadable([(path, exc.strerror or str(exc)) for path, exc in unreadable])
    paths.sort()
    return Sources(root, paths, paths)


def _list_entry(
    entry: os.DirEntry[bytes],
    name: bytes,
    above: frozenset[tuple[int, int]],
    paths: list[bytes],
    waiting: list[tuple[bytes, frozenset[tuple[int, int]]]],
    skipped: Skipped,
    *,
    follow: bool,
) -> None:
    """Sort one entry of a folder into files to pack, folders to list and what is skipped."""
    try:
        is_folder = entry.is_dir(follow_symlinks=follow)
    except OSError:
        is_folder = False  # a link that leads in circles, say: opening it tells
    if is_folder:
        if follow:
            state = entry.stat()
            if (state.st_dev, state.st_ino) in above:
                skipped.add("a link to a folder above it", name)
                return
        waiting.append((name, above))
    elif entry.is_symlink():
        if follow:
            paths.append(name)  # dangling, perhaps, or to a device: opening it tells that, too
        else:
            skipped.add("symbolic links", name)
    elif entry.is_file(follow_symlinks=False):
        paths.append(name)
    else:
        skipped.add("not a plain file", name)


def _as_sources(
    source: Iterable[str | os.PathLike[str]] | Iterable[Payload], skipped: Skipped, *, follow: bool
) -> Sources | Iterator[Payload]:
    """Tell a list of files from (name, payload) pairs by the first of them."""
    items = iter(source)
    first = next(items, None)
    if isinstance(first, tuple):
        return _chained(first, cast("Iterator[Payload]", items))
    files = cast("Iterator[str | os.PathLike[str]]", items)
    given = [] if first is None else [os.fsencode(path) for path in (first, *files)]
    paths, names = [], []
    for path in given:
        name = os.path.normpath(path).lstrip(b"/")
        check_name(name)
        if not follow and os.path.islink(path):  # noqa: PTH114 (bytes)
            skipped.add("symbolic links", name)
            continue
        paths.append(path)
        names.append(name)
    order = sorted(range(len(names)), key=names.__getitem__)
    for one, other in pairwise(order):
        if names[one] == names[other]:
            raise DuplicateNameError(
                f"{os.fsdecode(paths[one])!r} and {os.fsdecode(paths[other])!r} "
                f"would both be member {os.fsdecode(names[one])!r}"
            )
    return Sources(b"", [paths[i] for i in order], [names[i] for i in order])


def _chained(first: Payload, rest: Iterator[Payload]) -> Iterator[Payload]:
    yield first
    yield from rest


def _listed(globs: Iterable[str]) -> list[str]:
    return [globs] if isinstance(globs, str) else list(globs)


def _filtered(sources: Sources, globs: list[str], exclude: list[str], skipped: Skipped) -> Sources:
    """Keep the files whose names pass the globs."""
    if not globs and not exclude:
        return sources
    chosen = _passing(sources.names, globs, exclude)
    for name, kept in zip(sources.names, chosen, strict=True):
        if not kept:
            skipped.add("filtered out", name)
    paths = [path for path, kept in zip(sources.paths, chosen, strict=True) if kept]
    names = [name for name, kept in zip(sources.names, chosen, strict=True) if kept]
    return Sources(sources.root, paths, names)


def _passing(names: Sequence[bytes], globs: list[str], exclude: list[str]) -> list[bool]:
    members = (Member(os.fsdecode(name), 0, 0) for name in names)
    index = Index(members)
    wanted = match_names(index.all_names, index.name_bounds, globs or ["*"])
    unwanted = match_names(index.all_names, index.name_bounds, exclude)
    return [bool(yes and not no) for yes, no in zip(wanted, unwanted, strict=True)]


# Packing


def _pack_files(
    sources: Sources,
    file: BinaryIO | None,
    skipped: Skipped,
    *,
    target: str,
    images_only: bool,
    follow_links: bool,
    keep_mtime: bool,
    threads: int,
    progress: Progress | None,
) -> tuple[Index, int]:
    """Gather files natively, end the archive, and turn what went wrong into errors."""
    root_fd = os.open(sources.root or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        columns, position, write_error, not_packed = _gather.gather(
            root_fd,
            file.fileno() if file else -1,
            sources.paths,
            sources.names,
            images_only=images_only,
            follow_links=follow_links,
            keep_mtime=keep_mtime,
            threads=threads,
            progress=progress,
        )
    finally:
        os.close(root_fd)
    if write_error:
        raise StorageError(f"{target}: can't be written: {os.strerror(write_error)}")
    _judge(sources, not_packed, skipped)
    if file:
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
        elif status == _gather.FILE_NOT_REGULAR:
            skipped.add("not a plain file", sources.names[i])
        elif status == _gather.FILE_CHANGED:
            unreadable.append((path, "changed while it was packed"))
        else:
            unreadable.append((path, os.strerror(error)))
    if unreadable:
        raise _unreadable(unreadable)


def _unreadable(files: list[tuple[bytes, str]]) -> SourceError:
    """Make one error of all files at fault."""
    listed = "".join(f"\n  {os.fsdecode(path)}: {reason}" for path, reason in files[:LISTED])
    more = f"\n  and {len(files) - LISTED} more" if len(files) > LISTED else ""
    count = f"{len(files)} files" if len(files) > 1 else "a file"
    return SourceError(
        f"nothing was packed: {count} could not be read:{listed}{more}",
        paths=tuple(os.fsdecode(path) for path, _ in files),
    )


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
        encoded = name.encode("utf-8", "surrogateescape")
        check_name(encoded)
        if encoded in seen:
            raise DuplicateNameError(f"two payloads would both be member {name!r}")
        seen.add(encoded)
        if not _passing([encoded], globs, exclude)[0]:
            skipped.add("filtered out", encoded)
        elif images_only and not _gather.recognise_image(payload, encoded):
            skipped.add("not an image", encoded)
        else:
            yield encoded, payload


def _pack_payloads(
    payloads: Iterable[tuple[bytes, bytes]], file: BinaryIO | None, progress: Progress | None
) -> tuple[Index, int]:
    """Write payloads as members, in their order."""
    members = []
    position = 0
    for name, payload in payloads:
        header = member_header(name, len(payload))
        start = position + len(header)
        members.append(Member(os.fsdecode(name), start, start + len(payload)))
        written = b"".join((header, payload, padding(len(payload))))
        position += len(written)
        if file:
            file.write(written)
        if progress and len(members) % 1000 == 0:
            progress(len(members), position)
    if file:
        file.write(END_OF_ARCHIVE)
    return Index(members), position + len(END_OF_ARCHIVE)


def _processors() -> int:
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2, THREADS_MAX)
