"""What members are read from by name: a blob, or a collection of blobs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, TypeVar

from blobpack.errors import MemberNotFoundError
from blobpack.model import check_text, members_of, names_of
from blobpack.reading.batch import FETCHES_AT_ONCE, Batch
from blobpack.threads import shared_pool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
    from types import TracebackType

    from blobpack.errors import BlobpackError
    from blobpack.index.index import Index
    from blobpack.model import Hedge, Member
    from blobpack.reading.batch import Located
    from blobpack.stores.stats import Stats

R = TypeVar("R", bound="Reader")


class Reader(ABC):
    """Members, read by name. A context manager.

    Attributes:
        index: The members.
        hedge: Whose requests are sent a second time when their answers are late; see open_blob.
    """

    __slots__ = ()

    index: Index
    hedge: Hedge

    @property
    @abstractmethod
    def url(self) -> str:
        """Where it lies."""

    @property
    @abstractmethod
    def stats(self) -> Stats:
        """What reading it has cost until now; what is local costs nothing."""

    @abstractmethod
    def locate(self, names: Sequence[str]) -> tuple[list[Located], BlobpackError | None]:
        """Find names, up to the first that can't be read, and say why it can't."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files and connections; again is harmless."""

    def read(self, name: str) -> bytes:
        """Read a member's payload: one ranged read, of the version that was opened.

        Raises:
            MemberNotFoundError: there is none of that name; names near to it are suggested.
            BlobChangedError: the blob is no longer the one that was opened, or collected.
            ChecksumError: from afar, the payload is not what the index was made of.
            StorageError: the store failed.
        """
        check_text("name", name)
        located, failure = self.locate([name])
        if failure is not None:
            raise failure
        return located[0].read(hedge=self.hedge == "always")

    def read_many(self, names: Iterable[str | Member]) -> Iterator[bytes]:
        """Read members' payloads, in the order asked.

        From afar they are read as a batch: names looked up and near ranges fetched together, many requests in
        flight, a name asked twice fetched once, and no more than some 64 MB waiting to be taken.

        Args:
            names: Names, or members, such as an index of some.

        Raises:
            TypeError: one name instead of several.
            BlobpackError: as for read, at the member that is reached.
        """
        return iter(self._batch(names_of(names)))

    def read_members(self, members: Iterable[Member]) -> Iterator[bytes]:
        """Read the payloads of members of this index, in the order asked.

        A reader that can read a member where it says it lies does so, and looks up no name.

        Raises:
            The same as read, at the member that is reached.
            TypeError: what is given are no Members.
        """
        return self.read_many(members_of(members))

    async def aread(self, name: str) -> bytes:
        """Read a member's payload as read does, without blocking the event loop."""
        import asyncio

        loop = asyncio.get_running_loop()
        pool = shared_pool("alone", FETCHES_AT_ONCE)  # not that of the batches, which may be long
        return await loop.run_in_executor(pool, self.read, name)

    def aread_many(self, names: Iterable[str | Member]) -> AsyncIterator[bytes]:
        """Read members' payloads as read_many does, without blocking the event loop: for `async for`."""
        return aiter(self._batch(names_of(names)))

    def _batch(self, names: Iterator[str]) -> Batch[str]:
        return Batch(self.locate, names, hedge=self.hedge != "never")

    def _not_found(self, name: str) -> BlobpackError:
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
