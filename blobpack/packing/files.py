"""Files to pack, with their member names, and which ones are skipped."""

from __future__ import annotations

import errno
import os
import sys
from array import array
from collections import Counter
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, AnyStr

from blobpack._native.gather import recognise_image
from blobpack._native.globs import match_names
from blobpack.errors import SourceError, UnsafeNameError
from blobpack.packing.names import joined
from blobpack.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blobpack.packing.names import NameChange

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
        path_of: Returns the path or URL of a file, for its name; names of payloads stay names.
    """

    def __init__(self, on_skipped: Callable[[str, str], object] | None = None) -> None:
        """Set what is called for each file; see PackOptions."""
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}
        self.path_of: Callable[[bytes], str] = os.fsdecode
        self._on_skipped = on_skipped

    def add(self, reason: str, name: bytes, *path: AnyStr) -> None:
        """Count one file.

        Args:
            reason: Why it is skipped.
            name: Its name.
            path: The parts of its path or URL; if there are none, path_of finds it.
        """
        self.counts[reason] += 1
        examples = self.examples.setdefault(reason, [])
        if len(examples) < FILES_NAMED:
            examples.append(os.fsdecode(name))
        if self._on_skipped:
            self._on_skipped(joined(*path) or self.path_of(name), reason)


@dataclass(frozen=True, slots=True)
class FileList:
    """Files to pack: their paths and the names of their members.

    Attributes:
        root: The folder that the paths are relative to; empty for the current folder.
        paths: The path of each file, in the order of the blob.
        names: The name of each member. For a folder that is packed alone, this is the same list as `paths`.
        follow_links: Open files that are symbolic links.
        follow_folders: Open files in folders that are symbolic links. True also for a list of files alone,
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

    def take(self, rows: Sequence[int]) -> FileList:
        """Return the files of some rows, in their order."""
        paths, names = self.paths, self.names
        return replace(self, paths=[paths[i] for i in rows], names=[names[i] for i in rows])


def rename_files(
    files: FileList, change: NameChange, skipped: Skipped, *, images_only: bool
) -> FileList:
    """Return the files with other names, in the same order.

    Raises:
        UnsafeNameError: nothing is left of a name.
    """
    rows, names = [], []
    for row, (path, name) in enumerate(zip(files.paths, files.names, strict=True)):
        try:
            names.append(change.apply(name, files.root, path))
        except UnsafeNameError:
            # a text file beside the folders, which is not packed anyway, does not prevent that they are packed
            whole = os.path.join(files.root, path)  # noqa: PTH118 (bytes)
            if not images_only or is_image_file(whole, name):
                raise
            skipped.add("not an image", name, whole)
        else:
            rows.append(row)
    return replace(files.take(rows), names=names)


def is_image_file(path: bytes, name: bytes) -> bool:
    """Return whether a file is an image; False if it can't be read."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 (bytes)
            return recognise_image(file.read(IMAGE_HEAD_BYTES), name)
    except OSError:
        # packing the file fails, too, and reports the reason
        return False


def filter_files(
    files: FileList, globs: Sequence[str], exclude: Sequence[str], skipped: Skipped
) -> FileList:
    """Return the files whose names pass the filters, and count the others as skipped."""
    if not globs and not exclude:
        return files
    passed = match_filters(files.names, globs, exclude)
    for path, name, kept in zip(files.paths, files.names, passed, strict=True):
        if not kept:
            skipped.add("filtered out", name, files.root, path)
    return files.take([row for row, kept in enumerate(passed) if kept])


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
