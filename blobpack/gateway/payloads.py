"""Reading payloads for many clients at once, of the version that was opened, and with bounded memory.

Strategy: if the bytes of a payload are in the page cache, they are read immediately, on the event loop. That takes 2
microseconds; a thread would take twenty times as long. All reads that may wait for a disk or a server are done by
threads: few for disks, many for servers. Clients that want one range at the same time share one read. A payload of more
than 256 KiB is read piece by piece, as fast as its client takes the bytes. So a slow client holds only one piece in
memory, and no other client waits for it.
"""

from __future__ import annotations

from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from blobpack._native.results import FoundRow
from blobpack.checksum import crc32c
from blobpack.errors import BlobChangedError, BlobpackError, ChecksumError
from blobpack.gateway.shared_work import SharedWork
from blobpack.quoting import quoted
from blobpack.stores.http.options import with_options
from blobpack.threads import shared_pool

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from blobpack.gateway.served.blob import ServedMember
    from blobpack.opening.batch import Located
    from blobpack.stores.base import Store

# a payload up to this size is read by one read and sent as one body
WHOLE_BYTES_MAX = 256 << 10
# From a server, each piece is a request of 10 to 50 ms, during which a connection brings some MB.
REMOTE_PIECE_BYTES = 1 << 20
LOCAL_PIECE_BYTES = 256 << 10
# Bound on the pieces that all clients together hold. If 256 clients don't take theirs, the next large payload is refused.
HELD_BYTES_MAX = 256 << 20
SERVER_READS_AT_ONCE = 64
DISK_READS_AT_ONCE = 8
# a replaced local file is noticed after this time, even if all bytes that are read have the right checksum
LOOK_EVERY_S = 0.05
LOOKS_KEPT = 1024


class BusyError(BlobpackError):
    """The server already holds as many bytes for its clients as it may. The client should ask again a second later."""


