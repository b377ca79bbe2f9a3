"""Objects below a prefix, whether in S3 or in another cloud: list them, find one, delete one, put one."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from blobpack.errors import BlobNotFoundError
from blobpack.stores.access.uploads import NO_PROPERTIES, Properties
from blobpack.stores.stats import Counters

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from blobpack.model import Property
    from blobpack.stores.access.listed import Listed
    from blobpack.stores.base import Store
    from blobpack.stores.clouds.upload import CloudUpload
    from blobpack.stores.location import Location
    from blobpack.stores.s3.signing import Signatures
    from blobpack.stores.s3.upload import Upload


def list_objects(prefix: Location, counters: Counters | None = None) -> list[Listed]:
    """List the objects whose keys begin with a prefix, in byte order of their keys.

    Args:
        prefix: The prefix, which is compared as plain text.
        counters: Counts the requests.

    Raises:
        BlobNotFoundError: there is no such bucket.
        StorageError: the server refused or could not be reached.
    """
    if prefix.is_s3:
        from blobpack.stores.s3 import listing
        from blobpack.stores.s3.bucket import Bucket

        return listing.list_objects(Bucket.at(prefix, counters), prefix.key)
    from blobpack.stores.clouds.client import client_of

    began = time.perf_counter()
    found = client_of(prefix).list(prefix.key)
    # obstore does not tell how many pages there were
    (counters or Counters()).count_call(is_put=True, sent=0, wait_s=time.perf_counter() - began)
    return sorted(found, key=lambda each: each.key.encode("utf-8", "surrogateescape"))


def find_object(location: Location) -> Listed | None:
    """Return the object at a key; None if there is none.

    Raises:
        BlobNotFoundError: there is no such bucket.
        StorageError: the server refused or could not be reached.
    """
    if location.is_s3:
        from blobpack.stores.s3 import listing
        from blobpack.stores.s3.bucket import ObjectKey

        return listing.find_object(ObjectKey.at(location))
    from blobpack.stores.clouds.client import client_of

    try:
        return client_of(location).head(location.key)
    except BlobNotFoundError:
        return None


def first_below(prefix: Location) -> str | None:
    """Return the key of an object below a prefix; None if there is none.

    Raises:
        BlobNotFoundError: there is no such bucket.
        StorageError: the server refused or could not be reached.
    """
    if prefix.is_s3:
        from blobpack.stores.s3.bucket import Bucket

        page = Bucket.at(prefix).ask(
            "list_objects_v2", what="list what is there", Prefix=prefix.key, MaxKeys=1
        )
        return next((str(found["Key"]) for found in page.get("Contents", ())), None)
    # obstore and fsspec can't stop a listing after the first object.
    return next((found.key for found in list_objects(prefix)), None)


def delete_object(location: Location) -> None:
    """Delete an object; a missing one is no error.

    Raises:
        StorageError: the server refused or could not be reached.
    """
    if location.is_s3:
        from blobpack.stores.s3.bucket import Bucket

        key = location.key
        Bucket.at(location).ask("delete_object", what=f"delete {key}", Key=key)
        return
    from blobpack.stores.clouds.client import client_of

    client_of(location).delete(location.key)


def put_object(location: Location, payload: bytes, media_type: str | None) -> None:
    """Put an object whose bytes are all in memory; it replaces the one at the key.

    Args:
        location: The object.
        payload: Its bytes.
        media_type: Its Content-Type; None: unknown.

    Raises:
        StorageError: the server refused or could not be reached.
    """
    if location.is_s3:
        from blobpack.stores.s3.bucket import ObjectKey
        from blobpack.stores.s3.upload import put_whole

        put_whole(ObjectKey.at(location), payload, media_type)
        return
    from blobpack.stores.clouds.upload import put_whole as put_in_cloud

    put_in_cloud(location, payload, media_type)


def open_object(
    location: Location,
    *,
    size: int | None = None,
    version: str | None = None,
    tail_bytes: int = 0,
    signatures: Signatures | None = None,
    counters: Counters | None = None,
) -> Store:
    """Open the store of an object; see S3Store for the arguments.

    Raises:
        BlobNotFoundError: there is no such bucket or key.
        BlobChangedError: the object has another version.
        StorageError: the server refused or could not be reached.
    """
    if location.is_s3:
        # Imported here, because boto3 takes 160 ms to import, and other blobs do without it.
        from blobpack.stores.s3.store import S3Store

        return S3Store(
            location,
            size=size,
            version=version,
            tail_bytes=tail_bytes,
            signatures=signatures,
            counters=counters,
        )
    from blobpack.stores.clouds.store import CloudStore

    return CloudStore(
        location, size=size, version=version, tail_bytes=tail_bytes, counters=counters
    )


def properties_of(location: Location, version: str, drop: Collection[Property] = ()) -> Properties:
    """Read the properties of an object, for one that replaces it.

    Args:
        location: The object.
        version: Version of the object in S3; "": any.
        drop: Properties in S3 that are left out.

    Raises:
        BlobNotFoundError: there is no such object.
        StorageError: a property can't be read.
    """
    if location.is_s3:
        from blobpack.stores.s3.bucket import ObjectKey
        from blobpack.stores.s3.properties import read_properties

        return read_properties(ObjectKey.at(location), version, drop)
    from blobpack.stores.clouds.client import client_of

    return Properties(dict(client_of(location).properties(location.key)), are_kept=True)


@contextmanager
def replacing_object(
    location: Location,
    *,
    expected_bytes: int | None = None,
    replaces: str | None = None,
    properties: Properties = NO_PROPERTIES,
    ready: Callable[[], None] | None = None,
) -> Iterator[Upload | CloudUpload]:
    """Open an object for writing, which replaces the one at the key when the block ends; see uploading of each cloud.

    Raises:
        BlobChangedError: the object at the key is not the one to replace.
        StorageError: the server refused or could not be reached.
    """
    if location.is_s3:
        from blobpack.stores.s3.upload import uploading

        with uploading(
            location,
            expected_bytes=expected_bytes,
            replaces=replaces,
            properties=properties,
            ready=ready,
        ) as upload:
            yield upload
        return
    from blobpack.stores.clouds.upload import uploading as uploading_to_cloud

    with uploading_to_cloud(
        location,
        expected_bytes=expected_bytes,
        replaces=replaces,
        properties=properties,
        ready=ready,
    ) as cloud_upload:
        yield cloud_upload
