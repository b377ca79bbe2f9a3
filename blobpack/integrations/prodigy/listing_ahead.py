"""A listing that goes on in a thread while its first objects are used.

Strategy: the first task waits for one page only, and the total is known as soon as the thread has listed the rest.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from blobpack.stores.access.listed import Listed


class ListingAhead:
    """The objects of a listing that are chosen and not annotated yet: an iterable, in the order of the listing.

    Attributes:
        annotated: Number of chosen objects, of those listed so far, that are annotated.
    """

    def __init__(
        self,
        pages: Iterable[list[Listed]],
        choose: Callable[[list[Listed]], list[Listed]],
        is_annotated: Callable[[str], bool],
    ) -> None:
        """Begin to list, in a thread.

        Args:
            pages: The listing.
            choose: Returns those objects of a page that are to be annotated.
            is_annotated: Returns whether the object of a key is annotated.
        """
        self.annotated = 0
        self._pages = pages
        self._choose = choose
        self._is_annotated = is_annotated
        self._found: list[Listed] = []
        self._failure: Exception | None = None
        self._is_complete = self._is_closed = False
        self._grown = threading.Condition()
        # a daemon: a session that ends need not wait for the rest of a long listing
        threading.Thread(target=self._list, name="blobpack-listing", daemon=True).start()

    @property
    def chosen(self) -> int | None:
        """Number of chosen objects, annotated or not; None while the listing goes on."""
        with self._grown:
            return self.annotated + len(self._found) if self._is_complete else None

    def __iter__(self) -> Iterator[Listed]:
        """Yield the objects as they are listed.

        Raises:
            StorageError: the listing failed; raised behind the objects that were listed.
        """
        number = 0
        while self._wait_for(number):
            yield self._found[number]
            number += 1

    def close(self) -> None:
        """Stop listing, when the page that was asked for is there."""
        with self._grown:
            self._is_closed = True
            self._grown.notify_all()

    def _list(self) -> None:
        """List all pages; runs in the thread."""
        failure: Exception | None = None
        try:
            for page in self._pages:
                self._add(self._choose(page))
                if self._is_closed:
                    return
        # raised in the thread that waits for objects
        except Exception as exc:
            failure = exc
        with self._grown:
            self._failure, self._is_complete = failure, failure is None
            self._grown.notify_all()

    def _add(self, chosen: list[Listed]) -> None:
        left = [listed for listed in chosen if not self._is_annotated(listed.key)]
        with self._grown:
            self.annotated += len(chosen) - len(left)
            self._found += left
            self._grown.notify_all()

    def _wait_for(self, number: int) -> bool:
        """Wait until an object is listed, or the listing ends; return whether the object is there.

        Args:
            number: Place of the object among those that are left.

        Raises:
            StorageError: the listing failed.
        """
        with self._grown:
            while number >= len(self._found):
                if self._failure is not None:
                    raise self._failure
                if self._is_complete or self._is_closed:
                    return False
                self._grown.wait()
            return True
