"""Requests about a bucket and its objects through boto3: each one is counted, and its errors are translated."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from blobpack.errors import BlobChangedError, BlobNotFoundError, StorageError
from blobpack.stores.http.response import after
from blobpack.stores.s3.client import default_client
from blobpack.stores.stats import Counters

if TYPE_CHECKING:
    from collections.abc import Mapping

NO_PUTS = ("get_", "head_", "abort_")  # operations that S3 doesn't bill as it does PUT

# HTTP status or S3 error code → what it means to us; any other is a StorageError
ERRORS: dict[str, type[StorageError]] = {
    "404": BlobNotFoundError,
    "NoSuchBucket": BlobNotFoundError,
    "NoSuchKey": BlobNotFoundError,
    "NoSuchVersion": BlobNotFoundError,
    "412": BlobChangedError,
    "PreconditionFailed": BlobChangedError,
    # the range was within the object when it was opened
    "416": BlobChangedError,
    "InvalidRange": BlobChangedError,
}

# what an error code says is missing; the answer to a HEAD has no body, so no code
MISSING = {"NoSuchBucket": "no such bucket", "NoSuchKey": "no such key"}


class Bucket:
    """A bucket in S3.

    Attributes:
        name: Its name, or the ARN of an access point.
        counters: Count the requests about it.
    """

    def __init__(self, name: str, counters: Counters | None = None) -> None:
        """Name a bucket; nothing is asked.

        Args:
            name: Its name.
            counters: Count its requests, too; None counts them apart.
        """
        self.name = name
        self.counters = counters or Counters()

    def ask(self, operation: str, *, what: str, **arguments: Any) -> dict[str, Any]:
        """Call an operation of boto3's S3 client on the bucket.

        Args:
            operation: The client's method, "list_objects_v2" for example.
            what: What is done, for error messages: "can't {what}".
            arguments: The method's arguments but Bucket. Key or Prefix is named in error messages.

        Raises:
            BlobNotFoundError: no such bucket or key.
            BlobChangedError: a condition among the arguments is not met.
            StorageError: S3 refused or could not be reached, or there are no credentials.
        """
        url = f"s3://{self.name}/{arguments.get('Key', arguments.get('Prefix', ''))}"
        client = default_client()
        began = time.perf_counter()
        try:
            answer: dict[str, Any] = getattr(client, operation)(Bucket=self.name, **arguments)
        except NoCredentialsError as exc:  # nothing was sent, so nothing is counted
            raise _no_credentials(url, what) from exc
        except ClientError as exc:
            self._count(operation, arguments, exc.response, began)
            raise _translated(exc, url, what) from exc
        except BotoCoreError as exc:
            self._count(operation, arguments, {}, began)
            raise StorageError(f"{url}: can't {what}: {exc}") from exc
        self._count(operation, arguments, answer, began)
        return answer

    def _count(
        self, operation: str, arguments: dict[str, Any], answer: Mapping[str, Any], began: float
    ) -> None:
        """Count a call. Whoever reads the body of a GET counts the GET; only boto3's own retries are counted here."""
        is_put = not operation.startswith(NO_PUTS)
        if operation != "get_object":
            sent = len(arguments.get("Body", b""))
            wait_s = time.perf_counter() - began
            self.counters.count_call(is_put=is_put, sent=sent, wait_s=wait_s)
        again = answer.get("ResponseMetadata", {}).get("RetryAttempts", 0)
        self.counters.count_again(again, is_put=is_put)


class ObjectKey(NamedTuple):
    """A key of a bucket, whether there is an object or not."""

    bucket: Bucket
    key: str

    @property
    def url(self) -> str:
        """The object's URL."""
        return f"s3://{self.bucket.name}/{self.key}"

    def ask(self, operation: str, *, what: str, **arguments: Any) -> dict[str, Any]:
        """Call an operation of boto3's S3 client on the object; see Bucket.ask."""
        return self.bucket.ask(operation, what=what, Key=self.key, **arguments)

    def head(self, *, what: str) -> dict[str, Any]:
        """Ask for the object's size and ETag.

        Raises:
            BlobNotFoundError: no such bucket or key.
        """
        return self.ask("head_object", what=what)


def request_id(answer: Mapping[str, Any]) -> str:
    """Find the id under which S3 logged a request."""
    return str(answer.get("ResponseMetadata", {}).get("RequestId") or "?")


def _no_credentials(url: str, what: str) -> StorageError:
    return StorageError(
        f"{url}: can't {what}: no AWS credentials were found; set AWS_ACCESS_KEY_ID and "
        f"AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; public objects are read without by their https:// URL"
    )


def _translated(exc: ClientError, url: str, what: str) -> StorageError:
    """Make the error of ours that S3's answer means."""
    error = exc.response.get("Error", {})
    code, message = error.get("Code", "?"), error.get("Message", "")
    meta = exc.response.get("ResponseMetadata", {})
    tried = after(meta.get("RetryAttempts", 0) + 1, request_id(exc.response))
    where = f"(HTTP {meta.get('HTTPStatusCode', '?')}, {tried})"
    kind = ERRORS.get(code, StorageError)
    if kind is BlobNotFoundError:
        missing = MISSING.get(code, "no such bucket or key")
        return BlobNotFoundError(f"{url}: {missing} {where}")
    if kind is BlobChangedError:
        return BlobChangedError(
            f"{url}: can't {what}: the object is no longer the one that was opened {where}"
        )
    said = f"{code}: {message}" if message else code
    refused = StorageError(f"{url}: can't {what}: {said} {where}")
    refused.status = meta.get("HTTPStatusCode", 0)
    return refused
