"""The command that makes an index of a blob where blobpack finds it, for messages about a blob without one."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from blobpack.errors import StorageError
from blobpack.foreign.any_index import is_energons
from blobpack.indexfile.footer import sidecar_of
from blobpack.wording import setting

if TYPE_CHECKING:
    from blobpack.stores.base import Store
    from blobpack.stores.location import Location


def index_command(blob: Location) -> str | None:
    """Return the command; None if blobpack would not find the index at any place."""
    # a web server takes no files
    if not (blob.is_local or blob.has_key):
        return None
    beside = sidecar_of(blob)
    # `blobpack index` does not replace the file of another program
    is_free = not _is_energons(beside)
    if blob.is_local:
        return f"`blobpack index {blob}{'' if is_free else ' --index embed'}`"
    # without -o, the index of a remote blob goes to the current folder, where nobody looks for it
    return f"`blobpack index {blob} -o {beside}`" if is_free else None


def how_to_index(store: Store) -> str:
    """Return the second half of a sentence: how to make an index, so that the blob opens at once."""
    command = index_command(store.location) if store.location else f"`blobpack index {store.url}`"
    if command:
        return f"{command} makes one that opens at once"
    opened = setting("index", "FILE")
    return f"`blobpack index {store.url} -o FILE` makes one that opens at once with {opened}"


def _is_energons(beside: Location) -> bool:
    # an error here would hide the message that the command is for
    with suppress(StorageError):
        return is_energons(beside)
    return False
