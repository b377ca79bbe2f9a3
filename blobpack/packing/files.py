"""Files to pack: found in a folder or given as a list, with their member names, and which ones are skipped."""

from __future__ import annotations

import errno
import os
import sys
from array import array
from collections import Counter
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from blobpack._native.gather import open_folder
from blobpack._native.globs import match_names
from blobpack.errors import DuplicateNameError, SourceError
from blobpack.quoting import quoted
from blobpack.tar.header import check_name
from blobpack.tar.names import is_hidden

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Bytes of a file that are read to recognise an image. No format needs more than an "ftyp" box of at
# most 256 bytes (_native/images/sniff.pxd), and the kernel reads a file by pages of 4,096 bytes
# anyway.
IMAGE_HEAD_BYTES = 4096

# As os.fsencode encodes file names, which takes three times the time: their coding, and how to keep bytes that are not in
# it (PEP 383).
FILE_NAME_CODING = (sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())

# An error that names a million files would fill the terminal, and a report keeps its examples in
# memory.
FILES_NAMED = 20

# Upper bound for the bytes that a member takes besides its payload and its name: a pax header for a
# long name with its padding, the header, the padding of the payload, and a row of the index. The
# name is counted separately, twice: it is in the pax header and in the index.
MEMBER_OVERHEAD_BYTES = 3072


