"""The properties of new objects: those that S3Options gives, and those that they keep of an object that they replace."""

from __future__ import annotations

import hashlib
import zlib
from base64 import b64encode
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from blobpack.checksum import crc32c
from blobpack.errors import StorageError
from blobpack.wording import setting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from blobpack.stores.access.s3_options import S3Options
    from blobpack.stores.s3.bucket import ObjectKey

# suffixes of what blobpack writes; anything else is a blob
MEDIA_TYPES = {
    ".idx": "application/octet-stream",
    ".pkl": "application/octet-stream",
    ".pickle": "application/octet-stream",
    ".csv": "text/csv",
    ".jsonl": "application/x-ndjson",
    ".ndjson": "application/x-ndjson",
    ".parquet": "application/vnd.apache.parquet",
    ".tar.zst": "application/zstd",
    ".tzst": "application/zstd",
}
TAR = "application/x-tar"
# S3 refuses smaller parts of an object, except for the last one.
UPLOAD_PART_BYTES_MIN = 5 << 20

CHECKSUMS: dict[str, Callable[[bytes | bytearray], bytes]] = {
    "CRC32": lambda part: zlib.crc32(part).to_bytes(4, "big"),
    "CRC32C": lambda part: crc32c(bytes(part)).to_bytes(4, "big"),
    "SHA1": lambda part: hashlib.sha1(part, usedforsecurity=False).digest(),
    "SHA256": lambda part: hashlib.sha256(part).digest(),
}

# argument of a new object → the right that it needs besides s3:PutObject
WRITE_RIGHTS = {
    "ACL": "s3:PutObjectAcl",
    "Grant": "s3:PutObjectAcl",
    "Tagging": "s3:PutObjectTagging",
    "ObjectLockLegalHold": "s3:PutObjectLegalHold",
    "ObjectLockMode": "s3:PutObjectRetention",
    "SSEKMSKeyId": "kms:GenerateDataKey and kms:Decrypt",
}
# option → argument
ARGUMENTS = {
    "storage_class": "StorageClass",
    "acl": "ACL",
    "sse": "ServerSideEncryption",
    "sse_kms_key_id": "SSEKMSKeyId",
}
# arguments that an old object's properties may hold, by the option that replaces all of them
REPLACED = {
    "acl": ("ACL", "GrantFullControl", "GrantRead", "GrantReadACP", "GrantWriteACP"),
    "sse": ("ServerSideEncryption", "SSEKMSKeyId", "SSEKMSEncryptionContext", "BucketKeyEnabled"),
    "sse_c_key": ("ServerSideEncryption", "SSEKMSKeyId", "BucketKeyEnabled"),
}


def upload_arguments(
    options: S3Options, key: str, kept: Mapping[str, Any], media_type: str | None = None
) -> dict[str, Any]:
    """Return the properties of a new object.

    Args:
        options: What the caller asks for.
        key: Key of the object, whose suffix decides on the media type.
        kept: Properties of the object that the new one replaces.
        media_type: Media type of an object that is no blob; "": S3 chooses one. None: that of the options, or by the suffix.
    """
    replaced = {
        name for option in REPLACED for name in REPLACED[option] if getattr(options, option)
    }
    arguments = {name: value for name, value in kept.items() if name not in replaced}
    arguments |= {
        argument: value
        for option, argument in ARGUMENTS.items()
        if (value := getattr(options, option))
    }
    if options.metadata:
        arguments["Metadata"] = dict(options.metadata)
    if options.tags:
        # quote: Ceph RGW keeps a "+" as it is, instead of a space
        arguments["Tagging"] = urlencode(options.tags, quote_via=quote)
    if media_type is not None:
        return arguments | ({"ContentType": media_type} if media_type else {})
    if options.content_type and _is_blob(key):
        arguments["ContentType"] = options.content_type
    return {"ContentType": media_type_of(options, key)} | arguments


def media_type_of(options: S3Options, key: str) -> str:
    """Return the media type of a new object: that of the options for a blob, and otherwise by its suffix."""
    return options.content_type if options.content_type and _is_blob(key) else _by_suffix(key)


def _by_suffix(key: str) -> str:
    return next((MEDIA_TYPES[suffix] for suffix in MEDIA_TYPES if key.endswith(suffix)), TAR)


def _is_blob(key: str) -> bool:
    return _by_suffix(key) in (TAR, MEDIA_TYPES[".tar.zst"])


@dataclass(frozen=True, slots=True)
class Properties:
    """The properties of an object, for the request that begins a new one.

    Attributes:
        arguments: Arguments of CreateMultipartUpload and PutObject.
        algorithm: Algorithm of the checksums that S3 keeps of the object; "" for its own choice.
        checksum_type: "COMPOSITE", "FULL_OBJECT", or "".
        are_kept: Some of them are those of an object that the new one replaces.
    """

    arguments: dict[str, Any] = field(default_factory=dict)
    algorithm: str = ""
    checksum_type: str = ""
    are_kept: bool = False

    def of_upload(self) -> dict[str, Any]:
        """Return the arguments of CreateMultipartUpload."""
        if not self.algorithm:
            return self.arguments
        kind = {"ChecksumType": self.checksum_type} if self.checksum_type else {}
        return self.arguments | {"ChecksumAlgorithm": self.algorithm} | kind

    def checksum_of(self, body: bytes | bytearray) -> dict[str, str]:
        """Return the argument that holds the checksum of a part, or of a whole object."""
        if not self.algorithm:
            return {}
        digest = CHECKSUMS[self.algorithm](body)
        return {f"Checksum{self.algorithm}": b64encode(digest).decode()}

    def checksum_in(self, response: dict[str, Any]) -> dict[str, str]:
        """Return the checksum of a part from S3's response, for CompleteMultipartUpload."""
        name = f"Checksum{self.algorithm}"
        return {name: response[name]} if self.algorithm and name in response else {}

    def rights(self) -> str:
        """Return the rights that a new object with these properties needs besides s3:PutObject; "" for none."""
        needed = {
            right
            for begin, right in WRITE_RIGHTS.items()
            if any(name.startswith(begin) for name in self.arguments)
        }
        return ", ".join(sorted(needed))


NO_PROPERTIES = Properties()


def with_given(kept: Properties, target: ObjectKey, media_type: str | None = None) -> Properties:
    """Return the properties of a new object: those that S3Options gives, and the rest of those that it keeps.

    Args:
        kept: Properties of the object that it replaces.
        target: The key.
        media_type: See upload_arguments.
    """
    options = target.bucket.options
    arguments = upload_arguments(options, target.key, kept.arguments, media_type)
    if options.checksum in (None, kept.algorithm):
        return replace(kept, arguments=arguments)
    return replace(kept, arguments=arguments, algorithm=options.checksum, checksum_type="")


def explain_refusal(exc: StorageError, properties: Properties) -> StorageError:
    """Return the error of a request that begins a new object, with the rights that its properties need."""
    rights = properties.rights()
    if exc.status != 403 or not rights:
        return exc
    text = f"{exc}; the properties of the new object need the permissions {rights}"
    if properties.are_kept:
        drops = f"{setting('drop', 'tags')} and {setting('drop', 'acl')}"
        text += f"; it gets them from the old one, of which {drops} copy none"
    error = StorageError(text)
    error.status = exc.status
    return error