class Payloads:
    """Reads payloads.

    Attributes:
        held_bytes: Bytes of large payloads that are read and not sent yet.
    """

    def __init__(self, count_wait: Callable[[float], object] = lambda waited_s: None) -> None:
        """Make a reader.

        Args:
            count_wait: Called after each read by a thread, with the seconds that a client waited for it.
        """
        self._count_wait = count_wait
        self._reading: SharedWork[bytes] = SharedWork()
        # time of the last check of a store's file, by the store's id
        self._looked_s: dict[int, float] = {}
        self.held_bytes = 0

    @property
    def upstream_reads(self) -> int:
        """Reads that threads have begun, for metrics and tests."""
        return self._reading.begun

    def read_if_ready(self, member: ServedMember, start: int, end: int) -> bytes | None:
        """Return a range of a payload if reading it waits for nothing; else None.

        Args:
            member: The member.
            start: First byte, from the start of the payload.
            end: Its end.

        Raises:
            BlobChangedError: the blob is another one by now.
            ChecksumError: the payload is not the one that the index was made from.
        """
        if end - start > WHOLE_BYTES_MAX:
            return None
        store = member.blob.open_store(member.row)
        if store is None:
            return None
        payload = store.read_if_ready(member.start + start, member.start + end)
        if payload is None:
            return None
        has_checksum = end - start == member.size and member.crc32c is not None
        is_right = has_checksum and crc32c(payload) == member.crc32c
        # A checksum of 5 kB takes half a microsecond, and a check of the file four times as long. If the checksum proves that
        # the bytes are right, the file is checked only now and then, to tell clients that the blob has changed.
        if is_right and not self._is_time_to_look(store):
            return payload
        # checked after the read, so that any change before this moment is noticed
        if store.is_replaced:
            # so that every later request checks again
            self._looked_s.pop(id(store), None)
            # an append leaves all payloads as they are
            if not (is_right and store.is_grown):
                raise changed(member)
        if has_checksum and not is_right:
            raise damaged(member)
        return payload

    def _is_time_to_look(self, store: Store) -> bool:
        """Return whether the last check of a store's file is too long ago."""
        now_s = monotonic()
        if now_s < self._looked_s.get(id(store), 0.0) + LOOK_EVERY_S:
            return False
        # a collection may open and close thousands of blobs
        if len(self._looked_s) >= LOOKS_KEPT:
            self._looked_s.clear()
        self._looked_s[id(store)] = now_s
        return True

    def read(self, member: ServedMember, start: int, end: int) -> bytes:
        """Read a range of a payload; it may wait for a disk or a server.

        Args:
            member: The member.
            start: First byte, from the start of the payload.
            end: Its end.

        Raises:
            BlobChangedError: the blob is another one by now.
            ChecksumError: the payload is not the one that the index was made from.
            StorageError: the store failed.
        """
        located = locate(member)
        hedge = member.blob.reader.hedge == "always"
        is_right = False
        if start == 0 and end == member.size:
            payload = located.read(hedge=hedge)
            is_right = member.crc32c is not None
        else:
            payload = with_options(
                located.store.read_range, member.start + start, member.start + end, hedge=hedge
            )
        if located.store.is_replaced and not (is_right and located.store.is_grown):
            raise changed(member)
        return payload

    async def aread(self, member: ServedMember, start: int, end: int) -> bytes:
        """Read a range of a payload like `read`, without blocking the event loop.

        Clients that ask for one range at once share one read. A client that goes away does not end it.
        """
        payload = self.read_if_ready(member, start, end)
        if payload is not None:
            return payload
        began_s = monotonic()
        pool = (
            shared_pool("gateway", SERVER_READS_AT_ONCE)
            if member.blob.is_remote
            else shared_pool("gateway-disk", DISK_READS_AT_ONCE)
        )
        key = (id(member.blob.reader), member.row, start, end)
        try:
            return await self._reading.run(key, pool, self.read, member, start, end)
        finally:
            self._count_wait(monotonic() - began_s)

    async def pieces(self, member: ServedMember, start: int, end: int) -> AsyncGenerator[bytes]:
        """Read a range of a large payload piece by piece, each when the one before was taken.

        The checksum of a whole payload is compared before its last piece is yielded. So a client never gets all bytes of
        a wrong payload.

        Raises:
            BusyError: all clients together hold too many bytes; raised before the first piece.
        """
        step = REMOTE_PIECE_BYTES if member.blob.is_remote else LOCAL_PIECE_BYTES
        with self.hold(step):
            checksum = 0
            for first in range(start, end, step):
                last = min(first + step, end)
                piece = await self.aread(member, first, last)
                checksum = crc32c(piece, checksum)
                if last == member.size and start == 0 and member.crc32c not in (None, checksum):
                    raise damaged(member)
                yield piece

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Count bytes that are held for one client, until the context ends.

        Raises:
            BusyError: all clients together would hold too many bytes.
        """
        if self.held_bytes + size > HELD_BYTES_MAX:
            raise BusyError(f"{HELD_BYTES_MAX >> 20} MiB wait for clients that do not take them")
        self.held_bytes += size
        try:
            yield
        finally:
            self.held_bytes -= size


def locate(member: ServedMember) -> Located:
    """Return the store and range of a member; its blob is opened if it is one of a collection.

    Raises:
        BlobpackError: the blob can't be opened, or is not the one that was collected.
    """
    found = FoundRow(member.row, member.start, member.end, member.crc32c)
    located, failure = member.blob.reader._place([member.row], [found])
    if failure is not None:
        raise failure
    return located[0]


def check_unchanged(member: ServedMember) -> None:
    """Check that the file of a local blob is still the one that was opened. The file itself is not read.

    Raises:
        BlobChangedError: it is another one.
    """
    store = member.blob.open_store(member.row)
    if store is not None and store.is_replaced:
        raise changed(member)


def changed(member: ServedMember) -> BlobChangedError:
    """Return the error for a local blob that was written or replaced."""
    return BlobChangedError(
        f"{member.blob.reader.url}: the file is no longer the one that was opened: {quoted(member.name)} is not read"
    )


def damaged(member: ServedMember) -> ChecksumError:
    """Return the error for a payload whose checksum is wrong."""
    return ChecksumError(
        f"{member.blob.reader.url}: {quoted(member.name)}: bytes {member.start} to {member.end} are not those that the "
        f"index was made from",
        offset=member.start,
    )