class Skipped:
    """Files that were skipped: how many for each reason, and the first names.

    Attributes:
        counts: Reason → number of files.
        examples: Reason → names of the first files, at most FILES_NAMED.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def add(self, reason: str, name: bytes) -> None:
        """Count one file."""
        self.counts[reason] += 1
        examples = self.examples.setdefault(reason, [])
        if len(examples) < FILES_NAMED:
            examples.append(os.fsdecode(name))


@dataclass(frozen=True, slots=True)
class FileList:
    """Files to pack: their paths and the names of their members.

    Attributes:
        root: The folder that the paths are relative to; empty for the current folder.
        paths: The path of each file, in the order of the blob.
        names: The name of each member. For a folder, this is the same list as `paths`.
        follow_links: Open files that are symbolic links.
        follow_folders: Open files in folders that are symbolic links. True also for a list of files,
            whose folders the caller named.
    """

    root: bytes
    paths: list[bytes]
    names: list[bytes]
    follow_links: bool
    follow_folders: bool

    def part(self, rows: slice) -> FileList:
        """Return some of the files."""
        return replace(self, paths=self.paths[rows], names=self.names[rows])


def list_folder(root: bytes, skipped: Skipped, *, hidden: bool, follow: bool) -> FileList:
    """List all files below a folder, in byte order of their paths.

    Args:
        root: The folder.
        skipped: Counts the files and folders that are left out.
        hidden: Also list files and folders whose names begin with ".".
        follow: Follow symbolic links, to files and to folders.

    Raises:
        SourceError: the folder or folders below it can't be listed. The message names all of them.
    """
    unreadable: list[tuple[bytes, OSError]] = []
    # str and not bytes: scandir returns str for a descriptor, and joining and encoding them once takes less time
    paths: list[str] = []
    root_fd = -1
    # a stack instead of recursion: folders may be nested deeper than Python's recursion limit
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    try:
        while waiting:
            folder, above = waiting.pop()
            try:
                if folder:
                    # not by its path: a folder that was replaced by a link since its parent was listed would be followed
                    fd = open_folder(root_fd, os.fsencode(folder), follow=follow)
                else:
                    fd = root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    waiting += _list_one(
                        fd, folder, above, paths, skipped, hidden=hidden, follow=follow
                    )
                finally:
                    if folder:
                        os.close(fd)
            except OSError as exc:
                # Go on after an error, so that one run names every folder whose permissions must be
                # corrected.
                path = os.path.join(root, os.fsencode(folder)) if folder else root  # noqa: PTH118 (bytes)
                unreadable.append((path, exc))
    finally:
        if root_fd >= 0:
            os.close(root_fd)
    if unreadable:
        raise unreadable_error(
            [(path, unreadable_reason(exc.errno or 0, follow=follow)) for path, exc in unreadable]
        )
    # the order of scandir is that of the file system; sorted, the same files give the same blob on any machine
    encoded = sorted([path.encode(*FILE_NAME_CODING) for path in paths])
    return FileList(root, encoded, encoded, follow_links=follow, follow_folders=follow)


def _list_one(
    fd: int,
    folder: str,
    above: frozenset[tuple[int, int]],
    paths: list[str],
    skipped: Skipped,
    *,
    hidden: bool,
    follow: bool,
) -> list[tuple[str, frozenset[tuple[int, int]]]]:
    """List an open folder: add its files to `paths`, and return the folders in it, with those above them.

    Raises:
        OSError: the folder can't be listed.
    """
    below: list[tuple[str, frozenset[tuple[int, int]]]] = []
    # Only if links are followed can a folder be below itself. Otherwise the stat of each folder is saved.
    if follow:
        state = os.fstat(fd)
        above = above | {(state.st_dev, state.st_ino)}
    with os.scandir(fd) as listing:
        for found in listing:
            name = f"{folder}/{found.name}" if folder else found.name
            if not hidden and is_hidden(found.name):
                skipped.add("hidden", os.fsencode(name))
            else:
                _classify(found, name, above, paths, below, skipped, follow=follow)
    return below


def _classify(
    found: os.DirEntry[str],
    name: str,
    above: frozenset[tuple[int, int]],
    paths: list[str],
    waiting: list[tuple[str, frozenset[tuple[int, int]]]],
    skipped: Skipped,
    *,
    follow: bool,
) -> None:
    """Add what a folder holds to the files to pack, to the folders to list, or to what is skipped."""
    # first, because most are files: scandir has their type from the directory, so this costs no system call
    if found.is_file(follow_symlinks=False):
        paths.append(name)
        return
    try:
        is_folder = found.is_dir(follow_symlinks=follow)
    except OSError:
        # a link that leads to itself, for example: opening it as a file fails, and that error names it
        is_folder = False
    if is_folder:
        if follow:
            state = found.stat()
            # only folders above count: a folder that two links lead to is packed twice, under two names
            if (state.st_dev, state.st_ino) in above:
                skipped.add("a link to a folder above it", os.fsencode(name))
                return
        waiting.append((name, above))
    elif not found.is_symlink():
        skipped.add("not a plain file", os.fsencode(name))
    elif follow:
        # the link may lead nowhere or to a device: opening it reports that
        paths.append(name)
    else:
        skipped.add("symbolic links", os.fsencode(name))


def list_files(
    files: Iterable[str | os.PathLike[str]], skipped: Skipped, *, follow: bool
) -> FileList:
    """Make a list of given files. Member names are the normalized paths, without a leading "/".

    Args:
        files: Paths of files.
        skipped: Counts the symbolic links that are left out.
        follow: Follow symbolic links.

    Raises:
        DuplicateNameError: two files have one member name.
        SourceError: a path is a folder.
        UnsafeNameError: a path leads upwards with "..".
    """
    paths, names = [], []
    for file in files:
        path = os.fsencode(file)
        # as tar does: names in an archive are relative, so that extracting stays inside a folder
        name = os.path.normpath(path).lstrip(b"/")
        check_name(name)
        # Members below a folder are named relative to it, but given files by their whole paths. A
        # mix of both would have no consistent names.
        if os.path.isdir(path):  # noqa: PTH112 (bytes)
            raise SourceError(
                f"{quoted(os.fsdecode(path))} is a folder: give one folder, or files",
                paths=(os.fsdecode(path),),
            )
        if not follow and os.path.islink(path):  # noqa: PTH114 (bytes)
            skipped.add("symbolic links", name)
            continue
        paths.append(path)
        names.append(name)
    # equal names are neighbours once they are sorted
    order = sorted(range(len(names)), key=names.__getitem__)
    for one, other in pairwise(order):
        if names[one] == names[other]:
            raise DuplicateNameError(
                f"{os.fsdecode(paths[one])!r} and {os.fsdecode(paths[other])!r} "
                f"would both be member {os.fsdecode(names[one])!r}"
            )
    paths, names = [paths[i] for i in order], [names[i] for i in order]
    return FileList(b"", paths, names, follow_links=follow, follow_folders=True)


def filter_files(
    files: FileList, globs: Sequence[str], exclude: Sequence[str], skipped: Skipped
) -> FileList:
    """Return the files whose names pass the filters, and count the others as skipped."""
    if not globs and not exclude:
        return files
    passed = match_filters(files.names, globs, exclude)
    for name, kept in zip(files.names, passed, strict=True):
        if not kept:
            skipped.add("filtered out", name)
    paths = [path for path, kept in zip(files.paths, passed, strict=True) if kept]
    names = [name for name, kept in zip(files.names, passed, strict=True) if kept]
    return replace(files, paths=paths, names=names)


def match_filters(
    names: Sequence[bytes], globs: Sequence[str], exclude: Sequence[str]
) -> list[bool]:
    """Return for each name whether it matches a glob (or there are no globs) and no exclusion."""
    # the native matcher takes all names as one packed column, without a Python object for each
    bounds = array("q", accumulate(map(len, names), initial=0))
    packed = b"".join(names)
    wanted = match_names(packed, bounds, globs or ["*"])
    unwanted = match_names(packed, bounds, exclude)
    return [bool(yes and not no) for yes, no in zip(wanted, unwanted, strict=True)]


def member_bytes_max(name: bytes, payload_bytes: int) -> int:
    """Return an upper bound for the bytes of a blob that a member takes, with its row in the index."""
    return payload_bytes + MEMBER_OVERHEAD_BYTES + 2 * len(name)


def unreadable_reason(error: int, *, follow: bool) -> str:
    """Return the reason why a file or folder can't be read, from the system's error number."""
    if error == errno.ELOOP and not follow:
        return "it, or a folder above it, was replaced by a symbolic link while it was packed"
    return os.strerror(error)


def unreadable_error(files: Sequence[tuple[bytes, str]]) -> SourceError:
    """Make one error that names all files that could not be read, each with the reason."""
    listed = "".join(
        f"\n  {quoted(os.fsdecode(path))}: {reason}" for path, reason in files[:FILES_NAMED]
    )
    more = f"\n  and {len(files) - FILES_NAMED} more" if len(files) > FILES_NAMED else ""
    count = f"{len(files)} files" if len(files) > 1 else "a file"
    # the message names the first files; `paths` has all of them, for programs
    return SourceError(
        f"nothing was packed: {count} could not be read:{listed}{more}",
        paths=tuple(os.fsdecode(path) for path, _ in files),
    )
