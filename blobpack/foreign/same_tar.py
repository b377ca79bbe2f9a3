"""Find the tar that is read among the tars that a foreign index names."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from blobpack.foreign.fit import misfit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blobpack.foreign.index_file import IndexFile
    from blobpack.stores.base import Store


def same_tar(names: Iterable[str], store: Store, file: IndexFile) -> str:
    """Return the path or URL, among several, that names a tar.

    It is the one that shares most parts with the tar's own path or URL, counted from the end. Tars are copied and moved
    together with their index, so the beginning may differ.

    Raises:
        StaleIndexError: none of them ends in the name of the tar, or two of them share equally many parts with it.
    """
    location = store.location
    is_local = location is not None and location.is_local
    place = os.path.abspath(location.path) if location and is_local else store.url  # noqa: PTH100 (keeps links)
    # a query is a signature, and no part of the name
    wanted = place.partition("?")[0].split("/")
    shared = {name: _shared_parts(name.partition("?")[0].split("/"), wanted) for name in names}
    most = max(shared.values(), default=0)
    best = [name for name, count in shared.items() if count == most]
    if not most or len(best) > 1:
        found = f"both {best[0]!r} and {best[1]!r} may be it" if most else "it names no such tar"
        raise misfit(file, store, found)
    return best[0]


def _shared_parts(one: list[str], other: list[str]) -> int:
    count = 0
    while count < min(len(one), len(other)) and one[-1 - count] == other[-1 - count]:
        count += 1
    return count
