"""Requests about a bucket and its objects through boto3: each one is counted, and its errors are translated."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from botocore.parsers import ResponseParserError

from blobpack.errors import StorageError
from blobpack.stores.http.etag import with_quotes
from blobpack.stores.s3.answers import FORBIDDEN, Answered, attempts_in, is_web_page
from blobpack.stores.s3.client import NO_OPTIONS, client_of, renew_client
from blobpack.stores.s3.refusals import (
    described,
    harmless,
    may_have_expired,
    no_credentials,
    translated,
)
from blobpack.stores.stats import Counters
from blobpack.stores.url import object_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_s3 import S3Client

    from blobpack.stores.access.s3_options import S3Options
    from blobpack.stores.location import Location

# Operations that S3 does not bill at the price of PUT. An abort is free; it is counted with the GETs.
NO_PUTS = ("get_", "head_", "abort_")
# Operations on one object that can mean an older version of it.
READS = ("get_object", "head_object")


class _ExpiredError(Exception):
    """S3 answered that credentials have expired, or that the clocks differ: one more try may succeed.

    Attributes:
        error: The error to raise if it does not.
    """

    def __init__(self, error: StorageError) -> None:
        super().__init__()
        self.error = error


class Bucket:
    """A bucket in S3.

    Attributes:
        name: Name of the bucket, or the ARN of an access point.
        counters: Counts the requests about this bucket.
        options: Account and server.
    """

    def __init__(
        self, name: str, counters: Counters | None = None, options: S3Options = NO_OPTIONS
    ) -> None:
        """Name a bucket; no request is sent.

        Args:
            name: Name of the bucket.
            counters: Counts the requests; None: new counters.
            options: Account and server.
        """
        self.name = name
        self.counters = counters or Counters()
        self.options = options

    @classmethod
    def at(cls, location: Location, counters: Counters | None = None) -> Bucket:
        """Return the bucket of an object or prefix."""
        return cls(location.bucket, counters, location.access.s3)

    def ask(self, operation: str, *, what: str, **arguments: Any) -> Answered:
        """Call an operation of boto3's S3 client on the bucket.

        Args:
            operation: Name of the client's method, such as "list_objects_v2".
            what: The action for error messages: "can't {what}".
            arguments: Arguments of the method, without Bucket. Error messages name Key or Prefix.

        Raises:
            BlobNotFoundError: no such bucket or key.
            BlobChangedError: a condition among the arguments is not met.
            StorageError: S3 refused or could not be reached, or there are no credentials.
        """
        client = client_of(self.options)
        try:
            return self._ask_once(client, operation, arguments, what)
        except _ExpiredError:
            renew_client(client, self.options)
            self.counters.count_retried()
        try:
            return self._ask_once(client_of(self.options), operation, arguments, what)
        except _ExpiredError as exc:
            raise exc.error from exc.__cause__

    def _ask_once(
        self, client: S3Client, operation: str, arguments: dict[str, Any], what: str
    ) -> Answered:
        """Call an operation of boto3's S3 client; see ask.

        Raises:
            _ExpiredError: S3 said that the credentials have expired, or that the clocks differ.
        """
        url = f"s3://{self.name}/{arguments.get('Prefix', '')}"
        if "Key" in arguments:
            url = object_url(self.name, arguments["Key"], arguments.get("VersionId", ""))
        began = time.perf_counter()
        try:
            response: dict[str, Any] = getattr(client, operation)(Bucket=self.name, **arguments)
        except NoCredentialsError as exc:
            # No request was sent, so none is counted.
            raise no_credentials(url, what) from exc
        except ClientError as exc:
            if exc.operation_name != client.meta.method_to_api_mapping[operation]:
                # boto3 asked another service for credentials: AssumeRole, for example
                raise StorageError(f"{url}: can't {what}: no credentials: {exc}") from exc
            self._count(operation, arguments, exc.response, began)
            error = translated(exc, url, what, operation)
            if may_have_expired(operation, exc):
                raise _ExpiredError(error) from exc
            raise error from exc
        # OSError and EOFError: a program or file that holds credentials is missing, or nobody is there to type an MFA code.
        except (BotoCoreError, OSError, EOFError) as exc:
            self._count(operation, arguments, {}, began)
            raise StorageError(f"{url}: can't {what}: {described(exc)}") from harmless(exc)
        except ResponseParserError as exc:
            raise StorageError(f"{url}: can't {what}: {_not_s3(client)}, but with {exc}") from exc
        # boto3 decodes the keys of a listing, and fails if an object has none
        except KeyError as exc:
            raise StorageError(
                f"{url}: can't {what}: {_not_s3(client)}, but without {exc}"
            ) from exc
        self._count(operation, arguments, response, began)
        if is_web_page(response):
            if "Body" in response:
                response["Body"].close()
            raise StorageError(f"{url}: can't {what}: {_not_s3(client)}, but with a web page")
        return Answered(response, f"{url}: can't {what}: {_not_s3(client)}")

    def _count(
        self, operation: str, arguments: dict[str, Any], response: Mapping[str, Any], began: float
    ) -> None:
        """Count a call.

        A GET is counted by the code that reads its body, which knows the bytes and the time. Here only the retries
        that boto3 made for it are counted.
        """
        is_put = not operation.startswith(NO_PUTS)
        if operation != "get_object":
            sent = len(arguments.get("Body", b""))
            wait_s = time.perf_counter() - began
            self.counters.count_call(is_put=is_put, sent=sent, wait_s=wait_s)
        self.counters.count_again(attempts_in(response) - 1, is_put=is_put)


class ObjectKey(NamedTuple):
    """A key in a bucket. There may or may not be an object at it.

    Attributes:
        bucket: The bucket.
        key: The key.
        version_id: Version of the object that is meant; "" for the latest one.
    """

    bucket: Bucket
    key: str
    version_id: str = ""

    @classmethod
    def at(cls, location: Location, counters: Counters | None = None) -> ObjectKey:
        """Return the key that a location names."""
        name, key, version_id = location.s3_parts()
        return cls(Bucket(name, counters, location.access.s3), key, version_id)

    @property
    def url(self) -> str:
        """The object's URL."""
        return object_url(self.bucket.name, self.key, self.version_id)

    def web_url(self) -> str:
        """Return the https:// URL of the object, without a signature; no request is sent.

        Raises:
            StorageError: the AWS configuration is wrong, or there are no credentials.
        """
        arguments = {"Bucket": self.bucket.name, "Key": self.key}
        # boto3 knows where the server has the bucket: in the path, or in the host's name
        try:
            client = client_of(self.bucket.options)
            signed = client.generate_presigned_url("get_object", Params=arguments)
        except NoCredentialsError as exc:
            raise no_credentials(self.url, "find its https:// URL") from exc
        except BotoCoreError as exc:
            raise StorageError(
                f"{self.url}: can't find its https:// URL: {described(exc)}"
            ) from harmless(exc)
        return signed.partition("?")[0]

    def ask(self, operation: str, *, what: str, **arguments: Any) -> Answered:
        """Call an operation of boto3's S3 client on the object; see Bucket.ask."""
        if self.version_id and operation.startswith(READS):
            arguments = {"VersionId": self.version_id, **arguments}
        return self.bucket.ask(operation, what=what, Key=self.key, **arguments)

    def head(self, *, what: str) -> Answered:
        """Ask for the object's size and ETag, which is "" if the server sends none.

        Raises:
            BlobNotFoundError: no such bucket or key.
        """
        found = self.ask("head_object", what=what)
        found["ETag"] = with_quotes(found.get("ETag", ""))
        return found

    def find_etag(self, answered: str = "") -> str:
        """Check that the object is there, and return its ETag.

        Args:
            answered: The ETag in the answer to the request that made the object. If it is in quotes, it is returned: that
                of a HEAD may already be of an object that another process has written since.

        Raises:
            BlobNotFoundError: no such bucket or key.
            StorageError: S3 refused or could not be reached.
        """
        try:
            etag: str = self.head(what="look at the object")["ETag"]
        except StorageError as exc:
            # the caller may write the object, and not read it
            if not answered or exc.status != FORBIDDEN:
                raise
            return with_quotes(answered)
        return answered if answered.endswith('"') else etag


def _not_s3(client: S3Client) -> str:
    return f"{client.meta.endpoint_url} is not an S3 server: it did not answer as one"
