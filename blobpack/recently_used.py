"""A cache of values that evicts the least recently used ones."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

from blobpack.threads import fork_safe_lock

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

Key = TypeVar("Key", bound="Hashable")
Value = TypeVar("Value")


class RecentlyUsed(Generic[Key, Value]):
    """A cache of values by key, up to a total size. The least recently used values are evicted first.

    The newest value stays, even if it alone is larger than the bound. Threads may share a cache, and a forked child may
    continue to use it.
    """

    def __init__(self, max_size: int) -> None:
        """Make an empty cache.

        Args:
            max_size: Largest sum of the sizes of all values: bytes, or their number.
        """
        self._max_size = max_size
        self._size = 0
        self._values: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self._lock = fork_safe_lock()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Key) -> Value | None:
        """Return the value of a key, and mark it as the most recently used one; None if there is no value."""
        return self.get_many((key,)).get(key)

    def get_many(self, keys: Iterable[Key]) -> dict[Key, Value]:
        """Return the values of those keys that have a value."""
        # the lock is taken once for all keys, not once for each page or block of a lookup
        found = {}
        with self._lock:
            for key in keys:
                if key in self._values:
                    self._values.move_to_end(key)
                    found[key] = self._values[key][0]
        return found

    def put(self, key: Key, value: Value, size: int = 1) -> Value:
        """Keep a value, and evict others if all values together are too large.

        Returns:
            The value that is kept. If another thread has put a value for this key before, it is that value.
        """
        with self._lock:
            if key not in self._values:
                self._values[key] = (value, size)
                self._size += size
            self._values.move_to_end(key)
            kept = self._values[key][0]
            # at least one stays: a value larger than the bound would otherwise be fetched again for each use
            while self._size > self._max_size and len(self._values) > 1:
                self._size -= self._values.popitem(last=False)[1][1]
        return kept

    def clear(self) -> list[Value]:
        """Remove all values, and return them."""
        with self._lock:
            values = [value for value, _ in self._values.values()]
            self._values.clear()
            self._size = 0
        return values
