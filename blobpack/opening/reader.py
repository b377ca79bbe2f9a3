"""The interface that reads members by name. A blob and a collection of blobs implement it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from blobpack.errors import MemberNotFoundError
from blobpack.model import check_text, members_of, names_of
from blobpack.opening.batch import FETCHES_AT_ONCE, Batch
from blobpack.threads import shared_pool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
    from types import TracebackType

    from blobpack.errors import BlobpackError
    from blobpack.index.index import Index
    from blobpack.model import Hedge, Member
    from blobpack.opening.batch import Located
    from blobpack.stores.base import Store
    from blobpack.stores.stats import Stats

R = TypeVar("R", bound="Reader")


@dataclass(frozen=True, slots=True)
class BlobPart:
    """One blob of a reader.

    Attributes:
        store: Delivers the blob's bytes.
        index: The blob's members, with their offsets in this blob.
        first_row: Row of the blob's first member in the reader's index.
    """

    store: Store
    index: Index
    first_row: int


class Reader(ABC):
    """Reads members by name. A context manager.

    Attributes:
        index: The members.
        hedge: Which requests are sent a second time when their answers are late; see open_blob.
    """

    __slots__ = ()

    index: Index
    hedge: Hedge

    @property
    @abstractmethod
    def url(self) -> str:
        """Path or URL of the blob or collection."""

    @property
    @abstractmethod
    def stats(self) -> Stats:
        """Requests made so far, and what they cost; nothing for local blobs."""

    @abstractmethod
    def locate(self, names: Sequence[str]) -> tuple[list[Located], BlobpackError | None]:
        """Find the members of these names, up to the first failure; return them and its error."""

    @abstractmethod
    def close(self) -> None:
        """Close files and connections; closing twice is harmless."""

    @abstractmethod
    def _each_blob(self) -> Iterator[BlobPart]:
        """Yield the blobs in order. Each blob of a collection is opened when it is reached, and closed after it.

        Raises:
            BlobpackError: a blob can't be opened; raised where it is reached.
        """

    def read(self, name: str) -> bytes:
        """Read a member's payload by one ranged read, from the version of the blob that was opened.

        Raises:
            MemberNotFoundError: no member has this name; the message suggests similar names.
            BlobChangedError: the blob is no longer the one that was opened, or collected.
            ChecksumError: the blob is remote, and the payload is not the one that the index was made from.
            StorageError: the store failed.
        """
        check_text("name", name)
        located, failure = self.locate([name])
        if failure is not None:
            raise failure
        return located[0].read(hedge=self.hedge == "always")

    def read_many(self, names: Iterable[str | Member]) -> Iterator[bytes]:
        """Read members' payloads, in the order asked.

        Members of a remote blob are read as a batch. Names are looked up together, ranges that lie near each other
        are fetched by one request, and many requests are in flight. A name that is asked for twice is fetched once.
        At most about 64 MB are read ahead of the caller.

        Args:
            names: Names or members; an index, such as a selection, holds members.

        Raises:
            TypeError: `names` is one name instead of several.
            BlobpackError: a member can't be read, for a reason that `read` lists. It is raised where that member is
                reached.
        """
        return iter(self._batch(names_of(names)))

    def read_members(self, members: Iterable[Member]) -> Iterator[bytes]:
        """Read the payloads of members of this index, in the order asked.

        A blob reads each member at its own offsets, and looks up no name.

        Raises:
            BlobpackError: a member can't be read, for a reason that `read` lists. It is raised where that member is
                reached.
            TypeError: the values are not Members.
        """
        return self.read_many(members_of(members))

    async def aread(self, name: str) -> bytes:
        """Read a member's payload like `read`, without blocking the event loop."""
        import asyncio

        loop = asyncio.get_running_loop()
        # A pool of its own: in the pool of the batches, a single read would wait behind everything that long batches
        # have asked for.
        pool = shared_pool("alone", FETCHES_AT_ONCE)
        return await loop.run_in_executor(pool, self.read, name)

    def aread_many(self, names: Iterable[str | Member]) -> AsyncIterator[bytes]:
        """Read members' payloads like `read_many`, without blocking the event loop; iterate with `async for`."""
        return aiter(self._batch(names_of(names)))

    def _batch(self, names: Iterator[str]) -> Batch[str]:
        return Batch(self.locate, names, hedge=self.hedge != "never")

    def _not_found(self, name: str) -> BlobpackError:
        # row_of looks for similar names to suggest, which takes time: a search of many names does not do so
        try:
            self.index.row_of(name)
        except MemberNotFoundError as exc:
            return MemberNotFoundError(f"{self.url}: {exc}")
        return MemberNotFoundError(f"{self.url}: {name!r}")

    def __enter__(self: R) -> R:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
