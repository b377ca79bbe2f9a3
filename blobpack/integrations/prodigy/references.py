"""References: the stable names of images, which Prodigy's database keeps instead of pixels.

Strategy: `blob://out.tar/cats/0001.jpg` names a member by the file name of its blob, without the blob's folder or bucket. So
an image keeps its reference, and with it the hashes that Prodigy compares, when the blob is moved, or opened as part of a
collection. `s3://bucket/key` names an object. No pixel is needed for either.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote

from blobpack.stores.location import Location

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from blobpack.opening.reader import Reader

BLOB_SCHEME = "blob://"
S3_SCHEME = "s3://"
# as many bits as Prodigy's own hashes have
HASH_BYTES = 4


class MemberName(NamedTuple):
    """A member as a reference names it: the file name of its blob, and its own name."""

    blob: str
    member: str


def member_reference(blob: str, member: str) -> str:
    """Return the reference of a member.

    Args:
        blob: File name of its blob.
        member: Its name.
    """
    return f"{BLOB_SCHEME}{_quoted(blob, '')}/{_quoted(member, '/')}"


def object_reference(bucket: str, key: str) -> str:
    """Return the reference of an object in S3."""
    return f"{S3_SCHEME}{bucket}/{key}"


def is_reference(text: object) -> bool:
    """Return whether a value of an example is a reference."""
    return isinstance(text, str) and text.startswith((BLOB_SCHEME, S3_SCHEME))


def member_of(reference: str) -> MemberName | None:
    """Return the member that a reference names; None if it names an object, or is a bare key."""
    if not reference.startswith(BLOB_SCHEME):
        return None
    blob, _, member = reference.removeprefix(BLOB_SCHEME).partition("/")
    return MemberName(_unquoted(blob), _unquoted(member))


def blob_name_of(reader: Reader, row: int) -> str:
    """Return the file name of the blob that holds a row."""
    number = bisect_right(reader.blobs, row, key=lambda blob: blob.first_row) - 1
    place = Location.parse(reader.blobs[number].url)
    # S3 and web servers use "/" as well
    return place.path_or_name.rstrip("/").rpartition("/")[2]


def hashes_of(reference: str, fields: Mapping[str, Any]) -> dict[str, int]:
    """Return the hashes by which Prodigy knows a task: of its image, and of what is asked about it.

    Prodigy would hash the pixels or the URL. It keeps hashes that a task has already.

    Args:
        reference: The image.
        fields: What the task holds besides the image, such as a label or options.
    """
    asked = "".join(f"\0{name}\0{value!r}" for name, value in sorted(fields.items()))
    return {"_input_hash": _hash(reference), "_task_hash": _hash(reference + asked)}


def _hash(text: str) -> int:
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:HASH_BYTES], "big", signed=True)


def _quoted(text: str, safe: str) -> str:
    # a name in a tar that is not UTF-8 has surrogates in place of its bytes (PEP 383)
    return quote(text, safe=safe, errors="surrogateescape")


def _unquoted(text: str) -> str:
    return unquote(text, errors="surrogateescape")
