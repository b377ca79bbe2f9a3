"""Judge the answers of S3 servers beyond their status: missing rights, missing abilities, and pages of a web server.

Strategy: servers refuse what they do not know, with one of several statuses, and some answer everything with status 200.
So an answer is judged by its headers and its error code, too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from blobpack.errors import BlobNotFoundError, StorageError
from blobpack.wording import setting

if TYPE_CHECKING:
    from collections.abc import Mapping

# operation of boto3's client → the right that AWS asks for (Service Authorization Reference, "Actions for Amazon S3")
RIGHTS = {
    "abort_multipart_upload": "s3:AbortMultipartUpload",
    "complete_multipart_upload": "s3:PutObject",
    "create_multipart_upload": "s3:PutObject",
    "delete_object": "s3:DeleteObject",
    "get_bucket_cors": "s3:GetBucketCORS",
    "get_object": "s3:GetObject",
    "get_object_acl": "s3:GetObjectAcl",
    "get_object_tagging": "s3:GetObjectTagging",
    "head_object": "s3:GetObject",
    "list_buckets": "s3:ListAllMyBuckets",
    "list_multipart_uploads": "s3:ListBucketMultipartUploads",
    "list_objects_v2": "s3:ListBucket",
    "list_parts": "s3:ListMultipartUploadParts",
    "put_bucket_cors": "s3:PutBucketCORS",
    "put_object": "s3:PutObject",
    "put_object_tagging": "s3:PutObjectTagging",
    "upload_part": "s3:PutObject",
    "upload_part_copy": "s3:GetObject and s3:PutObject",
}
# Codes of a refusal for want of a right. The answer to a HEAD has no body, so its code is the status.
DENIED_CODES = ("AccessDenied", "403", "Forbidden")
# Statuses with which servers refuse a request, or a header, that they do not know.
UNKNOWN_STATUSES = (400, 405, 501)
# Ceph RGW 16 lets only the owner of a bucket copy parts, whatever the bucket's policy says.
NOT_COPIED_STATUSES = (403, *UNKNOWN_STATUSES)
# Statuses with which servers refuse to list unfinished uploads: 403 if the right is missing, 404 rclone, 501 others.
UNLISTED_STATUSES = (403, 404, 405, 501)
NOT_IMPLEMENTED = 501
FORBIDDEN = 403
CONFLICT = 409


class Answered(dict[str, Any]):
    """An answer of S3, or a part of it. If it lacks a field that is asked for, a StorageError says so."""

    def __init__(self, fields: Mapping[str, Any], problem: str) -> None:
        """Wrap an answer as boto3 returns it.

        Args:
            fields: The answer.
            problem: How the error message begins.
        """
        super().__init__(fields)
        self._problem = problem

    def __missing__(self, name: str) -> Any:
        """Raise the error for a missing field."""
        raise self.lacks(name)

    def lacks(self, name: str) -> StorageError:
        """Return the error for a field that is missing."""
        return StorageError(f"{self._problem}, but without {name}")

    def rows(self, name: str) -> list[Answered]:
        """Return the parts of a list in the answer, such as "Contents"; none if it is missing."""
        return [Answered(row, self._problem) for row in self.get(name, ())]


# User and password in the URL of a server or proxy. boto3 hides them only in some of its messages.
USER = re.compile(r"(?<=//)[^\s\"'`]*@")


def described(exc: BaseException) -> str:
    """Return what an exception of boto3 says, without passwords; its name if it says nothing."""
    return USER.sub("…@", str(exc)).strip() or type(exc).__name__


def harmless(exc: BaseException) -> BaseException | None:
    """Return an exception of boto3 as the cause of ours; None if its text, which a traceback shows, holds a password."""
    return None if USER.search(str(exc)) else exc


def missing_right(operation: str, code: str) -> str:
    """Return the end of the error message for a refused request: the right that it needs; "" for other errors."""
    right = RIGHTS.get(operation)
    if right is None or code not in DENIED_CODES:
        return ""
    # S3 answers so also if there is no such object, and the caller may not list the bucket.
    other = ", or, without s3:ListBucket, the object" if right == "s3:GetObject" else ""
    return f"; the right {right} may be missing{other}"


def missing_key(operation: str, code: str) -> str:
    """Return the end of the error message for a request that may lack the key of its object; "" for other errors."""
    # S3 answers so to a HEAD without the key, or with another one; the answer has no body that says why.
    if operation != "head_object" or code != "400":
        return ""
    return (
        f"; an object that is encrypted with a key of your own needs {setting('sse_c_key', 'FILE')}"
    )


def is_web_page(response: Mapping[str, Any]) -> bool:
    """Return whether a web server has answered with a page, such as the console of an S3 server at another port."""
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    # An object may be a web page. Then an S3 server sends its ETag, or at least the id of the request.
    return str(headers.get("content-type", "")).startswith("text/html") and not any(
        name == "etag" or name.startswith("x-amz") for name in headers
    )


def is_unlisted(exc: StorageError) -> bool:
    """Return whether a server can't list unfinished uploads, or may not do so for this caller."""
    return exc.status in UNLISTED_STATUSES and not isinstance(exc, BlobNotFoundError)


def was_sent_again(exc: StorageError) -> bool:
    """Return whether boto3 had sent a refused request before: if that answer was lost, S3 may have done what it asked."""
    cause = exc.__cause__
    return isinstance(cause, ClientError) and attempts_in(cause.response) > 1


def attempts_in(response: Mapping[str, Any]) -> int:
    """Return how many times boto3 sent the request of this response."""
    again: int = response.get("ResponseMetadata", {}).get("RetryAttempts", 0)
    return again + 1
