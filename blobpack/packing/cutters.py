"""Cut a source into parts that each fit into one blob."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from blobpack.packing.files import FileList
from blobpack.tar.header import encode_name, member_header, padding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.model import Payload
    from blobpack.packing.sources import ResolvedSource


def make_cutter(found: ResolvedSource) -> FileCutter | PayloadCutter:
    """Make a source ready to be taken part by part."""
    return FileCutter(found) if isinstance(found, FileList) else PayloadCutter(iter(found))


class FileCutter:
    """Cuts a list of files into parts, by the sizes that the files have now."""

    def __init__(self, files: FileList) -> None:
        self._files = files
        self._next = 0

    def __bool__(self) -> bool:
        return self._next < len(self._files.paths)

    def take_fitting(self, room: int, *, first: bool) -> FileList | None:
        """Return the next files that fit into the room, or None if the next file does not fit.

        Args:
            room: Bytes that are left in the blob.
            first: The blob is empty: then one file is returned even if it is larger than the room.
        """
        begin, files = self._next, self._files
        while self:
            size = self._member_bytes(self._next)
            # without the exception for the first file, a file larger than a shard would never be packed
            if size > room and not (first and self._next == begin):
                break
            room -= size
            self._next += 1
        if begin == self._next:
            return None
        return files.part(slice(begin, self._next))

    def _member_bytes(self, i: int) -> int:
        path = os.path.join(self._files.root, self._files.paths[i])  # noqa: PTH118 (bytes)
        try:
            return member_bytes(self._files.names[i], os.stat(path).st_size)  # noqa: PTH116
        except OSError:
            # packing the file fails, too, and reports the reason
            return 0


class PayloadCutter:
    """Cuts (name, payload) pairs into parts as they come.

    One pair is read ahead: whether it fits is known only when its payload is there.
    """

    def __init__(self, payloads: Iterator[Payload]) -> None:
        self._payloads = payloads
        self._ahead: Payload | None = next(payloads, None)

    def __bool__(self) -> bool:
        return self._ahead is not None

    def take_fitting(self, room: int, *, first: bool) -> Iterator[Payload] | None:
        """Return the next pairs that fit into the room, or None if the next pair does not fit.

        Args:
            room: Bytes that are left in the blob.
            first: The blob is empty: then one pair is returned even if it is larger than the room.
        """
        if self._ahead is None or not (first or self._ahead_bytes() <= room):
            return None
        return self._yield_fitting(room)

    def _yield_fitting(self, room: int) -> Iterator[Payload]:
        while self._ahead is not None:
            room -= self._ahead_bytes()
            yield self._ahead
            self._ahead = next(self._payloads, None)
            if self._ahead is not None and self._ahead_bytes() > room:
                return

    def _ahead_bytes(self) -> int:
        if self._ahead is None:
            return 0
        name, payload = self._ahead
        # nbytes: len() of a memoryview counts its elements
        return member_bytes(encode_name(name), memoryview(payload).nbytes)


def member_bytes(name: bytes, size: int) -> int:
    """Compute how many bytes a member takes in an archive, with its header and padding."""
    return len(member_header(name, size)) + size + len(padding(size))
