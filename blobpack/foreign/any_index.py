"""Open the file that was given as an index, whether blobpack or another program made it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from blobpack.errors import FormatError
from blobpack.foreign.formats import energon
from blobpack.foreign.index_file import IndexFile
from blobpack.index.index import Index
from blobpack.indexfile.footer import INDEX_MAGIC
from blobpack.indexfile.open import load_stored, read_footer
from blobpack.stores.open import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.stores.cache import Cache
    from blobpack.stores.location import Location


@contextmanager
def opened_index(location: Location, cache: Cache | None) -> Iterator[Index | IndexFile]:
    """Open a file that was given as an index, for a block: as an Index if blobpack made it, or as an IndexFile.

    Raises:
        BlobNotFoundError: there is no such file.
        FormatError: it is an index of blobpack that is damaged.
    """
    failed = None
    if not location.is_local:
        # one request for an index of blobpack; a second one for any other file
        try:
            index = Index._from_stored(load_stored(location, cache))
        except FormatError as exc:
            failed = exc
        else:
            yield index
            return
    with open_store(location) as opened:
        # The first bytes decide, not the name: an offsets file may have any name.
        file = IndexFile(location, opened)
        if not file.head.startswith(INDEX_MAGIC):
            # a blob with an index inside was given: the first error says so
            if failed and read_footer(opened) is not None:
                raise failed
            yield file
            return
    if failed:
        raise failed
    yield Index._from_stored(load_stored(location, cache))


def is_energons(path: Location) -> bool:
    """Return whether a file that has the name of blobpack's own index is Megatron-Energon's index.

    Energon's index has no names of members, so its blob is scanned, as if there were no index.
    """
    with open_store(path) as file:
        return energon.matches(IndexFile(path, file))
