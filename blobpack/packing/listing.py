"""List the files to pack: those below a folder, or given files and those below given folders.

Strategy: no link below a folder is followed, unless the caller says so. A folder may be replaced by a link at any time,
so folders are opened through a descriptor of the folder at the top, without following links (openat2(2)).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from blobpack._native.gather import open_folder
from blobpack.errors import DuplicateNameError
from blobpack.packing.files import (
    FILE_NAME_CODING,
    FileList,
    Skipped,
    unreadable_error,
    unreadable_reason,
)
from blobpack.packing.names import GivenNames, joined
from blobpack.tar.header import check_name
from blobpack.tar.names import is_hidden

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blobpack.stores.location import Location

    # a folder's path below the top, and the device and inode of each folder above it
    Waiting = tuple[str, frozenset[tuple[int, int]]]


def list_folder(
    root: bytes, skipped: Skipped, *, hidden: bool, follow: bool, name: bytes = b""
) -> FileList:
    """List all files below a folder, in byte order of their paths.

    Args:
        root: The folder.
        skipped: Counts the files and folders that are left out.
        hidden: Also list files and folders whose names begin with ".".
        follow: Follow symbolic links, to files and to folders.
        name: What stands before the path of each file in its name, without a "/" at the end.

    Raises:
        SourceError: the folder or folders below it can't be listed. The message names all of them.
    """
    before = name and name + b"/"
    listing = _Listing(root, before, skipped, hidden, follow)
    listing.list_all()
    # the order of scandir is that of the file system; sorted, the same files give the same blob on any machine
    paths = sorted([path.encode(*FILE_NAME_CODING) for path in listing.paths])
    names = [before + path for path in paths] if before else paths
    return FileList(root, paths, names, follow_links=follow, follow_folders=follow)


@dataclass(slots=True)
class _Listing:
    """The listing of one folder with all folders below it.

    Attributes:
        root: The folder.
        before: What stands before the paths in names.
        skipped: Counts what is left out.
        hidden: See list_folder.
        follow: See list_folder.
        paths: The files found, relative to the folder.
    """

    root: bytes
    before: bytes
    skipped: Skipped
    hidden: bool
    follow: bool
    # str and not bytes: scandir returns str for a descriptor, and joining and encoding them once takes less time
    paths: list[str] = field(default_factory=list)

    def list_all(self) -> None:
        """List the folder, and all folders below it."""
        unreadable: list[tuple[bytes, OSError]] = []
        root_fd = -1
        # a stack instead of recursion: folders may be nested deeper than Python's recursion limit
        waiting: list[Waiting] = [("", frozenset())]
        try:
            while waiting:
                folder, above = waiting.pop()
                try:
                    if folder:
                        # not by its path: a folder that was replaced by a link since its parent was listed would be
                        # followed
                        fd = open_folder(root_fd, os.fsencode(folder), follow=self.follow)
                    else:
                        fd = root_fd = os.open(
                            self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
                        )
                    try:
                        waiting += self._list_one(fd, folder, above)
                    finally:
                        if folder:
                            os.close(fd)
                except OSError as exc:
                    # Go on after an error, so that one run names every folder whose permissions must be
                    # corrected.
                    path = os.path.join(self.root, os.fsencode(folder)) if folder else self.root  # noqa: PTH118 (bytes)
                    unreadable.append((path, exc))
        finally:
            if root_fd >= 0:
                os.close(root_fd)
        if unreadable:
            raise unreadable_error(
                [
                    (path, unreadable_reason(exc.errno or 0, follow=self.follow))
                    for path, exc in unreadable
                ]
            )

    def _list_one(self, fd: int, folder: str, above: frozenset[tuple[int, int]]) -> list[Waiting]:
        """List an open folder: add its files to `paths`, and return the folders in it, with those above them.

        Raises:
            OSError: the folder can't be listed.
        """
        below: list[Waiting] = []
        # Only if links are followed can a folder be below itself. Otherwise the stat of each folder is saved.
        if self.follow:
            state = os.fstat(fd)
            above = above | {(state.st_dev, state.st_ino)}
        hidden, paths = self.hidden, self.paths
        with os.scandir(fd) as listing:
            for found in listing:
                name = f"{folder}/{found.name}" if folder else found.name
                if not hidden and is_hidden(found.name):
                    self._skip("hidden", name)
                # first, because most are files: scandir has their type from the directory, so this costs no system call
                elif found.is_file(follow_symlinks=False):
                    paths.append(name)
                else:
                    self._classify(found, name, above, below)
        return below

    def _classify(
        self,
        found: os.DirEntry[str],
        name: str,
        above: frozenset[tuple[int, int]],
        waiting: list[Waiting],
    ) -> None:
        """Add what is no plain file to the files to pack, to the folders to list, or to what is skipped."""
        try:
            is_folder = found.is_dir(follow_symlinks=self.follow)
        except OSError:
            # a link that leads to itself, for example: opening it as a file fails, and that error names it
            is_folder = False
        if is_folder:
            if self.follow:
                state = found.stat()
                # only folders above count: a folder that two links lead to is packed twice, under two names
                if (state.st_dev, state.st_ino) in above:
                    self._skip("a link to a folder above it", name)
                    return
            waiting.append((name, above))
        elif not found.is_symlink():
            self._skip("not a plain file", name)
        elif self.follow:
            # the link may lead nowhere or to a device: opening it reports that
            self.paths.append(name)
        else:
            self._skip("symbolic links", name)

    def _skip(self, reason: str, name: str) -> None:
        path = os.fsencode(name)
        self.skipped.add(reason, self.before + path, self.root, path)


def list_given(
    given: Iterable[str | os.PathLike[str]],
    directory: Location | None,
    skipped: Skipped,
    *,
    hidden: bool,
    follow: bool,
) -> FileList:
    """List given files, and all files below given folders, in byte order of their names.

    Args:
        given: Paths of files and folders.
        directory: The folder that relative paths start at; None for the current folder.
        skipped: Counts the files and folders that are left out.
        hidden: In given folders, also list files and folders whose names begin with ".".
        follow: Follow symbolic links, except those above a given path, which are always followed.

    Raises:
        DuplicateNameError: two files have one member name.
        SourceError: folders can't be listed.
    """
    root = os.fsencode(directory) if directory else b""
    naming = GivenNames(directory)
    files: list[tuple[bytes, bytes]] = []
    folders: list[tuple[bytes, bytes]] = []
    for one in given:
        path = os.fsencode(one)
        whole = os.path.join(root, path)  # noqa: PTH118 (bytes)
        name = naming.of_path(path)
        if os.path.isdir(whole):  # noqa: PTH112 (bytes)
            folders.append((path, name))
            continue
        check_name(name)
        if not follow and os.path.islink(whole):  # noqa: PTH114 (bytes)
            skipped.add("symbolic links", name, root, path)
        else:
            files.append((path, name))
    if folders and not follow:
        root, files, folders = _without_links(root, files, folders)
    paths = [path for path, _ in files]
    names = [name for _, name in files]
    for path, name in folders:
        whole = os.path.join(root, path)  # noqa: PTH118 (bytes)
        found = list_folder(whole, skipped, hidden=hidden, follow=follow, name=name)
        before = os.path.join(path, b"")  # noqa: PTH118 (bytes)
        paths += [before + below for below in found.paths]
        names += found.names
    # links among the folders of a given file are the caller's own; paths that hold a folder have none any more
    return sorted_by_name(
        FileList(root, paths, names, follow_links=follow, follow_folders=follow or not folders)
    )


def _without_links(
    root: bytes, files: list[tuple[bytes, bytes]], folders: list[tuple[bytes, bytes]]
) -> tuple[bytes, list[tuple[bytes, bytes]], list[tuple[bytes, bytes]]]:
    """Return a root, files and folders whose paths below the root lead through no symbolic link.

    One rule holds for all paths of a FileList: those that were found below a folder must not lead through links, so the
    given ones, which may, are resolved now.
    """
    base = os.path.realpath(root or b".")
    resolved: dict[bytes, bytes] = {}
    changed = False

    def resolve(folder: bytes) -> bytes:
        nonlocal changed
        if folder not in resolved:
            whole = os.path.join(base, folder)  # noqa: PTH118 (bytes)
            real = resolved[folder] = os.path.realpath(whole)
            changed |= os.path.isabs(folder) or real != os.path.normpath(whole)  # noqa: PTH117 (bytes)
        return resolved[folder]

    real_folders = [(resolve(path)[1:], name) for path, name in folders]
    real_files = []
    for path, name in files:
        folder, last = os.path.split(path)
        real_files.append((os.path.join(resolve(folder), last)[1:], name))  # noqa: PTH118 (bytes)
    # as they were given, if possible: messages name these paths
    return (b"/", real_files, real_folders) if changed else (root, files, folders)


def sorted_by_name(files: FileList) -> FileList:
    """Return the files in byte order of their names.

    Raises:
        DuplicateNameError: two files have one name.
    """
    names, paths = files.names, files.paths
    order = sorted(range(len(names)), key=names.__getitem__)
    # equal names are neighbours once they are sorted
    for one, other in pairwise(order):
        if names[one] == names[other]:
            first, second = (joined(files.root, paths[row]) for row in (one, other))
            name = os.fsdecode(names[one])
            raise DuplicateNameError(
                f"{first!r} is given twice, as member {name!r}"
                if first == second
                else f"{first!r} and {second!r} would both be member {name!r}"
            )
    return files.take(order)
