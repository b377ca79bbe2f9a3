"""Append members to a blob in S3 or in another cloud: a new object replaces the old one.

Strategy: S3 itself copies the old members into a multipart upload; for other clouds they are read and sent again. The new members and the index are uploaded behind
them, and the object appears whole, with the properties of the old one. It replaces only the version that was opened.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from blobpack.editing.blob_state import read_state
from blobpack.editing.new_members import AppendResult, NewMembers, NothingAdded
from blobpack.errors import BlobNotFoundError
from blobpack.index.index import Index
from blobpack.indexfile.footer import sidecar_of
from blobpack.indexfile.identity import IdentifyingSink
from blobpack.packing.sources import expected_bytes
from blobpack.stores.access.objects import open_object, properties_of, replacing_object
from blobpack.stores.access.uploads import NO_PROPERTIES, UPLOAD_PART_BYTES_MIN
from blobpack.stores.base import OPENING_TAIL_BYTES
from blobpack.stores.memory import MemoryStore
from blobpack.writing.beside import forget_beside, forget_if_replaced
from blobpack.writing.embed import write_behind

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from blobpack.model import Property
    from blobpack.stores.access.uploads import Properties
    from blobpack.stores.base import Store
    from blobpack.stores.location import Location


def append_to_object(
    location: Location, new: NewMembers, drop: Collection[Property] = ()
) -> AppendResult:
    """Append members to a blob in S3 or in another cloud; see append.

    Raises:
        BlobpackError: as described for append.
    """
    added = Index()
    with open_object(location, tail_bytes=OPENING_TAIL_BYTES) as store:
        before = read_state(store, new.stale)
        properties = properties_of(location, store.version, drop)
        beside = _properties_beside(location, drop) if before.place == "sidecar" else None
        found = new.find()
        # before check_names, which may turn objects of known sizes into a generator of payloads without sizes
        new_bytes = expected_bytes(found)
        found = new.check_names(found, before.index, before.lookup, location)
        index, blob_bytes = before.index, store.size
        # The order matters: NothingAdded first aborts the upload, so that no part is left, and is then suppressed.
        # the index file of the old object goes just before the new object appears, which it would not fit
        ready = partial(forget_beside, location) if before.place == "sidecar" else None
        with (
            suppress(NothingAdded),
            continuing_upload(location, store, before.end, new_bytes, properties, ready) as tail,
        ):
            added, _ = new.write(found, before, tail, location.text)
            index = before.joined(added)
            index.identity = tail.identity()
            if before.place == "embed":
                # to the sink and not through the witness: the index is not part of the archive that it identifies
                write_behind(tail.sink, index, index.identity)
            blob_bytes = tail.sink.tell()
    if added and beside is not None and index.identity:
        # the version that this upload made: asking S3 now could return one that replaced it a moment later, and the
        # index would be believed for a blob with other offsets
        index.identity = replace(index.identity, version=tail.sink.version)
        with replacing_object(sidecar_of(location), properties=beside) as sidecar:
            sidecar.write(index._write_sections(sidecar, index.identity).encode())
        forget_if_replaced(location, tail.sink.version)
    return AppendResult(before.place, added, index, blob_bytes)


def _properties_beside(location: Location, drop: Collection[Property]) -> Properties:
    """Read the properties of the index file beside a blob; it has none if an earlier append was killed before it."""
    try:
        return properties_of(sidecar_of(location), "", drop)
    except BlobNotFoundError:
        return NO_PROPERTIES


@contextmanager
def continuing_upload(
    location: Location,
    store: Store,
    end: int,
    new_bytes: int | None,
    properties: Properties,
    ready: Callable[[], None] | None = None,
) -> Iterator[IdentifyingSink]:
    """Open a new object that begins with the first bytes of an object, and replaces it when the block ends.

    Args:
        location: The object.
        store: The old one.
        end: Number of its bytes that the new object begins with.
        new_bytes: Upper bound for the bytes that will be written; None if it is not known.
        properties: Properties of the new object.
        ready: Called just before the new object appears.

    Raises:
        BlobChangedError: the old object was replaced meanwhile, or another upload to its key is under way.
        StorageError: the server refused a request or could not be reached.
    """
    expected = None if new_bytes is None else end + new_bytes
    with replacing_object(
        location,
        expected_bytes=expected,
        replaces=store.version,
        properties=properties,
        ready=ready,
    ) as upload:
        # at once: the later of two appends fails here, before it has sent anything
        upload.claim()
        if end < UPLOAD_PART_BYTES_MIN:
            # S3 refuses parts under 5 MiB, except for the last one, so a smaller archive is read and sent again
            kept = store.read_range(0, end)
            upload.write(kept)
            yield IdentifyingSink(upload, MemoryStore(kept), end)
        else:
            # an object in S3 has an S3Store
            upload.copy(cast("Any", store), end)
            yield IdentifyingSink(upload, store, end)
