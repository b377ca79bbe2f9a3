"""A new object in another cloud, written front to back like a file.

Strategy: an object of one part is sent in one request, and the server checks the condition in the same step. A larger
object is sent in parts, and appears when all parts are there. obstore can't set a condition for parts, so the upload looks
at the object at the key right before it joins the parts.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from blobpack.errors import StorageError
from blobpack.stores.access.uploads import NO_PROPERTIES, Properties, media_type_of
from blobpack.stores.clouds.client import Wanted, client_of
from blobpack.stores.location import Location
from blobpack.stores.sink import Sink
from blobpack.stores.stats import Counters

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping

    from typing_extensions import Buffer

    from blobpack.stores.base import Store
    from blobpack.stores.clouds.client import Writer

PART_BYTES = 8 << 20
# Google allows 10,000 parts of one object, and Azure 50,000.
PARTS_MAX = 10_000
# Parts of an object whose size is not known: 10,000 of them hold 312 GiB.
UNKNOWN_PART_BYTES = 32 << 20
PART_STEP_BYTES = 1 << 20
CONTENT_TYPE = "Content-Type"


@contextmanager
def uploading(
    url: str | os.PathLike[str],
    *,
    expected_bytes: int | None = None,
    replaces: str | None = None,
    new: bool = False,
    media_type: str | None = None,
    properties: Properties = NO_PROPERTIES,
    ready: Callable[[], None] | None = None,
) -> Iterator[CloudUpload]:
    """Open an object for writing, which replaces the one at the key when the block ends without an error.

    Args:
        url: URL of the object.
        expected_bytes: Estimated largest size of the object.
        replaces: Version of the object that may be replaced; any other object stays as it is.
        new: There must be no object at the key yet.
        media_type: Content-Type of the object; None: by its suffix.
        properties: Properties of the object that it replaces, which it keeps unless S3Options gives others.
        ready: Called when everything is written, just before the object appears.

    Raises:
        BlobChangedError: the object at the key is not the one to replace, or must not exist.
        StorageError: the server refused or could not be reached.
    """
    location = Location.parse(url)
    if replaces == "":
        raise StorageError(
            f"{location}: can't be changed: the server sends no ETag or version, so what another process writes meanwhile would be "
            "lost; pack a new blob instead"
        )
    upload = CloudUpload(
        location,
        Wanted(new=new, replaces=replaces),
        expected_bytes=expected_bytes,
        about=_about(location, media_type, properties),
    )
    try:
        yield upload
        upload.finish(ready)
    except BaseException:
        upload.abandon()
        raise


class CloudUpload(Sink):
    """An object that is being written; `uploading` creates and finishes it.

    Attributes:
        url: URL of the object.
        version: Version of the object, once it is finished.
    """

    def __init__(
        self,
        location: Location,
        wanted: Wanted,
        *,
        expected_bytes: int | None,
        about: Mapping[str, str],
    ) -> None:
        """Prepare an upload; no request is sent. See uploading for the arguments."""
        self.url = location.text
        self._client = client_of(location)
        self._key = location.key
        self._wanted = wanted
        self._about = about
        self._part_bytes = _part_bytes(expected_bytes)
        self._pos = 0
        self._part = bytearray()
        self._writer: Writer | None = None

    def tell(self) -> int:
        """Return the number of bytes that were written."""
        return self._pos

    def write(self, data: Buffer, /) -> int:
        """Write the data; wait while parts are sent."""
        view = memoryview(data).cast("B")
        # a full part is sent when another byte follows, so an object of one part is a single request
        if self._writer is None and len(self._part) + len(view) <= PART_BYTES:
            self._part += view
        else:
            self._begin().write(view)
        self._pos += len(view)
        return len(view)

    def copy(self, source: Store, size: int) -> None:
        """Begin with the first bytes of another object, which are read and sent.

        Raises:
            BlobChangedError: the source is no longer the version that was opened.
            StorageError: the server refused or could not be reached.
        """
        # obstore can't have the server copy a part of another object.
        for start in range(0, size, PART_BYTES):
            self.write(source.read_range(start, min(start + PART_BYTES, size)))

    def claim(self) -> None:
        """Check the condition before anything is sent.

        Raises:
            BlobChangedError: it is not met.
        """
        self._wanted.check(self._client, self._key)

    def _begin(self) -> Writer:
        if self._writer is None:
            self._writer = self._client.open_writer(self._key, self._part_bytes, self._about)
            self._writer.write(bytes(self._part))
            self._part.clear()
        return self._writer

    def finish(self, ready: Callable[[], None] | None) -> None:
        """Send the rest, and have the server create the object.

        Raises:
            BlobChangedError: the condition on the object at the key is not met.
            StorageError: the server refused or could not be reached.
        """
        began = time.perf_counter()
        if self._writer is None and self._client.puts_on_condition:
            if ready:
                ready()
            self.version = self._client.put(self._key, self._part, self._wanted, self._about)
            self._count(1, began)
            return
        # All parts are sent before the check, so that little time passes between the check and the last request.
        writer = self._begin()
        writer.settle()
        self._wanted.check(self._client, self._key)
        if ready:
            ready()
        self.version = writer.commit()
        parts = -(-self._pos // self._part_bytes)
        # of several parts, one request begins the upload, and one ends it
        self._count(parts + 2 if parts > 1 else 1, began)

    def _count(self, requests: int, began: float) -> None:
        """Count the requests of this upload; those that obstore sends again are not known."""
        counters = Counters()
        counters.count_call(is_put=True, sent=self._pos, wait_s=time.perf_counter() - began)
        for _ in range(requests - 1):
            counters.count_call(is_put=True, sent=0, wait_s=0)

    def abandon(self) -> None:
        """Abandon the object, which then never appears."""
        if self._writer is not None:
            self._writer.abandon()


def _about(location: Location, media_type: str | None, properties: Properties) -> dict[str, str]:
    """Return Content-Type and metadata of a new object."""
    options, kept = location.access.s3, properties.arguments
    chosen = options.content_type or kept.get(CONTENT_TYPE)
    about = {CONTENT_TYPE: media_type or chosen or media_type_of(options, location.key)}
    # The later ones win.
    return {**kept, **options.metadata, **about}


def _part_bytes(expected_bytes: int | None) -> int:
    """Compute the size of the parts of an object."""
    if expected_bytes is None:
        return UNKNOWN_PART_BYTES
    needed = -(-expected_bytes // PARTS_MAX)
    return max(PART_BYTES, needed + -needed % PART_STEP_BYTES)


def put_whole(location: Location, payload: bytes, media_type: str | None) -> None:
    """Put an object whose bytes are all in memory; it replaces the one at the key.

    Raises:
        StorageError: the server refused or could not be reached.
    """
    with uploading(location, expected_bytes=len(payload), media_type=media_type) as upload:
        upload.write(payload)
