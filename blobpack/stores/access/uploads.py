"""The properties that S3Options gives to new objects, as arguments of PutObject and CreateMultipartUpload."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blobpack.stores.access.s3_options import S3Options

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
    by_suffix = next((MEDIA_TYPES[suffix] for suffix in MEDIA_TYPES if key.endswith(suffix)), TAR)
    if options.content_type and by_suffix in (TAR, MEDIA_TYPES[".tar.zst"]):
        arguments["ContentType"] = options.content_type
    return {"ContentType": by_suffix} | arguments
