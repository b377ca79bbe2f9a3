"""The blob: one store, and the index of its members."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING
from weakref import ref

from blobpack._native.local_reads import MemberReads
from blobpack.asked_members import members_of, not_a_member, one_of_several, several_which
from blobpack.errors import BlobChangedError, MemberNotFoundError
from blobpack.index.index import Index
from blobpack.index.row_numbers import as_ints, rows_to_read
from blobpack.model import (
    Hedge,
    Member,
    check_choice,
    check_several,
    shown,
)
from blobpack.opening.batch import (
    BATCH_WINDOW_BYTES,
    MEMBERS_LOCATED_AT_ONCE,
    Batch,
    Located,
)
from blobpack.opening.blob_rows import BlobPart, BlobRows
from blobpack.opening.reader import Reader
from blobpack.quoting import quoted
from blobpack.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

    from blobpack._native.results import FoundRow
    from blobpack.indexfile.identity import Identity
    from blobpack.model import CheckedWhich, Which
    from blobpack.stores.base import Store
    from blobpack.stores.stats import Stats


class Blob(Reader):
    """One archive whose members are read by name, as Members or by row, each with one ranged read.

    A member is named by its name, which means the last member of that name; by its Member, which means exactly the row
    with this name, these offsets and, if both are known, this CRC-32C; or by its row, negative from the end. So
    `blob[name]`, `name in blob`, `len(blob)` and iteration over names work as for a dict.

    A context manager, also with `async with`. Safe to share between threads and after a fork. Any thread may close it:
    reads that are under way still return their bytes, and later reads and lookups raise StorageError. A pickled blob is
    opened again in the process that unpickles it, which raises BlobChangedError if the blob has changed.

    Attributes:
        index: The members.
        store: Delivers the blob's bytes.
        hedge: Which requests are sent a second time when their answers are late; see open_blob.
    """

    __slots__ = (
        "__weakref__",
        "_is_remote",
        "_location",
        "_opened_index",
        "_reads",
        "hedge",
        "index",
        "store",
    )

    def __init__(self, store: Store, index: Index, *, hedge: Hedge = "batches") -> None:
        """Make a blob of a store and the index of its members.

        Raises:
            BlobChangedError: the index has members beyond the store's end.
            TypeError: the index is not an Index.
            ValueError: hedge is not one of its choices.
        """
        check_choice("hedge", hedge, Hedge)
        if not isinstance(index, Index):
            raise TypeError(f"index must be an Index, not {shown(index)}")
        # an offsets file says nothing about its blob; one of a larger blob is noticed here, before the first read
        if index._last_end > store.size:
            raise BlobChangedError(
                f"{store.url}: the index is not this blob's: it has a member that ends at byte {index._last_end}, "
                f"and the blob has {store.size} bytes"
            )
        self.store = store
        self._location = store.location
        self.index = index
        index._reader = ref(self)
        # the index, if this blob opened it; one that the caller gave is the caller's to close
        self._opened_index: Index | None = None
        self.hedge = hedge
        self._is_remote = store.is_remote
        # Native reads of members by name, row or Member. None before the first read, and if the blob has no native reads.
        self._reads: MemberReads | None = None

    @property
    def url(self) -> str:
        """Path or URL of the blob, as it was given."""
        return self.store.url

    @property
    def blobs(self) -> Sequence[BlobRows]:
        """This blob, as the only one: its path or URL, first row 0, number of members and size in bytes."""
        store = self.store
        url = self.url if store.location is None else store.location.whole
        return [BlobRows(url, 0, len(self.index), store.stored_bytes, store.is_compressed)]

    def read(self, which: Which) -> bytes:
        """Read a member's payload; see Reader."""
        reads = self._reads
        if reads is not None:
            payload = reads.read(which)
            if payload is not None:
                return payload
        return self._read(which)

    def _read(self, which: Which) -> bytes:
        """Read a payload that native code did not read, or raise the error that says why it can't be read."""
        if self._is_remote:
            return super().read(which)
        # From a local disk, payloads are not compared with their checksums, which would take as long as the read.
        # `verify` compares them.
        try:
            start, end = self.index._bounds_of(which)
            payload = self.store.read_range(start, end)
        except (MemberNotFoundError, IndexError) as exc:
            raise self._with_url(exc) from None
        except BlobChangedError as exc:
            raise BlobChangedError(f"{exc}; so {_called(which)} can't be read") from exc
        if isinstance(which, (str, int, Member)):
            self._prepare_native_reads()
        return payload

    def _prepare_native_reads(self) -> MemberReads | None:
        file, locator = self.store.native_file, self.index._locator()
        self._reads = None if file is None or locator is None else MemberReads(file, locator)
        # if another thread has closed the blob meanwhile, an index must not be kept open
        if self.store.closed:
            self._reads = None
        return self._reads

    def read_many(self, several: Iterable[Which]) -> Iterator[bytes]:
        """Read members' payloads, in the order asked; see Reader."""
        # A local blob whose index is in S3 is read as a batch, too: a batch looks names up together.
        if self._is_remote or self.index._is_remote:
            return super().read_many(several)
        rows = self.index._rows_of_cut(several)
        asked = several_which(several, "read") if rows is None else iter(as_ints(rows))
        return chain.from_iterable(self._read_windows(asked))

    def _read_windows(self, asked: Iterator[Which]) -> Iterator[list[bytes]]:
        """Read members of a local blob: first one member, then more and more at once. Yield the payloads in lists.

        The names, Members and rows are not checked before: a call for each of them would take a tenth of the time.
        """
        size = 1
        while True:
            window, failure = _next_window(asked, size)
            done = 0
            while done < len(window):
                payloads = self._read_some(window[done:] if done else window)
                done += len(payloads)
                yield payloads
            if failure is not None:
                raise failure
            if len(window) < size:
                return
            size = min(2 * size, MEMBERS_LOCATED_AT_ONCE)

    def _read_some(self, window: list[Which]) -> list[bytes]:
        """Read the first members of a window, at least one."""
        reads = self._reads
        payloads = [] if reads is None else reads.read_many(window, BATCH_WINDOW_BYTES)
        return payloads or [self._read(one_of_several(window[0]))]

    def read_packed(self, several: Iterable[Which]) -> tuple[bytes, NDArray[np.int64]]:
        """Read members' payloads into one buffer, one after the other; see Reader."""
        reads = self._reads or self._prepare_native_reads()
        if reads is None:
            return super().read_packed(several)
        import numpy as np

        asked = list(self._asked(several, "read"))
        bounds = np.zeros(len(asked) + 1, np.int64)
        packed, count = reads.read_packed(asked, bounds.data)
        # what native code can't read is read one by one, or raises the right error
        return (packed, bounds) if count == len(asked) else super().read_packed(asked)

    def read_members(self, members: Iterable[Member]) -> Iterator[bytes]:
        """Read the payloads of members of this blob's index, in the order asked.

        Unlike read_many, this reads each member at its own offsets, and looks up no name. Members of an index that records
        another blob, or this blob before it was written to, are looked up as in read_many.

        Raises:
            BlobpackError: a member can't be read, for a reason that `read` lists. The iterator raises it when it
                reaches that member.
            ValueError: a member ends beyond the blob, so it belongs to another blob.
            TypeError: the values are not Members.
        """
        if isinstance(members, Index) and _are_of_others(members, self.index):
            return self.read_many(members)
        if self._is_remote:
            asked = members_of(members)
            return iter(Batch(self._locate_members, asked, hedge=self.hedge != "never"))
        check_several("members", members, "Members")
        return self._read_members(members)

    def _read_members(self, members: Iterable[Member]) -> Iterator[bytes]:
        read = self.store.read_range
        for member in members:
            # checked here and not by members_of, whose call for each member would take longer
            if not isinstance(member, Member):
                raise not_a_member(member)
            yield read(member.offset_start, member.offset_end)

    def read_rows(
        self, rows: Sequence[int] | NDArray[np.integer[Any]] | NDArray[np.bool_]
    ) -> Iterator[bytes]:
        """Read the payloads of members by their rows; see Reader."""
        if self._is_remote or self.index._is_remote:
            return super().read_rows(rows)
        asked = rows_to_read(rows, len(self))
        return chain.from_iterable(self._read_windows(iter(asked)))

    @property
    def stats(self) -> Stats:
        """Requests made so far, and what they cost; nothing for a local blob."""
        return self.store.stats

    def _place(
        self, several: Sequence[CheckedWhich], rows: Sequence[FoundRow]
    ) -> tuple[list[Located], None]:
        return [
            Located(self.store, start, end, checksum, which, self.index)
            for which, (_, start, end, checksum) in zip(several, rows, strict=True)
        ], None

    def _locate_members(self, members: Sequence[Member]) -> tuple[list[Located], None]:
        return [
            Located(
                self.store,
                member.offset_start,
                member.offset_end,
                member.crc32c,
                member,
                self.index,
            )
            for member in members
        ], None

    def _each_blob(self) -> Iterator[BlobPart]:
        yield BlobPart.of_store(self.store, self.index)

    def _number_of(self, row: int) -> int:
        return 0

    def _identity_of(self, number: int) -> Identity | None:
        return self.index.identity

    def _open_store(self, number: int) -> Store | None:
        return self.store

    def close(self) -> None:
        """Close the store, and the index if open_blob found it; closing twice is harmless."""
        self.store.close()
        self._reads = None
        if self._opened_index is not None:
            self._opened_index.close()

    def __reduce__(self) -> tuple[Callable[..., Blob], tuple[Store, Index, Hedge, bool]]:
        # The store's own pickling opens it again, pinned to its version. A function makes the blob, because hedge is
        # keyword-only.
        return made_blob, (self.store, self.index, self.hedge, self._opened_index is not None)

    def __repr__(self) -> str:
        return f"<Blob {self.url}: {counted(len(self), 'member')}, {self._index_place()}>"

    def _index_place(self) -> str:
        """Describe where the index comes from."""
        stored = self.index._stored
        if stored is None or not stored.url:
            return "index of a scan" if self.index.report else "index in memory"
        return "index inside" if stored.url == self.url else f"index in {stored.url}"


def _called(which: Which) -> str:
    """Return what names a member, for messages. The index of a file that was cut can't say a row's name."""
    if isinstance(which, (str, Member)):
        return quoted(which if isinstance(which, str) else which.name)
    return f"row {which}"


def _next_window(asked: Iterator[Which], size: int) -> tuple[list[Which], Exception | None]:
    """Return the next names, Members and rows, and the error that the iterator raised behind them."""
    window: list[Which] = []
    try:
        # extend() keeps what came before an error
        window.extend(islice(asked, size))
    except Exception as exc:
        return window, exc
    return window, None


def _are_of_others(members: Index, index: Index) -> bool:
    """Return whether two indexes belong to different blobs, as far as both are known."""
    mine, others = index.identity, members.identity
    # a copy of a blob in S3 has the same bytes, and another version
    return bool(mine and others and replace(mine, version="") != replace(others, version=""))


def made_blob(store: Store, index: Index, hedge: Hedge, opened_index: bool) -> Blob:
    """Return a blob over a store; `opened_index` means that the blob closes its index, too."""
    blob = Blob(store, index, hedge=hedge)
    if opened_index:
        blob._opened_index = index
    return blob
