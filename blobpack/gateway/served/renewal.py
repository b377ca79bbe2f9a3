"""Blobs that change while they are served: single local files are opened anew, without a restart.

Strategy: nothing watches the files. Requests check them, at most every 50 ms, and a request that meets a changed file checks
at once. One thread opens what has changed. Requests that arrive meanwhile wait for this thread, and then see the
new blob. So appended members appear, and the other members stay available. While a blob is still being written, it has no
index, and the old blob stays in place.

A request that began with the old blob never gets bytes of the new one: it fails, and is answered again from its start.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Protocol

from blobpack.errors import BlobChangedError, BlobNotFoundError, BlobpackError, StorageError
from blobpack.gateway.served.blob import ServedBlob
from blobpack.gateway.shared_work import SharedWork
from blobpack.opening.find_index import embedded_index, first_found, sidecar_index
from blobpack.stores.open import open_tar
from blobpack.threads import shared_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blobpack.opening.reader import Reader

    Reopen = Callable[[str], Reader]

LOOK_EVERY_S = 0.05
# a look at one file takes 2 µs: so looks at thousands of blobs take one hundredth of the time
LOOK_S_PER_BLOB = 0.0002
# an append may take minutes, in which no blob can be opened
PAUSE_S = 0.2


class Renewed(Protocol):
    """The blobs that are watched over, by the names under which they are served."""

    def __iter__(self) -> Iterator[ServedBlob]:
        """Yield the blobs."""

    def __len__(self) -> int:
        """Return how many there are."""

    def replace(self, blob: ServedBlob) -> None:
        """Serve another blob under a name."""


class Renewal:
    """Opens blobs anew.

    Attributes:
        count: How many blobs were opened anew so far. A request that fails notes the number when it begins.
    """

    def __init__(self, blobs: Renewed, reopen: Reopen | None = None) -> None:
        """Watch over blobs.

        Args:
            blobs: The blobs.
            reopen: Opens the blob that is served under a name; None: blobs that change stay closed to requests.
        """
        self._blobs, self._reopen = blobs, reopen
        self._work: SharedWork[None] = SharedWork()
        self._next_look_s = 0.0
        self.count = 0

    async def look(self) -> None:
        """Open anew what has changed, if the last look is long enough ago."""
        if self._reopen is not None and monotonic() >= self._next_look_s:
            wait_s = LOOK_EVERY_S + LOOK_S_PER_BLOB * len(self._blobs)
            self._next_look_s = monotonic() + wait_s
            await self._renew()

    async def is_over(self, error: BlobpackError, began: int) -> bool:
        """Return whether a request that has failed should be answered again, because its blob was opened anew.

        Args:
            error: Why it has failed.
            began: `count` when it began.
        """
        if self._reopen is None or not isinstance(error, (BlobChangedError, BlobNotFoundError)):
            return False
        if self.count == began:
            await self._renew()
        return self.count != began

    async def _renew(self) -> None:
        if any(blob.is_changed for blob in self._blobs):
            await self._work.run("all", shared_pool("gateway-open", 1), self._renew_all)

    def _renew_all(self) -> None:
        for blob in list(self._blobs):
            if blob.is_changed:
                self._renew_one(blob)

    def _renew_one(self, blob: ServedBlob) -> None:
        if self._reopen is None or monotonic() < blob.tried_s + PAUSE_S:
            return
        blob.tried_s = monotonic()
        try:
            check_index(blob)
            renewed = ServedBlob(blob.name, self._reopen(blob.name))
        # no blob yet, or none any more
        except BlobpackError:
            return
        self._blobs.replace(renewed)
        self.count += 1


def check_index(blob: ServedBlob) -> None:
    """Check that a blob that had an index has one again. Otherwise opening it could scan it, while it is still written.

    Raises:
        StorageError: it has none.
        BlobpackError: the file can't be read.
    """
    location = blob.reader._location
    if blob.index._stored is None or location is None:
        return
    with open_tar(location, tail=True) as store:
        if first_found(store, embedded_index, sidecar_index) is None:
            raise StorageError(f"{blob.reader.url}: somebody is writing this blob")
