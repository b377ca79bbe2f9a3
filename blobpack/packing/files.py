"""What to pack: files found in a folder or given as a list, their member names, and what is left out."""

from __future__ import annotations

import os
from array import array
from collections import Counter
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from blobpack._native.globs import match_names
from blobpack.errors import DuplicateNameError, SourceError
from blobpack.tar.header import check_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

IMAGE_HEAD_BYTES = 4096  # of a file, to tell whether it is an image
FILES_NAMED = 20  # files named in an error, or kept as examples of each reason to skip


class Skipped:
    """Why files were left out: counts, and the first few of each."""

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
    """Files to pack: where each is, and what its member will be called.

    Attributes:
        root: The folder that paths start from; empty for the current one.
        paths: One a file, in the order of the blob.
        names: The members' names; the same list as paths for a folder.
        follow_links: Open symbolic links; of a list, those that are not wanted are left out already.
    """

    root: bytes
    paths: list[bytes]
    names: list[bytes]
    follow_links: bool

    def part(self, rows: slice) -> FileList:
        """Take some of them."""
        return replace(self, paths=self.paths[rows], names=self.names[rows])


def list_folder(root: bytes, skipped: Skipped, *, hidden: bool, follow: bool) -> FileList:
    """List the files below a folder, in byte order of their paths.

    Raises:
        SourceError: the folder, or any below it, can't be listed; all are named.
    """
    unreadable: list[tuple[bytes, OSError]] = []
    paths: list[bytes] = []
    waiting: list[tuple[bytes, frozenset[tuple[int, int]]]] = [(b"", frozenset())]
    while waiting:
        folder, above = waiting.pop()
        path = os.path.join(root, folder) if folder else root  # noqa: PTH118 (bytes)
        try:
            if follow:
                state = os.stat(path)  # noqa: PTH116 (bytes)
                above = above | {(state.st_dev, state.st_ino)}
            with os.scandir(path) as listing:
                for found in listing:
                    name = b"%s/%s" % (folder, found.name) if folder else found.name
                    if found.name.startswith(b".") and not hidden:
                        skipped.add("hidden", name)
                    else:
                        _classify(found, name, above, paths, waiting, skipped, follow=follow)
        except OSError as exc:
            unreadable.append((path, exc))
    if unreadable:
        raise unreadable_error([(path, exc.strerror or str(exc)) for path, exc in unreadable])
    paths.sort()
    return FileList(root, paths, paths, follow_links=follow)


def _classify(
    found: os.DirEntry[bytes],
    name: bytes,
    above: frozenset[tuple[int, int]],
    paths: list[bytes],
    waiting: list[tuple[bytes, frozenset[tuple[int, int]]]],
    skipped: Skipped,
    *,
    follow: bool,
) -> None:
    """Sort what was found in a folder into files to pack, folders to list and what is skipped."""
    if found.is_file(follow_symlinks=False):
        paths.append(name)
        return
    try:
        is_folder = found.is_dir(follow_symlinks=follow)
    except OSError:
        is_folder = False  # a link that leads in circles, say: opening it tells
    if is_folder:
        if follow:
            state = found.stat()
            if (state.st_dev, state.st_ino) in above:
                skipped.add("a link to a folder above it", name)
                return
        waiting.append((name, above))
    elif not found.is_symlink():
        skipped.add("not a plain file", name)
    elif follow:
        paths.append(name)  # dangling, perhaps, or to a device: opening it tells that, too
    else:
        skipped.add("symbolic links", name)


def list_files(
    files: Iterable[str | os.PathLike[str]], skipped: Skipped, *, follow: bool
) -> FileList:
    """Take files as given; their names are their paths, normalized and without a leading "/".

    Raises:
        DuplicateNameError: two files would have one name.
        SourceError: a folder is among them.
        UnsafeNameError: a path leads upwards with "..".
    """
    paths, names = [], []
    for file in files:
        path = os.fsencode(file)
        name = os.path.normpath(path).lstrip(b"/")
        check_name(name)
        if os.path.isdir(path):  # noqa: PTH112 (bytes)
            raise SourceError(
                f"{os.fsdecode(path)} is a folder: give one folder, or files",
                paths=(os.fsdecode(path),),
            )
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
    paths, names = [paths[i] for i in order], [names[i] for i in order]
    return FileList(b"", paths, names, follow_links=True)


def filter_files(
    sources: FileList, globs: Sequence[str], exclude: Sequence[str], skipped: Skipped
) -> FileList:
    """Keep the files whose names pass the globs."""
    if not globs and not exclude:
        return sources
    chosen = match_filters(sources.names, globs, exclude)
    for name, kept in zip(sources.names, chosen, strict=True):
        if not kept:
            skipped.add("filtered out", name)
    paths = [path for path, kept in zip(sources.paths, chosen, strict=True) if kept]
    names = [name for name, kept in zip(sources.names, chosen, strict=True) if kept]
    return replace(sources, paths=paths, names=names)


def match_filters(
    names: Sequence[bytes], globs: Sequence[str], exclude: Sequence[str]
) -> list[bool]:
    """Tell which names match one of the globs, if there are any, and none of the exclusions."""
    bounds = array("q", accumulate(map(len, names), initial=0))
    packed = b"".join(names)
    wanted = match_names(packed, bounds, globs or ["*"])
    unwanted = match_names(packed, bounds, exclude)
    return [bool(yes and not no) for yes, no in zip(wanted, unwanted, strict=True)]


def unreadable_error(files: Sequence[tuple[bytes, str]]) -> SourceError:
    """Make one error of all files at fault, each with its reason."""
    listed = "".join(f"\n  {os.fsdecode(path)}: {reason}" for path, reason in files[:FILES_NAMED])
    more = f"\n  and {len(files) - FILES_NAMED} more" if len(files) > FILES_NAMED else ""
    count = f"{len(files)} files" if len(files) > 1 else "a file"
    return SourceError(
        f"nothing was packed: {count} could not be read:{listed}{more}",
        paths=tuple(os.fsdecode(path) for path, _ in files),
    )
