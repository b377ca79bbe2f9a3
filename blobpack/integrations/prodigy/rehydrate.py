"""Put pixels back into the examples of a dataset, for reviewing, exporting and training."""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Unpack

from blobpack.errors import MemberNotFoundError
from blobpack.index.which import rows_of_several
from blobpack.integrations.prodigy.annotated import key_of
from blobpack.integrations.prodigy.references import (
    S3_SCHEME,
    blob_name_of,
    member_of,
    object_reference,
)
from blobpack.integrations.prodigy.task_stream import data_uri
from blobpack.look_ahead import map_ahead
from blobpack.model import check_several, check_text
from blobpack.opening.reader import Reader
from blobpack.quoting import quoted
from blobpack.stores.access.remote import Access, RemoteOptions, with_remote_options
from blobpack.stores.location import Location
from blobpack.stores.open import open_store

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from blobpack.integrations.prodigy.annotated import Example
    from blobpack.integrations.prodigy.references import MemberName

EXAMPLES_AT_ONCE = 64
OBJECTS_AT_ONCE = 16


@with_remote_options
def rehydrate(
    examples: Iterable[Example],
    reader: Reader | None = None,
    *,
    bucket: str | None = None,
    blob_name: str | None = None,
    **remote: Unpack[RemoteOptions],
) -> Iterator[Example]:
    """Yield examples of a dataset with their pixels again, as data URIs, in order.

    An example with a reference `blob://…` or a bare key is read from the blob, one with a reference `s3://…` from S3.
    Examples that hold pixels already, or that have no image, are yielded unchanged.

    Args:
        examples: Examples of a dataset of Prodigy. They are not changed.
        reader: The open blob or collection. None, if all images are objects in S3.
        bucket: Bucket of examples with bare keys, as other recipes for S3 write them; None: bare keys name members.
        blob_name: Name of the blob in the references, if it is not the blob's file name.
        remote: How objects in S3 are reached: see RemoteOptions.

    Raises:
        MemberNotFoundError: an image is not in the blob, or its reference names another blob.
        StorageError: an image can't be read.
        TypeError: an argument has a wrong type.
        ValueError: an image is a member, and there is no reader.
    """
    access = Access.of("rehydrate", remote)
    check_several("examples", examples, "examples of Prodigy")
    if reader is not None and not isinstance(reader, Reader):
        raise TypeError(f"reader must be an open blob or collection, not {reader!r}")
    for name, value in (("bucket", bucket), ("blob_name", blob_name)):
        if value is not None:
            check_text(name, value)
    return _rehydrated(iter(examples), reader, bucket, blob_name, access)


def _rehydrated(
    examples: Iterator[Example],
    reader: Reader | None,
    bucket: str | None,
    blob_name: str | None,
    access: Access,
) -> Iterator[Example]:
    while some := list(islice(examples, EXAMPLES_AT_ONCE)):
        places = [_place_of(example, bucket) for example in some]
        members = _read_members(
            [place for place in places if place and not place.startswith(S3_SCHEME)],
            reader,
            blob_name,
        )
        objects = map_ahead(
            partial(_read_object, access),
            [place for place in places if place and place.startswith(S3_SCHEME)],
            threads=OBJECTS_AT_ONCE,
            name="rehydrate",
        )
        for example, place in zip(some, places, strict=True):
            if place is None:
                yield example
                continue
            payload = next(objects if place.startswith(S3_SCHEME) else members)
            # what Prodigy stored was an image, so an unknown format is still shown as one
            uri = data_uri(payload, place) or data_uri(payload, place, "application/octet-stream")
            yield {**example, "image": uri}


def _place_of(example: Example, bucket: str | None) -> str | None:
    """Return the reference or bare key of an example that lacks its pixels."""
    image: Any = example.get("image")
    if not isinstance(image, str) or image.startswith("data:"):
        return None
    key = key_of(example)
    if key is None or bucket is None or "://" in key:
        return key
    return object_reference(bucket, key)


def _read_members(
    places: Sequence[str], reader: Reader | None, blob_name: str | None
) -> Iterator[bytes]:
    """Return an iterator of the payloads of members, which are read as a batch."""
    if not places:
        return iter(())
    if reader is None:
        raise ValueError(f"reader must be the open blob that holds {quoted(places[0])}, not None")
    named = [(member_of(place), place) for place in places]
    names = [each.member if each else place for each, place in named]
    # one look-up for all: each one in a remote index costs requests
    rows = rows_of_several(reader.index, names).tolist()
    for row, (each, _) in zip(rows, named, strict=True):
        if each is not None:
            _check_blob(each, blob_name or blob_name_of(reader, row), reader)
    return reader.read_rows(rows)


def _check_blob(named: MemberName, blob: str, reader: Reader) -> None:
    """Check that a reference names the blob in which its member was found.

    Raises:
        MemberNotFoundError: a member of this name in another blob is another image.
    """
    if named.blob != blob:
        raise MemberNotFoundError(
            f"{reader.url}: {quoted(named.member)} was annotated in the blob {quoted(named.blob)}, and here it is "
            f"in {quoted(blob)}; if the blob was renamed, pass its old name as blob_name"
        )


def _read_object(access: Access, reference: str) -> bytes:
    with open_store(Location.parse(reference, access=access), tail=True) as store:
        tail = store.tail
        return store.read_range(0, store.size - len(tail)) + tail
