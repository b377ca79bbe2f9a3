"""The interface that reads members by name, as Members or by row. A blob and a collection of blobs implement it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, TypeVar, overload

from blobpack.asked_members import checked_which, members_of, which_of
from blobpack.closing import Closing
from blobpack.index.row_numbers import as_ints, rows_to_read
from blobpack.index.which import find_members
from blobpack.opening.batch import FETCHES_AT_ONCE, Batch
from blobpack.threads import shared_pool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import Any, Self

    import numpy as np
    from numpy.typing import NDArray

    from blobpack._native.results import FoundRow
    from blobpack.errors import BlobpackError
    from blobpack.index.index import Index
    from blobpack.index.names import Names
    from blobpack.index.which import Missing
    from blobpack.indexfile.identity import Identity
    from blobpack.model import CheckedWhich, Hedge, Member, Which
    from blobpack.opening.batch import Located
    from blobpack.opening.blob_rows import BlobPart, BlobRows
    from blobpack.stores.base import Store
    from blobpack.stores.location import Location
    from blobpack.stores.stats import Stats

Default = TypeVar("Default")


class Reader(Closing, ABC):
    """Reads members. A context manager, also with `async with`.

    A member is named by its name, which means the last member of that name; by its Member, which means exactly the row
    with this name, these offsets and, if both are known, this CRC-32C; or by its row, negative from the end. Iteration
    yields the names.

    Attributes:
        index: The members.
        hedge: Which requests are sent a second time when their answers are late; see open_blob.
    """

    __slots__ = ()

    index: Index
    hedge: Hedge
    # of the blob, or of the collection's file; None for a blob in memory
    _location: Location | None

    @property
    @abstractmethod
    def url(self) -> str:
        """Path or URL of the blob or collection."""

    @property
    @abstractmethod
    def blobs(self) -> Sequence[BlobRows]:
        """The blobs, in the order of their rows; for a Blob, this one alone."""

    @property
    @abstractmethod
    def stats(self) -> Stats:
        """Requests made so far, and what they cost; nothing for local blobs."""

    @abstractmethod
    def _place(
        self, several: Sequence[CheckedWhich], rows: Sequence[FoundRow]
    ) -> tuple[list[Located], BlobpackError | None]:
        """Return the stores and ranges of members that were found, up to the first failure, and its error."""

    @abstractmethod
    def _each_blob(self) -> Iterator[BlobPart]:
        """Yield the blobs in order. No blob of a collection is opened."""

    @abstractmethod
    def _number_of(self, row: int) -> int:
        """Return the number of the blob that holds a row, 0 ≤ row < members, among `blobs`."""

    @abstractmethod
    def _identity_of(self, number: int) -> Identity | None:
        """Return what is recorded of the archive of a blob; None if nothing is."""

    @abstractmethod
    def _open_store(self, number: int) -> Store | None:
        """Return the store of a blob if it is open now."""

    @abstractmethod
    def close(self) -> None:
        """Close files and connections; closing twice is harmless."""

    def __len__(self) -> int:
        return len(self.index)

    def __contains__(self, which: object) -> bool:
        return which in self.index

    def __iter__(self) -> Iterator[str]:
        return iter(self.index.names)

    def __getitem__(self, which: Which) -> bytes:
        return self.read(which)

    def keys(self) -> Names:
        """Return the names in archive order, a sequence of str. Names may repeat, as in a tar."""
        return self.index.names

    def values(self) -> Iterator[bytes]:
        """Read the payloads of all members, in archive order, as read_many does."""
        return self.read_rows(range(len(self)))

    def items(self) -> Iterator[tuple[str, bytes]]:
        """Read all members, in archive order, as read_many does; yield each name and its payload."""
        return zip(self.index.names, self.values(), strict=True)

    @overload
    def get(self, which: Which, default: None = None) -> bytes | None: ...
    @overload
    def get(self, which: Which, default: Default) -> bytes | Default: ...
    def get(self, which: Which, default: Default | None = None) -> bytes | Default | None:
        """Read a member's payload like `read`; return the default if there is no such member."""
        row = self.index._row_if_any(checked_which(which))
        return default if row is None else self.read(row)

    def read(self, which: Which) -> bytes:
        """Read a member's payload by one ranged read, from the version of the blob that was opened.

        Args:
            which: The member's name, its Member, or its row.

        Raises:
            MemberNotFoundError: there is no such member; the message suggests similar names, or says where the member
                of this name lies.
            IndexError: there is no such row.
            BlobChangedError: the blob is no longer the one that was opened, or collected.
            ChecksumError: the blob is remote, and the payload is not the one that the index was made from.
            StorageError: the store failed.
        """
        located, failure = self._locate([checked_which(which)])
        if failure is not None:
            raise failure
        return located[0].read(hedge=self.hedge == "always")

    def read_many(self, several: Iterable[Which]) -> Iterator[bytes]:
        """Read members' payloads, in the order asked.

        Members of a remote blob are read as a batch. Names are looked up together, ranges that lie near each other
        are fetched by one request, and many requests are in flight. A member that is asked for twice is fetched once.
        At most about 64 MB are read ahead of the caller.

        Args:
            several: Names, Members or rows; an index, such as a selection, holds Members.

        Raises:
            TypeError: `several` is one name instead of several.
            BlobpackError: a member can't be read, for a reason that `read` lists. The iterator raises it when it reaches
                that member.
            IndexError: there is no such row; the iterator raises it when it reaches that row.
        """
        return iter(self._batch(self._asked(several, "read")))

    def read_packed(self, several: Iterable[Which]) -> tuple[bytes, NDArray[np.int64]]:
        """Read members' payloads into one buffer, in the order asked.

        Arrow and some decoders accept many payloads in one buffer. Members of a local blob are copied into it without a
        bytes object for each. If they must wait for a disk, or are 4 MiB or more together, several threads copy them.

        Args:
            several: Names, Members or rows, as for `read_many`.

        Returns:
            The payloads, one after the other, and their bounds: (n + 1,) int64, in bytes. Payload i is
            `packed[bounds[i]:bounds[i + 1]]`.

        Raises:
            TypeError: `several` is one name instead of several, or one of them is neither a name nor a Member nor a row.
            BlobpackError: a member can't be read, for a reason that `read` lists. Nothing is returned then.
            IndexError: there is no such row.
        """
        import numpy as np

        payloads = list(self.read_many(several))
        bounds = np.zeros(len(payloads) + 1, np.int64)
        np.cumsum([len(payload) for payload in payloads], out=bounds[1:])
        return b"".join(payloads), bounds

    def read_members(self, members: Iterable[Member]) -> Iterator[bytes]:
        """Read the payloads of Members of this index, in the order asked.

        A blob reads each member at its own offsets, and looks up no name. A collection looks up the members; those of an
        index that was cut from its own index are read by their rows.

        Raises:
            BlobpackError: a member can't be read, for a reason that `read` lists. The iterator raises it when it reaches
                that member.
            TypeError: the values are not Members.
        """
        if self.index._rows_of_cut(members) is not None:
            return self.read_many(members)
        return self.read_many(members_of(members))

    def read_rows(
        self, rows: Sequence[int] | NDArray[np.integer[Any]] | NDArray[np.bool_]
    ) -> Iterator[bytes]:
        """Read the payloads of members by their rows in the index, in the order asked, as read_many does.

        Args:
            rows: (k,) whole numbers, negative ones counted from the end: a list, an array or a range; or a mask, (n,)
                bool.

        Raises:
            IndexError: there is no such row, or the mask has another length.
            TypeError: this is neither a list or array of whole numbers nor a mask.
            BlobpackError: a member can't be read, for a reason that `read` lists. The iterator raises it when it reaches
                that member.
        """
        return iter(self._batch(iter(rows_to_read(rows, len(self)))))

    async def aread(self, which: Which) -> bytes:
        """Read a member's payload like `read`, without blocking the event loop."""
        import asyncio

        loop = asyncio.get_running_loop()
        # A pool of its own: in the pool of the batches, a single read would wait behind everything that long batches
        # have asked for.
        pool = shared_pool("alone", FETCHES_AT_ONCE)
        return await loop.run_in_executor(pool, self.read, which)

    def aread_many(self, several: Iterable[Which]) -> AsyncIterator[bytes]:
        """Read members' payloads like `read_many`, without blocking the event loop; iterate with `async for`."""
        return aiter(self._batch(self._asked(several, "aread")))

    def _asked(self, several: Iterable[Which], single: str) -> Iterator[CheckedWhich]:
        """Return an iterator of what names members; rows for an index that was cut from this reader's.

        Args:
            several: Names, Members or rows.
            single: Name of the method that reads one member, for messages.
        """
        rows = self.index._rows_of_cut(several)
        if rows is not None:
            return iter(as_ints(rows))
        return which_of(several, single)

    def _batch(self, several: Iterator[CheckedWhich]) -> Batch[CheckedWhich]:
        return Batch(self._locate, several, hedge=self.hedge != "never")

    def _locate(
        self, several: Sequence[CheckedWhich]
    ) -> tuple[list[Located], BlobpackError | IndexError | None]:
        """Find members, up to the first failure; return their stores and ranges, and the error."""
        rows, missing = find_members(self.index, several)
        located, failure = self._place(several[: len(rows)], rows)
        if failure is None and missing is not None:
            return located, self._with_url(missing)
        return located, failure

    def _with_url(self, missing: Missing) -> Missing:
        """Return the error for a member that does not exist, with this reader named."""
        return type(missing)(f"{self.url}: {missing}")

    def _repr_html_(self) -> str:
        # imported here: only notebooks need it
        from blobpack.opening.thumbnails import to_html

        return to_html(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # closing waits for nothing: reads that are under way end by themselves
        self.close()
