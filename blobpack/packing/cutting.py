"""Where one blob of a set ends and the next begins: members are taken in their order while they fit."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from blobpack.packing.files import Sources
from blobpack.tar.header import encode_name, member_header, padding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.model import Payload
    from blobpack.packing.sources import Found


def cut(found: Found) -> Files | Payloads:
    """Make what there is to pack ready to be taken in parts."""
    return Files(found) if isinstance(found, Sources) else Payloads(iter(found))


class Files:
    """Files, cut by the sizes they have now."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._next = 0

    def __bool__(self) -> bool:
        return self._next < len(self._sources.paths)

    def fitting(self, room: int, *, first: bool) -> Sources | None:
        """Take the next files that fit; the very first does."""
        begin, sources = self._next, self._sources
        while self:
            size = self._member_bytes(self._next)
            if size > room and not (first and self._next == begin):
                break
            room -= size
            self._next += 1
        if begin == self._next:
            return None
        return sources.part(slice(begin, self._next))

    def _member_bytes(self, i: int) -> int:
        path = os.path.join(self._sources.root, self._sources.paths[i])  # noqa: PTH118 (bytes)
        try:
            return member_bytes(self._sources.names[i], os.stat(path).st_size)  # noqa: PTH116
        except OSError:  # packing it tells
            return 0


class Payloads:
    """(name, payload) pairs, cut as they come."""

    def __init__(self, payloads: Iterator[Payload]) -> None:
        self._payloads = payloads
        self._held: Payload | None = next(payloads, None)

    def __bool__(self) -> bool:
        return self._held is not None

    def fitting(self, room: int, *, first: bool) -> Iterator[Payload] | None:
        """Take the next pairs that fit; the very first does."""
        if self._held is None or not (first or self._held_bytes() <= room):
            return None
        return self._fitting(room)

    def _fitting(self, room: int) -> Iterator[Payload]:
        while self._held is not None:
            room -= self._held_bytes()
            yield self._held
            self._held = next(self._payloads, None)
            if self._held is not None and self._held_bytes() > room:
                return

    def _held_bytes(self) -> int:
        if self._held is None:
            return 0
        name, payload = self._held
        return member_bytes(encode_name(name), memoryview(payload).nbytes)


def member_bytes(name: bytes, size: int) -> int:
    """Compute how many bytes of an archive a member takes."""
    return len(member_header(name, size)) + size + len(padding(size))
